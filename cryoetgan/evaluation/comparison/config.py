"""What a competition is made of: the file behind `evaluation compare --config`."""

from pathlib import Path
from typing import Annotated, Literal

import yaml
from pydantic import Field, ValidationError, model_validator

from cryoetgan.config import Count, Section, explain
from cryoetgan.errors import UserError
from cryoetgan.io.files import check_exists

Split = Literal["train", "validation", "test"]


class Rows(Section):
    """A volume set, or the rows of one split."""

    star: str = Field(description="Volume set (STAR).")
    split: Split | None = Field(None, description="Only rows of this split.")


class Method(Section):
    """Synthetic or pseudo-labelled volumes to train on."""

    star: str | list[str] = Field(
        description="Volume set (STAR); a list holds one a seed, as of generators trained anew."
    )
    split: Split | None = Field(None, description="Only rows of this split.")
    without: dict[str, str] = Field(
        {},
        description="Class to the set made without ever seeing real crops of that class, for "
        "leave-one-class-out; a competitor that learns from no picks needs none.",
    )
    uses_picks: bool = Field(
        True, description="Whether it learnt from picks; false for plain physics."
    )
    mix: bool = Field(
        True, description="Whether `few_shot` real crops are mixed in, in another training."
    )


class TemplateMatching(Section):
    """Template matching's answer, beside the classifiers'."""

    star: str = Field(description="Picks with the best template's class (particles/selected.star).")
    radius: Annotated[float, Field(gt=0)] = Field(
        8.0, description="Voxels: a pick this close to a test crop's centre is that particle."
    )


class ComparisonConfig(Section):
    """Who competes, over which seeds, with which controls."""

    real_train: Rows = Field(description="Labelled real crops: the ceiling, and GAN-test.")
    real_test: Rows = Field(description="Labelled real crops that share no voxel with those.")
    methods: dict[str, Method] = Field(description="Name to volume set.")
    baseline: str | None = Field(
        None, description="The competitor that the others are compared with, seed by seed."
    )
    template_matching: TemplateMatching | None = Field(
        None, description="Template matching's best class."
    )
    network: Literal["small", "cb3d"] = Field("small", description="Classifier.")
    epochs: Count | None = Field(None, description="At most; empty: by the set's size.")
    seeds: Annotated[int, Field(ge=2)] = Field(5, description="Classifiers trained of each.")
    few_shot: Annotated[int, Field(ge=0)] = Field(
        5, description="Labelled real crops a class that are mixed in (0: not done)."
    )
    curve: list[Count] = Field(
        [5, 10, 20, 40], description="Labelled real crops a class: the ceiling's learning curve."
    )
    background: bool = Field(
        True, description="Whether a classifier that sees no particle is tried."
    )
    mask_diameter: Annotated[float, Field(gt=0, lt=1)] = Field(
        0.8, description="Diameter of the ball hidden from it, share of the box."
    )
    leave_one_out: bool = Field(False, description="Whether each class is left out in turn.")

    @model_validator(mode="after")
    def _names(self) -> "ComparisonConfig":
        if not self.methods:
            raise ValueError("methods is empty; name at least one volume set")
        if self.baseline is not None and self.baseline not in self.methods:
            raise ValueError(
                f"baseline is '{self.baseline}', but methods are {', '.join(self.methods)}"
            )
        return self


def read_config(path: Path) -> ComparisonConfig:
    """Read a competition's file; its paths count from its folder.

    Raises
    ------
    UserError
        Where the file is no YAML mapping, or a key or value is wrong.
    """
    path = check_exists(path, "configuration file")
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: is not YAML: {error}") from error
    if not isinstance(content, dict):
        raise UserError(f"{path}: wanted keys and values, got {type(content).__name__}")
    try:
        return ComparisonConfig.model_validate(_short(content))
    except ValidationError as error:
        raise UserError(f"{path}: {explain(error, ComparisonConfig)}") from error


def _short(content: dict[str, object]) -> dict[str, object]:
    """Return the content with `name: file` spelled out as `name: {star: file}`."""

    def spelled(value: object) -> object:
        return {"star": value} if isinstance(value, str | list) else value

    full = {
        key: spelled(value) if key in ("real_train", "real_test", "template_matching") else value
        for key, value in content.items()
    }
    named = full.get("methods")
    if isinstance(named, dict):
        full["methods"] = {str(name): spelled(value) for name, value in named.items()}
    return full
