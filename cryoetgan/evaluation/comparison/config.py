"""The file of `evaluation compare --config`: which sets are compared, and how."""

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError, model_validator

from cryoetgan.config import Count, Section, explain, read_mapping
from cryoetgan.errors import UserError

Split = Literal["train", "validation", "test"]
REAL = "real"
"""Name of the test set of real crops, and of the trials that are trained on real crops."""


class _Named(Section):
    """A section for which a file name, or a list of them, can stand."""

    @model_validator(mode="before")
    @classmethod
    def _from_name(cls, value: Any) -> Any:
        return {"star": value} if isinstance(value, str | list) else value


class VolumeRows(_Named):
    """A volume set, or the rows of one split."""

    star: str = Field(description="Volume set (STAR).")
    split: Split | None = Field(None, description="Only rows of this split.")


class Method(_Named):
    """Synthetic or pseudo-labelled volumes for training."""

    star: str | list[str] = Field(
        description="Volume set (STAR); a list holds one set per seed, of generators trained anew."
    )
    split: Split | None = Field(None, description="Only rows of this split.")
    without: dict[str, str] = Field(
        {},
        description="Class to the set made without any real crops of that class, for "
        "leave_one_out; not needed if uses_picks is false.",
    )
    uses_picks: bool = Field(
        True, description="Whether it was made from picks; false for a conventional simulation."
    )
    mix: bool = Field(True, description="Whether to train with `few_shot` real crops added, too.")

    @property
    def stars(self) -> list[str]:
        """Volume sets of the seeds, in turn."""
        return [self.star] if isinstance(self.star, str) else self.star

    def rows(self, seed: int) -> VolumeRows:
        """Return the volume set of one seed."""
        return VolumeRows(star=self.stars[seed % len(self.stars)], split=self.split)


class TemplateMatching(_Named):
    """Classification of the test crops by template matching."""

    star: str = Field(description="Picks with the class of their best template.")
    radius: Annotated[float, Field(gt=0)] = Field(
        8.0, description="Voxels; largest distance of a pick to the centre of its test crop."
    )


class ComparisonConfig(Section):
    """Methods, seeds and controls of a comparison."""

    real_train: VolumeRows = Field(description="Labelled real crops: upper bound, and GAN-test.")
    real_test: VolumeRows = Field(description="Labelled real crops that share no voxel with those.")
    methods: dict[str, Method] = Field(min_length=1, description="Name to volume set.")
    baseline: str | None = Field(
        None, description="Method that the others are compared with, paired by seed."
    )
    template_matching: TemplateMatching | None = Field(
        None, description="Picks of the test tomograms."
    )
    network: Literal["small", "cb3d"] = Field("small", description="Classifier.")
    epochs: Count | None = Field(None, description="At most; empty: by the size of the set.")
    seeds: Annotated[int, Field(ge=2)] = Field(5, description="Classifiers trained on each set.")
    few_shot: Annotated[int, Field(ge=0)] = Field(
        5, description="Labelled real crops per class that are added (0: none)."
    )
    curve: list[Count] = Field(
        [5, 10, 20, 40], description="Labelled real crops per class: the learning curve."
    )
    background: bool = Field(
        True, description="Whether to train a classifier on crops with hidden particles."
    )
    mask_diameter: Annotated[float, Field(gt=0, lt=1)] = Field(
        0.8, description="Diameter of the ball that hides a particle, as a fraction of the box."
    )
    leave_one_out: bool = Field(False, description="Whether each class is left out in turn.")

    @model_validator(mode="after")
    def _baseline_is_a_method(self) -> "ComparisonConfig":
        if self.baseline is not None and self.baseline not in self.methods:
            raise ValueError(
                f"baseline is '{self.baseline}', but methods are {', '.join(self.methods)}"
            )
        return self


def read_config(path: Path) -> ComparisonConfig:
    """Read the file of a comparison; its paths are relative to its folder."""
    try:
        return ComparisonConfig.model_validate(read_mapping(path))
    except ValidationError as error:
        raise UserError(f"{path}: {explain(error, ComparisonConfig)}") from error
