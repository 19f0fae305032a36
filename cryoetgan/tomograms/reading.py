"""Open tomograms as labs have them: any MRC mode, byte order, or header; gzipped too."""

import contextlib
import gzip
import shutil
import tempfile
import warnings
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mrcfile
import numpy as np
from numpy.typing import NDArray

from cryoetgan.errors import UserError
from cryoetgan.files import existing
from cryoetgan.volumes import VOXEL_SIZE_TOLERANCE

THINNEST = 8
IMOD_STAMP = 1146047817
IMOD_STAMP_AT, IMOD_FLAGS_AT = 152, 156
SIGNED_BYTES = 1


@dataclass(frozen=True)
class RawTomogram:
    """A tomogram as it lies in the file: `data[z, y, x]`, header voxel size in angstrom."""

    data: NDArray[Any]
    voxel_size: float


@contextlib.contextmanager
def open_tomogram(path: Path) -> Iterator[RawTomogram]:
    """Yield a tomogram, memory-mapped; a gzipped one through a temporary file.

    Raises
    ------
    UserError
        Where the file is missing, no MRC volume, cut short, or thinner than 8 voxels.
    """
    path = existing(path, "tomogram")
    if path.is_dir():
        raise UserError(f"{path}: is a folder; name one MRC file")
    with contextlib.ExitStack() as stack:
        plain = path
        with open(path, "rb") as file:
            zipped = file.read(2) == b"\x1f\x8b"
        if zipped:
            plain = Path(stack.enter_context(tempfile.TemporaryDirectory())) / "tomogram.mrc"
            _unzip(path, plain)
        yield _open(plain, path)


def _unzip(path: Path, target: Path) -> None:
    try:
        with gzip.open(path) as source, open(target, "wb") as out:
            shutil.copyfileobj(source, out, 1 << 22)
    except (OSError, EOFError, zlib.error) as error:
        raise UserError(f"{path}: the gzip file is cut short or damaged ({error})") from error


def _open(plain: Path, path: Path) -> RawTomogram:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # headers are checked below, in our own words
            file = mrcfile.mmap(plain, mode="r")
    except (ValueError, OSError) as error:
        raise UserError(
            f"{path}: cannot be read as MRC ({error}); a tomogram is an MRC or REC file of mode "
            "0, 1, 2, 6 or 12"
        ) from error
    data, sizes = file.data, file.voxel_size
    if data is None or data.dtype.kind == "c":
        raise UserError(f"{path}: MRC mode {int(file.header.mode)} is not a tomogram's")
    if data.ndim != 3 or min(data.shape) < THINNEST:
        raise UserError(
            f"{path}: has shape {'x'.join(map(str, data.shape[::-1]))} (x, y, z); a tomogram is "
            f"at least {THINNEST} voxels thick: is this a tilt series or a single image?"
        )
    if data.dtype == np.int8 and _unsigned_bytes(plain):
        data = data.view(np.uint8)
    edges = np.array([float(sizes.x), float(sizes.y), float(sizes.z)])
    if edges.max() > 0 and np.ptp(edges) > VOXEL_SIZE_TOLERANCE * edges.max():
        raise UserError(f"{path}: voxels are not cubes ({edges} A); resample the tomogram first")
    return RawTomogram(data, float(edges[0]))


def _unsigned_bytes(path: Path) -> bool:
    """IMOD marks in its own header words whether bytes are signed; old files are not."""
    with open(path, "rb") as file:
        head = file.read(1024)
    order = "<" if head[212:213] in (b"\x44", b"\x00") else ">"
    stamp, flags = np.frombuffer(head, f"{order}i4", 2, IMOD_STAMP_AT)
    return bool(stamp == IMOD_STAMP and not flags & SIGNED_BYTES)


def voxel_size_of(tomogram: RawTomogram, given: float | None, path: Path) -> float:
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
    if not np.isfinite(size) or size <= 0 or abs(size - 1) < 1e-3:
        raise UserError(
            f"{path}: the header's voxel size is {size:g} A, which programs write when they do not "
            "know it; give --input-voxel-size (column voxel_size of the table of tomograms)"
        )
    return size
