"""Vesicles and gold beads: size, profile, density, and room for particles."""

import numpy as np
import pytest

from cryoetgan.densities.density_from_atoms import gaussian_width
from cryoetgan.densities.membrane import bilayer_profile
from cryoetgan.tomograms.options import VesiclesAndGold
from cryoetgan.tomograms.simulation.packing import empty_scene, pack
from cryoetgan.tomograms.simulation.vesicles_and_gold import (
    add_beads,
    add_vesicles,
)


def test_vesicles_are_closed_shells_of_the_right_size():
    scene = empty_scene((80, 80, 80))
    wanted = VesiclesAndGold(resolution=30.0, vesicles=1, vesicle_radius="250.0,250.0")
    add_vesicles(scene, wanted, 10.0, "t", 3)
    shell = scene.labels == scene.names["vesicle"]
    at = np.argwhere(shell)
    size = np.ptp(at, axis=0) * 10
    # full axes of 350 to 500 angstrom and half a membrane at either end, or cut by a face
    assert size.max() <= 500 + 2 * 38 + 20
    assert scene.density[shell].mean() > 5 * np.abs(scene.density[~shell]).mean()
    assert scene.density.max() > 0
    depth = np.linspace(-60, 60, 121)
    profile = bilayer_profile(depth, 40.0, gaussian_width(10.0))
    assert abs(abs(depth[profile.argmax()]) - 20) < 3
    assert profile[60] < 0.2 * profile.max()
    assert np.allclose(profile, profile[::-1])


def test_particles_lie_inside_and_outside_vesicles_but_not_in_the_membrane():
    scene = empty_scene((60, 90, 90), ["a"])
    add_vesicles(
        scene,
        VesiclesAndGold(resolution=30.0, vesicles=2, vesicle_radius="250.0,300.0"),
        10.0,
        "t",
        1,
    )
    membrane = scene.labels.copy() > 0
    small = np.zeros((8, 8, 8))
    small[3:6, 3:6, 3:6] = 1
    pack(scene, {"a": small}, {"a": 100}, "t", 1)
    assert (scene.labels[membrane] == scene.names["vesicle"]).all()
    assert (scene.labels == 1).any()


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
