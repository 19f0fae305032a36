"""A packed scene as files: density, labels, truth table. Memory does not grow with the scene."""

import contextlib
import math
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cryoetgan.io.files import check_disk_space
from cryoetgan.io.mrc import open_volume
from cryoetgan.io.star import ANGLES, COORDINATES, class_name, write_star
from cryoetgan.physics.acquisition import Acquisition
from cryoetgan.tomograms.simulation.contents import Contents, build_scene
from cryoetgan.tomograms.simulation.scene import Scene

if TYPE_CHECKING:
    import pandas as pd

BYTES_PER_VOXEL = 7
"""Bytes of a scene on disk: density 4, labels 2, occupied voxels 1."""


def labels_path(tomogram: Path) -> Path:
    """Return the path of a tomogram's labels: `T_labels.mrc` beside `T.mrc`."""
    return tomogram.with_name(f"{class_name(tomogram)}_labels.mrc")


def write_scene(output: Path, contents: Contents, seed: int) -> Scene:
    """Write `SCENE.mrc`, `SCENE_labels.mrc` and the truth `SCENE.star`; return the scene.

    Gold is part of the density.
    """
    name = class_name(output)
    output.parent.mkdir(parents=True, exist_ok=True)
    with _open_scene(output, contents) as scene:
        if contents.vesicles_and_gold.beads:
            scene.beads = scene.density
        build_scene(contents, name, seed, scene)
    particles, optics = truth_tables(scene, contents, None, name)
    write_star(output.with_suffix(".star"), particles, optics)
    return scene


def truth_tables(
    scene: Scene, contents: Contents, acquisition: Acquisition | None, name: str
) -> "tuple[pd.DataFrame, pd.DataFrame]":
    """Return the tables `particles` and `optics` of a scene, without crowders.

    If no acquisition is given, the rows have the source `density`: they were not imaged.
    """
    import pandas as pd

    columns = ["rlnTomoName", *COORDINATES, *ANGLES]
    columns += ["cryoetganClass", "cryoetganSource", "cryoetganId"]
    rows = [row for row in scene.rows if row["cryoetganClass"] in contents.classes]
    particles = pd.DataFrame(rows, columns=columns).assign(rlnOpticsGroup=1)
    if acquisition is None:
        particles["cryoetganSource"] = "density"
        optics = pd.DataFrame([{"rlnOpticsGroup": 1, "rlnOpticsGroupName": name}])
    else:
        optics = pd.DataFrame([acquisition.to_optics(1, name)])
    optics["rlnImagePixelSize"] = contents.voxel_size
    return particles, optics


@contextlib.contextmanager
def _open_scene(output: Path, contents: Contents) -> Iterator[Scene]:
    """Yield an empty scene of memory-mapped files; they appear if the block ends well."""
    shape, voxel_size = contents.shape, contents.voxel_size
    check_disk_space(output, BYTES_PER_VOXEL * math.prod(shape), "lower --shape (tomograms.shape)")
    label = [f"labels: see {output.name}.json"]
    files: Any
    with contextlib.ExitStack() as files:
        labels = files.enter_context(
            open_volume(labels_path(output), shape, voxel_size, np.int16, label)
        )
        density = files.enter_context(
            open_volume(output, shape, voxel_size, np.float32, ["density scene"])
        )
        # only packing needs the occupied voxels: a file without a name
        hidden = files.enter_context(tempfile.TemporaryFile(dir=output.parent))
        occupied = np.memmap(hidden, bool, "w+", shape=shape)
        yield Scene(density, labels, occupied)
