"""Masks of excluded regions (carbon, ice, edges), on the grid of an imported tomogram."""

from pathlib import Path

import numpy as np

from cryoetgan.errors import UserError, format_shape
from cryoetgan.io.memmap import RELEASE_EVERY_BYTES, iterate_sections, release_pages
from cryoetgan.io.mrc import open_volume
from cryoetgan.io.raw_mrc import open_raw_volume
from cryoetgan.physics.coordinates import ImportTransform, orient_axes

Shape = tuple[int, ...]


def mask_path(tomogram: Path) -> Path:
    """Return the path of a tomogram's mask: `T_mask.mrc` beside `T.mrc`."""
    return tomogram.with_name(f"{tomogram.stem}_mask.mrc")


def write_mask(
    output: Path, mask: Path, transform: ImportTransform, shape: Shape, voxel_size: float
) -> float:
    """Write a mask (MRC int8, 1: excluded) on the grid of a tomogram; return the excluded fraction.

    `mask` is an MRC file on the grid of the tomogram's file; voxels that are not zero are
    excluded. `shape` (zyx) and `voxel_size` (angstrom) are the tomogram's, which `transform` took
    from its file.
    """
    with open_raw_volume(mask, mask, output.parent) as raw:
        data = orient_axes(raw.data, transform.tilt_axis, transform.beam_axis)
        if data.shape != tuple(transform.shape):
            raise UserError(
                f"{mask}: the mask has {format_shape(data.shape)} voxels (x, y, z), its tomogram "
                f"{format_shape(transform.shape)}; draw it on the tomogram's own file"
            )
        # nearest voxel of the file: a mask has no values in between
        z, y, x = (
            np.minimum(np.rint(np.arange(n_out) * transform.step).astype(int), n_in - 1)
            for n_out, n_in in zip(shape, data.shape, strict=True)
        )
        excluded, period = 0, max(1, RELEASE_EVERY_BYTES // data[0].nbytes)
        with open_volume(output, shape, voxel_size, np.int8, ["mask: 1 is left out"]) as out:
            for number, section in zip(z, iterate_sections(out), strict=True):
                section[:] = np.asarray(data[number])[np.ix_(y, x)] != 0
                excluded += int(np.count_nonzero(section))
                if number % period == 0:
                    release_pages(data)
            if excluded == out.size:
                raise UserError(f"{mask}: excludes all of the tomogram; 0 means keep")
        return excluded / out.size
