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
from cryoetgan.errors import UserError
from cryoetgan.io.files import atomic, check_exists
from cryoetgan.io.memmap import iterate_sections

Floats = NDArray[np.floating]
VOXEL_SIZE_TOLERANCE = 0.01
"""Relative; header values are float32 cell lengths divided by voxel counts."""


@dataclass(frozen=True)
class Volume:
    """A map or tomogram: `data[z, y, x]` and its voxel size in angstrom."""

    data: NDArray[Any]
    voxel_size: float


def read_volume(path: Path, voxel_size: float | None = None) -> Volume:
    """Open one 3-D MRC volume by memory map.

    Parameters
    ----------
    path : Path
        An MRC file of ours or of a program that keeps to MRC2014.
    voxel_size : float, optional
        Angstrom; wins over the header.

    Returns
    -------
    Volume
        Read-only; the data type is the file's own.

    Raises
    ------
    UserError
        Where the file is missing, broken, not 3-D, or has no voxel size.
    """
    data, header_size = open_mrc(path)
    if data.ndim != 3:
        raise UserError(f"{path}: holds an array of shape {data.shape}; a volume has three axes")
    return Volume(data, resolve_voxel_size(path, header_size, voxel_size))


def read_mask(path: Path, volume: Volume, tomogram: Path) -> NDArray[Any]:
    """Return a mask `(z, y, x)` on the grid of its tomogram, memory-mapped.

    Parameters
    ----------
    path : Path
        MRC; what is not zero is left out (`tomograms import --mask` writes `T_mask.mrc`).
    volume : Volume
        The tomogram.
    tomogram : Path
        Its file, for messages.

    Raises
    ------
    UserError
        Where the grids differ.
    """
    mask = read_volume(path)
    if mask.data.shape != volume.data.shape:
        got, want = ("x".join(map(str, a.data.shape[::-1])) for a in (mask, volume))
        raise UserError(
            f"--mask: {path} has {got} voxels (x, y, z), {tomogram} has {want}; give the mask that "
            "`tomograms import --mask` wrote beside the tomogram"
        )
    check_same_voxel_size(volume.voxel_size, mask.voxel_size, tomogram, path)
    return mask.data


def read_map(path: Path) -> Volume:
    """Open a particle's density map; a `UserError` where it is none: not finite, or all dark."""
    volume = read_volume(path)
    if not np.isfinite(volume.data).all():
        raise UserError(f"{path}: holds values that are not finite numbers; make the map again")
    if not volume.data.max() > 0:
        raise UserError(f"{path}: has no voxel above zero; a density map has protein positive")
    return volume


def read_tomogram(path: Path) -> Volume:
    """Open a tomogram that is looked at as a whole; a `UserError` where that shows nothing.

    Raises
    ------
    UserError
        Where voxels are not finite, or all the same.
    """
    volume = read_volume(path)
    low, high = np.inf, -np.inf
    for index, section in enumerate(iterate_sections(volume.data)):
        least, most = float(section.min()), float(section.max())
        if not (np.isfinite(least) and np.isfinite(most)):
            raise UserError(
                f"{path}: section {index} holds voxels that are not finite numbers (NaN or "
                "infinity); import it with 'cryoetgan tomograms import', or mend it"
            )
        low, high = min(low, least), max(high, most)
    if not low < high:
        raise UserError(f"{path}: is the same everywhere ({low:g}); is it empty?")
    return volume


def resolve_voxel_size(path: Path, header: float, given: float | None) -> float:
    """Return the given voxel size, else the header's; a `UserError` if it is not positive."""
    size = given if given is not None else header
    if not np.isfinite(size) or size <= 0:
        raise UserError(
            f"{path}: the header's voxel size is {header:g} A, which says nothing; "
            "give it (option --voxel-size or --input-voxel-size, column voxel_size of the table)"
        )
    return float(size)


def open_mrc(path: Path) -> tuple[NDArray[Any], float]:
    """Return the memory-mapped array of an MRC file and its header's voxel size in angstrom."""
    path = check_exists(path, "MRC file")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # mrcfile warns of headers we then check ourselves
            file = mrcfile.mmap(path, mode="r")
            data, size = file.data, file.voxel_size
    except (ValueError, ArithmeticError, OSError, RuntimeWarning) as error:
        raise UserError(f"{path}: cannot be read as MRC ({error})") from error
    if data is None or data.size == 0:
        raise UserError(f"{path}: holds no voxels")
    if data.dtype.kind not in "iuf":
        raise UserError(
            f"{path}: holds {data.dtype.name}, not grey values; wanted MRC mode 0, 1, 2, 6 or 12"
        )
    sizes = np.array([size.x, size.y, size.z], float)
    if sizes.max() > 0 and np.ptp(sizes) > VOXEL_SIZE_TOLERANCE * sizes.max():
        raise UserError(
            f"{path}: voxels are not cubes ({size.x:.3f} x {size.y:.3f} x {size.z:.3f} A); "
            "resample the volume first"
        )
    return data, float(sizes[0])


def check_mrc_name(path: Path) -> None:
    """Raise a `UserError` where the name to write a volume to is not that of an MRC file."""
    if Path(path).suffix != ".mrc":
        raise UserError(f"{path}: volumes are written as MRC; end the name in .mrc")


def write_volume(
    path: Path, data: NDArray[Any], voxel_size: float, labels: Sequence[str] = ()
) -> None:
    """Write one 3-D volume atomically.

    Parameters
    ----------
    path : Path
        The MRC file.
    data : ndarray
        `(z, y, x)`; float32, float16, int8, int16 or uint16 are kept, everything else
        becomes float32.
    voxel_size : float
        Angstrom.
    labels : sequence of str
        Header labels, at most nine of 79 characters, after the program's own.
    """
    with open_volume(path, data.shape, voxel_size, _mrc_type(data.dtype), labels) as out:
        out[:] = data


@contextlib.contextmanager
def open_volume(
    path: Path,
    shape: tuple[int, ...],
    voxel_size: float,
    dtype: Any = np.float32,
    labels: Sequence[str] = (),
) -> Iterator[NDArray[Any]]:
    """Yield a memory-mapped array to fill; the file appears when the block ends well.

    Parameters
    ----------
    shape : tuple of int
        `(z, y, x)`, or `(volume, z, y, x)` for a volume stack.
    """
    if not np.isfinite(voxel_size) or voxel_size <= 0:
        raise UserError(f"{path}: a voxel size of {voxel_size} A cannot be written")
    mode = mrcfile.utils.mode_from_dtype(np.dtype(dtype))
    with atomic(path) as part:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)
            file = mrcfile.new_mmap(part, shape=shape, mrc_mode=mode, overwrite=True)
        with file:
            # take the room now: where the disk is full, writing to the map would end in a signal
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
    """Set the header's density statistics slab by slab: no copy of the whole volume."""
    low, high, total, square = np.inf, -np.inf, 0.0, 0.0
    for section in iterate_sections(file.data):
        values = np.asarray(section, np.float64)
        low, high = min(low, values.min()), max(high, values.max())
        total += values.sum()
        square += (values**2).sum()
    mean = total / file.data.size
    file.header.dmin, file.header.dmax, file.header.dmean = low, high, mean
    file.header.rms = np.sqrt(max(square / file.data.size - mean**2, 0.0))
    if file.data.dtype == np.float16:
        # mrcfile's validator sums in half precision, which overflows: say "not determined"
        file.header.rms = -1


def _label(file: Any, labels: Sequence[str]) -> None:
    # mrcfile stamps the time into the first label; ours are fixed: same seed, same bytes
    lines = [f"cryoetgan {__version__}", *labels][:10]
    for index in range(10):
        file.header.label[index] = lines[index][:79] if index < len(lines) else ""
    file.header.nlabl = len(lines)


def _mrc_type(dtype: Any) -> Any:
    kept = (np.float32, np.float16, np.int8, np.int16, np.uint16)
    return dtype if dtype in [np.dtype(kind) for kind in kept] else np.float32


def read_labels(path: Path) -> list[str]:
    """Return the header labels of an MRC file."""
    with mrcfile.open(check_exists(path), mode="r", header_only=True, permissive=True) as file:
        return [str(line).strip() for line in file.get_labels()]


PROTEIN_BRIGHT = "contrast: protein bright"
"""Header label of a tomogram that has been imported or made here."""


def contrast_sign(contrast: str) -> float:
    """Return the factor that makes protein bright: -1 for `dark`, 1 for `bright`."""
    return -1.0 if contrast == "dark" else 1.0


def check_same_voxel_size(
    first: float, second: float, first_name: object, second_name: object
) -> None:
    """Raise a `UserError` where two voxel sizes differ by more than one percent."""
    if abs(first - second) > VOXEL_SIZE_TOLERANCE * max(first, second):
        raise UserError(
            f"{first_name} has {first:.3f} A voxels but {second_name} has {second:.3f} A; "
            "set densities.voxel_size and tomograms.voxel_size to one value and make both again"
        )
