"""Schemas and config/README.md, made from the typed configuration."""

import json
from collections.abc import Iterator
from pathlib import Path

from pydantic import BaseModel

from cryoetgan.config import Config
from cryoetgan.io.files import write_text
from cryoetgan.tables import ClassRow, TomogramRow, columns

MODELS: dict[str, type[BaseModel]] = {
    "config": Config,
    "classes": ClassRow,
    "tomograms": TomogramRow,
}
HEAD = """# Configuration

Made from `cryoetgan/config.py` and `cryoetgan/tables.py` by `make docs`; do not edit.

`config.yaml` is the embedded default. For a run of your own, `cryoetgan init FOLDER` writes a
commented config and tables; run it with `snakemake --configfile FOLDER/config.yaml`. Snakemake
merges that file over `config.yaml`: a key you leave out keeps the demo's value, so leave none out.
An edit to a key runs again what reads that key, and what depends on it, and nothing else.
"""


def generated() -> dict[str, str]:
    """Return the text of every generated file, by path relative to the project."""
    files = {
        f"workflow/schemas/{name}.schema.json": _schema(name, model)
        for name, model in MODELS.items()
    }
    files["config/README.md"] = "\n".join(_readme()) + "\n"
    return files


def write(root: Path) -> None:
    """Write all generated files below the project's folder."""
    for name, text in generated().items():
        write_text(root / name, text)


def _schema(name: str, model: type[BaseModel]) -> str:
    schema = model.model_json_schema()
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    schema["$id"] = f"cryoetgan/{name}.schema.json"
    return json.dumps(schema, indent=1, sort_keys=True) + "\n"


def _readme() -> Iterator[str]:
    yield HEAD
    yield "## Keys\n"
    yield from _keys(Config, "")
    for name, model in (("classes", ClassRow), ("tomograms", TomogramRow)):
        yield f"\n## Table of {name}\n"
        yield "Tab-separated, a heading first; lines that start with `#` are left out. Variables"
        yield "such as `$HOME` in paths are expanded. Paths are relative to the folder that snakemake is"
        yield "started in; what is not there is looked for in the project.\n"
        yield "| column | meaning |\n|---|---|"
        yield from (f"| `{column}` | {text} |" for column, text in columns(model))


def _keys(model: type[BaseModel], prefix: str) -> Iterator[str]:
    plain = {n: f for n, f in model.model_fields.items() if not _section(f.annotation)}
    if plain:
        yield "| key | default | why one would change it |\n|---|---|---|"
    for name, field in plain.items():
        default = field.get_default(call_default_factory=True)
        shown = "" if default is None else f"`{json.dumps(default)}`"
        yield f"| `{prefix}{name}` | {shown} | {field.description} |"
    for name, field in model.model_fields.items():
        kind = _section(field.annotation)
        if kind:
            yield f"\n### {name}\n\n{(kind.__doc__ or '').strip()}\n"
            yield from _keys(kind, f"{prefix}{name}.")


def _section(kind: object) -> type[BaseModel] | None:
    return kind if isinstance(kind, type) and issubclass(kind, BaseModel) else None


if __name__ == "__main__":
    write(Path(__file__).resolve().parents[2])
