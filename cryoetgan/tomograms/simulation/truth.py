"""The ground truth of a simulated tomogram: contents to scene, scene to tables."""

from typing import TYPE_CHECKING

from cryoetgan.io.star import ANGLES, COORDINATES
from cryoetgan.physics.acquisition import Acquisition
from cryoetgan.tomograms.simulation.contents import Contents
from cryoetgan.tomograms.simulation.packing import Scene, empty_scene, pack
from cryoetgan.tomograms.simulation.vesicles_and_gold import add_beads, add_vesicles

if TYPE_CHECKING:
    import pandas as pd


def build_scene(contents: Contents, name: str, seed: int, scene: Scene | None = None) -> Scene:
    """Return what a tomogram shows: membranes and gold first, particles, then crowders.

    Parameters
    ----------
    contents : Contents
        What, and how many.
    name : str
        The tomogram's, for seeds and ids.
    seed : int
        The run's.
    scene : Scene, optional
        An empty one to fill, of memory-mapped files say.
    """
    scene = empty_scene(contents.shape) if scene is None else scene
    for known in contents.classes:
        scene.label(known)
    around, voxel_size = contents.surroundings, contents.voxel_size
    if around.vesicles:
        add_vesicles(scene, around, voxel_size, name, seed)
    if around.beads:
        add_beads(scene, around, voxel_size, name, seed)
    pack(scene, contents.classes, contents.copies, name, seed)
    crowders = contents.crowders
    pack(scene, crowders, dict.fromkeys(crowders, contents.crowder_copies), name, seed)
    return scene


def truth_tables(
    scene: Scene, contents: Contents, acquisition: Acquisition | None, name: str
) -> "tuple[pd.DataFrame, pd.DataFrame]":
    """Return the tables `particles` and `optics` of a scene; crowders are left out.

    Without an acquisition nothing was recorded: the rows are those of a density.
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
