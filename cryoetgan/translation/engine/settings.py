"""Settings that both models share, and the checks of a preset's keys and values."""

from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from cryoetgan.errors import UserError, suggest

Channels = Annotated[int, Field(ge=1)]
Momentum = Annotated[float, Field(ge=0, lt=1)]
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


class TrainingSettings(BaseModel):
    """Settings of a training run, whatever its model."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    model: Literal["cyclegan", "residual"] = Field(
        description="cyclegan: the paper's two generators and two discriminators. residual: a "
        "network that corrects the fitted simulation, trained without a discriminator.",
    )
    steps: int = Field(80_000, ge=1, description="Training steps.")
    epochs: float = Field(
        0.0,
        ge=0,
        description="If not 0, passes over the training subtomograms; they replace `steps`.",
    )
    batch: int = Field(1, ge=1, description="Volumes a step, of all devices together.")
    optimiser: Literal["rmsprop", "adam"] = Field(
        "rmsprop",
        description="rmsprop decays its average by 0.9 and starts it at 1, as TensorFlow does.",
    )
    lr_generator: float = Field(5e-4, gt=0, description="Learning rate of the generators.")
    betas: tuple[Momentum, Momentum] = Field((0.5, 0.999), description="Decay rates of adam.")
    decay_start: float = Field(
        1.0,
        ge=0,
        le=1,
        description="Fraction of the steps after which learning rates fall linearly to zero; "
        "1: they stay constant.",
    )
    ema: float = Field(
        0.0, ge=0, le=1, description="Decay of the averaged generator; 0: no averaging."
    )
    snapshot_every: int = Field(
        0,
        ge=0,
        description="Epochs between two saved generators (`snapshots/epoch_N.pt`); 0: none.",
    )
    precision: Literal["bf16", "float32"] = Field(
        "bf16",
        description="Precision of convolutions; bf16 becomes float32 if the device emulates it.",
    )
    compile: bool = Field(
        False,
        description="Compile networks on GPUs with torch.compile. It takes a minute at the start.",
    )

    def replace(self, **changes: Any) -> Self:
        """Return a copy with some values changed, checked."""
        return self.model_validate({**self.model_dump(), **changes})

    def plain(self) -> dict[str, Any]:
        """Return keys and values as YAML and checkpoints hold them: tuples become lists."""
        return self.model_dump(mode="json")


def validate(
    kinds: dict[str, type[TrainingSettings]], content: dict[str, Any], name: str
) -> TrainingSettings:
    """Return the settings of a preset, checked.

    Parameters
    ----------
    kinds : dict
        Class of the settings, by the value of key `model`; the first is the default.
    content : dict
        Keys and values of the preset.
    name : str
        File name, for messages.

    Raises
    ------
    UserError
        If the model or a key is unknown, or a value is out of its range.
    """
    model = content.get("model", next(iter(kinds)))
    if model not in kinds:
        raise UserError(f"{name}: model is {model!r}, wanted one of: {', '.join(kinds)}")
    try:
        return kinds[model].model_validate(content)
    except ValidationError as error:
        known = kinds[model].model_fields
        reasons = []
        for item in error.errors():
            key = ".".join(map(str, item["loc"]))
            if item["type"] == "extra_forbidden":
                reasons.append(f"model {model} has no key '{key}'{suggest(key, known, RENAMED)}")
            else:
                value = f"{key} is {item['input']!r}: " if key else ""
                reasons.append(value + item["msg"].removeprefix("Value error, "))
        raise UserError(f"{name}: {'; '.join(reasons)}") from error
