"""Averages: wedges fill each other, halves agree where there is signal, poses come back."""

import numpy as np
import pandas as pd
import pytest
from scipy.spatial.transform import Rotation

from cryoetgan.errors import UserError
from cryoetgan.io.mrc import read_volume, write_volume
from cryoetgan.io.star import ANGLES, ORIGINS, read_star
from cryoetgan.io.volume_set import read_volume_set, write_volume_set
from cryoetgan.particles.averaging.average import (
    Accumulator,
    accumulate,
    fourier_shell_correlation,
    lowpass,
    resolution,
    soft_sphere,
)
from cryoetgan.particles.averaging.gold_standard import align_and_average, join_halves
from cryoetgan.particles.averaging.posed_particles import Particle, has_angles, read_particles
from cryoetgan.particles.matching.template import SearchOptions
from cryoetgan.physics.acquisition import Acquisition
from cryoetgan.physics.geometry import (
    angle_between,
    random_rotations,
    relion_from_rotation,
    rotate_volume,
    rotation_from_relion,
)
from cryoetgan.physics.optics import ctf, missing_wedge, radius_grid
from tests.conftest import refused

BOX = 20
RECORD = Acquisition()


@pytest.fixture(scope="module")
def density():
    rng = np.random.default_rng(11)
    z, y, x = np.indices((BOX,) * 3) - BOX // 2
    blobs = rng.uniform(-3.5, 3.5, (6, 3))
    made = sum(np.exp(-((x - i) ** 2 + (y - j) ** 2 + (z - k) ** 2) / 4) for i, j, k in blobs)
    return (made * soft_sphere(BOX, 6.5)).astype(np.float32)


def boxed(density, turn, shift, noise, rng, record=RECORD):
    """A particle seen through its wedge (and contrast transfer), with noise."""
    whole = rotate_volume(density, turn, shift)
    seen = missing_wedge(whole.shape, record.tilts).astype(float)
    if record.defocus is not None:
        seen = seen * ctf(radius_grid(whole.shape, 10.0), record.defocus)
    whole = whole + noise * density.std() * rng.standard_normal(whole.shape)
    spectrum = np.fft.rfftn(np.fft.ifftshift(whole)) * seen
    box = np.fft.fftshift(np.fft.irfftn(spectrum, s=whole.shape, axes=(0, 1, 2)))
    return Particle(box, turn, np.asarray(shift, float), record)


def correlation(first, second):
    return np.corrcoef(first.ravel(), second.ravel())[0, 1]


def power_along(volume, axis):
    """Power in a cone about an axis of `fftn`, shells 2 to 5."""
    k = np.stack(np.meshgrid(*[np.fft.fftfreq(BOX, 1 / BOX)] * 3, indexing="ij"))
    length = np.sqrt((k**2).sum(0))
    cone = (np.abs(k[axis]) > 0.9 * length) & (length > 1.5) & (length < 5.5)
    return (np.abs(np.fft.fftn(volume)) ** 2)[cone].sum()


def test_differently_turned_wedges_fill_each_other(density, rng):
    """The law of the weights: amplitudes are right in all directions, also along the beam."""
    particles = [
        boxed(density, turn, rng.uniform(-2, 2, 3), 0, rng) for turn in random_rotations(40, rng)
    ]
    found = accumulate(particles, BOX, 10.0).average()
    assert correlation(found, density) > 0.98
    one = boxed(density, Rotation.identity(), np.zeros(3), 0, rng)
    alone = accumulate([one], BOX, 10.0).average()
    for axis in range(3):
        assert 0.75 < power_along(found, axis) / power_along(density, axis) < 1.15
    # a single particle has next to nothing along z
    assert power_along(alone, 0) / power_along(density, 0) < 0.05


def test_what_was_seen_is_what_the_missing_wedge_says(rng):
    """Two ways to the same mask: the optics' and, direction by direction, the accumulator's."""
    sums = Accumulator(16, 10.0)
    record = Acquisition(tilt_low=-50, tilt_high=62)
    sums.add(Particle(rng.standard_normal((16,) * 3), Rotation.identity(), np.zeros(3), record))
    mask = missing_wedge((16,) * 3, record.tilts)
    inner = np.ones(mask.shape, bool)
    inner[8], inner[:, :, -1] = False, False  # planes of the highest frequency stand for both signs
    assert (sums.weight[inner] > 0.5).tolist() == mask[inner].tolist()


def test_contrast_transfer_is_undone(density, rng):
    """Zeros of one defocus are filled by another; without the record the map is another."""
    records = [Acquisition(defocus=d) for d in (3.0, 4.0, 5.0)]
    turns = random_rotations(45, rng)
    particles = [
        boxed(density, turn, np.zeros(3), 0, rng, records[i % 3]) for i, turn in enumerate(turns)
    ]
    found = accumulate(particles, BOX, 10.0).average()
    blind = [Particle(p.box, p.rotation, p.shift, RECORD) for p in particles]
    naive = accumulate(blind, BOX, 10.0).average()
    # what no defocus passes (the mean) is not expected back
    without_mean = density - lowpass(density, 10.0, 150.0)
    found, naive = (v - lowpass(v, 10.0, 150.0) for v in (found, naive))
    assert correlation(found, without_mean) > 0.98
    assert 1 - correlation(found, without_mean) < 0.3 * (1 - correlation(naive, without_mean))


def test_the_fsc_is_one_of_equals_zero_of_noise_and_what_theory_says_between(rng):
    signal = rng.standard_normal((32,) * 3)
    noise = rng.standard_normal((2, 32, 32, 32))
    assert fourier_shell_correlation(signal, 3 * signal) == pytest.approx(np.ones(17))
    assert np.abs(fourier_shell_correlation(*noise)[4:]).max() < 0.2
    # signal of variance 1, noise of variance 2: SNR / (1 + SNR)
    found = fourier_shell_correlation(*(signal + 2**0.5 * noise))
    assert found[6:].mean() == pytest.approx(1 / 3, abs=0.03)


def test_the_resolution_is_read_between_shells():
    fsc = np.array([1.0, 1.0, 1.0, 0.643, 0.0, 0.9])
    # from 0.643 to 0 it passes 0.143 at 7/9 of the way
    assert resolution(fsc, 20, 10.0) == pytest.approx(200 / (3 + 0.5 / 0.643))
    assert resolution(np.ones(6), 20, 10.0) == 20.0


def made(density, count, rng, noise):
    turns = random_rotations(count, rng)
    shifts = rng.uniform(-1.5, 1.5, (count, 3))
    return [boxed(density, t, s, noise, rng) for t, s in zip(turns, shifts, strict=True)]


def test_iterations_find_poses_from_a_coarse_start(density, rng):
    true = made(density, 24, rng, 1.5)
    start = lowpass(density, 10.0, 55.0)
    blind = [Particle(p.box, Rotation.identity(), np.zeros(3), RECORD) for p in true]
    half = np.arange(24) % 2
    options = SearchOptions(lowpass=55.0, rotations=300, highpass_shells=0, device="cpu")
    found = align_and_average(blind, half, 10.0, start, options, 2)
    best = accumulate(true, BOX, 10.0).average()
    errors = angle_between(
        Rotation.concatenate([p.rotation for p in true]),
        Rotation.concatenate([p.rotation for p in found.particles]),
    )
    assert np.median(errors) < 10
    assert correlation(found.density, density) > 0.95 * correlation(best, density)
    noise = [
        Particle(rng.standard_normal((BOX,) * 3), Rotation.identity(), np.zeros(3), RECORD)
        for _ in range(24)
    ]
    null = align_and_average(noise, half, 10.0, start, options, 2)
    assert correlation(null.density, density) < 0.7 * correlation(found.density, density)
    # noise aligned to the same start agrees up to the start's 55 A, not beyond
    assert found.fsc[5:8].mean() > null.fsc[5:8].mean() + 0.2


def test_halves_that_turned_away_are_laid_on_each_other(density, rng):
    """One half's frame is turned as a whole: the FSC and the average must not suffer."""
    true = made(density, 16, rng, 0.3)
    half = np.arange(16) % 2
    away = Rotation.from_rotvec([0.0, 0.6, 0.9])
    turned = [
        Particle(p.box, p.rotation * away, p.shift, p.record) if half[i] else p
        for i, p in enumerate(true)
    ]
    members = [np.flatnonzero(half == which).tolist() for which in (0, 1)]
    options = SearchOptions(lowpass=40.0, rotations=300, device="cpu")
    sums, fsc = join_halves(turned, members, 10.0, options)
    assert correlation(sums.average(), accumulate(true, BOX, 10.0).average()) > 0.95
    assert fsc[1:5].min() > 0.8


@pytest.fixture
def rotations(tmp_path, density, rng):
    """Write particles with poses (s.star) and without (n.star); return their rotations."""
    true = made(density, 12, rng, 0.5)
    rotations = Rotation.concatenate([p.rotation for p in true])
    table = pd.DataFrame(relion_from_rotation(rotations), columns=ANGLES)
    table[ORIGINS] = -10.0 * np.array([p.shift for p in true])
    table["cryoetganClass"] = "blob"
    boxes = np.array([p.box for p in true])
    write_volume_set(tmp_path / "s.star", boxes, table, 10.0)
    write_volume_set(tmp_path / "n.star", boxes, table[["cryoetganClass"]], 10.0)
    write_volume(tmp_path / "first.mrc", density, 10.0)
    return rotations


def test_the_command(cryoetgan, tmp_path, density, rotations):
    cryoetgan("particles", "average", "s.star", "-o", "x.mrc")
    made_map = read_volume(tmp_path / "x.mrc")
    assert made_map.voxel_size == pytest.approx(10.0)
    assert correlation(made_map.data, density) > 0.9
    fsc = pd.read_csv(tmp_path / "x_fsc.csv")
    assert list(fsc.columns) == ["shell", "frequency", "resolution", "fsc"]
    assert len(fsc) == BOX // 2 + 1
    assert fsc["resolution"].iloc[4] == pytest.approx(BOX * 10 / 4)


def test_poses_are_found_from_a_template_and_written(cryoetgan, tmp_path, rotations):
    words = ("particles", "average", "n.star", "--iterations", 1, "--rotations", 300)
    cryoetgan(
        *words,
        "--template",
        "first.mrc",
        "--poses",
        "p.star",
        "--highpass-shells",
        0,
        "-o",
        "y.mrc",
    )
    found = rotation_from_relion(read_star(tmp_path / "p.star").particles[ANGLES].to_numpy(float))
    assert np.median(angle_between(rotations, found)) < 10
    assert not (tmp_path / "y_fsc.csv").read_text().count("nan")


def test_refusals(cryoetgan, tmp_path, density, rotations):
    refused(cryoetgan("particles", "average", "n.star", "-o", "z.mrc", code=2), "--iterations")
    write_volume(tmp_path / "large.mrc", np.pad(density, 2), 10.0)
    words = ("particles", "average", "n.star", "--iterations", 1)
    done = cryoetgan(*words, "--template", "large.mrc", "-o", "z.mrc", code=2)
    refused(done, "large.mrc", "--box 20")
    assert not (tmp_path / "z.mrc").exists()


def test_a_class_without_angles_beside_a_class_with_angles_has_none(tmp_path, rng):
    table = pd.DataFrame({"cryoetganClass": ["a", "b", "b"]})
    table[ANGLES] = [[10.0, 20.0, 30.0], *[[np.nan] * 3] * 2]
    boxes = rng.standard_normal((3, 8, 8, 8)).astype(np.float32)
    write_volume_set(tmp_path / "s.star", boxes, table, 10.0)
    opened = read_volume_set(tmp_path / "s.star")
    assert [has_angles(opened, rows) for rows in ([0], [1, 2])] == [True, False]
    (first, _) = read_particles(opened, [1, 2])
    assert first.rotation.magnitude() == 0
    with pytest.raises(UserError, match="row 2 has no angles"):
        read_particles(opened, [0, 1])
