"""Gold beads: size and density."""

import numpy as np
import pytest

from cryoetgan.tomograms.options import VesiclesAndGold
from cryoetgan.tomograms.simulation.gold import add_beads
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


@pytest.mark.parametrize(
    "wrong",
    [{"vesicle_radius": "300,200"}, {"bead_diameter": 0.0}, {"resolution": -1.0}],
)
def test_invalid_sizes_are_refused(wrong):
    with pytest.raises(ValueError, match="wanted"):
        VesiclesAndGold(**({"resolution": 30.0} | wrong))
