"""Poses and membranes: mass, place, angles, seeds."""

import mrcfile
import numpy as np
import pandas as pd
import pytest
from scipy import stats
from scipy.spatial.transform import Rotation

from cryoetgan.densities import simulate
from cryoetgan.densities.membrane import simulate_membrane
from cryoetgan.densities.poses import draw_poses, read_pose_prior
from cryoetgan.io.mrc import read_header, write_volume
from cryoetgan.io.star import ANGLES, ORIGINS, write_star
from cryoetgan.io.volume_set import read_volume_set
from cryoetgan.physics.geometry import rotate_volume, rotation_from_relion
from tests.conftest import refused


@pytest.fixture
def atoms(rng):
    return rng.normal(0, 14, (60, 3)) * [1, 0.6, 1.8], rng.choice([6, 7, 8], 60)


def test_rotating_the_map_equals_rotating_the_atoms(atoms):
    places, numbers = atoms
    density = simulate(places, numbers, 5.0, 30.0, 32)
    for volume, row in draw_poses("a", density, 4, 10.0, 5.0, seed=3):
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


def test_adding_poses_or_classes_leaves_the_others_unchanged(atoms):
    density = simulate(*atoms, 10.0, 30.0, 16)
    three = [row for _, row in draw_poses("a", density, 3, 5.0, 10.0, seed=1)]
    five = [row for _, row in draw_poses("a", density, 5, 5.0, 10.0, seed=1)]
    assert five[:3] == three
    assert [row for _, row in draw_poses("b", density, 3, 5.0, 10.0, seed=1)] != three
    assert [row for _, row in draw_poses("a", density, 3, 5.0, 10.0, seed=2)] != three


def test_orientations_are_uniform_on_so3():
    """Haar: quaternions uniform on the sphere, so angles follow (1 - cos w) / pi."""
    speck = np.zeros((4, 4, 4))
    speck[2, 2, 2] = 1
    count = 3000
    rows = [row for _, row in draw_poses("a", speck, count, 20.0, 10.0, seed=5)]
    turned = rotation_from_relion([[row[name] for name in ANGLES] for row in rows])
    angle = turned.magnitude()
    bounds = {
        "angle": (angle - np.sin(angle)) / np.pi,
        **{f"axis {i}": (turned.apply(np.eye(3)[i])[:, j] + 1) / 2 for i in range(3) for j in (i,)},
        "in plane": (turned.apply([1, 0, 0])[:, 1] + 1) / 2,
    }
    for name, values in bounds.items():
        assert stats.kstest(values, "uniform").pvalue > 1e-3, name
    # and not Euler angles drawn one by one
    naive = np.radians(np.random.default_rng(0).uniform(0, 180, count))
    assert stats.kstest((np.cos(naive) + 1) / 2, "uniform").pvalue < 1e-6
    # no two alike, and no correlation from pose to pose
    quaternions = turned.as_quat(canonical=True)
    assert len(np.unique(quaternions.round(6), axis=0)) == count
    assert abs(np.corrcoef(quaternions[1:, 0], quaternions[:-1, 0])[0, 1]) < 0.06
    shifts = np.array([[row[name] for name in ORIGINS] for row in rows])
    for axis in range(3):
        assert stats.kstest(shifts[:, axis] / 40 + 0.5, "uniform").pvalue > 1e-3


def prior_file(path, rng, count=400):
    """Class a points down, class b lies flat and off centre along z; four rows of class c."""
    names = np.repeat(["a", "b"], count // 2).tolist() + ["c"] * 4
    tilt = np.where(np.array(names) == "a", 0.0, 90.0)
    table = pd.DataFrame(
        {
            "cryoetganClass": names,
            "rlnAngleRot": rng.uniform(-180, 180, len(names)),
            "rlnAngleTilt": tilt,
            "rlnAnglePsi": rng.uniform(-180, 180, len(names)),
            "rlnOriginXAngst": rng.normal(0, 2, len(names)),
            "rlnOriginYAngst": rng.normal(0, 2, len(names)),
            "rlnOriginZAngst": rng.normal(-30, 2, len(names)),
        }
    )
    write_star(path, table)
    return table


def test_poses_follow_the_prior_of_their_class(tmp_path, rng):
    table = prior_file(tmp_path / "p.star", rng)
    prior = read_pose_prior(tmp_path / "p.star", 3.0)
    speck = np.zeros((12, 12, 12))
    speck[6, 6, 6] = 1
    drawn = {
        name: pd.DataFrame([row for _, row in draw_poses(name, speck, 300, 99.0, 10.0, 0, prior)])
        for name in ("a", "b", "c")
    }
    axis = {
        name: rotation_from_relion(rows[ANGLES]).apply([0, 0, 1])[:, 2]
        for name, rows in drawn.items()
    }
    assert axis["a"].min() > np.cos(np.radians(20))
    assert abs(axis["b"]).max() < np.sin(np.radians(20))
    # a class of four rows draws from all
    assert 0.3 < (axis["c"] > 0.5).mean() < 0.7
    # blurred by 3 degrees, so about 3 sqrt 2 between axes
    assert np.degrees(np.arccos(np.clip(axis["a"], -1, 1))).mean() == pytest.approx(3.8, abs=0.6)
    offsets = np.array(drawn["a"][ORIGINS])
    assert offsets.mean(axis=0) == pytest.approx([0, 0, -30], abs=1)
    assert offsets.std(axis=0) == pytest.approx(np.hypot(2, 2.5) * np.ones(3), abs=0.5)
    # the map goes where the row says: away from the origin's sign
    volume, row = next(draw_poses("a", speck, 1, 99.0, 10.0, 0, prior))
    z = np.unravel_index(volume.argmax(), volume.shape)[0]
    assert z == pytest.approx(6 - row["rlnOriginZAngst"] / 10, abs=0.8)
    # without origins, shifts stay uniform; without angles, so do orientations
    write_star(tmp_path / "angles.star", table[ANGLES])
    rows = [
        r
        for _, r in draw_poses(
            "a", speck, 200, 99.0, 10.0, 0, read_pose_prior(tmp_path / "angles.star", 0)
        )
    ]
    assert pd.DataFrame(rows)[ORIGINS].abs().to_numpy().max() > 80
    write_star(tmp_path / "origins.star", table[ORIGINS])
    rows = [
        r
        for _, r in draw_poses(
            "a", speck, 200, 9.0, 10.0, 0, read_pose_prior(tmp_path / "origins.star", 0)
        )
    ]
    turned = rotation_from_relion(pd.DataFrame(rows)[ANGLES])
    assert stats.kstest((turned.apply([0, 0, 1])[:, 2] + 1) / 2, "uniform").pvalue > 1e-3


def test_an_invalid_prior_is_refused(cryoetgan, tmp_path, atoms, rng):
    write_volume(tmp_path / "a.mrc", simulate(*atoms, 10.0, 30.0, 16), 10.0)
    table = prior_file(tmp_path / "good.star", rng)
    write_star(tmp_path / "none.star", table[["cryoetganClass"]])
    table.loc[3, "rlnAngleTilt"] = np.nan
    write_star(tmp_path / "nan.star", table)
    words = ("densities", "pose", "a.mrc", "--count", 2, "-o", "x.star")
    for name, said in (
        ("none.star", "rlnAngleRot"),
        ("nan.star", "finite"),
        ("absent.star", "absent.star"),
    ):
        refused(cryoetgan(*words, "--prior", name, code=2), name, said)
    spread = cryoetgan(*words, "--prior", "good.star", "--prior-spread", "-1", code=2)
    refused(spread, "--prior-spread")
    for option, value in (
        ("--count", 0),
        ("--count", -4),
        ("--max-shift", -1),
        ("--max-shift", "nan"),
    ):
        refused(cryoetgan(*words, option, value, code=2), option)
    assert not (tmp_path / "x.star").exists()


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
    refused(cryoetgan(*words, "--max-shift", 81, "-o", "x.star", code=2), "--max-shift", "80 A")
    write_volume(tmp_path / "c.mrc", density, 12.0)
    done = cryoetgan("densities", "pose", "a.mrc", "c.mrc", "--count", 1, "-o", "x.star", code=2)
    refused(done, "10.000", "12.000")


def test_a_membrane_has_two_layers_and_a_trough():
    bilayer = simulate_membrane(4.0, 12.0, 48, thickness=40.0, radius=5000.0)
    profile = bilayer[:, 24, 24].astype(float)
    peaks = [i for i in range(1, 47) if profile[i - 1] < profile[i] > profile[i + 1]]
    assert [(p - 24) * 4.0 for p in peaks] == pytest.approx([-20, 20], abs=4)
    assert profile[24] < 0.2 * profile.max()
    # its normal is z: along x it is flat
    row = bilayer[24 + 5, 24, 14:34]
    assert np.ptp(row) < 0.2 * bilayer.max()


def test_a_membrane_bends_as_told():
    bilayer = simulate_membrane(4.0, 12.0, 64, thickness=40.0, radius=300.0)

    def height(x):
        column = np.clip(bilayer[:, 32, x], 0, None).astype(float)
        return (column * (np.arange(64) - 32)).sum() / column.sum() * 4.0

    sagitta = 300 - np.sqrt(300**2 - (20 * 4.0) ** 2)
    assert height(32) - height(52) == pytest.approx(sagitta, abs=3)


def test_a_membrane_tilts_as_told():
    flat = simulate_membrane(4.0, 12.0, 48, thickness=40.0, radius=400.0)
    tilted = simulate_membrane(4.0, 12.0, 48, thickness=40.0, radius=400.0, tilt=30.0)
    # about y from z to x: the normal is (sin 30, 0, cos 30), xyz
    turned = rotate_volume(flat, Rotation.from_euler("y", 30, degrees=True))
    away = rotate_volume(flat, Rotation.from_euler("y", -30, degrees=True))
    assert np.corrcoef(tilted.ravel(), turned.ravel())[0, 1] > 0.995
    assert np.corrcoef(tilted.ravel(), away.ravel())[0, 1] < 0.8


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("--membrane-thickness", 0),
        ("--membrane-thickness", 700),
        ("--membrane-radius", -5),
        ("--membrane-tilt", "nan"),
        ("--box", 10**9),
        ("--voxel-size", "inf"),
    ],
)
def test_a_membrane_that_cannot_be_is_refused(cryoetgan, tmp_path, option, value):
    words = ("densities", "membrane", "--voxel-size", 10, "--box", 28, option, value)
    refused(cryoetgan(*words, "-o", "m.mrc", code=2), option.strip("-").replace("-", "_")[:5])
    assert not (tmp_path / "m.mrc").exists()


def test_a_membrane_s_header_is_valid_and_says_what_it_is(cryoetgan, tmp_path):
    cryoetgan("densities", "membrane", "--voxel-size", 10, "--box", 28, "-o", "m.mrc")
    assert mrcfile.validate(tmp_path / "m.mrc")
    assert "model of a lipid bilayer" in " ".join(read_header(tmp_path / "m.mrc").labels)
