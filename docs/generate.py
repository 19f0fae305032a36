"""Write the files that follow from the typed configuration: JSON schemas and config/README.md.

`python docs/generate.py`, called by `make docs`. A test checks that the files are current.
"""

import json
from collections.abc import Iterator
from pathlib import Path

from pydantic import BaseModel

from cryoetgan.config import Config
from cryoetgan.io.files import write_text
from cryoetgan.tables import ClassRow, SubtomogramRow, TomogramRow, columns

MODELS: dict[str, type[BaseModel]] = {
    "config": Config,
    "classes": ClassRow,
    "tomograms": TomogramRow,
    "subtomograms": SubtomogramRow,
}
HEAD = """# Configuration

`make docs` writes this page from `cryoetgan/config.py` and `cryoetgan/tables.py`; do not edit it.

`config.yaml` is the configuration of the demo. For a run of your own, `cryoetgan init FOLDER` writes
a commented configuration and tables; start it with `snakemake --configfile FOLDER/config.yaml`.
Snakemake merges that file over `config.yaml`, so a key that it lacks keeps the value of the demo:
keep all keys. If you edit a key, the rules that read it run again, and all rules after them;
`snakemake -n` lists them.
"""
TABLE_HEAD = """
Tab-separated; the first line is the heading, and lines that start with `#` are ignored. Variables
such as `$HOME` in paths are expanded. Paths are relative to the folder in which snakemake starts;
files that are missing there are looked up in the project.

| column | meaning |
|---|---|"""


def generated_files() -> dict[str, str]:
    """Return the text of each generated file, by its path in the project."""
    files = {
        f"workflow/schemas/{name}.schema.json": _schema(name, model)
        for name, model in MODELS.items()
    }
    files["config/README.md"] = "\n".join(_readme()) + "\n"
    return files


def section(annotation: object) -> type[BaseModel] | None:
    """Return the model of a key that holds other keys, or None."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return None


def _schema(name: str, model: type[BaseModel]) -> str:
    schema = model.model_json_schema()
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    schema["$id"] = f"cryoetgan/{name}.schema.json"
    return json.dumps(schema, indent=1, sort_keys=True) + "\n"


def _readme() -> Iterator[str]:
    yield HEAD
    yield "## Keys\n"
    yield from _keys(Config, "")
    for name, model in [*MODELS.items()][1:]:
        yield f"\n## Table of {name}\n{TABLE_HEAD}"
        yield from (f"| `{column}` | {text} |" for column, text in columns(model))


def _keys(model: type[BaseModel], prefix: str) -> Iterator[str]:
    fields = model.model_fields.items()
    plain = {name: field for name, field in fields if not section(field.annotation)}
    if plain:
        yield "| key | default | why one would change it |\n|---|---|---|"
    for name, field in plain.items():
        default = field.get_default(call_default_factory=True)
        shown = "" if default is None else f"`{json.dumps(default)}`"
        yield f"| `{prefix}{name}` | {shown} | {field.description} |"
    for name, field in fields:
        if inner := section(field.annotation):
            yield f"\n### {name}\n\n{(inner.__doc__ or '').strip()}\n"
            yield from _keys(inner, f"{prefix}{name}.")


if __name__ == "__main__":
    for name, text in generated_files().items():
        write_text(Path(__file__).resolve().parents[1] / name, text)
