"""Files of boxes: single MRC or EM volumes, and MRC stacks of volumes."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cryoetgan.errors import UserError, format_shape
from cryoetgan.io.files import check_exists, strip_compression
from cryoetgan.io.mrc import open_mrc

EM_SUFFIX = ".em"
MRC_SUFFIXES = (".mrc", ".mrcs", ".map", ".rec", ".st", ".ccp4")
SUFFIXES = (EM_SUFFIX, *MRC_SUFFIXES)
EM_HEADER_BYTES = 512
EM_TYPES = {1: "i1", 2: "i2", 4: "i4", 5: "f4", 9: "f8"}
EM_LITTLE_ENDIAN = (1, 2, 6)
"""Machine codes of the EM format: VAX, Convex and PC; others (3 SGI, 5 Mac) are big-endian."""
RELION_2D = (
    "RELION 5 writes 2D stacks by default: extract again with 3D pseudo-subtomograms "
    "(relion_tomo_subtomo without --stack2d; in the job 'Extract subtomos', 'Write output as 2D "
    "stacks?' No)"
)


@dataclass(frozen=True)
class BoxFile:
    """The boxes of one file."""

    boxes: NDArray[Any]
    """`(N, z, y, x)`, cubes; memory-mapped."""
    voxel_size: float
    """Angstrom, from the header; 0 if unknown."""


def is_box_file(path: Path) -> bool:
    """Return whether the name of a file is one of a volume."""
    return strip_compression(path.name.lower()).endswith(SUFFIXES)


def open_box_file(path: Path) -> BoxFile:
    """Open a file of boxes: an MRC or EM volume, or an MRC stack of volumes."""
    path = check_exists(path, "subtomogram")
    if path.name.lower().endswith(EM_SUFFIX):
        data, voxel_size = read_em(path), 0.0
    elif not is_box_file(path):
        raise UserError(
            f"{path}: is not an MRC or EM file; convert it (EMAN2: e2proc3d.py IN OUT.mrc)"
        )
    else:
        data, header = open_mrc(path)
        voxel_size = header.voxel_size
    z, y, x = data.shape[-3:]
    if z == y == x:
        boxes = data.reshape(-1, z, y, x)
        return BoxFile(boxes, voxel_size)
    shape = format_shape(data.shape[-3:])
    if y == x:
        raise UserError(
            f"{path}: has {shape} voxels (x, y, z), wanted cubes: these are 2D images, or its header "
            f"does not say that it is a stack of volumes (space group 401, MZ {x}). {RELION_2D}"
        )
    raise UserError(
        f"{path}: has {shape} voxels (x, y, z), wanted a cube, or a stack of cubes. A whole "
        "tomogram belongs into the table of tomograms (tomograms import)"
    )


def read_em(path: Path) -> NDArray[Any]:
    """Return the data of an EM file, `(z, y, x)`, memory-mapped.

    The header has the machine code in byte 0, the type in byte 3, and three lengths, x first (TOM
    toolbox, Nickell 2005, doi 10.1016/j.jsb.2004.10.006).
    """
    size = path.stat().st_size
    with open(path, "rb") as file:
        head = file.read(EM_HEADER_BYTES)
    if len(head) < EM_HEADER_BYTES or head[3] not in EM_TYPES:
        found = f"type {head[3]}" if len(head) == EM_HEADER_BYTES else f"{len(head)} bytes"
        raise UserError(
            f"{path}: is not an EM file of grey values ({found}; wanted a header of 512 bytes, type "
            f"{', '.join(map(str, EM_TYPES))})"
        )
    order = "<" if head[0] in EM_LITTLE_ENDIAN else ">"
    x, y, z = (int(n) for n in np.frombuffer(head, f"{order}i4", 3, 4))
    dtype = np.dtype(f"{order}{EM_TYPES[head[3]]}")
    if min(x, y, z) < 1 or size - EM_HEADER_BYTES < x * y * z * dtype.itemsize:
        raise UserError(
            f"{path}: its header states {x}x{y}x{z} voxels of {dtype.itemsize} bytes, but the file "
            f"has {size} bytes; copy it again"
        )
    return np.memmap(path, dtype, "r", EM_HEADER_BYTES, (z, y, x))
