"""Read MRC files of any program: any mode, byte order, axis order or header, compressed or not."""

import contextlib
import logging
import shutil
import tempfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from cryoetgan.errors import UserError, format_shape
from cryoetgan.io.files import check_exists
from cryoetgan.io.mrc_header import (
    DAMAGED,
    Header,
    damaged,
    find_opener,
    image_stack_signs,
    parse_header,
    read_head,
)

log = logging.getLogger("cryoetgan")
CHUNK_BYTES = 1 << 22
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
    stack_signs: tuple[str, ...] = ()
    """Signs of a tilt series or image stack (`image_stack_signs`)."""
    origin: tuple[float, float, float] = (0.0, 0.0, 0.0)
    """As in `Header`."""


@contextlib.contextmanager
def open_raw_volume(
    path: Path, name: object = None, scratch: Path | None = None
) -> Iterator[RawVolume]:
    """Yield a volume, memory-mapped; a compressed file is unpacked in folder `scratch` first.

    The content of the header decides whether it is MRC, REC or MAP, not the file name. `name`
    names the file in messages, for example by its address if it was downloaded.
    """
    name = path if name is None else name
    data, header = map_mrc(path, name, scratch)
    if data.ndim != 3:
        raise UserError(f"{name}: is a stack of volumes; wanted a single volume")
    signs = tuple(image_stack_signs(header, Path(path)))
    yield RawVolume(data, header.voxel_size, header.is_bright, signs, header.origin)


def map_mrc(
    path: Path, name: object = None, scratch: Path | None = None
) -> tuple[NDArray[Any], Header]:
    """Return the voxels of an MRC file and its header.

    The array is `(z, y, x)`, or `(volume, z, y, x)` of a stack of volumes, read-only, memory-mapped,
    in the file's own type and byte order. A compressed file is unpacked to an unnamed file in
    `scratch` (default: the system's folder of temporary files), up to the size in its header.
    """
    name = path if name is None else name
    path = check_exists(path, "MRC file")
    if path.is_dir():
        raise UserError(f"{name}: is a folder; name one MRC file")
    opener = find_opener(path)
    with contextlib.ExitStack() as stack:
        source: IO[bytes] = stack.enter_context(opener(path, "rb"))
        head = read_head(source, name)
        header = parse_header(head, name)
        file = source
        if opener is open:
            _check_size(header, path.stat().st_size, name)
        else:
            # the map keeps the unnamed file after it is closed
            folder = _check_scratch(header, name, scratch)
            file = stack.enter_context(tempfile.TemporaryFile(dir=folder))
            file.write(head)
            _unpack(source, file, header.size_bytes - len(head), name)
        data: NDArray[Any] = np.memmap(file, header.dtype, "r", header.offset, header.stored_shape)
    _check_byte_order(data, header, name)
    if header.axes != (3, 2, 1):
        log.info("%s: transposing the stored axes to x, y, z", name)
        data = data.transpose([header.axes.index(axis) for axis in (3, 2, 1)])
    return data, header


def _check_size(header: Header, size: int, name: object) -> None:
    missing = header.size_bytes - size
    if missing > 0:
        raise UserError(
            f"{name}: cannot be read as MRC: cut short, {missing} bytes are missing of "
            f"{format_shape(header.shape)} voxels of {header.dtype.itemsize} bytes; copy it again"
        )


def _check_scratch(header: Header, name: object, scratch: Path | None) -> Path:
    """Return the folder for an unpacked file; raise `UserError` if its disk has no room."""
    folder = Path(tempfile.gettempdir()) if scratch is None else scratch
    folder.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(folder).free
    if header.size_bytes > free:
        raise UserError(
            f"{name}: its header states {format_shape(header.shape)} voxels, "
            f"{header.size_bytes / 1e9:.3g} GB, but {folder} has {free / 1e9:.3g} GB free; make room"
        )
    return folder


def _unpack(source: IO[bytes], target: IO[bytes], size: int, name: object) -> None:
    """Copy `size` bytes of a compressed file, and no more."""
    try:
        while size > 0:
            chunk = source.read(min(size, CHUNK_BYTES))
            if not chunk:
                raise EOFError(f"{size} bytes are missing")
            size -= len(chunk)
            target.write(chunk)
        source.read(1)  # at the end, the checksum is compared
    except (*DAMAGED, zlib.error) as error:
        if isinstance(error, OSError) and error.errno:
            raise  # of the disk
        raise damaged(name, error) from error
    target.flush()


def _check_byte_order(data: NDArray[Any], header: Header, name: object) -> None:
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
