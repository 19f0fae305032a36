"""Poses and membranes: mass, place, angles, seeds."""

import mrcfile
import numpy as np
import pytest

from cryoetgan.densities import simulate
from cryoetgan.densities.membrane import membrane
from cryoetgan.densities.poses import ORIGINS, poses
from cryoetgan.geometry import rotation_from_relion
from cryoetgan.star import ANGLES
from cryoetgan.volumes import read_volume_set, write_volume
from tests.conftest import refused


@pytest.fixture
def atoms(rng):
    return rng.normal(0, 14, (60, 3)) * [1, 0.6, 1.8], rng.choice([6, 7, 8], 60)


def test_turning_the_map_is_turning_the_atoms(atoms):
    places, numbers = atoms
    density = simulate(places, numbers, 5.0, 30.0, 32)
    for volume, row in poses("a", density, 4, 10.0, 5.0, seed=3):
        rotation = rotation_from_relion([row[name] for name in ANGLES])
        shift = -np.array([row[name] for name in ORIGINS])
        expected = simulate(rotation.apply(places) + shift, numbers, 5.0, 30.0, 32)
        assert np.corrcoef(volume.ravel(), expected.ravel())[0, 1] > 0.999
        assert volume.sum() == pytest.approx(expected.sum(dtype=float), rel=0.01)
        # and not for the inverse rotation or the opposite shift
        wrong = simulate(rotation.inv().apply(places) + shift, numbers, 5.0, 30.0, 32)
        assert np.corrcoef(volume.ravel(), wrong.ravel())[0, 1] < 0.98
        away = simulate(rotation.apply(places) - shift, numbers, 5.0, 30.0, 32)
        assert np.corrcoef(volume.ravel(), away.ravel())[0, 1] < 0.999


def test_adding_poses_or_classes_changes_no_other(atoms):
    density = simulate(*atoms, 10.0, 30.0, 16)
    three = [row for _, row in poses("a", density, 3, 5.0, 10.0, seed=1)]
    five = [row for _, row in poses("a", density, 5, 5.0, 10.0, seed=1)]
    assert five[:3] == three
    assert [row for _, row in poses("b", density, 3, 5.0, 10.0, seed=1)] != three
    assert [row for _, row in poses("a", density, 3, 5.0, 10.0, seed=2)] != three


def test_the_command_keeps_counts_classes_and_bytes(cryoetgan, tmp_path, atoms):
    density = simulate(*atoms, 10.0, 30.0, 16)
    for name in ("a", "b"):
        write_volume(tmp_path / f"{name}.mrc", density, 10.0)
    words = ("densities", "pose", "a.mrc", "b.mrc", "--count", 3, "--class-count", "b=1")
    cryoetgan(*words, "--max-shift", 5, "-o", "one/p.star")
    cryoetgan(*words, "--max-shift", 5, "-o", "two/p.star")
    made = read_volume_set(tmp_path / "one" / "p.star")
    assert list(made.table["cryoetganClass"]) == ["a", "a", "a", "b"]
    assert mrcfile.validate(tmp_path / "one" / "p.mrcs")
    for suffix in ("star", "mrcs", "star.json"):
        one, two = ((tmp_path / n / f"p.{suffix}").read_bytes() for n in ("one", "two"))
        assert one == two
    refused(cryoetgan(*words, "--class-count", "c=1", "-o", "x.star", code=2), "c=1", "a, b")
    write_volume(tmp_path / "c.mrc", density, 12.0)
    done = cryoetgan("densities", "pose", "a.mrc", "c.mrc", "--count", 1, "-o", "x.star", code=2)
    refused(done, "10.000", "12.000")


def test_a_membrane_has_two_layers_and_a_trough():
    bilayer = membrane(4.0, 12.0, 48, thickness=40.0, radius=5000.0)
    profile = bilayer[:, 24, 24].astype(float)
    peaks = [i for i in range(1, 47) if profile[i - 1] < profile[i] > profile[i + 1]]
    assert [(p - 24) * 4.0 for p in peaks] == pytest.approx([-20, 20], abs=4)
    assert profile[24] < 0.2 * profile.max()
    # its normal is z: along x it is flat
    row = bilayer[24 + 5, 24, 14:34]
    assert np.ptp(row) < 0.2 * bilayer.max()


def test_a_membrane_bends_as_told():
    bilayer = membrane(4.0, 12.0, 64, thickness=40.0, radius=300.0)

    def height(x):
        column = np.clip(bilayer[:, 32, x], 0, None).astype(float)
        return (column * (np.arange(64) - 32)).sum() / column.sum() * 4.0

    sagitta = 300 - np.sqrt(300**2 - (20 * 4.0) ** 2)
    assert height(32) - height(52) == pytest.approx(sagitta, abs=3)
