"""The two tables a user fills: classes and tomograms (tab-separated, one row each)."""

import csv
from pathlib import Path
from typing import Annotated, Literal, TypeVar

from pydantic import BaseModel, Field, ValidationError, field_validator, model_validator

from cryoetgan.config import NAME, Count, Fraction, Positive, Section, explain
from cryoetgan.errors import UserError, suggest
from cryoetgan.io.files import check_exists
from cryoetgan.tomograms.sources.addresses import is_remote

Name = Annotated[str, Field(pattern=NAME)]
Tilt = Annotated[float, Field(ge=-90, le=90)]
RENAMED = {"marks": "annotations", "marks_voxel_size": "annotations_voxel_size"}
"""Columns by an earlier name: the message on an unknown column gives the present one."""


class ClassRow(Section):
    """One kind of particle."""

    class_: Name = Field(alias="class", description="Name: letters, digits, _ and -.")
    source: str = Field(
        description="A PDB id (4v6x), a structure file (PDB, mmCIF, gz), a density map (MRC), "
        "`phantom:NAME`, or `membrane`."
    )
    assembly: str | None = Field(None, description="Biological assembly; empty: the config's.")
    model: str | None = Field(
        None,
        description="MODEL number of an entry with several, or `all` where they are parts of one "
        "particle; empty: found by whether they overlap.",
    )
    component: Annotated[int, Field(ge=1)] | None = Field(
        None,
        description="Where an entry holds particles that lie apart: 1, only the largest; 2, the "
        "next; empty: all.",
    )
    chains: Annotated[str, Field(pattern=r"^[A-Za-z0-9]+(,[A-Za-z0-9]+)*$")] | None = Field(
        None,
        description="Chains to keep, as the authors name them: `A,B`; empty: all. Antibodies and "
        "partners that your sample lacks go.",
    )
    radius: Positive | None = Field(
        None, description="Angstrom, for picking; empty: measured on the density."
    )
    copies: Count | None = Field(
        None, description="In each simulated tomogram; empty: the config's."
    )
    count: Count | None = Field(None, description="Poses; empty: the config's.")

    @property
    def kind(self) -> str:
        """How the structure is come by: phantom, membrane, map, file or pdb."""
        if self.source.startswith("phantom:"):
            return "phantom"
        if self.source == "membrane":
            return "membrane"
        name = self.source.lower()
        if name.endswith((".mrc", ".map", ".rec")):
            return "map"
        if name.endswith((".pdb", ".ent", ".cif", ".pdb.gz", ".ent.gz", ".cif.gz")):
            return "file"
        return "pdb"


class TomogramRow(Section):
    """One tomogram."""

    tomogram: Name = Field(description="Name: letters, digits, _ and -.")
    path: str = Field(
        description="MRC file, URL, `emdb:1234`, `empiar:10045/data/x.rec`, `portal:tomogram/1`, "
        "`copick:config.json?run=R` (`cryoetgan tomograms list` writes such rows), or `simulate`."
    )
    voxel_size: Positive | None = Field(
        None, description="Angstrom; wins over the header, where that is wrong."
    )
    tilt_low: Tilt = Field(description="Lowest tilt, degrees about y.")
    tilt_high: Tilt = Field(description="Highest tilt, degrees.")
    tilt_step: Positive = Field(3.0, description="Degrees.")
    tilt_axis: Literal["y", "x"] = Field(
        "y", description="Where the tilt axis lies in the file; it is turned to y."
    )
    beam_axis: Literal["z", "y"] = Field(
        "z", description="Where the beam runs in the file; y: IMOD's volumes before trimvol."
    )
    voltage: Positive = Field(300.0, description="Kilovolts.")
    cs: Annotated[float, Field(ge=0)] = Field(2.7, description="Spherical aberration, millimetres.")
    amplitude_contrast: Fraction = Field(0.07, description="Fraction.")
    defocus: Annotated[float, Field(ge=0)] | None = Field(
        None, description="Micrometres, underfocus positive; empty: unknown."
    )
    ctf: Literal["raw", "phase-flipped", "corrected"] = Field(
        "raw", description="State of the contrast transfer function."
    )
    contrast: Literal["dark", "bright"] = Field(
        "dark", description="How protein looks in the file; dark is usual."
    )
    split: Literal["train", "validation", "test"] | None = Field(
        None, description="Empty: the last tomogram is for testing, the others for training."
    )
    group: Name = Field(
        "all",
        description="Tomograms of one microscope session share a name; `translation.per_group` "
        "trains a network for each.",
    )
    annotations: str | None = Field(
        None,
        description="Manual annotations, used only for testing: STAR, CSV or copick picks, or a "
        "folder with one such file per class. Coordinates are those of the tomogram's file; they "
        "are converted if the tomogram is resampled or rotated.",
    )
    annotations_voxel_size: Positive | None = Field(
        None,
        description="Unit of the annotations' coordinates in angstrom, if they are not in voxels "
        "of the tomogram's file: the voxel size of the unbinned images, for example, or 1.",
    )
    mask: str | None = Field(
        None,
        description="MRC on the grid of the tomogram's file, not zero where nothing is to be "
        "picked: carbon, ice, gold, edges.",
    )

    @field_validator("tomogram")
    @classmethod
    def _name(cls, value: str) -> str:
        if value.endswith(("_labels", "_mask")):
            raise ValueError("ends as what lies beside a tomogram is named; give it another name")
        return value

    @field_validator("path")
    @classmethod
    def _path(cls, value: str) -> str:
        if not value.strip():
            raise ValueError("is empty; give an MRC file or 'simulate'")
        return value

    @model_validator(mode="after")
    def _tilts(self) -> "TomogramRow":
        if self.tilt_low >= self.tilt_high:
            raise ValueError(
                f"tilt_low is {self.tilt_low:g} and tilt_high {self.tilt_high:g}: "
                "the low one comes first"
            )
        return self

    @property
    def is_remote(self) -> bool:
        """Whether the tomogram is fetched, not read from a file."""
        return is_remote(self.path)

    @property
    def is_simulated(self) -> bool:
        """Whether the tomogram is to be made, not imported."""
        return self.path == "simulate"


Row = TypeVar("Row", ClassRow, TomogramRow)


def read_classes(path: Path) -> list[ClassRow]:
    """Read the table of classes."""
    rows = _read(path, ClassRow, "class")
    return rows


def read_tomograms(path: Path) -> list[TomogramRow]:
    """Read the table of tomograms; empty splits are filled in."""
    rows = _read(path, TomogramRow, "tomogram")
    if len(rows) > 1 and all(row.split is None for row in rows):
        splits = ["train"] * (len(rows) - 1) + ["test"]
        if len(rows) > 3:
            splits[-2] = "validation"
        rows = [row.model_copy(update={"split": s}) for row, s in zip(rows, splits, strict=True)]
    given = {row.split or "train" for row in rows}
    lacking = {"train", "test"} - given
    if lacking and (len(given) > 1 or "train" in lacking):
        raise UserError(
            f"{path}: no tomogram has split {' or '.join(sorted(lacking))}: its splits are "
            f"{', '.join(sorted(given))}; leave the column empty, or give some for training and some "
            "for testing"
        )
    return rows


def _read(path: Path, model: type[Row], key: str) -> list[Row]:
    path = check_exists(path, "table")
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            kept = [
                (number, line)
                for number, line in enumerate(file, start=1)
                if line.strip() and not line.startswith("#")
            ]
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: is not a text table ({error})") from error
    # rows are named as an editor numbers them, comments counted
    reader = csv.DictReader((line for _, line in kept), delimiter="\t")
    known = [field.alias or name for name, field in model.model_fields.items()]
    for name in reader.fieldnames or []:
        if name not in known:
            raise UserError(
                f"{path}: unknown column '{name}'{suggest(name, known, RENAMED)} (known: {', '.join(known)}; "
                "columns are separated by tabs)"
            )
    rows = [_row(path, kept[reader.line_num - 1][0], raw, model) for raw in reader]
    if not rows:
        raise UserError(f"{path}: has no rows; give at least one {key}")
    names = [getattr(row, "class_" if key == "class" else key) for row in rows]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise UserError(f"{path}: {key} {', '.join(twice)} stands twice; names must differ")
    return rows


def _row(path: Path, number: int, raw: dict[str, str], model: type[Row]) -> Row:
    if None in raw:
        raise UserError(f"{path}: row {number} has more fields than the heading has columns")
    content = {name: value.strip() for name, value in raw.items() if value and value.strip()}
    try:
        return model.model_validate(content)
    except ValidationError as error:
        raise UserError(f"{path}, row {number}: {explain(error, model)}") from error


def columns(model: type[BaseModel]) -> list[tuple[str, str]]:
    """Return (column, description) of a table, for the documentation."""
    return [
        (field.alias or name, field.description or "") for name, field in model.model_fields.items()
    ]
