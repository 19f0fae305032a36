"""Read MRC files of other programs: any mode, byte order, axis order, header, gzipped or not.

`cryoetgan.io.mrc` reads and writes this package's own files, which follow MRC2014.
"""

import contextlib
import gzip
import logging
import math
import shutil
import tempfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cryoetgan.errors import UserError, format_shape
from cryoetgan.io.files import check_exists
from cryoetgan.io.mrc import PROTEIN_BRIGHT, VOXEL_SIZE_TOLERANCE

log = logging.getLogger("cryoetgan")
MODES = {0: "i1", 1: "i2", 2: "f4", 6: "u2", 12: "f2"}
OTHER_MODES = {3: "complex integers", 4: "complex numbers", 16: "colours", 101: "half bytes"}
READABLE = "wanted mode 0, 1, 2, 6 or 12"
HEADER_BYTES = 1024
LABELS_BYTE = 224
"""Byte at which the header's labels begin."""
VOLUME_STACK = 401
IMOD_STAMP = 1146047817
IMOD_SIGNED_BYTES = 1
MAX_SIGNED_BYTE = 127
BYTE_ORDER_VOXELS = 1 << 16
"""Number of voxels of the middle section whose byte order is tested."""
MAX_OUTSIDE = 0.1
"""Fraction of these voxels outside the header's range; in a wrong byte order, half are."""


@dataclass(frozen=True)
class RawVolume:
    """A volume as stored in a file."""

    data: NDArray[Any]
    """`(z, y, x)`, of the file's own type."""
    voxel_size: float
    """Angstrom, from the header; NaN if the voxels are not cubes."""
    is_bright: bool = False
    """True if a header label states that this package made protein bright."""


@dataclass(frozen=True)
class _Header:
    shape: tuple[int, int, int]
    dtype: np.dtype[Any]
    offset: int
    axes: tuple[int, ...]
    """Axis (1 x, 2 y, 3 z) along the file's sections, rows and columns."""
    voxel_sizes: tuple[float, ...]
    is_bright: bool
    grey_range: tuple[float, float]


@contextlib.contextmanager
def open_raw_volume(
    path: Path, name: object = None, scratch: Path | None = None
) -> Iterator[RawVolume]:
    """Yield a volume, memory-mapped; a gzipped file is unpacked in folder `scratch` first.

    The content of the header decides whether it is MRC, REC or MAP, not the file name. `name`
    names the file in messages, for example by its address if it was downloaded.
    """
    name = path if name is None else name
    path = check_exists(path, "MRC file")
    if path.is_dir():
        raise UserError(f"{name}: is a folder; name one MRC file")
    with contextlib.ExitStack() as stack:
        with open(path, "rb") as file:
            is_gzip = file.read(2) == b"\x1f\x8b"
        if is_gzip:
            if scratch is not None:
                scratch.mkdir(parents=True, exist_ok=True)
            folder = stack.enter_context(tempfile.TemporaryDirectory(dir=scratch, prefix=".raw-"))
            unpacked = Path(folder) / "volume.mrc"
            _unpack_gzip(path, unpacked, name)
            path = unpacked
        yield _map_volume(path, name)


def _unpack_gzip(path: Path, target: Path, name: object) -> None:
    try:
        with gzip.open(path) as source, open(target, "wb") as out:
            shutil.copyfileobj(source, out, 1 << 22)
    except (OSError, EOFError, zlib.error) as error:
        raise UserError(f"{name}: the gzip file is cut short or damaged ({error})") from error


def _map_volume(path: Path, name: object) -> RawVolume:
    size = path.stat().st_size
    with open(path, "rb") as file:
        header = _parse_header(file.read(HEADER_BYTES), name)
    missing = header.offset + math.prod(header.shape) * header.dtype.itemsize - size
    if missing > 0:
        raise UserError(
            f"{name}: cannot be read as MRC: cut short, {missing} bytes are missing of "
            f"{format_shape(header.shape)} voxels of {header.dtype.itemsize} bytes; copy it again"
        )
    data: NDArray[Any] = np.memmap(path, header.dtype, "r", header.offset, header.shape)
    _check_byte_order(data, header, name)
    if header.axes != (3, 2, 1):
        log.info("%s: transposing the stored axes to x, y, z", name)
        data = data.transpose([header.axes.index(axis) for axis in (3, 2, 1)])
    low, high = min(header.voxel_sizes), max(header.voxel_sizes)
    cubic = high - low <= VOXEL_SIZE_TOLERANCE * high
    return RawVolume(data, header.voxel_sizes[0] if cubic else float("nan"), header.is_bright)


def _check_byte_order(data: NDArray[Any], header: _Header, name: object) -> None:
    """Raise `UserError` if voxels and header differ in byte order, judged by the grey range."""
    low, high = header.grey_range
    margin = high - low
    if data.dtype.itemsize == 1 or not 0 < margin < np.inf:
        return
    sample = np.array(data[len(data) // 2]).ravel()[:BYTE_ORDER_VOXELS]
    outside = []
    for values in (sample, sample.byteswap()):
        with np.errstate(invalid="ignore"):
            grey = values.astype(np.float64)
            outside.append(1 - float(((grey >= low - margin) & (grey <= high + margin)).mean()))
    if outside[0] > MAX_OUTSIDE and outside[1] < MAX_OUTSIDE / 10:
        raise UserError(
            f"{name}: its voxels have another byte order than its header, which gives a range of "
            f"{low:g} to {high:g}; write it again in one byte order"
        )


def _parse_header(head: bytes, name: object) -> _Header:
    if len(head) < HEADER_BYTES:
        raise UserError(f"{name}: cannot be read as MRC: has {len(head)} bytes, a header has 1024")
    for order in "<>":
        # the byte order in which the words are plausible: old programs and careless
        # conversions leave the machine stamp empty or wrong
        words = np.frombuffer(head, f"{order}i4")
        reals = np.frombuffer(head, f"{order}f4")
        shape, mode, axes = words[2::-1], int(words[3]), tuple(int(a) for a in words[18:15:-1])
        if axes == (0, 0, 0):
            axes = (3, 2, 1)
        known = mode in MODES or mode in OTHER_MODES
        if known and (shape > 0).all() and sorted(axes) == [1, 2, 3] and words[23] >= 0:
            break
    else:
        hint = " (a web page?)" if head.lstrip()[:1] == b"<" else ""
        raise UserError(
            f"{name}: cannot be read as MRC: its first 1024 bytes are not an MRC header{hint}; "
            f"{READABLE}"
        )
    if mode not in MODES:
        raise UserError(f"{name}: MRC mode {mode} ({OTHER_MODES[mode]}) is not grey; {READABLE}")
    if words[22] == VOLUME_STACK:
        raise UserError(f"{name}: is a stack of volumes; wanted a single volume")
    dtype = np.dtype(f"{order}{MODES[mode]}")
    if mode == 0 and _has_unsigned_bytes(words, reals):
        dtype = np.dtype("u1")
    grid, cell = words[7:10], reals[10:13]
    # a tilt series or a stack of images has mz = 1: only x and y count then
    counted = [axis for axis in (0, 1, 2) if axis < 2 or grid[2] == shape[axes.index(3)]]
    voxel_sizes = tuple(
        float(cell[axis] / grid[axis]) if grid[axis] > 0 else 0.0 for axis in counted
    )
    z, y, x = (int(n) for n in shape)
    return _Header(
        shape=(z, y, x),
        dtype=dtype,
        offset=HEADER_BYTES + int(words[23]),
        axes=axes,
        voxel_sizes=voxel_sizes,
        is_bright=PROTEIN_BRIGHT.encode() in head[LABELS_BYTE:],
        grey_range=(float(reals[19]), float(reals[20])),
    )


def _has_unsigned_bytes(words: NDArray[Any], reals: NDArray[Any]) -> bool:
    """Return whether mode 0 is unsigned: IMOD's header words state it, or the grey range does."""
    if words[38] == IMOD_STAMP:
        return not words[39] & IMOD_SIGNED_BYTES
    low, high = reals[19], reals[20]
    return bool(low >= 0 and high > MAX_SIGNED_BYTE)
