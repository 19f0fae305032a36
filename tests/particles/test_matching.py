"""Template matching: the low-rank search equals correlating box by box; planted ones are found."""

import numpy as np
import pytest
import torch
from scipy import ndimage
from scipy.spatial import cKDTree

from cryoetgan.io.mrc import Volume, write_volume
from cryoetgan.io.star import ANGLES, COORDINATES, read_star
from cryoetgan.particles.extraction import extract_box
from cryoetgan.particles.matching.align import grid_spacing
from cryoetgan.particles.matching.low_rank import leading_directions, make_bank
from cryoetgan.particles.matching.match import MatchOptions, match
from cryoetgan.particles.matching.search import class_products, search
from cryoetgan.particles.matching.template import (
    SearchOptions,
    band_vectors,
    search_band,
)
from cryoetgan.physics.acquisition import Acquisition
from cryoetgan.physics.geometry import (
    angle_between,
    random_rotations,
    rotate_volume,
    rotation_from_relion,
    super_fibonacci,
)
from cryoetgan.physics.optics import missing_wedge
from tests.conftest import refused

BOX, SHELLS, LOWPASS = 20, 2, 30.0
TILTS = (-60.0, 60.0)
RECORD = Acquisition(tilt_low=TILTS[0], tilt_high=TILTS[1])
OPTIONS = SearchOptions(acquisition=RECORD, lowpass=LOWPASS, highpass_shells=SHELLS)
PLACES = np.array([(20, 17, 23), (60, 20, 19), (24, 52, 22), (58, 56, 25), (40, 36, 20)])
"""x, y, z."""


@pytest.fixture(scope="module")
def maps():
    rng = np.random.default_rng(3)
    made = {}
    for name, count in (("a", 5), ("b", 9)):
        z, y, x = np.indices((BOX,) * 3) - BOX // 2
        blobs = rng.uniform(-4, 4, (count, 3))
        made[name] = sum(
            np.exp(-((x - i) ** 2 + (y - j) ** 2 + (z - k) ** 2) / 4.0) for i, j, k in blobs
        ).astype(np.float32)
    return made


@pytest.fixture(scope="module")
def scene(maps):
    """A tomogram `(z, y, x)` seen through the wedge, the classes and rotations planted in it."""
    rng = np.random.default_rng(5)
    names = ["a", "b", "a", "b", "a"]
    turns = random_rotations(len(names), rng)
    volume = np.zeros((44, 72, 80))
    for name, turn, place in zip(names, turns, PLACES, strict=True):
        low = place[::-1] - BOX // 2
        volume[tuple(slice(a, a + BOX) for a in low)] += rotate_volume(maps[name], turn)
    volume += 0.3 * volume.std() * rng.standard_normal(volume.shape)
    seen = np.fft.rfftn(volume) * missing_wedge(volume.shape, TILTS)
    return np.fft.irfftn(seen, s=volume.shape, axes=(0, 1, 2)).astype(np.float32), names, turns


@pytest.fixture(scope="module")
def bank(maps):
    band = search_band(BOX, 10.0, OPTIONS, torch.device("cpu"))
    return make_bank(maps, band, 600)


@pytest.fixture(scope="module")
def found(bank, scene):
    return search_peaks(bank, scene[0])


def search_peaks(bank, volume, core=None):
    return search(volume, bank, 10 / LOWPASS, OPTIONS, core=core)


def test_the_search_equals_correlating_each_box(bank, scene, found):
    """The reference: every box cut out and multiplied with every turned template, no low rank."""
    best = np.argsort(-found.scores)[:12]
    boxes = np.array([extract_box(scene[0], place, BOX) for place in found.positions[best]])
    tensor = torch.as_tensor(boxes)
    vectors = band_vectors(tensor, bank.templates[0].band)
    matrices = bank.rotations.as_matrix()
    exact = torch.stack([(vectors @ t.rotate(matrices).T).amax(1) for t in bank.templates])
    norm = torch.linalg.vector_norm(raw_band(tensor, bank.templates[0].band), dim=1)
    products = class_products(bank, found.components[best])
    # the kernels hold 0.997 of the bank's energy
    assert np.allclose(products.T.numpy(), (exact * norm).numpy(), rtol=0.02)
    # the search normalises by the energy of the filtered tomogram in the box, which is not quite
    # that of the filtered box: nearly a common factor, and what is found is aligned exactly
    ratio = found.scores[best] / exact.amax(0).numpy()
    assert 0.9 < ratio.mean() < 1.05
    assert ratio.std() < 0.03


def raw_band(boxes, band):
    """The band of boxes `(N, 2 P)`, not normalised."""
    spectrum = torch.fft.rfftn(torch.fft.ifftshift(boxes, dim=(1, 2, 3)), dim=(1, 2, 3))
    flat = spectrum.flatten(1)[:, band.index] * band.weights
    return torch.cat([flat.real, flat.imag], dim=1)


def test_tiles_leave_no_trace(bank, scene, found):
    parts = search_peaks(bank, scene[0], core=40)
    for place in PLACES:
        scores = []
        for matches in (found, parts):
            distance, index = cKDTree(matches.positions).query(place)
            assert distance < 2
            scores.append(matches.scores[index])
        # the grids of points differ by a fraction of a voxel
        assert scores[0] == pytest.approx(scores[1], abs=0.05)


def test_kernels_hold_the_banks_energy(bank):
    assert float((bank.coarse**2).sum(-1).mean()) > 0.99
    fine = bank.templates[1].rotate(bank.rotations.as_matrix())
    norms = bank.fine[1].norm(dim=1)
    assert float((norms**2).mean()) > 0.99 * float((fine**2).sum(1).mean())
    assert float(norms.max()) < 1 + 1e-4


def test_leading_directions_are_those_of_the_decomposition(rng):
    vectors = torch.as_tensor(
        rng.standard_normal((60, 5)) @ rng.standard_normal((5, 40))
        + 1e-3 * rng.standard_normal((60, 40))
    ).float()
    found = leading_directions(vectors, 5)
    exact = torch.linalg.svd(vectors)[2][: found.shape[1]].T
    overlap = torch.linalg.svdvals(found.T @ exact)
    assert overlap.numpy() == pytest.approx(np.ones(found.shape[1]), abs=1e-3)
    assert (found.T @ found).numpy() == pytest.approx(np.eye(found.shape[1]), abs=1e-4)


def test_planted_particles_are_found_named_and_turned(maps, scene):
    volume, names, turns = scene
    options = MatchOptions(
        acquisition=RECORD,
        lowpass=LOWPASS,
        rotations=900,
        highpass_shells=SHELLS,
        score_threshold_sd=3.0,
        min_distance=80.0,
        top=5,
        device="cpu",
    )
    found = match(Volume(volume, 10.0), maps, options)
    distance, index = cKDTree(found.positions).query(PLACES)
    assert distance.max() < 0.5
    assert sorted(index) == [0, 1, 2, 3, 4]
    assert list(found.classes[index]) == names
    errors = angle_between(turns, rotation_from_relion(found.angles[index]))
    assert np.median(errors) < 3
    assert errors.max() < 10
    assert (np.diff(found.scores) <= 0).all()


def test_noise_scores_below_particles(scene, bank, found, rng):
    noise = ndimage.gaussian_filter(rng.standard_normal(scene[0].shape), 1).astype(np.float32)
    planted = np.sort(found.scores)[-5:]
    assert search_peaks(bank, noise).scores.max() < 0.8 * planted.min()


TEMPLATES = ("--template", "a.mrc", "--template", "b.mrc", "--tilts=-60,60")
SEARCH = ("--rotations", 600, "--highpass-shells", SHELLS, "--top", 5)


@pytest.fixture
def files(tmp_path, maps, scene):
    write_volume(tmp_path / "t.mrc", scene[0], 10.0)
    for name, density in maps.items():
        write_volume(tmp_path / f"{name}.mrc", density, 10.0)
    return tmp_path


def test_the_command(cryoetgan, files, scene):
    _, names, turns = scene
    cryoetgan("particles", "match", "t.mrc", *TEMPLATES, *SEARCH, "-o", "p.star")
    table = read_star(files / "p.star").particles
    assert len(table) == 5
    assert table["cryoetganScore"].is_monotonic_decreasing
    distance, index = cKDTree(table[COORDINATES].to_numpy(float)).query(PLACES)
    assert distance.max() < 0.5
    assert list(table["cryoetganClass"].iloc[index]) == names
    angles = rotation_from_relion(table[ANGLES].to_numpy(float)[index])
    assert np.median(angle_between(turns, angles)) < 3
    assert set(table["rlnTomoName"]) == {"t"}
    assert table["cryoetganId"].is_unique


def test_no_particle_lies_in_the_mask(cryoetgan, files, scene):
    mask = np.zeros(scene[0].shape, np.int8)
    mask[tuple(slice(v - 4, v + 5) for v in PLACES[0][::-1])] = 1
    write_volume(files / "m.mrc", mask, 10.0)
    options = (*TEMPLATES, *SEARCH, "--mask", "m.mrc")
    cryoetgan("particles", "match", "t.mrc", *options, "-o", "p.star")
    masked = read_star(files / "p.star").particles[COORDINATES].to_numpy(float)
    z, y, x = np.rint(masked[:, ::-1]).astype(int).T
    assert not mask[z, y, x].any()
    distance, _ = cKDTree(masked).query(PLACES)
    assert distance[0] > 4
    assert distance[1:].max() < 0.5


def test_refusals(cryoetgan, files, scene):
    write_volume(files / "thin.mrc", scene[0][:12], 10.0)
    done = cryoetgan("particles", "match", "thin.mrc", *TEMPLATES, "-o", "x.star", code=2)
    refused(done, "thin.mrc", "12", "20", "--box")
    options = (*TEMPLATES, "--ctf", "flipped")
    done = cryoetgan("particles", "match", "t.mrc", *options, "-o", "x.star", code=2)
    refused(done, "flipped", "phase-flipped")
    assert not (files / "x.star").exists()


def test_grids_of_rotations_nest_in_spacing():
    """The search's coarse grid lies within its stated spacing of any rotation."""
    turns = random_rotations(200, np.random.default_rng(1))
    grid = super_fibonacci(550)
    nearest = [angle_between(turn, grid).min() for turn in turns]
    assert max(nearest) < grid_spacing(550)
