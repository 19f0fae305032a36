"""Presets: settings of a model, by name or from a YAML file."""

import functools
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from cryoetgan.errors import UserError, suggest
from cryoetgan.io.files import read_yaml
from cryoetgan.translation.cyclegan.settings import CycleGANSettings
from cryoetgan.translation.engine.settings import TrainingSettings
from cryoetgan.translation.residual.settings import ResidualSettings

FOLDER = Path(__file__).parent
MODELS: dict[str, type[TrainingSettings]] = {
    "cyclegan": CycleGANSettings,
    "residual": ResidualSettings,
}
"""Value of key `model` to the class of its settings."""
RENAMED = {
    "frame": "model",
    "critic_widths": "discriminator_widths",
    "critic_stride": "discriminator_stride",
    "critic_norm": "discriminator_norm",
    "critic_bias": "discriminator_bias",
    "lr_critic": "lr_discriminator",
    "n_critic": "discriminator_steps",
    "pool": "replay_pool",
    "stages": "diffusion_steps",
    "shares": "class_fractions",
    "scenes": "n_scenes",
}
"""Earlier name of a key to its present name, for messages."""


def known_presets() -> list[str]:
    """Return the names of the presets in the package."""
    return sorted(path.stem for path in FOLDER.glob("*.yaml"))


def read_preset(name: str) -> TrainingSettings:
    """Return the settings of a preset, by its name or the path of a YAML file."""
    is_path = "/" in name or name.endswith((".yaml", ".yml"))
    path = Path(name) if is_path else FOLDER / f"{name}.yaml"
    if not path.is_file():
        known = known_presets()
        raise UserError(
            f"--preset: '{name}' does not exist{suggest(name, known)} (known: {', '.join(known)}, "
            "or a YAML file)"
        )
    return parse_settings(read_yaml(path), path.name) if is_path else _read_shipped(path)


@functools.cache
def _read_shipped(path: Path) -> TrainingSettings:
    """Return the settings of a preset in the package: the workflow reads one for several rules."""
    return parse_settings(read_yaml(path), path.name)


def parse_settings(content: dict[str, Any], name: str) -> TrainingSettings:
    """Return checked settings from keys and values; `name` is their file, for messages."""
    model = content.get("model", "cyclegan")
    if model not in MODELS:
        raise UserError(f"{name}: model is {model!r}, wanted one of: {', '.join(MODELS)}")
    try:
        return MODELS[model].model_validate(content)
    except ValidationError as error:
        reasons = []
        for item in error.errors():
            key = ".".join(map(str, item["loc"]))
            if item["type"] == "extra_forbidden":
                hint = suggest(key, MODELS[model].model_fields, RENAMED)
                reasons.append(f"model {model} has no key '{key}'{hint}")
            else:
                value = f"{key} is {item['input']!r}: " if key else ""
                reasons.append(value + item["msg"].removeprefix("Value error, "))
        raise UserError(f"{name}: {'; '.join(reasons)}") from error
