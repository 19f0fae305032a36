"""Another valid value for every key of the configuration and every column of the tables."""

from collections.abc import Iterator
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

from cryoetgan.config import Config

TEXTS = {
    # text that names something: another one of the kind
    "run": "another",
    "structures.mirror": "mirror",
    "densities.assembly": "none",
    "densities.prior": "another.star",
    "particles.curation": "others",
    "translation.preset": "paper",
    "evaluation.ablation_preset": "smoke",
    "report.title": "Another",
}
WITHOUT = {"imaging.fit": "translation.tomograms"}
"""Keys of which another value is valid only where a second key is 0."""
TABLES = {"structures.table", "tomograms.table"}
"""Keys whose file is looked at column by column."""


def keys(model: type[BaseModel] = Config, prefix: str = "") -> Iterator[str]:
    """Yield all keys, dotted, in the order of the configuration."""
    for name, field in model.model_fields.items():
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            yield from keys(kind, f"{prefix}{name}.")
        else:
            yield prefix + name


def edit(config: Config, key: str) -> dict[str, Any]:
    """Return the configuration, as nested mappings, with another value of one key.

    Raises
    ------
    KeyError
        Where no other value is found: name one in TEXTS.
    """
    *parents, last = key.split(".")
    model: Any = config
    for name in parents:
        model = getattr(model, name)
    value = getattr(model, last)
    others = [TEXTS[key]] if key in TEXTS else _others(value, type(model), last)
    for other in others:
        content = without(config, key)
        section = content
        for name in parents:
            section = section[name]
        section[last] = other
        try:
            if Config.model_validate(content) != config:
                return content
        except ValidationError:
            continue
    raise KeyError(f"{key}: no other value than {value!r} is valid; name one in edits.TEXTS")


def without(config: Config, key: str) -> dict[str, Any]:
    """Return the configuration, as nested mappings, ready for another value of a key."""
    content = config.model_dump(mode="json")
    if key in WITHOUT:
        section, last = WITHOUT[key].split(".")
        content[section][last] = 0
    return content


def _others(value: Any, model: type[BaseModel], name: str) -> list[Any]:
    words = _words(model.model_fields[name].annotation)
    if isinstance(value, list):
        return [value[:-1], [*value, *words]] if words else [value[1:] or [10]]
    if isinstance(value, tuple):
        return [[*value[:-1], value[-1] + 4]]
    if words:
        return [word for word in words if word != value]
    if isinstance(value, bool):
        return [not value]
    if value is None:
        return [1, 2.5, 10.0, 20.0, "text", True]
    if isinstance(value, int):
        return [value + 1, value + 4, value - 1]
    if isinstance(value, float):
        return [value + step for step in (0.25, 0.01, -0.01)]
    return [f"another-{value}"]


def _words(annotation: Any) -> list[Any]:
    """Return the words of a Literal, wherever it stands in an annotation."""
    found: list[Any] = []
    for part in get_args(annotation):
        found += [part] if isinstance(part, str) else _words(part)
    return found
