"""Proteins that nobody named: the densities of class `other`."""

import numpy as np
import pytest
from scipy import ndimage

from cryoetgan import seeds
from cryoetgan.densities.unnamed import draw_others, inner_density, make_unnamed
from cryoetgan.io.mrc import write_volume
from cryoetgan.io.volume_set import read_volume_set
from cryoetgan.physics.geometry import random_rotations
from tests.conftest import refused

BOX, VOXEL = 24, 10.0


@pytest.fixture(scope="module")
def maps():
    """A ball of 60 angstrom and a rod, with values as no other program has them."""
    z, y, x = np.indices((BOX,) * 3) - BOX // 2
    ball, rod = x**2 + y**2 + z**2 < 36, (x**2 + y**2 < 9) & (abs(z) < 9)
    return {
        name: ndimage.gaussian_filter(shape.astype(np.float32), 0.7)
        for name, shape in {"ball": ball, "rod": rod}.items()
    }


def test_unnamed_proteins_are_as_dense_as_the_maps_in_any_unit(maps):
    for unit in (1.0, 1000.0):
        made = make_unnamed({name: unit * m for name, m in maps.items()}, VOXEL, 0)
        assert inner_density(made) == pytest.approx(unit * inner_density(maps), rel=0.3)


def test_a_fraction_of_the_boxes_holds_a_protein_near_the_centre(maps):
    drawn = [volume for volume, _ in draw_others(maps, 60, 0.5, 15.0, VOXEL, 3)]
    full = [volume for volume in drawn if volume.any()]
    assert 20 <= len(full) <= 40
    for volume in full:
        centre = np.array(ndimage.center_of_mass(volume)) - BOX // 2
        assert abs(centre).max() < 15.0 / VOXEL + 1
    masses = [volume.sum() for volume in full]
    assert max(masses) < 1.6 * max(m.sum() for m in maps.values())
    assert max(masses) > 3 * min(masses), "their sizes differ"
    shorter = [volume for volume, _ in draw_others(maps, 5, 0.5, 15.0, VOXEL, 3)]
    assert np.array_equal(shorter, drawn[:5])
    other_seed = [volume for volume, _ in draw_others(maps, 5, 1.0, 15.0, VOXEL, 4)]
    assert not np.array_equal(other_seed, drawn[:5])


def test_a_shift_moves_a_protein_and_cuts_nothing_off(maps):
    wide = {name: np.pad(m, 12) for name, m in maps.items()}
    drawn = (draw_others(wide, 12, 1.0, shift, VOXEL, 0) for shift in (70.0, 0.0))
    for index, ((far, _), (near, _)) in enumerate(zip(*drawn, strict=True)):
        assert far.sum() == pytest.approx(near.sum(), rel=0.01)
        rng = seeds.rng(0, "other", index)
        random_rotations(1, rng)
        xyz = rng.uniform(-70, 70, 3) / VOXEL
        moved = np.subtract(*(ndimage.center_of_mass(volume) for volume in (far, near)))
        assert moved == pytest.approx(xyz[::-1], abs=0.1)


def test_the_fraction_may_be_none_or_all(maps):
    assert not any(volume.any() for volume, _ in draw_others(maps, 8, 0.0, 0.0, VOXEL, 0))
    assert all(volume.any() for volume, _ in draw_others(maps, 8, 1.0, 0.0, VOXEL, 0))


def test_the_command_writes_class_other_and_refuses_what_cannot_be(cryoetgan, maps, tmp_path):
    write_volume(tmp_path / "ball.mrc", maps["ball"], VOXEL)
    cryoetgan("densities", "other", "ball.mrc", "--count", 6, "-o", "o.star")
    made = read_volume_set(tmp_path / "o.star")
    assert made.classes() == ["other"]
    assert np.asarray(made.volumes).shape == (6, BOX, BOX, BOX)
    for option, value in (("--unnamed", "1.5"), ("--max-shift", "500")):
        words = ("--count", 2, f"{option}={value}", "-o", "x.star")
        done = cryoetgan("densities", "other", "ball.mrc", *words, code=2)
        refused(done, option.removeprefix("--").split("-")[0], value)
    assert not (tmp_path / "x.star").exists()
