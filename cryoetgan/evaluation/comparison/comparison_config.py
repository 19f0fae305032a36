"""The file of `evaluation compare --config`: which sets are compared, and how."""

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError, model_validator

from cryoetgan.config import Count, Section, explain
from cryoetgan.errors import UserError
from cryoetgan.io.files import read_yaml

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

    star: str  # volume set
    split: Split | None = None
    other: tuple[str, ...] = ()  # sets of crops without particles, class `other`


class Method(_Named):
    """Synthetic or pseudo-labelled volumes for training."""

    star: str | list[str]  # a list holds one volume set per seed, of generators trained anew
    split: Split | None = None
    other: tuple[str, ...] = ()  # sets of crops without particles, made by the same method
    # for leave_one_out: class to the set that was made without any real crops of that class
    without: dict[str, str] = Field({})
    uses_picks: bool = True  # made from picks; a conventional simulation needs no `without`
    mix: bool = True  # also train with `few_shot` real crops added

    @property
    def stars(self) -> list[str]:
        """Volume sets of the seeds, in turn."""
        return [self.star] if isinstance(self.star, str) else self.star

    def rows(self, seed: int) -> VolumeRows:
        """Return the volume set of one seed."""
        return VolumeRows(
            star=self.stars[seed % len(self.stars)], split=self.split, other=self.other
        )


class TemplateMatching(_Named):
    """Classification of the test crops by template matching."""

    star: str  # picks of the test tomograms, with the class of their best template
    radius: Annotated[float, Field(gt=0)] = 8.0  # voxels from a pick to the centre of its crop


class ComparisonConfig(Section):
    """Methods, seeds and controls of a comparison."""

    real_train: VolumeRows  # labelled real crops, for the upper bound and GAN-test
    real_test: VolumeRows  # labelled real crops that share no voxel with `real_train`
    methods: dict[str, Method] = Field(min_length=1)
    baseline: str | None = None  # method that the others are compared with, paired by seed
    template_matching: TemplateMatching | None = None
    network: Literal["small", "cb3d"] = "small"
    epochs: Count | None = None  # at most; None: by the size of the set
    seeds: Annotated[int, Field(ge=2)] = 5  # classifiers trained on each set
    few_shot: Annotated[int, Field(ge=0)] = 5  # labelled real crops per class that are added
    curve: list[Count] = Field([5, 10, 20, 40])  # labelled real crops per class: learning curve
    background: bool = True  # train a classifier on crops with hidden particles, too
    # diameter of the ball that hides a particle, as a fraction of the box
    mask_diameter: Annotated[float, Field(gt=0, lt=1)] = 0.8
    leave_one_out: bool = False  # each class is left out in turn

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
        return ComparisonConfig.model_validate(read_yaml(path))
    except ValidationError as error:
        raise UserError(f"{path}: {explain(error, ComparisonConfig)}") from error
