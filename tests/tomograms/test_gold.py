"""Gold beads: size and density."""

import numpy as np
import pytest
from scipy import ndimage

from cryoetgan.tomograms.options import VesiclesAndGold
from cryoetgan.tomograms.simulation.gold import add_beads, split_gold
from cryoetgan.tomograms.simulation.packing import empty_scene


def test_a_bead_has_the_density_of_gold():
    scene = empty_scene((40, 60, 60))
    add_beads(scene, VesiclesAndGold(resolution=30.0, beads=4, bead_diameter=100.0), 10.0, "t", 1)
    assert not scene.density.any()
    count = (scene.labels == scene.names["bead"]).sum() / 4
    assert 4 / 3 * np.pi * 5**3 * 0.7 < count < 4 / 3 * np.pi * 6.5**3
    # the inside of a bead: gold's density, in the units of sum Z exp(-r^2 / w^2)
    width = 30 / np.pi
    assert scene.beads.max() == pytest.approx(4.66 * np.pi**1.5 * width**3, rel=0.05)


@pytest.mark.parametrize(("blur", "level"), [(0.6, 0.0), (1.2, 0.0), (2.0, 0.0), (1.2, 1.0)])
def test_gold_and_the_particles_beside_it_keep_their_mass(blur, level):
    """Two beads of known size and blur, and a particle that begins two voxels from one's label.

    They stand on a level of density: that of ice, or of neighbours' tails.
    """
    z, y, x = np.indices((40, 60, 60)) - 20.0
    gold, labels, particle = np.zeros((3, 40, 60, 60))
    for place, radius in ((0, 5), (26, 4)):
        far = np.sqrt(z**2 + y**2 + (x - place) ** 2)
        ball = np.clip(radius + 0.5 - far, 0, 1)
        gold += ndimage.gaussian_filter(10 * ball, blur)
        labels[ball > 0] = 2
    particle = np.exp(-(z**2 + (y - 11) ** 2 + x**2) / 8)
    labels[particle > 0.15] = 1
    scene = (gold + particle + level).astype(np.float32)
    rest, found = split_gold(scene, labels.astype(int), 2)
    assert np.abs(rest + found - scene).max() < 1e-5
    rest = rest - level
    assert found.sum() == pytest.approx(gold.sum(), rel=0.01)
    inside = labels == 1
    assert rest[inside].sum() == pytest.approx(particle[inside].sum(), rel=0.01)
    assert rest.sum() == pytest.approx(particle.sum(), rel=0.05)
    assert (rest**2).sum() == pytest.approx((particle**2).sum(), rel=0.02)
    assert np.abs(rest - particle).max() < 0.02 * gold.max()
    full = split_gold(scene, np.where(labels == 2, 2, 1), 2)  # no voxel is free
    assert full[1].sum() == pytest.approx(scene[labels == 2].sum())
    nothing = split_gold(gold, np.zeros(gold.shape, int), 2)
    assert np.array_equal(nothing[0], gold.astype(np.float32))
    assert not nothing[1].any()


@pytest.mark.parametrize(
    "wrong",
    [{"vesicle_radius": "300,200"}, {"bead_diameter": 0.0}, {"resolution": -1.0}],
)
def test_invalid_sizes_are_refused(wrong):
    with pytest.raises(ValueError, match="wanted"):
        VesiclesAndGold(**({"resolution": 30.0} | wrong))
