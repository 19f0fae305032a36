"""The unnamed protein that the surroundings of particles stand for."""

import numpy as np
from scipy import fft

from cryoetgan.densities.density_from_atoms import gaussian_width
from cryoetgan.imaging.model import SCENE_BOXES, ImagingModel, surroundings_filter
from cryoetgan.physics.geometry import clip_box
from cryoetgan.physics.optics import hermitian_weights
from cryoetgan.tomograms.simulation.crowders import make_crowders
from cryoetgan.tomograms.simulation.packing import MASK_LEVEL

MOST = 0.2
"""Largest fraction; denser cytoplasm is not known."""
LEAST = 0.005
"""Smallest fraction; below it surroundings are errors of the fit rather than proteins."""


def crowder_fraction(model: ImagingModel, seed: int = 0) -> float:
    """Return the fraction of the volume in unnamed proteins whose image has the surroundings' variance.

    Proteins of maps m at random places, rho a voxel, have the power rho <|M(k)|^2> |H(k)|^2 for
    each voxel (shot noise; Campbell 1909), with H the transfer function. The surroundings have the
    power f(k)^2 of their filter. So rho = sum f^2 / sum <|M|^2> |H|^2 over all frequencies.
    """
    if model.surroundings is None:
        return 0.0
    size, voxel_size = SCENE_BOXES * model.box, model.voxel_size
    shape = (size,) * 3
    weight = hermitian_weights(size)
    around = surroundings_filter(shape, voxel_size, model.surroundings, model.acquisition.tilts)
    maps = [*make_crowders(voxel_size, gaussian_width(3 * voxel_size), seed).values()]
    power, volume = np.zeros(around.shape), 0.0
    for density in maps:
        placed = np.zeros(shape, np.float32)
        corner = (size - np.array(density.shape)) // 2
        in_placed, in_map = clip_box(corner, density.shape, shape)
        placed[in_placed] = density[in_map]
        power += np.abs(fft.rfftn(placed)) ** 2 / len(maps)
        volume += float((density > MASK_LEVEL * density.max()).sum()) / len(maps)
    power[0, 0, 0] = 0
    seen = float((weight * power * model.transfer(shape) ** 2).sum())
    found = volume * float((weight * around**2).sum()) / max(seen, 1e-30)
    return 0.0 if found < LEAST else min(found, MOST)
