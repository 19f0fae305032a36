"""Recipes by name, or from a file."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

import yaml
from pydantic import ConfigDict, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from cryoetgan.errors import UserError, nearest
from cryoetgan.translation.settings import Settings

FOLDER = Path(__file__).parent


@dataclass(frozen=True, kw_only=True, config=ConfigDict(extra="forbid"))
class CheckedSettings(Settings):
    """`Settings` whose keys and types are checked."""


def known_presets() -> list[str]:
    """Return the names of the presets that come with the package."""
    return sorted(path.stem for path in FOLDER.glob("*.yaml"))


def read_preset(name: str) -> Settings:
    """Return the settings of a preset's name or of a YAML file.

    Raises
    ------
    UserError
        Where there is no such preset or file, or a key or value is wrong.
    """
    path = FOLDER / f"{name}.yaml"
    if "/" in name or name.endswith((".yaml", ".yml")):
        path = Path(name)
    if not path.is_file():
        known = known_presets()
        raise UserError(
            f"--preset: there is no '{name}'{nearest(name, known)} (known: {', '.join(known)}, "
            "or a YAML file)"
        )
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: is not YAML ({error})") from error
    if not isinstance(content, dict):
        raise UserError(f"{path}: wanted keys and values")
    return check_settings(content, str(path.name))


def check_settings(content: dict[str, Any], name: str) -> Settings:
    """Return settings from a mapping, or raise one `UserError` that says what is wrong."""
    try:
        checked = TypeAdapter(CheckedSettings).validate_python(content)
    except ValidationError as error:
        raise UserError(f"{name}: {_explain(error)}") from error
    if checked.objective == "wgan-gp" and checked.penalty_weight <= 0:
        raise UserError(
            f"{name}: objective is wgan-gp, penalty_weight {checked.penalty_weight:g}: without its "
            "gradient penalty nothing bounds the critic; set penalty_weight to 10"
        )
    return Settings(**asdict(checked))


def _explain(error: ValidationError) -> str:
    known = list(Settings.__dataclass_fields__)
    said = []
    for item in error.errors():
        key = str(item["loc"][0]) if item["loc"] else "?"
        if item["type"] == "unexpected_keyword_argument":
            said.append(f"unknown key '{key}'{nearest(key, known)}")
        else:
            said.append(f"{key} is {item['input']!r}: {item['msg']}")
    return "; ".join(said)
