"""MRC volumes: read by memory map, written atomically."""

import contextlib
import os
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mrcfile
import numpy as np
from numpy.typing import NDArray

from cryoetgan import __version__
from cryoetgan.errors import UserError, format_shape
from cryoetgan.io.files import atomic
from cryoetgan.io.memmap import iterate_sections
from cryoetgan.io.mrc_header import NO_DATA_LABELS, Header
from cryoetgan.io.mrc_header import PROTEIN_BRIGHT as PROTEIN_BRIGHT
from cryoetgan.io.mrc_header import VOXEL_SIZE_TOLERANCE as VOXEL_SIZE_TOLERANCE
from cryoetgan.io.mrc_header import read_header as read_header
from cryoetgan.io.raw_mrc import map_mrc
from cryoetgan.io.star import paths_by_class

Floats = NDArray[np.floating]
MIN_VOXEL_SIZE_A, MAX_VOXEL_SIZE_A = 0.1, 1000.0
"""Angstrom; a value outside this range has another unit."""
VOXEL_SIZE_ADVICE = "give --input-voxel-size (column voxel_size of the table)"
MAX_MAP_VOXELS = 512**3
"""A map is held in memory, twice in double precision."""


@dataclass(frozen=True)
class Volume:
    """A density map or tomogram: `data[z, y, x]`, and its voxel size in angstrom."""

    data: NDArray[Any]
    voxel_size: float
    marks_no_data: bool | None = None
    """Whether voxels of value 0 hold no data (True), or all hold data (False), as an imported
    tomogram states; None if unknown (`io.exclusion`)."""
    part: int | None = None
    """Edge in voxels of the boxes of a set, which are stacked along z; None: one tomogram."""


def read_volume(path: Path, voxel_size: float | None = None) -> Volume:
    """Open one volume, MRC of any program: read-only, in the data type of the file, memory-mapped.

    `voxel_size` in angstrom overrides the header, which may lack it.
    """
    data, header = open_mrc(path)
    if data.ndim != 3:
        raise UserError(f"{path}: has shape {data.shape}; a volume has three axes")
    size = resolve_voxel_size(path, header.voxel_size, voxel_size)
    stated = [label for label in header.labels if label in NO_DATA_LABELS]
    return Volume(data, size, NO_DATA_LABELS[stated[0]] if stated else None)


def read_mask(path: Path, volume: Volume, tomogram: Path) -> NDArray[Any]:
    """Return the exclusion mask of a tomogram, `(z, y, x)`, memory-mapped; its grid is checked.

    Voxels that are not zero are excluded; `tomograms import --mask` writes it as `T_mask.mrc`.
    """
    known = read_header(path).voxel_size > 0
    mask = read_volume(path, None if known else volume.voxel_size)
    if mask.data.shape != volume.data.shape:
        got, want = format_shape(mask.data.shape), format_shape(volume.data.shape)
        raise UserError(
            f"--mask: {path} has {got} voxels (x, y, z), {tomogram} has {want}; give the mask that "
            "`tomograms import --mask` wrote for this tomogram"
        )
    check_same_voxel_size(volume.voxel_size, mask.voxel_size, tomogram, path)
    return mask.data


def read_map(path: Path) -> Volume:
    """Open the density map of a particle and check it; see `check_map`."""
    volume = read_volume(path)
    check_map(volume.data, path)
    # in memory: a map may be transposed, or in the byte order of another machine
    data = np.ascontiguousarray(volume.data, volume.data.dtype.newbyteorder("="))
    return Volume(data, volume.voxel_size)


def read_maps(paths: Sequence[Path], voxel_size: float, tomogram: Path) -> dict[str, NDArray[Any]]:
    """Return density maps by class, the stems of their files, in the voxels of a tomogram."""
    maps = {}
    for name, path in paths_by_class(paths).items():
        volume = read_map(path)
        check_same_voxel_size(voxel_size, volume.voxel_size, tomogram, path)
        maps[name] = volume.data
    return maps


def check_map(data: NDArray[Any], path: Path) -> None:
    """Raise `UserError` if values `(z, y, x)` are not the density map of a particle."""
    if data.size > MAX_MAP_VOXELS:
        raise UserError(
            f"{path}: has {format_shape(data.shape)} voxels, more than a particle's map; "
            "crop or bin it first"
        )
    if min(data.shape) < 2:
        raise UserError(
            f"{path}: has {format_shape(data.shape)} voxels; a density map has three axes"
        )
    if not np.isfinite(data).all():
        raise UserError(f"{path}: holds values that are not finite numbers; create the map again")
    if data.max() <= 0 or data.min() == data.max():
        raise UserError(
            f"{path}: no voxel is above zero, or all are equal; a density map has protein positive "
            "(multiply a map with dark protein by -1)"
        )


def read_tomogram(path: Path) -> Volume:
    """Open a tomogram; raise `UserError` if a voxel is not finite, or all are equal."""
    volume = read_volume(path)
    low, high = np.inf, -np.inf
    for index, section in enumerate(iterate_sections(volume.data)):
        least, most = float(section.min()), float(section.max())
        if not (np.isfinite(least) and np.isfinite(most)):
            raise UserError(
                f"{path}: section {index} holds voxels that are not finite (NaN or infinity); "
                "repair the file, or import it with 'cryoetgan tomograms import'"
            )
        low, high = min(low, least), max(high, most)
    if not low < high:
        raise UserError(f"{path}: all voxels have the value {low:g}; is the file empty?")
    return volume


def resolve_voxel_size(name: object, header: float, given: float | None) -> float:
    """Return the given voxel size (angstrom), or the header's, which is NaN if not cubic."""
    if given is not None:
        if not 0 < given < np.inf:
            raise UserError(f"--input-voxel-size: got {given:g} A, wanted a number above zero")
        return given
    if np.isnan(header):
        raise UserError(
            f"{name}: the header says that voxels are not cubes, or not longer than zero; resample the "
            f"volume first, or {VOXEL_SIZE_ADVICE}"
        )
    if not 0 < header < np.inf:
        raise UserError(f"{name}: the header's voxel size is {header:g} A; {VOXEL_SIZE_ADVICE}")
    return float(header)


def open_mrc(path: Path) -> tuple[NDArray[Any], Header]:
    """Return the memory-mapped array of an MRC file of any program (`map_mrc`), and its header."""
    data, header = map_mrc(path)
    if data.size == 0:
        raise UserError(f"{path}: holds no voxels; create it again")
    return data, header


def write_volume(
    path: Path, data: NDArray[Any], voxel_size: float, labels: Sequence[str] = ()
) -> None:
    """Write one 3-D volume `(z, y, x)` atomically; voxel size in angstrom.

    The types float32, float16, int8, int16 and uint16 are kept; others become float32. The header
    has at most nine `labels` of 79 characters, after the one that names the program.
    """
    kept = data.dtype in (np.float32, np.float16, np.int8, np.int16, np.uint16)
    dtype = data.dtype if kept else np.float32
    with open_volume(path, data.shape, voxel_size, dtype, labels) as out:
        out[:] = data


@contextlib.contextmanager
def open_volume(
    path: Path,
    shape: tuple[int, ...],
    voxel_size: float,
    dtype: Any = np.float32,
    labels: Sequence[str] = (),
) -> Iterator[NDArray[Any]]:
    """Yield a memory-mapped array to fill; the file appears if the block ends without error.

    `shape` is `(z, y, x)`, or `(volume, z, y, x)` for a volume stack.
    """
    if not np.isfinite(voxel_size) or voxel_size <= 0:
        raise UserError(f"{path}: the voxel size is {voxel_size} A; it must be above zero")
    mode = mrcfile.utils.mode_from_dtype(np.dtype(dtype))
    with atomic(path) as part:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)
            file = mrcfile.new_mmap(part, shape=shape, mrc_mode=mode, overwrite=True)
        with file:
            # allocate now: if the disk is full, writing to the map would end in a signal
            try:
                os.posix_fallocate(file._iostream.fileno(), 0, part.stat().st_size)
            except OSError as error:
                raise OSError(error.errno, error.strerror, str(path)) from error
            if len(shape) == 3:
                file.header.ispg = 1
            file.voxel_size = voxel_size
            yield file.data
            _statistics(file)
            _label(file, labels)
            file.flush()


def _statistics(file: Any) -> None:
    """Set the density statistics of the header, section by section, to bound the memory."""
    low, high, total, square = np.inf, -np.inf, 0.0, 0.0
    for section in iterate_sections(file.data):
        low, high = min(low, float(section.min())), max(high, float(section.max()))
        values = section.ravel().astype(np.float64)
        total += values.sum()
        square += float(values @ values)
    mean = total / file.data.size
    file.header.dmin, file.header.dmax, file.header.dmean = low, high, mean
    file.header.rms = np.sqrt(max(square / file.data.size - mean**2, 0.0))
    if file.data.dtype == np.float16:
        # mrcfile's validator sums in half precision, which overflows; -1 means "not determined"
        file.header.rms = -1


def _label(file: Any, labels: Sequence[str]) -> None:
    # mrcfile writes the time into the first label; fixed labels give equal bytes
    lines = [f"cryoetgan {__version__}", *labels][:10]
    for index in range(10):
        file.header.label[index] = lines[index][:79] if index < len(lines) else ""
    file.header.nlabl = len(lines)


def contrast_sign(contrast: str) -> float:
    """Return the factor that makes protein bright: -1 if it is `dark`, 1 if it is `bright`."""
    return -1.0 if contrast == "dark" else 1.0


def check_same_voxel_size(
    first: float, second: float, first_name: object, second_name: object
) -> None:
    """Raise `UserError` if two voxel sizes (angstrom) differ by more than one percent."""
    if abs(first - second) > VOXEL_SIZE_TOLERANCE * max(first, second):
        raise UserError(
            f"{first_name} has {first:.3f} A voxels but {second_name} has {second:.3f} A; "
            "create both with one voxel size (densities.voxel_size)"
        )
