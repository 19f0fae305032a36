"""Volume sets: the data format of all stages after `densities`.

A volume set is a table `x.star` with one row per volume, and an MRC volume stack `x.mrcs` (ISPG
401) of N boxes of n x n x n voxels, float32, zyx.
"""

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cryoetgan.errors import UserError
from cryoetgan.io.files import atomic, check_exists
from cryoetgan.io.memmap import RELEASE_EVERY_BYTES, release_pages
from cryoetgan.io.mrc import (
    Floats,
    Volume,
    check_same_voxel_size,
    open_mrc,
    open_volume,
    read_tomogram,
    resolve_voxel_size,
)
from cryoetgan.io.mrc_header import HEADER_BYTES
from cryoetgan.io.star import Star, read_star, write_star
from cryoetgan.progress import track

if TYPE_CHECKING:
    import pandas as pd


_SIZE_COLUMNS = ["rlnImageSize", "rlnImagePixelSize"]


@dataclass(frozen=True)
class VolumeSet:
    """A volume set opened for reading."""

    path: Path
    """The STAR file."""
    table: "pd.DataFrame"
    """One row per volume, in stack order."""
    optics: "pd.DataFrame"
    """One row per optics group."""
    volumes: NDArray[Any]
    """`(volume, z, y, x)` float32, memory-mapped, read-only."""
    voxel_size: float
    """Angstrom."""

    def __len__(self) -> int:
        return len(self.table)

    @property
    def box(self) -> int:
        """The edge of a box in voxels."""
        return int(self.volumes.shape[-1])

    def classes(self) -> list[str]:
        """Return the sorted names of the classes in the set."""
        return sorted(self.table["cryoetganClass"].unique())

    def optics_of(self, rows: NDArray[np.int_]) -> "pd.DataFrame":
        """Return the optics groups of some rows; all groups if the set does not tell."""
        if "rlnOpticsGroup" not in self.table or "rlnOpticsGroup" not in self.optics:
            return self.optics
        used = self.table["rlnOpticsGroup"].iloc[rows]
        return self.optics[self.optics["rlnOpticsGroup"].isin(used)].reset_index(drop=True)


def stack_path(star: Path) -> Path:
    """Return the path of the stack of a volume set: `x.mrcs` beside `x.star`."""
    return Path(star).with_suffix(".mrcs")


def read_volume_set(
    star: Path, columns: Sequence[str] = (), allow_empty: bool = False
) -> VolumeSet:
    """Open a volume set and check that its two files match; the stack is memory-mapped."""
    tables = read_star(star, columns)
    stack = check_exists(stack_path(star), "volume stack")
    if not len(tables.particles):
        if allow_empty and stack.stat().st_size == HEADER_BYTES:
            return _empty_set(Path(star), tables)
        raise UserError(f"{star}: holds no volume; create it again")
    data, header = open_mrc(stack)
    if data.ndim == 3 and data.shape[0] == data.shape[1] == data.shape[2]:
        data = data[None]  # a stack of one volume
    if data.ndim != 4 or len(set(data.shape[1:])) != 1:
        raise UserError(f"{stack}: has shape {data.shape}; a volume stack is (N, n, n, n)")
    if len(data) != len(tables.particles):
        raise UserError(
            f"{star}: has {len(tables.particles)} rows, but {stack.name} holds {len(data)} volumes; "
            "create the set again"
        )
    size = resolve_voxel_size(stack, header.voxel_size, None)
    table = _in_stack_order(tables.particles, Path(star))
    return VolumeSet(Path(star), table, tables.optics, data, size)


def _empty_set(star: Path, tables: Star) -> VolumeSet:
    """Return a set that was written without volumes."""
    if not len(tables.optics) or not {*_SIZE_COLUMNS} <= set(tables.optics):
        raise UserError(f"{star}: its optics block lacks {' and '.join(_SIZE_COLUMNS)}")
    box, size = (float(tables.optics[name].iloc[0]) for name in _SIZE_COLUMNS)
    volumes = np.zeros((0, *[int(box)] * 3), np.float32)
    return VolumeSet(star, tables.particles, tables.optics, volumes, size)


def is_set(path: Path) -> bool:
    """Return whether a path names a volume set rather than a tomogram."""
    return Path(path).suffix == ".star"


def open_tomogram(path: Path) -> Volume:
    """Open a tomogram, or a volume set (STAR) whose boxes are stacked along z.

    Voxel z of box i is section z + i n of such a volume; `Volume.part` is n.
    """
    if not is_set(path):
        return read_tomogram(path)
    opened = read_volume_set(path)
    count, edge = len(opened), opened.box
    return Volume(opened.volumes.reshape(count * edge, edge, edge), opened.voxel_size, part=edge)


def check_same_boxes(first: VolumeSet, *others: VolumeSet) -> None:
    """Raise `UserError` if a set has another voxel size or box than the first one."""
    for other in others:
        check_same_voxel_size(first.voxel_size, other.voxel_size, first.path, other.path)
        if first.box != other.box:
            raise UserError(
                f"{first.path} has boxes of {first.box} voxels, {other.path} of {other.box}; "
                "make both with one densities.box"
            )


def _in_stack_order(table: "pd.DataFrame", star: Path) -> "pd.DataFrame":
    """Return the rows in the order of the volumes, by the numbers in rlnImageName.

    Other programs sort the rows of a STAR file without sorting the stack.
    """
    if "rlnImageName" not in table:
        return table
    named = table["rlnImageName"].astype(str).str.extract(r"^(\d+)@", expand=False)
    if named.isna().all():
        return table
    numbers = named.fillna("0").astype(int).to_numpy()
    order = np.argsort(numbers, kind="stable")
    wrong = np.flatnonzero(numbers[order] != np.arange(1, len(table) + 1))
    if len(wrong):
        raise UserError(
            f"{star}: rlnImageName names volume {numbers[order[wrong[0]]]} instead of {wrong[0] + 1}; "
            f"it must name each of the {len(table)} volumes once; create the set again"
        )
    if (numbers == numbers[order]).all():
        return table
    return table.iloc[order].reset_index(drop=True)


@dataclass
class VolumeSetWriter:
    """Write a volume set volume by volume, in bounded memory.

    Use it as a context manager. Stack and STAR file appear, the stack first, if the block ends
    without an error.
    """

    star: Path
    count: int
    """Number of volumes."""
    box: int
    """Edge of a box in voxels."""
    voxel_size: float
    """Angstrom."""
    optics: "pd.DataFrame | None" = None
    """One row per group; rlnImagePixelSize, rlnImageSize, rlnImageDimensionality are added."""
    release_every: int = RELEASE_EVERY_BYTES
    """Bytes written between two releases of the stack's pages."""
    rows: dict[int, dict[str, Any]] = field(default_factory=dict, init=False)
    """By number, from 0."""

    def __post_init__(self) -> None:
        self.star = Path(self.star)
        if self.star.suffix != ".star":
            raise UserError(
                f"{self.star}: a volume set is named by its STAR file; let the name end in .star"
            )
        if self.star.is_dir():
            raise UserError(f"{self.star}: is a folder; give the name of a file")
        if self.count < 1:
            raise UserError(f"{self.star}: no volume is left for this set; it needs at least one")
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> "VolumeSetWriter":
        shape = (self.count, self.box, self.box, self.box)
        self.data = self._stack.enter_context(
            open_volume(stack_path(self.star), shape, self.voxel_size)
        )
        return self

    def add(self, volume: Floats, row: Mapping[str, Any], number: int | None = None) -> None:
        """Add one volume `(z, y, x)` and its row, at the end or at a place from 0.

        rlnImageName is added.
        Raises `UserError` if a voxel is not finite, which means that an input is broken.
        """
        number = len(self.rows) if number is None else number
        if not np.isfinite(volume).all():
            raise UserError(
                f"{self.star}: volume {number + 1} would hold voxels that are not finite; "
                "check the inputs with 'cryoetgan validate'"
            )
        self.data[number], self.rows[number] = volume, dict(row)
        if len(self.rows) % max(1, self.release_every // self.data[0].nbytes) == 0:
            release_pages(self.data)

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        if kind is None and len(self.rows) != self.count:
            kind, error = RuntimeError, RuntimeError(f"{len(self.rows)} of {self.count} written")
            self._stack.__exit__(kind, error, None)
            raise error
        # rename the stack first: a STAR file without its stack would seem complete
        self._stack.__exit__(kind, error, trace)
        if kind is None:
            self._write_table()

    def _write_table(self) -> None:
        import pandas as pd

        table = pd.DataFrame([self.rows[number] for number in range(self.count)])
        _write_table(self.star, table, self.box, self.voxel_size, self.optics)


def _write_table(
    star: Path, table: "pd.DataFrame", box: int, voxel_size: float, optics: "pd.DataFrame | None"
) -> None:
    """Write the STAR file of a stack: rlnImageName and optics are completed."""
    import pandas as pd

    images = [f"{index:06d}@{stack_path(star).name}" for index in range(1, len(table) + 1)]
    table = table.drop(columns="rlnImageName", errors="ignore")
    table.insert(0, "rlnImageName", images)
    if "rlnOpticsGroup" not in table:
        table["rlnOpticsGroup"] = 1
    optics = optics.copy() if optics is not None else pd.DataFrame()
    if not len(optics):
        optics = pd.DataFrame({"rlnOpticsGroup": sorted(table["rlnOpticsGroup"].unique())})
    optics["rlnImagePixelSize"] = voxel_size
    optics["rlnImageSize"] = box
    optics["rlnImageDimensionality"] = 3
    write_star(star, table, optics)


def write_empty_volume_set(
    star: Path, table: "pd.DataFrame", box: int, voxel_size: float, optics: "pd.DataFrame"
) -> None:
    """Write a volume set without volumes: a table without rows, and the header of a stack.

    `read_volume_set` opens it if `allow_empty` is true.
    """
    import mrcfile

    with atomic(stack_path(star)) as part, mrcfile.new(part) as stack:
        stack.set_data(np.zeros((0, box, box, box), np.float32))
        stack.voxel_size = voxel_size
    _write_table(star, table.iloc[:0].copy(), box, voxel_size, optics)


def write_volume_set(
    star: Path,
    volumes: NDArray[Any],
    table: "pd.DataFrame",
    voxel_size: float,
    optics: "pd.DataFrame | None" = None,
) -> None:
    """Write a volume set at once; `volumes` is `(volume, z, y, x)`."""
    with VolumeSetWriter(star, len(volumes), volumes.shape[-1], voxel_size, optics) as writer:
        rows: list[dict[str, Any]] = table.to_dict("records")
        for volume, row in zip(volumes, rows, strict=True):
            writer.add(volume, row)


def concatenate_volume_sets(paths: Sequence[Path], output: Path) -> int:
    """Write one volume set (STAR) of several, and return its number of volumes.

    Optics groups are numbered anew, in order. Boxes and voxel sizes must be equal.
    """
    import pandas as pd

    sets = [read_volume_set(path, ["rlnOpticsGroup"]) for path in paths]
    first = sets[0]
    check_same_boxes(*sets)
    optics: list[pd.DataFrame] = []
    tables: list[pd.DataFrame] = []
    for volumes in sets:
        count = sum(map(len, optics))
        old = list(volumes.optics.get("rlnOpticsGroup", []))
        new = {number: count + place for place, number in enumerate(old, start=1)}
        if not set(volumes.table["rlnOpticsGroup"]) <= set(old):
            raise UserError(f"{volumes.path}: its optics block lacks groups of its rows")
        optics.append(volumes.optics.assign(rlnOpticsGroup=list(new.values())))
        tables.append(volumes.table.assign(rlnOpticsGroup=volumes.table["rlnOpticsGroup"].map(new)))
    rows = pd.concat(tables, ignore_index=True).to_dict("records")
    stacks = (volume for each in sets for volume in each.volumes)
    groups = pd.concat(optics, ignore_index=True)
    with VolumeSetWriter(output, len(rows), first.box, first.voxel_size, groups) as writer:
        for volume, row in track(zip(stacks, rows, strict=True), "concatenating", len(rows)):
            writer.add(volume, row)
    return len(rows)
