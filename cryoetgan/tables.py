"""The tables of a run, tab-separated: classes, tomograms, sets of subtomograms."""

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, TypeVar

from pydantic import BaseModel, Field, ValidationError, field_validator, model_validator

from cryoetgan.config import NAME, Count, Fraction, Positive, Section, explain
from cryoetgan.errors import UserError, shown, suggest
from cryoetgan.io.files import COMPANIONS, check_exists, read_text, strip_compression
from cryoetgan.io.star import OTHER
from cryoetgan.tomograms.sources.addresses import is_remote

Name = Annotated[str, Field(pattern=NAME)]
Tilt = Annotated[float, Field(ge=-90, le=90)]
CLASSES = r"^[A-Za-z0-9_-]+(=[A-Za-z0-9_-]+(,[A-Za-z0-9_-]+=[A-Za-z0-9_-]+)*)?$"
"""Pattern of a class, or of pairs `old=new` separated by commas."""
FIRST_COLUMNS = ("tomogram", "name", "path")
RENAMED = {"marks": "annotations", "marks_voxel_size": "annotations_voxel_size"}
"""Columns of early tables, and their names today."""


class ClassRow(Section):
    """One class of particles."""

    class_: Name = Field(alias="class", description="Name: at most 80 letters, digits, _ and -.")
    source: str = Field(
        description="A PDB id (4v6x), a structure file (PDB, mmCIF, gz), a density map (MRC), "
        "`phantom:NAME`, or `membrane`."
    )
    assembly: str | None = Field(
        None, description="Biological assembly. Empty: densities.assembly."
    )
    model: str | None = Field(
        None,
        description="Number of the MODEL to use, or `all` if the models are parts of one particle. "
        "Empty: all if they do not overlap, else the first.",
    )
    component: Annotated[int, Field(ge=1)] | None = Field(
        None,
        description="If an entry holds several separate particles: 1 uses only the largest, 2 the "
        "next. Empty: all.",
    )
    chains: Annotated[str, Field(pattern=r"^[A-Za-z0-9]+(,[A-Za-z0-9]+)*$")] | None = Field(
        None,
        description="Chains to keep, by author name: `A,B`. Empty: all. Use it to remove antibodies "
        "and partners that your sample lacks.",
    )
    min_confidence: Annotated[float, Field(ge=0, le=100)] | None = Field(
        None,
        description="For predicted models: residues with a lower confidence (pLDDT, 0 to 100) are left "
        "out; 70 is usual. Empty: all residues, with a warning.",
    )
    radius: Positive | None = Field(
        None, description="Angstrom, for picking. Empty: measured on the density map."
    )
    copies: Count | None = Field(
        None, description="Copies in each simulated tomogram. Empty: tomograms.copies."
    )
    count: Count | None = Field(None, description="Number of poses. Empty: densities.count.")

    @field_validator("class_")
    @classmethod
    def _is_not_reserved(cls, value: str) -> str:
        if value == OTHER:
            raise ValueError(
                f"'{OTHER}' is the class of background and unnamed picks; choose another name"
            )
        return value

    @property
    def kind(self) -> str:
        """The kind of source: phantom, membrane, map, file or pdb."""
        if self.source.startswith("phantom:"):
            return "phantom"
        if self.source == "membrane":
            return "membrane"
        name = self.source.lower()
        if strip_compression(name).endswith((".mrc", ".map", ".rec", ".ccp4")):
            return "map"
        if name.removesuffix(".gz").endswith((".pdb", ".ent", ".cif")):
            return "file"
        return "pdb"


class RecordedRow(Section):
    """How a tomogram, or the tomograms of a set of subtomograms, were recorded."""

    voxel_size: Positive | None = Field(None, description="Angstrom; overrides a wrong header.")
    tilt_low: Tilt = Field(description="Lowest tilt, degrees.")
    tilt_high: Tilt = Field(description="Highest tilt, degrees.")
    tilt_step: Positive = Field(3.0, description="Tilt increment, degrees.")
    tilt_axis: Literal["y", "x"] = Field(
        "y", description="Tilt axis in the file; import rotates it to y."
    )
    beam_axis: Literal["z", "y"] = Field(
        "z", description="Beam axis in the file; y for IMOD volumes before trimvol."
    )
    flip_hand: bool = Field(
        False,
        description="Mirror the volumes along z at import, if their hand is wrong (yes or no). Tilts, "
        "annotations, poses and mask are given for the file as it is.",
    )
    voltage: Positive = Field(300.0, description="Acceleration voltage, kilovolts.")
    cs: Annotated[float, Field(ge=0)] = Field(2.7, description="Spherical aberration, millimetres.")
    amplitude_contrast: Fraction = Field(0.07, description="Amplitude contrast, a fraction.")
    defocus: Annotated[float, Field(ge=0)] | None = Field(
        None, description="Micrometres, underfocus positive. Empty: unknown."
    )
    ctf: Literal["raw", "phase-flipped", "corrected"] = Field(
        "raw", description="State of the contrast transfer function."
    )
    contrast: Literal["dark", "bright"] = Field(
        "dark", description="Contrast of protein in the file; usually dark."
    )
    split: Literal["train", "validation", "test"] | None = Field(
        None,
        description="Use of the tomogram. Empty: the last tomogram is for testing, the others are for "
        "training.",
    )
    group: Name = Field(
        "all",
        description="Name of the microscope session, shared by its tomograms. "
        "`translation.per_group` trains one network per group.",
    )

    @model_validator(mode="after")
    def _tilts(self) -> "RecordedRow":
        if self.tilt_low >= self.tilt_high:
            raise ValueError(
                f"tilt_low is {self.tilt_low:g} and tilt_high is {self.tilt_high:g}; "
                "tilt_low must be smaller"
            )
        return self


class TomogramRow(RecordedRow):
    """One tomogram."""

    tomogram: Name = Field(description="Name: at most 80 letters, digits, _ and -.")
    path: str = Field(
        description="MRC file, URL, `emdb:1234`, `empiar:10045/data/x.rec`, `portal:tomogram/1`, "
        "`copick:config.json?run=R` (`cryoetgan tomograms list` writes such rows), or `simulate`."
    )
    annotations: str | None = Field(
        None,
        description="Manual annotations, used only for testing: STAR, CSV or copick picks, or a "
        "folder with one such file per class. Coordinates refer to the tomogram's file; import "
        "converts them if it resamples or rotates the tomogram.",
    )
    annotations_voxel_size: Positive | None = Field(
        None,
        description="Unit of the annotations' coordinates in angstrom, if they are not in voxels "
        "of the tomogram's file: the voxel size of the unbinned images, for example, or 1.",
    )
    mask: str | None = Field(
        None,
        description="Exclusion mask: MRC file on the grid of the tomogram's file, not zero where no "
        "particle may be picked (carbon, ice, gold, edges).",
    )
    even: str | None = Field(
        None,
        description="Half tomogram of the even tilts or frames (`T_EVN.mrc`, `T_even.mrc`, "
        "`T_half1.mrc`), on the grid of the tomogram's file. With `odd` it tests whether particles are "
        "found again in independent noise.",
    )
    odd: str | None = Field(None, description="Half tomogram of the odd tilts or frames.")

    @field_validator("tomogram")
    @classmethod
    def _name(cls, value: str) -> str:
        if value.endswith(COMPANIONS):
            reserved = ", ".join(COMPANIONS)
            raise ValueError(f"ends in one of {reserved}, which are reserved; choose another name")
        return value

    @field_validator("path")
    @classmethod
    def _path(cls, value: str) -> str:
        if not value.strip():
            raise ValueError("is empty; give an MRC file or 'simulate'")
        return value

    @model_validator(mode="after")
    def _hand(self) -> "TomogramRow":
        if self.flip_hand and self.is_simulated:
            raise ValueError("flip_hand is yes, but a simulated tomogram has no file to mirror")
        return self

    @model_validator(mode="after")
    def _halves(self) -> "TomogramRow":
        if bool(self.even) != bool(self.odd):
            given, other = ("even", "odd") if self.even else ("odd", "even")
            raise ValueError(f"{given} is given without {other}; give both half tomograms, or none")
        if self.even and len({self.path, self.even, self.odd}) < 3:
            raise ValueError(
                f"path is {self.path}, even {self.even} and odd {self.odd}; give three files: the "
                "tomogram and its two halves"
            )
        if self.even and self.is_simulated:
            raise ValueError("even and odd are given, but a simulated tomogram has no files")
        return self

    @property
    def halves(self) -> dict[str, str]:
        """The files or addresses of the half tomograms, by half."""
        return {"even": self.even, "odd": self.odd} if self.even and self.odd else {}

    @property
    def is_remote(self) -> bool:
        """Whether the tomogram is downloaded instead of read from a file."""
        return is_remote(self.path)

    @property
    def is_simulated(self) -> bool:
        """Whether the tomogram is simulated instead of imported."""
        return self.path == "simulate"

    @property
    def is_imported(self) -> bool:
        """Whether the tomogram is imported from a file or an address."""
        return not self.is_simulated

    @property
    def is_set(self) -> bool:
        """Whether the row is a set of subtomograms."""
        return False


class SubtomogramRow(RecordedRow):
    """One set of subtomograms that another program extracted."""

    name: Name = Field(description="Name: at most 80 letters, digits, _ and -.")
    path: str = Field(
        description="STAR file (RELION 3 to 5, Warp, M), Dynamo table, motive list (EM), CSV, MRC stack of "
        "volumes, or a folder of volumes."
    )
    class_: Annotated[str, Field(pattern=CLASSES)] | None = Field(
        None,
        alias="class",
        description="Class of all boxes, or names for the classes in the file: "
        "`1=ribosome,2=proteasome`. Such boxes are kept whatever their score. Empty: the file's "
        "classes; boxes without a class are classified and selected by their scores.",
    )

    @field_validator("path")
    @classmethod
    def _path(cls, value: str) -> str:
        if not value.strip():
            raise ValueError("is empty; give a file or folder")
        return value

    @property
    def tomogram(self) -> str:
        """The name, as tomograms have one."""
        return self.name

    @property
    def classes(self) -> list[str]:
        """The classes given in the table: one name, or pairs `old=new`."""
        return self.class_.split(",") if self.class_ else []

    annotations: ClassVar[None] = None
    annotations_voxel_size: ClassVar[None] = None
    mask: ClassVar[None] = None
    halves: ClassVar[dict[str, str]] = {}
    is_simulated: ClassVar[bool] = False
    is_remote: ClassVar[bool] = False
    is_imported: ClassVar[bool] = False
    is_set: ClassVar[bool] = True


Row = TypeVar("Row", ClassRow, TomogramRow, SubtomogramRow)
Image = TomogramRow | SubtomogramRow


def read_classes(path: Path) -> list[ClassRow]:
    """Read the table of classes."""
    return _read(path, ClassRow, "class")


def read_images(tomograms: Path | None, subtomograms: Path | None) -> list[Image]:
    """Read the tables of tomograms and of sets of subtomograms; each may be absent.

    If no row of either has a split, the last one is for testing.
    """
    rows: list[Image] = []
    if tomograms is not None:
        rows += _read(tomograms, TomogramRow, "tomogram")
    if subtomograms is not None:
        sets = _read(subtomograms, SubtomogramRow, "name")
        for row in sets:
            if row.name in {one.tomogram for one in rows}:
                raise UserError(
                    f"{subtomograms}: {row.name} is the name of a tomogram, too; rename it"
                )
        paths = [row.path for row in sets]
        if twice := sorted({path for path in paths if paths.count(path) > 1}):
            raise UserError(f"{subtomograms}: {twice[0]} is named twice; keep one row")
        rows += sets
    path = subtomograms if tomograms is None else tomograms
    return _split(rows, path) if path is not None else []


def _split(rows: Sequence[Image], path: Path) -> list[Image]:
    """Return rows with splits, and check that there are data for training and testing."""
    rows = list(rows)
    if len(rows) > 1 and all(row.split is None for row in rows):
        splits = ["train"] * (len(rows) - 1) + ["test"]
        if len(rows) > 3:
            splits[-2] = "validation"
        rows = [row.model_copy(update={"split": s}) for row, s in zip(rows, splits, strict=True)]
    given = {row.split or "train" for row in rows}
    lacking = {"train", "test"} - given
    if lacking and (len(given) > 1 or "train" in lacking):
        raise UserError(
            f"{path}: no row has split {' or '.join(sorted(lacking))}, only "
            f"{', '.join(sorted(given))}; mark rows for both train and test, or leave the column "
            "empty"
        )
    return rows


def _read(path: Path, model: type[Row], key: str) -> list[Row]:
    path = check_exists(path, "table")
    lines = enumerate(io.StringIO(read_text(path), newline=""), start=1)
    kept = [(number, line) for number, line in lines if line.strip() and not line.startswith("#")]
    # messages number the lines as an editor does, with comments
    reader = csv.DictReader((line for _, line in kept), delimiter="\t")
    known = [field.alias or name for name, field in model.model_fields.items()]
    try:
        heading = [name.strip() for name in reader.fieldnames or []]
        while heading and not heading[-1]:  # tabs at the end, as spreadsheets write them
            heading.pop()
        reader.fieldnames = heading
        raws = [(kept[reader.line_num - 1][0], raw) for raw in reader]
    except csv.Error as error:
        raise UserError(f"{path}: cannot be read as a table ({error}); check quotes") from error
    for name in heading:
        if heading.count(name) > 1:
            raise UserError(f"{path}: column {shown(name)} stands twice; remove one")
        if name not in known:
            raise UserError(
                f"{path}: unknown column {shown(name)}{suggest(name, known, RENAMED)} (known: {', '.join(known)}; "
                "columns are separated by tabs)"
            )
    rows = [_row(path, number, raw, model) for number, raw in raws]
    if not rows:
        raise UserError(f"{path}: has no rows; add at least one {key}")
    names = [getattr(row, "class_" if key == "class" else key) for row in rows]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise UserError(f"{path}: {key} {', '.join(twice)} occurs twice; names must differ")
    return rows


def _row(path: Path, number: int, raw: dict[str | Any, Any], model: type[Row]) -> Row:
    if any(value.strip() for value in raw.pop(None, ())):  # cells beyond the heading
        raise UserError(f"{path}: row {number} has more fields than the heading; check the tabs")
    content = {name: value.strip() for name, value in raw.items() if value and value.strip()}
    try:
        return model.model_validate(content)
    except ValidationError as error:
        raise UserError(f"{path}, row {number}: {explain(error, model)}") from error


def columns(model: type[BaseModel]) -> list[tuple[str, str]]:
    """Return the columns of a table with their descriptions, for the documentation."""
    found = [
        (field.alias or name, field.description or "") for name, field in model.model_fields.items()
    ]
    return sorted(found, key=lambda column: column[0] not in FIRST_COLUMNS)
