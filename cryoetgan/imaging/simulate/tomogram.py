"""Write a synthetic tomogram, block by block, with the labels and the truth of its scene."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cryoetgan.errors import UserError
from cryoetgan.imaging.model import ImagingModel
from cryoetgan.io.files import check_mrc_name, check_not_overwritten, read_record, sidecar
from cryoetgan.io.memmap import iterate_sections, release_pages
from cryoetgan.io.mrc import (
    PROTEIN_BRIGHT,
    Volume,
    check_same_voxel_size,
    open_volume,
    read_volume,
)
from cryoetgan.io.star import COORDINATES, class_name, particle_id, read_star, write_star
from cryoetgan.physics.geometry import Corner, block_slices, tiles
from cryoetgan.progress import track

SimulateBlock = Callable[[NDArray[np.generic], Corner, Corner], NDArray[np.float32]]
"""From a scene, a corner and a shape (zyx, voxels) to that block of the tomogram."""
LABEL_TYPES = (np.int8, np.int16, np.uint16, np.float32, np.float16)
MIN_TILE = 8
"""Voxels; the overlap of smaller tiles would cost more than the tiles."""


@dataclass(frozen=True)
class SceneFiles:
    """The files of a density scene: volume, labels on its grid, class and pose of each particle."""

    path: Path
    volume: Volume
    labels_path: Path | None
    labels: NDArray[np.generic] | None
    particles_path: Path | None
    particles: pd.DataFrame | None


def open_scene(path: Path, labels: Path | None = None, particles: Path | None = None) -> SceneFiles:
    """Open a scene with its labels, which must cover it, and its truth."""
    volume = read_volume(path)
    truth = None if particles is None else read_star(particles, COORDINATES).particles
    if labels is None:
        return SceneFiles(path, volume, None, None, particles, truth)
    data = read_volume(labels, volume.voxel_size).data
    if data.shape != volume.data.shape:
        raise UserError(
            f"{labels}: has {data.shape} voxels (zyx), but {path} {volume.data.shape}; "
            "labels and scene must cover each other"
        )
    if data.dtype not in LABEL_TYPES:
        raise UserError(f"{labels}: holds {data.dtype}; MRC labels are integers or float16/32")
    return SceneFiles(path, volume, labels, data, particles, truth)


def write_tomogram(
    output: Path,
    scene: SceneFiles,
    model: ImagingModel,
    simulate_block: SimulateBlock,
    tile: int,
    source: str,
) -> tuple[list[Path], dict[str, Any]]:
    """Write `T.mrc`, and beside it `T_labels.mrc` and `T.star` if the scene has labels and truth.

    The model gives the acquisition. `tile` is the edge of the blocks in voxels, `source` the
    cryoetganSource of the rows: simulated or generated. Returns the volumes that get a record,
    and the entries of the record: acquisition, names of the labels.
    """
    check_mrc_name(output)
    if tile < MIN_TILE:
        raise UserError(f"--tile: got {tile}, wanted {MIN_TILE} or more voxels")
    labels_output = output.with_name(f"{output.stem}_labels.mrc")
    for target in (output, labels_output, output.with_suffix(".star")):
        for path in (scene.path, scene.labels_path, scene.particles_path):
            if path is not None:
                check_not_overwritten(path, target)
    voxel_size = scene.volume.voxel_size
    check_same_voxel_size(voxel_size, model.voxel_size, scene.path, model.tomogram)
    data, header = scene.volume.data, [PROTEIN_BRIGHT, f"synthetic: looks like {model.tomogram}"]
    with open_volume(output, data.shape, voxel_size, np.float32, header) as out:
        for corner, shape in track(list(tiles(data.shape, tile)), "synthesizing"):
            values = simulate_block(data, corner, shape)
            if not np.isfinite(values).all():
                raise UserError(
                    f"{scene.path}: the tomogram is not finite near voxel z, y, x = "
                    f"{', '.join(map(str, corner))}; look for NaN or infinite densities there"
                )
            out[block_slices(corner, shape)] = values
            release_pages(out)
            release_pages(data)
    outputs, about = [output], {"acquisition": model.acquisition.to_json()}
    if scene.labels is not None and scene.labels_path is not None:
        labels = scene.labels
        with open_volume(labels_output, labels.shape, voxel_size, labels.dtype) as out:
            for plane, given in zip(iterate_sections(out), iterate_sections(labels), strict=True):
                plane[:] = given
        outputs.append(labels_output)
        record = sidecar(scene.labels_path)
        if record.exists() and "labels" in (content := read_record(record)):
            about["labels"] = content["labels"]
    if scene.particles is not None:
        name = class_name(output)
        optics = pd.DataFrame([model.acquisition.to_optics(1, name)])
        optics["rlnImagePixelSize"] = voxel_size
        places = scene.particles[COORDINATES].to_numpy(float)
        rows = scene.particles.assign(
            rlnTomoName=name,
            cryoetganId=[particle_id(name, *xyz) for xyz in places],
            cryoetganSource=source,
            rlnOpticsGroup=1,
        )
        write_star(output.with_suffix(".star"), rows, optics)
    return outputs, about
