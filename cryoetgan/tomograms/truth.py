"""The ground truth of a simulated tomogram: scene in, tables out."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from cryoetgan.acquisition import Acquisition
from cryoetgan.star import ANGLES, COORDINATES
from cryoetgan.tomograms.packing import Scene, empty_scene, pack
from cryoetgan.tomograms.surroundings import Surroundings, add_beads, add_vesicles

if TYPE_CHECKING:
    import pandas as pd

Floats = NDArray[np.floating]


def build_scene(
    classes: Mapping[str, Floats],
    copies: Mapping[str, int],
    crowders: Mapping[str, Floats],
    crowder_copies: int,
    surroundings: Surroundings,
    shape: tuple[int, int, int],
    voxel_size: float,
    name: str,
    seed: int,
) -> Scene:
    """Return what a tomogram shows: membranes and gold first, particles, then crowders.

    Parameters
    ----------
    classes, copies : mapping
        Class to density `(z, y, x)`, and to how many are wanted; labelled 1, 2, ... in
        this order.
    crowders : mapping
        Name to density `(z, y, x)` of background species.
    crowder_copies : int
        Of each crowder.
    surroundings : Surroundings
        Vesicles and gold beads.
    shape : (int, int, int)
        zyx, voxels.
    voxel_size : float
        Angstrom.
    name : str
        The tomogram's, for seeds and ids.
    seed : int
        The run's.
    """
    scene = empty_scene(shape, list(classes))
    if surroundings.vesicles:
        add_vesicles(scene, surroundings, voxel_size, name, seed)
    if surroundings.beads:
        add_beads(scene, surroundings, voxel_size, name, seed)
    pack(scene, classes, copies, name, seed)
    pack(scene, crowders, dict.fromkeys(crowders, crowder_copies), name, seed)
    return scene


def truth_tables(
    scene: Scene,
    classes: Mapping[str, Floats],
    acquisition: Acquisition,
    voxel_size: float,
    name: str,
) -> "tuple[pd.DataFrame, pd.DataFrame]":
    """Return the tables `particles` and `optics` of a scene; crowders are left out."""
    import pandas as pd

    columns = ["rlnTomoName", *COORDINATES, *ANGLES]
    columns += ["cryoetganClass", "cryoetganSource", "cryoetganId"]
    rows = [row for row in scene.rows if row["cryoetganClass"] in classes]
    particles = pd.DataFrame(rows, columns=columns).assign(rlnOpticsGroup=1)
    optics = pd.DataFrame([acquisition.to_optics(1, name)])
    optics["rlnImagePixelSize"] = voxel_size
    return particles, optics
