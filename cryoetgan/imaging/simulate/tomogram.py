"""Write a synthetic tomogram, block by block, with the truth of its scene."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from cryoetgan.errors import UserError
from cryoetgan.io.files import check_mrc_name
from cryoetgan.io.memmap import release_pages
from cryoetgan.io.mrc import PROTEIN_BRIGHT, check_same_voxel_size, open_volume
from cryoetgan.io.scene import SceneFiles, check_outputs, write_truth
from cryoetgan.physics.acquisition import Acquisition
from cryoetgan.physics.geometry import Corner, block_slices, tiles
from cryoetgan.progress import track

SimulateBlock = Callable[[NDArray[np.generic], Corner, Corner], NDArray[np.float32]]
"""From a scene, a corner and a shape (zyx, voxels) to that block of the tomogram."""
MIN_TILE = 8
"""Voxels; the overlap of smaller tiles would cost more than the tiles."""


class Origin(NamedTuple):
    """The tomogram that a synthetic one imitates: name, voxel size (angstrom) and acquisition."""

    tomogram: str
    voxel_size: float
    acquisition: Acquisition


def write_tomogram(
    output: Path,
    scene: SceneFiles,
    origin: Origin,
    simulate_block: SimulateBlock,
    tile: int,
    source: str,
) -> tuple[list[Path], dict[str, Any]]:
    """Write `T.mrc`, and beside it the labels, instances and truth that the scene has.

    `tile` is the edge of the blocks in voxels, `source` the cryoetganSource of the rows: simulated
    or generated. Returns the volumes that get a record, and the entries of the record: acquisition,
    names of the labels.
    """
    check_mrc_name(output)
    if tile < MIN_TILE:
        raise UserError(f"--tile: got {tile}, wanted {MIN_TILE} or more voxels")
    check_outputs(scene, output)
    voxel_size = scene.volume.voxel_size
    check_same_voxel_size(voxel_size, origin.voxel_size, scene.path, origin.tomogram)
    data, header = scene.volume.data, [PROTEIN_BRIGHT, f"synthetic: looks like {origin.tomogram}"]
    with open_volume(output, data.shape, voxel_size, np.float32, header) as out:
        for corner, shape in track(list(tiles(data.shape, tile)), "synthesizing"):
            block = block_slices(corner, shape)
            values = simulate_block(data, corner, shape)
            # a network can hide an infinite density, whose grey values it cuts
            if not (np.isfinite(values).all() and np.isfinite(data[block]).all()):
                raise UserError(
                    f"{scene.path}: scene or tomogram is not finite near voxel z, y, x = "
                    f"{', '.join(map(str, corner))}; look for NaN or infinite densities there"
                )
            out[block] = values
            release_pages(out)
            release_pages(data)
    outputs, about = write_truth(output, scene, origin.acquisition, source)
    return [output, *outputs], about
