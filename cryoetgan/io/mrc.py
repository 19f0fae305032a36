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
from cryoetgan.io.star import paths_by_class

Floats = NDArray[np.floating]
VOXEL_SIZE_TOLERANCE = 0.01
"""Relative difference: headers hold float32 cell lengths, divided by voxel counts."""


@dataclass(frozen=True)
class Volume:
    """A density map or tomogram: `data[z, y, x]`, and its voxel size in angstrom."""

    data: NDArray[Any]
    voxel_size: float


def read_volume(path: Path, voxel_size: float | None = None) -> Volume:
    """Open one 3-D MRC2014 volume: read-only, in the data type of the file, memory-mapped.

    `voxel_size` in angstrom overrides the header, which may lack it.
    """
    data, header_size = open_mrc(path)
    if data.ndim != 3:
        raise UserError(f"{path}: has shape {data.shape}; a volume has three axes")
    return Volume(data, resolve_voxel_size(path, header_size, voxel_size))


def read_mask(path: Path, volume: Volume, tomogram: Path) -> NDArray[Any]:
    """Return the exclusion mask of a tomogram, `(z, y, x)`, memory-mapped; its grid is checked.

    Voxels that are not zero are excluded; `tomograms import --mask` writes it as `T_mask.mrc`.
    """
    mask = read_volume(path)
    if mask.data.shape != volume.data.shape:
        got, want = ("x".join(map(str, a.data.shape[::-1])) for a in (mask, volume))
        raise UserError(
            f"--mask: {path} has {got} voxels (x, y, z), {tomogram} has {want}; give the mask that "
            "`tomograms import --mask` wrote for this tomogram"
        )
    check_same_voxel_size(volume.voxel_size, mask.voxel_size, tomogram, path)
    return mask.data


def read_map(path: Path) -> Volume:
    """Open the density map of a particle; raise `UserError` if it is not finite or not positive."""
    volume = read_volume(path)
    if not np.isfinite(volume.data).all():
        raise UserError(f"{path}: holds values that are not finite; create the map again")
    if not volume.data.max() > 0:
        raise UserError(f"{path}: has no voxel above zero; a density map has protein positive")
    return volume


def read_maps(paths: Sequence[Path], voxel_size: float, tomogram: Path) -> dict[str, NDArray[Any]]:
    """Return density maps by class, the stems of their files, in the voxels of a tomogram."""
    maps = {}
    for name, path in paths_by_class(paths).items():
        volume = read_map(path)
        check_same_voxel_size(voxel_size, volume.voxel_size, tomogram, path)
        maps[name] = volume.data
    return maps


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


def resolve_voxel_size(path: Path, header: float, given: float | None) -> float:
    """Return the given voxel size, or that in the header; raise `UserError` if not positive."""
    size = given if given is not None else header
    if not np.isfinite(size) or size <= 0:
        raise UserError(
            f"{path}: its header's voxel size is {header:g} A, which is invalid; set option "
            "--voxel-size or --input-voxel-size, or column voxel_size of the table"
        )
    return float(size)


def open_mrc(path: Path) -> tuple[NDArray[Any], float]:
    """Return the memory-mapped array of an MRC file and its header's voxel size in angstrom."""
    path = check_exists(path, "MRC file")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # headers are checked below
            file = mrcfile.mmap(path, mode="r")
            data, size = file.data, file.voxel_size
    except (ValueError, ArithmeticError, OSError, RuntimeWarning) as error:
        raise UserError(f"{path}: cannot be read as MRC ({error})") from error
    if data is None or data.size == 0:
        raise UserError(f"{path}: holds no voxels; create it again")
    if data.dtype.kind not in "iuf":
        raise UserError(
            f"{path}: holds {data.dtype.name}, not grey values; convert it to MRC mode 0, 1, 2, 6 or 12"
        )
    sizes = np.array([size.x, size.y, size.z], float)
    if sizes.max() > 0 and np.ptp(sizes) > VOXEL_SIZE_TOLERANCE * sizes.max():
        raise UserError(
            f"{path}: voxels are not cubes ({size.x:.3f} x {size.y:.3f} x {size.z:.3f} A); "
            "resample the volume first"
        )
    return data, float(sizes[0])


def check_mrc_name(path: Path) -> None:
    """Raise `UserError` if the name of an output volume does not end in .mrc."""
    if Path(path).suffix != ".mrc":
        raise UserError(f"{path}: volumes are written in MRC format; let the name end in .mrc")


def write_volume(
    path: Path, data: NDArray[Any], voxel_size: float, labels: Sequence[str] = ()
) -> None:
    """Write one 3-D volume `(z, y, x)` atomically; voxel size in angstrom.

    The types float32, float16, int8, int16 and uint16 are kept; others become float32. The header
    has at most nine `labels` of 79 characters, after the one that names the program.
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
        values = np.asarray(section, np.float64)
        low, high = min(low, values.min()), max(high, values.max())
        total += values.sum()
        square += (values**2).sum()
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


def _mrc_type(dtype: Any) -> Any:
    kept = (np.float32, np.float16, np.int8, np.int16, np.uint16)
    return dtype if dtype in [np.dtype(kind) for kind in kept] else np.float32


def read_labels(path: Path) -> list[str]:
    """Return the header labels of an MRC file."""
    with mrcfile.open(check_exists(path), mode="r", header_only=True, permissive=True) as file:
        return [str(line).strip() for line in file.get_labels()]


PROTEIN_BRIGHT = "contrast: protein bright"
"""Header label of each tomogram that this program imported or simulated."""


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
