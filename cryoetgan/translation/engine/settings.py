"""Settings that both models share."""

from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field

Count = Annotated[int, Field(ge=1, le=1_000_000_000)]
CountOrNone = Annotated[int, Field(ge=0, le=1_000_000_000)]
Width = Annotated[int, Field(ge=1, le=4096)]
"""Channels of a layer."""
Depth = Annotated[int, Field(ge=0, le=100)]
"""Layers or blocks; a changed file must not ask for a network beyond any memory."""
NonNegative = Annotated[float, Field(ge=0)]
Positive = Annotated[float, Field(gt=0)]
Fraction = Annotated[float, Field(ge=0, le=1)]
DecayRate = Annotated[float, Field(ge=0, lt=1)]


class TrainingSettings(BaseModel):
    """Settings of a training run, whatever its model."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", allow_inf_nan=False, use_attribute_docstrings=True
    )

    model: Literal["cyclegan", "residual"]
    """cyclegan: the paper's networks. residual: a correction of the fitted simulation."""
    steps: Count = 80_000
    """Training steps."""
    epochs: NonNegative = 0.0
    """If not 0, passes over the training subtomograms; they replace `steps`."""
    batch: Count = 1
    """Volumes a step, of all devices together."""
    optimiser: Literal["rmsprop", "adam"] = "rmsprop"
    """The average of rmsprop decays by 0.9 and starts at 1, as in TensorFlow."""
    lr_generator: Positive = 5e-4
    """Learning rate of the generators."""
    betas: tuple[DecayRate, DecayRate] = (0.5, 0.999)
    """Decay rates of adam."""
    decay_start: Fraction = 1.0
    """Fraction of the steps after which learning rates fall linearly to zero; 1: never."""
    ema: Fraction = 0.0
    """Decay of the averaged generator; 0: no averaging."""
    snapshot_every: CountOrNone = 0
    """Epochs between two saved generators (`snapshots/epoch_N.pt`); 0: none."""
    precision: Literal["bf16", "float32"] = "bf16"
    """Precision of convolutions; bf16 becomes float32 if the device emulates it."""
    compile: bool = False
    """Compile networks on GPUs with torch.compile, which takes a minute at the start."""

    @property
    def makes_tomograms(self) -> bool:
        """Whether the generator makes whole tomograms, tile by tile."""
        return True

    def makes_tomograms_of(self, source: str) -> bool:
        """Whether it makes the synthetic tomograms of a run with this `export.source`."""
        return source != "fitted"

    def replace(self, **changes: Any) -> Self:
        """Return a copy with some values changed, checked."""
        return self.model_validate({**self.model_dump(), **changes})

    def plain(self) -> dict[str, Any]:
        """Return keys and values as YAML and checkpoints hold them: tuples become lists."""
        return self.model_dump(mode="json")
