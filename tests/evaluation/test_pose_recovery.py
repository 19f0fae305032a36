"""Pose recovery: planted particles are found in their pose, and signs cannot flip."""

import numpy as np
import pandas as pd
import pytest
from scipy.spatial.transform import Rotation

from cryoetgan.evaluation.metrics.pose_recovery import (
    PosedTemplates,
    recover_poses,
    simulate_at_equal_snr,
)
from cryoetgan.io.star import ANGLES
from cryoetgan.physics.geometry import relion_from_rotation, rotate_volume
from cryoetgan.physics.optics import missing_wedge
from tests.evaluation.conftest import particle

N, VOXEL, TILTS = 20, 10.0, (-60.0, 60.0)
MAPS = {name: particle(name, N) for name in ("bent", "rod")}


def recover(volumes, table, realign=None):
    templates = PosedTemplates(MAPS, TILTS)
    spectra = [templates.spectrum(volume) for volume in volumes]
    return recover_poses(spectra, table, templates, VOXEL, realign)


def planted(rng, count=12, off=(0.0, 0.0, 0.0), turn=None, noise=0.0, tilts=TILTS):
    """Return volumes and rows; the volumes are off their rows' pose by `off` (A) and `turn`."""
    volumes, rows = [], []
    seen = missing_wedge((N,) * 3, tilts)
    for index in range(count):
        name = ("bent", "rod")[index % 2]
        rotation = Rotation.random(rng=rng)
        origin = rng.uniform(-10, 10, 3)  # angstrom, RELION: the particle lies at minus this
        shift = -origin / VOXEL + np.array(off) / VOXEL
        volume = rotate_volume(MAPS[name], rotation if turn is None else turn * rotation, shift)
        volume = np.fft.irfftn(np.fft.rfftn(volume) * seen, s=volume.shape, axes=(0, 1, 2))
        volume = volume / volume.std() + noise * rng.normal(size=volume.shape)
        rot, tilt, psi = relion_from_rotation(rotation)
        origins = dict(zip(["X", "Y", "Z"], origin, strict=True))
        rows.append(
            dict(zip(ANGLES, (rot, tilt, psi), strict=True))
            | {"cryoetganClass": name}
            | {f"rlnOrigin{axis}Angst": value for axis, value in origins.items()}
        )
        volumes.append(volume)
    return np.array(volumes), pd.DataFrame(rows)


def test_planted_particles_are_found_in_their_pose(rng):
    volumes, table = planted(rng, noise=1.0)
    found = recover(volumes, table)
    assert found.correct.all()
    assert np.median(found.angle_error) <= 5
    assert np.median(found.shift_error) <= 5


def test_clean_templates_are_the_turned_maps(rng):
    volumes, table = planted(rng, 6)
    found = recover(volumes, table, realign=0)
    assert found.correlation.min() > 0.97
    assert np.isnan(found.angle_error).all()


def test_a_wrong_turn_is_measured(rng):
    turn = Rotation.from_rotvec([0, 18, 0], degrees=True)
    volumes, table = planted(rng, 8, turn=turn)
    found = recover(volumes, table)
    assert np.median(found.angle_error) == pytest.approx(18, abs=4)


def test_a_wrong_centre_is_measured(rng):
    volumes, table = planted(rng, 8, off=(15.0, 0.0, -5.0))
    found = recover(volumes, table)
    assert np.median(found.shift_error) == pytest.approx(np.hypot(15, 5), abs=4)


def test_swapped_classes_are_all_wrong(rng):
    volumes, table = planted(rng)
    other = table["cryoetganClass"].map({"bent": "rod", "rod": "bent"})
    found = recover(volumes, table.assign(cryoetganClass=other), realign=0)
    assert not found.correct.any()


@pytest.mark.parametrize("wrong", ["inverse", "origin", "contrast"])
def test_a_flipped_sign_shows(rng, wrong):
    volumes, table = planted(rng)
    if wrong == "inverse":
        angles = -table[ANGLES].to_numpy()[:, ::-1]
        table[ANGLES] = angles
    if wrong == "origin":
        for axis in "XYZ":
            table[f"rlnOrigin{axis}Angst"] *= -1
    correct = recover(volumes, planted(np.random.default_rng(7))[1], 0)
    sign = -1 if wrong == "contrast" else 1
    found = recover(sign * volumes, table, 0)
    assert found.correlation.mean() < correct.correlation.mean() - 0.1


def test_a_simulation_at_the_same_signal_to_noise_ratio_fits_as_well(rng):
    volumes, table = planted(rng, 24, noise=2.0)
    templates = PosedTemplates(MAPS, TILTS)
    spectra = [templates.spectrum(volume) for volume in volumes]
    own = recover_poses(spectra, table, templates, VOXEL, 0)
    alike = recover_poses(
        list(simulate_at_equal_snr(spectra, table, templates, VOXEL, rng)),
        table,
        templates,
        VOXEL,
        0,
    )
    assert alike.correlation.mean() == pytest.approx(own.correlation.mean(), abs=0.04)


def test_noise_recovers_nothing(rng):
    _, table = planted(rng, 40)
    found = recover(rng.normal(size=(40, N, N, N)), table, 10)
    assert 0.2 < found.correct.mean() < 0.8
    assert np.nanmedian(found.angle_error) > 10
