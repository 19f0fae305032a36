"""The signal that fitted physics gives at a tomogram's own picks: pairs that no label made.

Template matching has found class, orientation and place of each pick, so the scene about it can
be built from the maps, neighbours and all, and imaged. Beside the crop itself that is a pair: what
physics expects there, and what the microscope and the processing made of it.
"""

import logging
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from cryoetgan.densities.poses import Poser
from cryoetgan.geometry import rotation_from_relion
from cryoetgan.imaging.model import ImagingModel, crop
from cryoetgan.imaging.scenes import SCENE, paste
from cryoetgan.origins import offsets
from cryoetgan.progress import track
from cryoetgan.star import ANGLES, COORDINATES
from cryoetgan.volumes import VolumeSet

log = logging.getLogger("cryoetgan")
NEEDED = ("rlnTomoName", "cryoetganClass", *ANGLES, *COORDINATES)


def paired_signals(
    subtomograms: VolumeSet, rows: np.ndarray, models: Sequence[ImagingModel]
) -> Tensor | None:
    """Return the expected signal of each crop, grey values.

    Parameters
    ----------
    subtomograms : VolumeSet
        Crops at aligned picks: class, angles, coordinates, tomogram.
    rows : ndarray of int
        Those to return; the others count as neighbours.
    models : sequence of ImagingModel
        Of their tomograms.

    Returns
    -------
    Tensor or None
        `(N, 1, z, y, x)`; None where the set does not say what its crops show, or no model is of
        a crop's tomogram.
    """
    table = subtomograms.table
    lacks = [name for name in NEEDED if name not in table]
    if lacks:
        log.info("%s: no %s: trained without pairs", subtomograms.path, ", ".join(lacks))
        return None
    of = {model.tomogram: model for model in models}
    known = {name for model in models for name in model.maps}
    tomograms, names = (table[name].to_numpy(str) for name in NEEDED[:2])
    if not set(tomograms) <= set(of) or not set(names) <= known:
        log.info(
            "%s: of tomograms or classes no imaging model knows: trained without pairs",
            subtomograms.path,
        )
        return None
    centres = table[COORDINATES].to_numpy(float)
    places = centres + offsets(table, subtomograms.voxel_size)
    turns = rotation_from_relion(table[ANGLES].to_numpy(float))
    posers = {
        (tomogram, name): Poser(np.asarray(density))
        for tomogram, model in of.items()
        for name, density in model.maps.items()
    }
    box = subtomograms.box
    size, reach = SCENE * box, (SCENE + 1) * box / 2
    signals = torch.empty((len(rows), 1, box, box, box))
    for number, row in enumerate(track(rows, "scenes about picks", len(rows))):
        away = places - centres[row]
        near = (tomograms == tomograms[row]) & (np.abs(away) < reach).all(axis=1)
        scene = np.zeros((size,) * 3, np.float32)
        for other in np.flatnonzero(near):
            whole = np.rint(away[other])
            turned = posers[tomograms[other], names[other]](turns[int(other)], away[other] - whole)
            paste(scene, turned, size // 2 + whole)
        signal = of[tomograms[row]].signal(scene)
        signals[number, 0] = torch.from_numpy(crop(signal, box))
    return signals
