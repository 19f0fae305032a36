"""Masks of excluded regions (carbon, ice, padding), on the grid of an imported tomogram."""

from pathlib import Path

import numpy as np

from cryoetgan.errors import UserError, format_shape
from cryoetgan.io.files import MASK
from cryoetgan.io.memmap import iterate_sections
from cryoetgan.io.mrc import Volume, open_volume
from cryoetgan.io.raw_mrc import open_raw_volume
from cryoetgan.physics.coordinates import ImportTransform
from cryoetgan.tomograms.importing.no_data import NearestMask


def mask_path(tomogram: Path) -> Path:
    """Return the path of a tomogram's mask: `T_mask.mrc` beside `T.mrc`."""
    return tomogram.with_name(f"{tomogram.stem}{MASK}.mrc")


def write_mask(
    output: Path, mask: Path | None, tomogram: Volume, transform: ImportTransform
) -> float:
    """Write a mask (MRC int8, 1: excluded) on the grid of a tomogram; return the excluded fraction.

    `mask` is an MRC file on the grid of the file from which `transform` took the tomogram; voxels
    that are not zero are excluded. So are the voxels of the tomogram without data.
    """
    if mask is None:
        return _write(output, tomogram, None)
    with open_raw_volume(mask, mask, output.parent) as raw:
        data = transform.orient(raw.data)
        if data.shape != tuple(transform.shape):
            raise UserError(
                f"{mask}: the mask has {format_shape(data.shape)} voxels (x, y, z), its tomogram "
                f"{format_shape(transform.shape)}; draw it on the tomogram's own file"
            )
        drawn = NearestMask(data, tomogram.data.shape, transform.step)
        return _write(output, tomogram, drawn, mask)


def _write(
    output: Path,
    tomogram: Volume,
    drawn: NearestMask | None,
    name: object = "padding",
) -> float:
    data, count = tomogram.data, 0
    sections = iter(drawn) if drawn is not None else None
    with open_volume(
        output, data.shape, tomogram.voxel_size, np.int8, ["mask: 1 is left out"]
    ) as out:
        for section, values in zip(iterate_sections(out), iterate_sections(data), strict=True):
            excluded = values == 0 if tomogram.marks_no_data else np.zeros(values.shape, bool)
            if sections is not None:
                excluded |= next(sections)
            section[:] = excluded
            count += int(np.count_nonzero(excluded))
        if count == out.size:
            raise UserError(f"{name}: excludes all of the tomogram; 0 means keep")
    return count / data.size
