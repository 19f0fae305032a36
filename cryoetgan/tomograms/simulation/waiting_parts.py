"""Parts of objects that wait in a file, so that each page of a scene is read and written once."""

import tempfile
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from cryoetgan.io.memmap import release_pages

SLAB_VOXELS = 1 << 22
"""Voxels of a scene that are written at a time, at least a section."""
RECORD = np.dtype([("voxel", np.uint32), ("density", np.float32)])
"""A voxel of a part: twice its index in the slab, plus 1 if it belongs to the object; its density."""


class Piece(NamedTuple):
    """The voxels of a part in one slab."""

    start: int
    """First record."""
    records: int
    label: int
    number: int
    """Of the object."""


class WaitingParts:
    """Parts of objects that are not in a scene yet, in a file without a name."""

    def __init__(self, section: int, folder: Path | None, slab: int = SLAB_VOXELS) -> None:
        """`section`, `slab`: voxels. `folder`: of the file; None: of temporary files."""
        self.sections = max(1, slab // section)
        """Sections of a slab."""
        self.slab = self.sections * section
        self.file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 open until written
        self.pieces: dict[int, list[Piece]] = {}
        self.count = 0
        """Records in the file."""

    def add(
        self,
        voxels: NDArray[np.int_],
        density: NDArray[np.floating],
        own: NDArray[np.bool_],
        label: int,
        number: int,
    ) -> None:
        """Add a part by the flat indices `(N,)` of its voxels, in ascending order."""
        if not len(voxels):
            return
        records = np.empty(len(voxels), RECORD)
        records["voxel"], records["density"] = 2 * (voxels % self.slab) + own, density
        self.file.write(records.data)
        slabs = np.arange(voxels[0] // self.slab, voxels[-1] // self.slab + 1)
        starts = np.searchsorted(voxels, self.slab * slabs)
        counts = np.diff(starts, append=len(voxels))
        for slab, start, count in np.stack([slabs, starts, counts], axis=1).tolist():
            piece = Piece(self.count + start, count, label, number)
            self.pieces.setdefault(slab, []).append(piece)
        self.count += len(voxels)

    def write(
        self,
        density: NDArray[np.float32],
        labels: NDArray[np.int16],
        instances: NDArray[np.float32],
    ) -> None:
        """Add the parts to the volumes `(z, y, x)` of a scene, in the order of z; close the file."""
        for slab, pieces in sorted(self.pieces.items()):
            here = slice(slab * self.sections, (slab + 1) * self.sections)
            flat = [array[here].reshape(-1) for array in (density, labels, instances)]
            for piece in pieces:
                self.file.seek(piece.start * RECORD.itemsize)
                stored = self.file.read(piece.records * RECORD.itemsize)
                records = np.frombuffer(stored, RECORD)
                voxels = records["voxel"] >> 1
                own = voxels[records["voxel"] & 1 == 1]
                flat[0][voxels] += records["density"]
                flat[1][own] = piece.label
                flat[2][own] = piece.number
            for array in (density, labels, instances):
                release_pages(array)
        self.file.close()
