"""Regions to leave out (carbon, ice, edges), brought to the grid of an imported tomogram."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cryoetgan.errors import UserError
from cryoetgan.io.memmap import RELEASE_EVERY_BYTES, iterate_sections, release_pages
from cryoetgan.io.mrc import open_volume, read_volume
from cryoetgan.physics.coordinates import read_import_transform
from cryoetgan.tomograms.importing.raw_tomogram import open_tomogram, turn

Shape = tuple[int, ...]


def mask_of(tomogram: Path) -> Path:
    """Return where the mask of a tomogram lies: `T_mask.mrc` beside `T.mrc`."""
    return tomogram.with_name(f"{tomogram.stem}_mask.mrc")


def write_mask(
    output: Path,
    mask: Path,
    drawn: Shape,
    shape: Shape,
    step: float,
    wanted: float,
    axes: tuple[str, str],
) -> float:
    """Write a mask on the tomogram's new grid and return the share it leaves out.

    Parameters
    ----------
    output : Path
        MRC, int8: 1 where nothing is to be picked, 0 elsewhere.
    mask : Path
        MRC on the grid of the tomogram's file; what is not zero is left out.
    drawn : tuple of int
        zyx of the tomogram as it lies in its file, turned.
    shape : tuple of int
        zyx of the result.
    step : float
        Output voxel size over input voxel size.
    wanted : float
        Angstrom; voxel size of the result.
    axes : (str, str)
        Tilt axis and beam axis, as the tomogram was turned.

    Raises
    ------
    UserError
        Where the mask has another grid than the tomogram, or leaves nothing to pick.
    """
    with open_tomogram(mask, mask, output.parent) as found:
        data: NDArray[Any] = turn(found, *axes).data
        if data.shape != drawn:
            got, want = ("x".join(map(str, a[::-1])) for a in (data.shape, drawn))
            raise UserError(
                f"{mask}: the mask has {got} voxels (x, y, z), its tomogram {want}; draw it on the "
                "tomogram as it lies in the file"
            )
        # the voxel of the file nearest to each new one: a mask has no values between
        z, y, x = (
            np.minimum(np.rint(np.arange(made) * step).astype(int), count - 1)
            for made, count in zip(shape, data.shape, strict=True)
        )
        left_out, often = 0, max(1, RELEASE_EVERY_BYTES // data[0].nbytes)
        with open_volume(output, shape, wanted, np.int8, ["mask: 1 is left out"]) as out:
            for number, section in zip(z, iterate_sections(out), strict=True):
                section[:] = np.asarray(data[number])[np.ix_(y, x)] != 0
                left_out += int(np.count_nonzero(section))
                if number % often == 0:
                    release_pages(data)
            if left_out == out.size:
                raise UserError(f"{mask}: leaves out all of the tomogram; 0 means keep")
        return left_out / out.size


def write_mask_beside(output: Path, mask: Path, tomogram: Path) -> float:
    """Write the mask of a tomogram that was imported before; see `write_mask`.

    Its record says how it lay in its file; without one, or simulated, it lies as it is.
    """
    made = read_volume(tomogram)
    was, shape = read_import_transform(tomogram, made), made.data.shape
    axes = was.tilt_axis, was.beam_axis
    return write_mask(output, mask, was.shape, shape, was.step, made.voxel_size, axes)
