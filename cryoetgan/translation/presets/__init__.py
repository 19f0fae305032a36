"""Recipes by name, or from a file."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

import yaml
from pydantic import ConfigDict, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from cryoetgan.errors import UserError, suggest
from cryoetgan.translation.settings import Settings

FOLDER = Path(__file__).parent
_FROM_0 = (
    "blocks", "noise_channels", "clip", "penalty_weight", "r1_weight", "cycle_weight",
    "cycle_lowpass", "identity_weight", "identity_lowpass", "input_noise", "epochs", "pool",
    "snapshot_every", "spectrum_weight", "residual_penalty", "patch_weight", "texture_weight",
)  # fmt: skip
_FROM_1 = ("r1_every", "batch", "steps", "n_critic", "width", "scenes", "stages", "filters")
_ABOVE_0 = ("lr_generator", "lr_critic", "scale_clip")
_UP_TO_1 = ("dropout", "ema", "decay_start", "contrast_rate", "held_out")


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
            f"--preset: there is no '{name}'{suggest(name, known)} (known: {', '.join(known)}, "
            "or a YAML file)"
        )
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: is not YAML ({error})") from error
    if not isinstance(content, dict):
        raise UserError(f"{path}: wanted keys and values")
    return check_settings(content, str(path.name))


def as_plain(settings: Settings) -> dict[str, Any]:
    """Return settings as YAML and checkpoints hold them: tuples become lists."""
    return {
        name: list(value) if isinstance(value, tuple) else value
        for name, value in asdict(settings).items()
    }


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
    wrong = _out_of_range(asdict(checked))
    if wrong:
        raise UserError(f"{name}: {'; '.join(wrong)}")
    return Settings(**asdict(checked))


def _out_of_range(values: dict[str, Any]) -> list[str]:
    """Return what is wrong with numbers whose types are right."""
    tests = (
        (_FROM_0, "0 or more", lambda value: value >= 0),
        (_FROM_1, "1 or more", lambda value: value >= 1),
        (_ABOVE_0, "more than 0", lambda value: value > 0),
        (_UP_TO_1, "0 to 1", lambda value: 0 <= value <= 1),
        (("widths", "critic_widths"), "1 or more each", lambda value: value and min(value) >= 1),
        (("betas",), "two of 0 to below 1", lambda value: all(0 <= beta < 1 for beta in value)),
    )
    # written so that a NaN is wrong too
    return [
        f"{key} is {values[key]!r}: wanted {wanted}"
        for keys, wanted, right in tests
        for key in keys
        if not right(values[key])
    ]


def _explain(error: ValidationError) -> str:
    known = list(Settings.__dataclass_fields__)
    said = []
    for item in error.errors():
        key = str(item["loc"][0]) if item["loc"] else "?"
        if item["type"] == "unexpected_keyword_argument":
            said.append(f"unknown key '{key}'{suggest(key, known)}")
        else:
            said.append(f"{key} is {item['input']!r}: {item['msg']}")
    return "; ".join(said)
