"""Open tomograms as labs have them: any MRC mode, byte order, axis order or header."""

import contextlib
import gzip
import logging
import math
import shutil
import tempfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cryoetgan.errors import UserError
from cryoetgan.io.files import check_exists
from cryoetgan.io.mrc import PROTEIN_BRIGHT, VOXEL_SIZE_TOLERANCE

log = logging.getLogger("cryoetgan")
THINNEST = 8
VOXEL_SIZES = 0.1, 1000.0
"""Angstrom; what lies outside was written in another unit."""
MODES = {0: "i1", 1: "i2", 2: "f4", 6: "u2", 12: "f2"}
OTHER_MODES = {3: "complex integers", 4: "complex numbers", 16: "colours", 101: "half bytes"}
HEADER_BYTES = 1024
LABELS = 224
"""Byte where the header's labels begin."""
VOLUME_STACK = 401
IMOD_STAMP = 1146047817
SIGNED_BYTES = 1
LOOKED_AT = 1 << 16
"""Voxels of the middle section whose byte order is looked at."""
STRANGE = 0.1
"""Share of them beyond the header's range: half of the floats of a wrong order are tiny."""
LARGEST_SIGNED_BYTE = 127


@dataclass(frozen=True)
class RawTomogram:
    """A tomogram as it lies in the file.

    Attributes
    ----------
    data : ndarray
        `(z, y, x)`.
    voxel_size : float
        Angstrom, as the header has it; NaN where voxels are no cubes.
    is_bright : bool
        Whether the header's labels say that we made protein bright.
    """

    data: NDArray[Any]
    voxel_size: float
    is_bright: bool = False


@dataclass(frozen=True)
class _Header:
    shape: tuple[int, int, int]
    dtype: np.dtype[Any]
    offset: int
    axes: tuple[int, ...]
    """Which of x, y, z (1, 2, 3) sections, rows and columns of the file are."""
    voxel_sizes: tuple[float, ...]
    is_bright: bool
    grey: tuple[float, float]
    """Lowest and highest value, as far as the program that wrote it knew."""


@contextlib.contextmanager
def open_tomogram(
    path: Path, named: object = None, scratch: Path | None = None
) -> Iterator[RawTomogram]:
    """Yield a tomogram, memory-mapped; a gzipped one through a temporary file.

    Parameters
    ----------
    path : Path
        MRC or REC; the header's words decide, not the name.
    named : object
        What messages call it, where the path is a download's.
    scratch : Path, optional
        Folder for what is unpacked.

    Raises
    ------
    UserError
        Where the file is missing, no MRC volume, cut short, or thinner than 8 voxels.
    """
    named = path if named is None else named
    path = check_exists(path, "tomogram")
    if path.is_dir():
        raise UserError(f"{named}: is a folder; name one MRC file")
    with contextlib.ExitStack() as stack:
        plain = path
        with open(path, "rb") as file:
            zipped = file.read(2) == b"\x1f\x8b"
        if zipped:
            folder = stack.enter_context(tempfile.TemporaryDirectory(dir=scratch, prefix=".raw-"))
            plain = Path(folder) / "tomogram.mrc"
            _unzip(path, plain, named)
        yield _map(plain, named)


def _unzip(path: Path, target: Path, named: object) -> None:
    try:
        with gzip.open(path) as source, open(target, "wb") as out:
            shutil.copyfileobj(source, out, 1 << 22)
    except (OSError, EOFError, zlib.error) as error:
        raise UserError(f"{named}: the gzip file is cut short or damaged ({error})") from error


def _map(path: Path, named: object) -> RawTomogram:
    size = path.stat().st_size
    with open(path, "rb") as file:
        head = file.read(HEADER_BYTES)
    header = _read_header(head, named)
    count = math.prod(header.shape)
    missing = header.offset + count * header.dtype.itemsize - size
    if missing > 0:
        raise UserError(
            f"{named}: cannot be read as MRC: cut short, {missing} bytes are missing of "
            f"{_sizes(header.shape)} voxels of {header.dtype.itemsize} bytes; copy it again"
        )
    data: NDArray[Any] = np.memmap(path, header.dtype, "r", header.offset, header.shape)
    _check_byte_order(data, header, named)
    if header.axes != (3, 2, 1):
        log.info("%s: axes are stored in another order; they are put as x, y, z", named)
        data = data.transpose([header.axes.index(axis) for axis in (3, 2, 1)])
    if min(data.shape) < THINNEST:
        raise UserError(
            f"{named}: has shape {_sizes(data.shape)} (x, y, z); a tomogram is "
            f"at least {THINNEST} voxels thick: is this a tilt series or a single image?"
        )
    low, high = min(header.voxel_sizes), max(header.voxel_sizes)
    even = high - low <= VOXEL_SIZE_TOLERANCE * high
    return RawTomogram(data, header.voxel_sizes[0] if even else float("nan"), header.is_bright)


def _check_byte_order(data: NDArray[Any], header: _Header, named: object) -> None:
    """Refuse voxels in another byte order than the header's: its range gives them away."""
    low, high = header.grey
    margin = high - low
    if data.dtype.itemsize == 1 or not 0 < margin < np.inf:
        return
    some = np.array(data[len(data) // 2]).ravel()[:LOOKED_AT]
    outside = []
    for values in (some, some.byteswap()):
        with np.errstate(invalid="ignore"):
            grey = values.astype(np.float64)
            outside.append(1 - float(((grey >= low - margin) & (grey <= high + margin)).mean()))
    if outside[0] > STRANGE and outside[1] < STRANGE / 10:
        raise UserError(
            f"{named}: its voxels are in another byte order than its header, which says {low:g} to "
            f"{high:g}; write it again in one byte order"
        )


def _sizes(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape[::-1]))


def _read_header(head: bytes, named: object) -> _Header:
    if len(head) < HEADER_BYTES:
        raise UserError(f"{named}: cannot be read as MRC: has {len(head)} bytes, a header has 1024")
    for order in "<>":
        # the byte order is the one in which the words make sense: old programs and careless
        # conversions leave the machine stamp empty or wrong
        whole = np.frombuffer(head, f"{order}i4")
        real = np.frombuffer(head, f"{order}f4")
        shape, mode, axes = whole[2::-1], int(whole[3]), tuple(int(a) for a in whole[18:15:-1])
        if axes == (0, 0, 0):
            axes = (3, 2, 1)
        known = mode in MODES or mode in OTHER_MODES
        if known and (shape > 0).all() and sorted(axes) == [1, 2, 3] and whole[23] >= 0:
            break
    else:
        what = " (a web page?)" if head.lstrip()[:1] == b"<" else ""
        raise UserError(
            f"{named}: cannot be read as MRC: its first 1024 bytes are no MRC header{what}; a "
            "tomogram is an MRC or REC file of mode 0, 1, 2, 6 or 12"
        )
    if mode not in MODES:
        raise UserError(
            f"{named}: MRC mode {mode} ({OTHER_MODES[mode]}) is not a tomogram's; "
            "wanted mode 0, 1, 2, 6 or 12"
        )
    if whole[22] == VOLUME_STACK:
        raise UserError(f"{named}: is a stack of volumes; a tomogram is one")
    dtype = np.dtype(f"{order}{MODES[mode]}")
    if mode == 0 and _bytes_are_unsigned(whole, real):
        dtype = np.dtype("u1")
    grid, cell = whole[7:10], real[10:13]
    # a series of images says mz = 1 though it is a volume: only x and y count there
    counted = [axis for axis in (0, 1, 2) if axis < 2 or grid[2] == shape[axes.index(3)]]
    voxel_sizes = tuple(
        float(cell[axis] / grid[axis]) if grid[axis] > 0 else 0.0 for axis in counted
    )
    z, y, x = (int(n) for n in shape)
    grey = float(real[19]), float(real[20])
    bright = PROTEIN_BRIGHT.encode() in head[LABELS:]
    return _Header((z, y, x), dtype, HEADER_BYTES + int(whole[23]), axes, voxel_sizes, bright, grey)


def _bytes_are_unsigned(whole: NDArray[Any], real: NDArray[Any]) -> bool:
    """IMOD marks in its own header words whether bytes are signed; the range tells too."""
    if whole[38] == IMOD_STAMP:
        return not whole[39] & SIGNED_BYTES
    low, high = real[19], real[20]
    return bool(low >= 0 and high > LARGEST_SIGNED_BYTE)


def turn(tomogram: RawTomogram, tilt_axis: str, beam_axis: str) -> RawTomogram:
    """Return the tomogram with its tilt axis along y and the beam along z, hand kept.

    Parameters
    ----------
    tomogram : RawTomogram
        As it lies in the file.
    tilt_axis : str
        `y`, or `x`: then x, y become y, -x.
    beam_axis : str
        `z`, or `y` (IMOD before trimvol, the tilt axis then lies along z): x, y, z
        become x, -z, y.
    """
    data = tomogram.data
    if beam_axis == "y":
        data = data[::-1].transpose(1, 0, 2)
    if tilt_axis == "x":
        data = data[:, :, ::-1].transpose(0, 2, 1)
    return replace(tomogram, data=data)


def check_contrast(tomogram: RawTomogram, contrast: str, named: object) -> None:
    """Raise a `UserError` where protein was made bright already and would be inverted again."""
    if contrast == "dark" and tomogram.is_bright:
        raise UserError(
            f"{named}: its label says '{PROTEIN_BRIGHT}', so it is not inverted again; give "
            "--contrast bright (column contrast of the table of tomograms), or take the label out "
            "if it is not true any more"
        )


def voxel_size_of(tomogram: RawTomogram, given: float | None, named: object) -> float:
    """Return the voxel size in angstrom; headers that say 0 or 1 are not believed.

    Raises
    ------
    UserError
        Where the header does not tell and none was given.
    """
    if given is not None:
        if not 0 < given < np.inf:
            raise UserError(f"--input-voxel-size: got {given}, wanted a number above zero")
        return given
    size = tomogram.voxel_size
    smallest, largest = VOXEL_SIZES
    way = "give --input-voxel-size (column voxel_size of the table of tomograms)"
    if np.isnan(size):
        raise UserError(f"{named}: the header says that voxels are not cubes; {way}")
    if not np.isfinite(size) or size <= 0 or abs(size - 1) < 1e-3:
        raise UserError(
            f"{named}: the header's voxel size is {size:g} A, which programs write when they do "
            f"not know it; {way}"
        )
    if not smallest <= size <= largest:
        raise UserError(
            f"{named}: the header's voxel size is {size:g} A, and a tomogram's lies between "
            f"{smallest:g} and {largest:g}; {way}"
        )
    return size
