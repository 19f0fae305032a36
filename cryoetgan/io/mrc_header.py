"""The header of an MRC file of any program: byte order, mode, axis order, voxel size, labels."""

import bz2
import gzip
import lzma
import math
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from cryoetgan.errors import UserError, format_shape
from cryoetgan.io.files import check_exists, strip_compression

PROTEIN_BRIGHT = "contrast: protein bright"
"""Header label of each tomogram that this program imported or simulated."""
NO_DATA_LABELS = {"no data: voxels of value 0": True, "no data: none": False}
"""Header labels of imported tomograms: whether voxels of value 0 hold no data."""
VOXEL_SIZE_TOLERANCE = 0.01
"""Relative difference: headers hold float32 cell lengths, divided by voxel counts."""
MODES = {0: "i1", 1: "i2", 2: "f4", 6: "u2", 12: "f2"}
OTHER_MODES = {3: "complex integers", 4: "complex numbers", 16: "colours", 101: "half bytes"}
READABLE = "wanted mode 0, 1, 2, 6 or 12"
HEADER_BYTES = 1024
LABELS_BYTE, LABEL_BYTES = 224, 80
"""Byte at which the header's ten labels begin, and the length of each."""
IMAGE_STACK, VOLUME_STACK = 0, 401
"""Space groups (ISPG) that stand for stacks."""
IMOD_STAMP = 1146047817
IMOD_SIGNED_BYTES = 1
MAX_SIGNED_BYTE = 127
COMPRESSED = {b"\x1f\x8b": gzip.open, b"BZh": bz2.open, b"\xfd7zXZ": lzma.open}
"""First bytes of a compressed file, and the function that opens it."""
DAMAGED = (OSError, EOFError, lzma.LZMAError)
"""Errors of damaged compressed data; zlib's own error is `zlib.error`."""
FAR = 10
"""Lengths of a volume beyond which a header's start of the grid was never set."""
THIN_A = 400.0
"""Thickness below which sections are hardly a tomogram, angstrom."""
WIDE = 8
"""Width over thickness beyond which sections are hardly a tomogram."""


@dataclass(frozen=True)
class Header:
    """Header of an MRC file."""

    shape: tuple[int, ...]
    """`(z, y, x)`, or `(volume, z, y, x)` of a stack of volumes."""
    voxel_sizes: tuple[float, ...]
    """Angstrom along x, y and, unless the header counts no sections of a volume, z; 0: unknown."""
    labels: list[str]
    dtype: np.dtype[Any]
    offset: int
    """Bytes before the first voxel."""
    axes: tuple[int, ...]
    """Axis (1 x, 2 y, 3 z) along the file's sections, rows and columns."""
    is_image_stack: bool
    """True if the header says so: space group 0, and one section in each volume."""
    grey_range: tuple[float, float]
    """Lowest and highest value as stated."""
    origin: tuple[float, float, float] = (0.0, 0.0, 0.0)
    """Place of the first voxel as ChimeraX shows the file, x, y, z in angstrom."""

    @property
    def voxel_size(self) -> float:
        """Angstrom; NaN if the voxels are not cubes, 0 if unknown."""
        low, high = min(self.voxel_sizes), max(self.voxel_sizes)
        cubic = high - low <= VOXEL_SIZE_TOLERANCE * high
        return self.voxel_sizes[0] if cubic else float("nan")

    @property
    def is_bright(self) -> bool:
        """Whether a label states that this package made protein bright."""
        return any(PROTEIN_BRIGHT in label for label in self.labels)

    @property
    def stored_shape(self) -> tuple[int, ...]:
        """Shape in the order of the file."""
        z_y_x = self.shape[-3:]
        return (*self.shape[:-3], *(z_y_x[3 - axis] for axis in self.axes))

    @property
    def size_bytes(self) -> int:
        """Bytes of the file: header, extended header and voxels."""
        return self.offset + math.prod(self.shape) * self.dtype.itemsize


def find_opener(path: Path) -> Any:
    """Return the function that opens a file for reading: by its first bytes, not by its name."""
    with open(path, "rb") as file:
        first = file.read(8)
    return next((opener for magic, opener in COMPRESSED.items() if first.startswith(magic)), open)


def read_header(path: Path) -> Header:
    """Read the header of an MRC file, compressed or not; raise `UserError` if it is broken."""
    path = check_exists(path, "MRC file")
    if path.is_dir():
        raise UserError(f"{path}: is a folder; name one MRC file")
    file: IO[bytes]
    with find_opener(path)(path, "rb") as file:
        return parse_header(read_head(file, path), path)


def read_head(file: IO[bytes], name: object) -> bytes:
    """Return the first bytes of an open file, up to the length of a header."""
    import zlib

    try:
        return file.read(HEADER_BYTES)
    except (*DAMAGED, zlib.error) as error:
        raise damaged(name, error) from error


def damaged(name: object, error: object) -> UserError:
    """Return the error of a compressed file that cannot be unpacked."""
    return UserError(
        f"{name}: the compressed file is cut short or damaged ({error}); copy it again"
    )


def parse_header(head: bytes, name: object) -> Header:
    """Return the header in the first 1024 bytes of a file; `name` names it in messages."""
    if len(head) < HEADER_BYTES:
        raise UserError(f"{name}: cannot be read as MRC: has {len(head)} bytes, a header has 1024")
    words, reals = _read_words(head, name)
    mode, axes = int(words[3]), _axes(words)
    if mode not in MODES:
        raise UserError(f"{name}: holds {OTHER_MODES[mode]} (mode {mode}), not grey; {READABLE}")
    dtype = np.dtype(f"{words.dtype.byteorder.replace('=', '<')}{MODES[mode]}")
    if mode == 0 and _has_unsigned_bytes(words, reals):
        dtype = np.dtype("u1")
    # sections, rows, columns to z, y, x
    stored = tuple(int(n) for n in words[2::-1])
    shape = tuple(stored[axes.index(axis)] for axis in (3, 2, 1))
    grid, cell, is_volumes = words[7:10], reals[10:13], words[22] == VOLUME_STACK
    if is_volumes:
        edge = int(grid[2])
        if edge < 1 or shape[0] % edge or axes != (3, 2, 1):
            raise UserError(
                f"{name}: is a stack of volumes, but its {shape[0]} sections cannot be divided "
                f"by {edge} (MZ); write it again"
            )
        shape = (shape[0] // edge, edge, *shape[1:])
    # a tilt series or a stack of images has mz = 1: only x and y count then
    counted = [axis for axis in (0, 1, 2) if axis < 2 or grid[2] == shape[-3]]
    with np.errstate(all="ignore"):  # any bits may stand for the cell
        sizes = tuple(float(cell[a] / grid[a]) if grid[a] > 0 else 0.0 for a in counted)
    return Header(
        shape=shape,
        voxel_sizes=sizes,
        labels=_labels(head, int(words[55])),
        dtype=dtype,
        offset=HEADER_BYTES + int(words[23]),
        axes=axes,
        is_image_stack=bool(words[22] == IMAGE_STACK and grid[2] == 1 and shape[0] > 1),
        grey_range=(float(reals[19]), float(reals[20])),
        origin=_origin(head, words, reals, sizes),
    )


def _origin(
    head: bytes, words: NDArray[Any], reals: NDArray[Any], sizes: tuple[float, ...]
) -> tuple[float, float, float]:
    """Return the place of the first voxel, x, y, z in angstrom: ORIGIN, else NSTART.

    Values that no grid has were never set and count as 0. Words of ORIGIN are part of the header
    since MRC 2000 (`MAP` in word 53).
    """
    stored = tuple(int(n) for n in words[6:3:-1])  # sections, rows, columns
    axes, shape = _axes(words), words[2::-1]
    start = [stored[axes.index(axis)] for axis in (1, 2, 3)]
    if max(map(abs, start)) > FAR * max(int(n) for n in (*shape, *words[7:10])):
        start = [0, 0, 0]
    size = sizes[0] if math.isfinite(sizes[0]) else 0.0
    stated = [float(value) for value in reals[49:52]] if head[208:211] == b"MAP" else [0.0] * 3
    is_set = all(map(math.isfinite, stated)) and any(stated) and size > 0
    if is_set and all(value + size != value for value in np.array(stated, np.float32)):
        x, y, z = stated
    else:
        x, y, z = (size * n for n in start)
    return x, y, z


def _read_words(head: bytes, name: object) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return the header's words as integers and as numbers, in the order that makes them plausible.

    Old programs and careless conversions leave the machine stamp empty or wrong.
    """
    found = []
    for order in "<>":
        words = np.frombuffer(head, f"{order}i4")
        known = int(words[3]) in MODES or int(words[3]) in OTHER_MODES
        if known and (words[:3] > 0).all() and words[23] >= 0:
            found.append((words, np.frombuffer(head, f"{order}f4")))
    # an empty header is plausible in both orders but for the number of its voxels
    found.sort(key=lambda pair: math.prod(int(n) for n in pair[0][:3]))
    known_axes = [pair for pair in found if sorted(_axes(pair[0])) == [1, 2, 3]]
    if known_axes:
        return known_axes[0]
    if found and head[208:211] == b"MAP":
        stated = ", ".join(map(str, found[0][0][16:19]))
        raise UserError(
            f"{name}: cannot be read as MRC: its axes (MAPC, MAPR, MAPS) are {stated}, wanted 1, 2 "
            "and 3 in any order; correct the header"
        )
    hint = " (a web page?)" if head.lstrip()[:1] == b"<" else ""
    raise UserError(
        f"{name}: cannot be read as MRC: its first 1024 bytes are not an MRC header{hint}; "
        f"{READABLE}"
    )


def _axes(words: NDArray[Any]) -> tuple[int, ...]:
    axes = tuple(int(axis) for axis in words[18:15:-1])
    return (3, 2, 1) if axes == (0, 0, 0) else axes


def _labels(head: bytes, count: int) -> list[str]:
    starts = [LABELS_BYTE + LABEL_BYTES * index for index in range(min(max(count, 0), 10))]
    texts = (head[start : start + LABEL_BYTES].decode("ascii", "replace") for start in starts)
    return [text.strip(" \0") for text in texts]


def _has_unsigned_bytes(words: NDArray[Any], reals: NDArray[Any]) -> bool:
    """Return whether mode 0 is unsigned: IMOD's header words state it, or the grey range does."""
    if words[38] == IMOD_STAMP:
        return not words[39] & IMOD_SIGNED_BYTES
    low, high = reals[19], reals[20]
    return bool(low >= 0 and high > MAX_SIGNED_BYTE)


STACK_SUFFIXES = (".st", ".ali", ".preali", ".mrcs")
STACK_ENDINGS = ("_ali", "_st", "_aligned", "_tiltseries", "_tilt_series", "_stack")


def image_stack_signs(header: Header, path: Path, voxel_size: float | None = None) -> list[str]:
    """Return the signs of a tilt series or an image stack in place of a tomogram.

    `voxel_size` in angstrom replaces the header's. Two signs are proof; one is a suspicion.
    """
    z, y, x = header.shape[-3:]
    size = voxel_size or header.voxel_size
    signs = []
    if header.is_image_stack:
        signs.append("its header says image stack (ISPG 0, MZ 1)")
    thin = f"{format_shape((z, y, x))} voxels are few sections of wide images"
    if min(x, y) > WIDE * z:
        signs.append(thin)
    elif min(x, y) > 2 * z and 0 < z * size < THIN_A:
        signs.append(f"{thin} ({z * size:.0f} A thick)")
    name = strip_compression(path.name.lower())
    stem = Path(name).stem
    if name.endswith(STACK_SUFFIXES) or stem.endswith(STACK_ENDINGS):
        signs.append(f"its name says tilt series ({path.name})")
    images = _count_mdoc_images(path)
    if images == z and z > 1:
        signs.append(f"{path.name}.mdoc lists {images} images")
    return signs


def _count_mdoc_images(path: Path) -> int:
    """Return the number of images in SerialEM's description beside a file; 0 without one."""
    mdoc = path.with_name(f"{path.name}.mdoc")
    if not mdoc.is_file():
        return 0
    return mdoc.read_text("utf-8", "replace").count("[ZValue")
