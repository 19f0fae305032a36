"""A packed scene as files: density, labels and truth, in memory that does not grow with them."""

import contextlib
import math
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from cryoetgan.errors import UserError
from cryoetgan.io.mrc import open_volume
from cryoetgan.io.star import class_name, write_star
from cryoetgan.tomograms.simulation.contents import Contents
from cryoetgan.tomograms.simulation.packing import Scene
from cryoetgan.tomograms.simulation.truth import build_scene, truth_tables

BYTES_A_VOXEL = 7
"""Of a scene on disk: density, labels, what is taken."""


def labels_path(tomogram: Path) -> Path:
    """Return where the labels of a tomogram lie: `T_labels.mrc` beside `T.mrc`."""
    return tomogram.with_name(f"{class_name(tomogram)}_labels.mrc")


def write_scene(output: Path, contents: Contents, seed: int) -> Scene:
    """Write `SCENE.mrc`, `SCENE_labels.mrc` and the truth `SCENE.star`; return the scene.

    Gold is part of the density.

    Raises
    ------
    UserError
        Where the disk has no room.
    """
    name = class_name(output)
    output.parent.mkdir(parents=True, exist_ok=True)
    with _opened(output, contents) as scene:
        if contents.surroundings.beads:
            scene.beads = scene.density
        build_scene(contents, name, seed, scene)
    particles, optics = truth_tables(scene, contents, None, name)
    write_star(output.with_suffix(".star"), particles, optics)
    return scene


@contextlib.contextmanager
def _opened(output: Path, contents: Contents) -> Iterator[Scene]:
    """Yield an empty scene of memory-mapped files, whole when the block ends well."""
    shape, voxel_size = contents.shape, contents.voxel_size
    needed, free = BYTES_A_VOXEL * math.prod(shape), shutil.disk_usage(output.parent).free
    if needed > free:
        x, y, z = shape[::-1]
        raise UserError(
            f"--shape: a scene of {x},{y},{z} voxels takes {needed / 1e9:.3g} GB of disk, and "
            f"{output.parent} has {free / 1e9:.3g} GB free; lower it (tomograms.shape)"
        )
    meaning = [f"labels: see {output.name}.json"]
    files: Any
    with contextlib.ExitStack() as files:
        labels = files.enter_context(
            open_volume(labels_path(output), shape, voxel_size, np.int16, meaning)
        )
        density = files.enter_context(
            open_volume(output, shape, voxel_size, np.float32, ["density scene"])
        )
        # what is taken is for packing alone: a file that has no name
        hidden = files.enter_context(tempfile.TemporaryFile(dir=output.parent))
        taken = np.memmap(hidden, bool, "w+", shape=shape)
        yield Scene(density, labels, taken)
