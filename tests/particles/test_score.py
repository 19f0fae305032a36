"""Scoring: a planted particle is found in place, pose and class, inside the wedge."""

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import ndimage
from scipy.spatial import cKDTree
from scipy.spatial.transform import Rotation

from cryoetgan.io.exclusion import ExclusionMask
from cryoetgan.io.mrc import Volume, write_volume
from cryoetgan.io.star import ANGLES, COORDINATES, read_star, write_star
from cryoetgan.particles.curation.select import SelectOptions, select
from cryoetgan.particles.matching.align import (
    LEAST_ROTATIONS,
    REFINED_ORIENTATIONS,
    Aligner,
    choose_apart,
    needed_rotations,
)
from cryoetgan.particles.matching.decoys import (
    MAX_SIZE_LIKENESS,
    SIZES,
    make_decoys,
    map_likeness,
    rescale,
)
from cryoetgan.particles.matching.score import (
    contrast_warning,
    discount_dense,
    score_picks,
    whiten,
)
from cryoetgan.particles.matching.template import (
    SearchOptions,
    Template,
    band_vectors,
    search_band,
    shift_back,
)
from cryoetgan.physics.geometry import (
    angle_between,
    centre_distance,
    mirror,
    random_rotations,
    rotate_volume,
    rotation_from_relion,
    super_fibonacci,
)
from cryoetgan.physics.optics import missing_wedge
from tests.conftest import refused

BOX = 24


@pytest.fixture(scope="module")
def density():
    rng = np.random.default_rng(1)
    z, y, x = np.indices((BOX,) * 3) - BOX // 2
    blobs = rng.normal(0, 3.0, (6, 3))
    return sum(
        np.exp(-((x - a) ** 2 + (y - b) ** 2 + (z - c) ** 2) / 5.0) for a, b, c in blobs
    ).astype(np.float32)


@pytest.fixture(scope="module")
def helix():
    """A map with one hand: one and a half turns to the right."""
    z, y, x = np.indices((BOX,) * 3) - BOX // 2
    turns = np.linspace(0, 1.5 * np.pi, 9)
    return sum(
        np.exp(
            -((x - 5 * np.cos(t)) ** 2 + (y - 5 * np.sin(t)) ** 2 + (z - 3 * (t - 2.3)) ** 2) / 5
        )
        for t in turns
    ).astype(np.float32)


def band_up_to(frequency):
    options = SearchOptions(lowpass=10 / frequency, highpass_shells=1)
    return search_band(BOX, 10.0, options, torch.device("cpu"))


@pytest.fixture(scope="module")
def band():
    return band_up_to(0.35)


def seen(volume):
    mask = missing_wedge(volume.shape, (-60, 60))
    return np.fft.irfftn(np.fft.rfftn(volume) * mask, s=volume.shape, axes=(0, 1, 2))


def test_a_rotated_template_in_fourier_space_is_the_rotated_map(density, band, rng):
    template = Template(density, band)
    rotations = random_rotations(6, rng)
    turned = template.rotate(rotations.as_matrix())
    for rotation, vector in zip(rotations, turned, strict=True):
        real = torch.as_tensor(rotate_volume(density, rotation))[None].float()
        expected = band_vectors(real, band)[0]
        assert float(vector @ expected) > 0.995


@pytest.mark.parametrize("high", [0.3, 0.5])
def test_derivatives_equal_finite_differences(density, rng, high):

    band = band_up_to(high)
    template, rotations = Template(density, band), random_rotations(4, rng)
    values, by_turn = template.rotate_with_derivatives(rotations.as_matrix())
    assert torch.allclose(values, template.rotate(rotations.as_matrix()), atol=1e-5)
    step = np.radians(1.5)
    for axis in range(3):
        small = Rotation.from_rotvec(step * np.eye(3)[axis])
        moved = small * rotations, small.inv() * rotations
        ahead, behind = (template.rotate(turns.as_matrix()) for turns in moved)
        change = (ahead - behind) / (2 * step)
        error = (change - by_turn[:, axis]).norm(dim=1) / change.norm(dim=1)
        assert (error < 0.15).all()


def test_shifting_back_undoes_a_shift(density, band):
    shift = np.array([2.0, -1.5, 0.7])

    moved = rotate_volume(density, Rotation.identity(), shift)
    still = band_vectors(torch.as_tensor(density)[None], band)
    back = shift_back(
        band_vectors(torch.as_tensor(moved)[None].float(), band),
        torch.tensor(shift[None], dtype=torch.float32),
        band,
    )[0]
    assert float((back @ still.T)[0, 0]) > 0.99


def test_a_planted_pose_is_found(density, band, rng):
    aligner = Aligner(Template(density, band), 1100)
    rotations = random_rotations(8, rng)
    shifts = rng.uniform(-2.5, 2.5, (8, 3))
    boxes = []
    for rotation, shift in zip(rotations, shifts, strict=True):
        clean = seen(rotate_volume(density, rotation, shift))
        boxes.append(clean + clean.std() * rng.standard_normal(clean.shape))
    fit = aligner.align(torch.as_tensor(np.array(boxes)).float())
    assert np.median(angle_between(rotations, fit.rotations)) < 4
    assert np.median(np.linalg.norm(fit.shifts - shifts, axis=1)) < 0.4
    assert (fit.scores > 0.3).all()
    noise = aligner.align(torch.as_tensor(rng.standard_normal((8, BOX, BOX, BOX))).float())
    assert noise.scores.max() < fit.scores.min()
    assert (np.abs(noise.scores) <= 1).all()


def test_refined_orientations_lie_apart_and_the_best_is_one(rng):
    quaternions = Rotation.random(300, rng=rng).as_quat()
    near = Rotation.from_rotvec(rng.normal(0, 0.01, (50, 3))) * Rotation.from_quat(quaternions[0])
    quaternions = np.concatenate([quaternions[:1], near.as_quat(), quaternions[1:]])
    chosen = choose_apart(quaternions, 20)
    assert chosen[0] == 0
    assert len(chosen) == REFINED_ORIENTATIONS
    turns = Rotation.from_quat(quaternions[chosen])
    apart = [(turns[i].inv() * turns[:i]).magnitude().min() for i in range(1, len(chosen))]
    assert np.degrees(min(apart)) >= 20
    # where too few lie apart, the best others are refined
    assert choose_apart(near.as_quat(), 20) == list(range(REFINED_ORIENTATIONS))


def test_orientations_to_search_grow_with_the_cube_of_the_diameter(band):
    def ball(radius):
        return np.exp(-0.5 * (centre_distance(64) / radius) ** 2)

    small, large, larger = (needed_rotations(ball(radius), band) for radius in (2, 5, 6))
    assert small == LEAST_ROTATIONS < large
    assert larger / large == pytest.approx((6 / 5) ** 3, rel=0.02)


@pytest.mark.slow
def test_large_particles_are_found_at_the_noise_of_a_cell():
    """As large as ribosomes at 10 angstrom; 128 directions and 1,856 orientations find 13."""
    numbers, size, radius = np.random.default_rng(0), 40, 13
    body = ndimage.gaussian_filter(numbers.standard_normal((size,) * 3), 1.2)
    body = np.clip(body, 0, None) * (centre_distance(size) < radius)
    options = SearchOptions(lowpass=30.0, highpass_shells=3)
    band = search_band(size, 10.0, options, torch.device("cpu"))
    aligner = Aligner(Template(body, band), needed_rotations(body, band))
    rotations = random_rotations(24, numbers)
    clean = np.array([rotate_volume(body, turn, numbers.uniform(-2, 2, 3)) for turn in rotations])
    boxes = clean + 28 * clean.std() * numbers.standard_normal(clean.shape)
    fit = aligner.align(torch.as_tensor(boxes).float())
    assert (angle_between(rotations, fit.rotations) < 10).sum() >= 17


def test_a_perfect_match_scores_one(density, band):
    aligner = Aligner(Template(density, band), 300)
    grid = super_fibonacci(300)
    box = rotate_volume(density, grid[7])
    fit = aligner.align(torch.as_tensor(seen(box))[None].float())
    assert fit.scores[0] > 0.985
    assert fit.scores[0] <= 1 + 1e-5


def test_what_lies_in_the_missing_wedge_does_not_count(density, band, rng):
    mask = missing_wedge((BOX,) * 3, (-60, 60))
    noise = rng.standard_normal((BOX,) * 3)
    hidden = np.fft.irfftn(np.fft.rfftn(noise) * ~mask, s=noise.shape, axes=(0, 1, 2))
    both = [density, density + 5 * hidden]
    first, second = band_vectors(torch.as_tensor(np.array(both)).float(), band)
    assert float(first @ second) > 0.999


def test_the_command_gives_class_place_and_angles(cryoetgan, tmp_path, density, rng):
    other = np.roll(density[::-1] ** 2, 1, 0)
    write_volume(tmp_path / "a.mrc", density, 10.0)
    write_volume(tmp_path / "b.mrc", other, 10.0)
    tomogram = 0.05 * rng.standard_normal((48, 60, 72))
    rows = []
    for number, (name, map_, at) in enumerate(
        [("a", density, (20, 24, 30)), ("b", other, (28, 36, 48)), ("a", density, (22, 40, 16))]
    ):
        rotation = random_rotations(1, rng)[0]
        start = np.array(at) - BOX // 2
        window = tuple(slice(s, s + BOX) for s in start)
        tomogram[window] += seen(rotate_volume(map_, rotation))
        rows.append((name, rotation, at[::-1], number))
    write_volume(tmp_path / "t.mrc", tomogram, 10.0)
    picks = pd.DataFrame(
        [np.add(at, (1.0, -1.0, 0.5)) for _, _, at, _ in rows], columns=COORDINATES
    )
    picks["rlnTomoName"], picks["cryoetganId"] = "t", ["p1", "p2", "p3"]
    write_star(tmp_path / "p.star", picks)
    words = ("particles", "score", "t.mrc", "p.star", "--template", "a.mrc", "--template", "b.mrc")
    more = ("--tilts=-60,60", "--rotations", 1100, "--highpass-shells", 1, "-o", "c.star")
    assert "outside" not in cryoetgan(*words, *more).stderr
    table = read_star(tmp_path / "c.star").particles
    assert len(table) == 6
    best = (
        table.sort_values("cryoetganScore").groupby("cryoetganId").tail(1).set_index("cryoetganId")
    )
    for (name, rotation, at, _), key in zip(rows, ["p1", "p2", "p3"], strict=True):
        row = best.loc[key]
        assert row["cryoetganClass"] == name
        assert np.allclose(row[COORDINATES].to_numpy(float), at, atol=0.4)
        assert angle_between(rotation, rotation_from_relion(row[ANGLES].to_numpy(float))) < 12


def test_picks_outside_and_other_voxel_sizes_are_named(cryoetgan, tmp_path, density, rng):
    write_volume(tmp_path / "t.mrc", rng.standard_normal((32, 32, 32)), 10.0)
    write_volume(tmp_path / "a.mrc", density, 10.0)
    write_volume(tmp_path / "wrong.mrc", density, 12.0)
    picks = pd.DataFrame([(16.0, 16, 16), (160, 160, 160)], columns=COORDINATES)  # one in angstrom
    picks["rlnTomoName"], picks["cryoetganId"] = "t", ["p1", "p2"]
    write_star(tmp_path / "p.star", picks)
    words = ("particles", "score", "t.mrc", "p.star", "--template")
    options = ("--tilts=-60,60", "--rotations", 8)
    assert "1 of 2 picks" in cryoetgan(*words, "a.mrc", *options, "-o", "c.star").stderr
    done = cryoetgan(*words, "wrong.mrc", *options, "-o", "x.star", code=2)
    refused(done, "12.000", "10.000")
    refused(cryoetgan(*words, "a.mrc", "--tilts=60,-60", "-o", "x.star", code=2), "--tilts")


STRUCTURES = {
    "hsp90_2cg9": "hsp90_2cg9.pdb.gz", "T20S_1pma": "T20S_1pma.pdb.gz",
    "rubisco_1bxn": "rubisco_1bxn.pdb.gz", "apoferritin_6z6u": "apoferritin_6z6u.pdb.gz",
    "hemagglutinin_4o5n": "hemagglutinin_4o5n.pdb.gz",
    "insulinreceptor_4zxb": "insulinreceptor_4zxb.cif.gz", "p97hexamer_3cf3": "p97_3cf3.pdb.gz",
}  # fmt: skip


@pytest.mark.parametrize("classes", [2, pytest.param(7, marks=pytest.mark.slow)])
def test_classes_and_poses_on_an_independent_tomogram(test_data, cryoetgan, tmp_path, classes):
    """Classes, areas under the curve and poses of the first templates, against the truth."""
    structures = dict(list(STRUCTURES.items())[:classes])
    templates = []
    for name, file in structures.items():
        cryoetgan(
            "densities", "simulate", test_data / "structures" / file, "--voxel-size", 10,
            "--resolution", 30, "--box", 28, "-o", f"{name}.mrc",
        )  # fmt: skip
        templates += ["--template", f"{name}.mrc"]
    source = test_data / "tomograms" / "dev_set2_1.mrc"
    cryoetgan(
        "tomograms", "import", source, "--tilts=-60,60,3", "--defocus", 3.5, "--ctf",
        "phase-flipped", "-o", "dev_set2_1.mrc",
    )  # fmt: skip
    truth = test_data / "tomograms" / "dev_set2_1_truth.csv"
    cryoetgan("particles", "import", truth, "--tomogram", "dev_set2_1.mrc", "-o", "truth.star")
    cryoetgan("particles", "pick", "dev_set2_1.mrc", "--sigma", 40, "--top", 462, "-o", "all.star")
    picks = read_star(tmp_path / "all.star").particles
    # half of the tomogram, in half of the time
    write_star(tmp_path / "p.star", picks[picks["rlnCoordinateX"] < 140])
    cryoetgan(
        "particles", "score", "dev_set2_1.mrc", "p.star", *templates, "--tilts=-60,60",
        "-o", "c.star",
    )  # fmt: skip

    known = read_star(tmp_path / "truth.star").particles
    known = known[known["rlnCoordinateX"] < 135]
    every = read_star(tmp_path / "c.star").particles
    # each class named alone: the other six are unnamed species, and must not be taken for it
    purities = []
    for name, rows in every.groupby("cryoetganClass"):
        options = SelectOptions(top=462, box=28, test_fraction=0.0)
        chosen = select(rows.reset_index(drop=True), options)
        own = known[known["cryoetganClass"] == name]
        places, true = (table[COORDINATES].to_numpy(float) for table in (chosen, own))
        purities.append((cKDTree(true).query(places)[0] < 5).mean())
        found = (cKDTree(places).query(true)[0] < 5).mean()
        assert found >= (0.2 if name == "insulinreceptor_4zxb" else 0.85), name
    # 30 particles a class: a rate of 5 % is 1.5 +- 1.5 wrong ones
    assert min(purities) > 0.8
    assert np.mean(purities) > 0.93
    best = every.sort_values("cryoetganScore")
    best = best.groupby("cryoetganId").tail(1)
    distance, index = cKDTree(known[COORDINATES].to_numpy(float)).query(
        best[COORDINATES].to_numpy(float)
    )
    true_class = np.where(distance < 8, known["cryoetganClass"].to_numpy()[index], "")
    named = np.isin(true_class, list(structures))
    right = true_class == best["cryoetganClass"].to_numpy()
    assert right[named].mean() >= 0.9
    # one class's score alone ranks its particles before all other picks; AITom's area is 0.93
    is_class = dict(zip(best["cryoetganId"], true_class, strict=True))
    for name, rows in every.groupby("cryoetganClass"):
        mine = (rows["cryoetganId"].map(is_class) == name).to_numpy()
        values = rows["cryoetganScore"].to_numpy(float)
        ahead = (values[mine][:, None] > values[~mine][None]).mean()
        assert ahead > 0.93, name
    hsp = (best["cryoetganClass"] == "hsp90_2cg9").to_numpy() & right
    ours = rotation_from_relion(best[ANGLES].to_numpy(float)[hsp])
    true = rotation_from_relion(known[ANGLES].to_numpy(float)[index[hsp]])
    half = half_turn(test_data / "structures" / structures["hsp90_2cg9"])
    errors = np.minimum(angle_between(ours, true), angle_between(ours, true * half))
    assert np.median(errors) < 5
    assert (errors < 10).mean() > 0.9


def half_turn(path):
    """The rotation that lays a dimer's first chain on its second, about the dimer's centre."""
    import gemmi

    first, second = (chain.get_polymer() for chain in list(gemmi.read_structure(str(path))[0])[:2])
    kind, atoms = gemmi.PolymerType.PeptideL, gemmi.SupSelect.CaP
    found = gemmi.calculate_superposition(second, first, kind, atoms)
    turn = Rotation.from_matrix(found.transform.mat.tolist())
    assert turn.magnitude() > np.radians(170)
    return turn


def test_a_chiral_map_has_its_mirror_image_as_decoy(helix, band):
    aligner = Aligner(Template(helix, band), 400)
    assert list(make_decoys(helix, aligner)) == ["mirror"]


def test_a_map_that_equals_its_mirror_image_has_copies_of_other_sizes(helix, band):
    symmetric = helix + mirror(helix)
    aligner = Aligner(Template(symmetric, band), 1856)
    assert map_likeness(mirror(symmetric), aligner) > 0.99
    copies = make_decoys(symmetric, aligner)
    masses = [copy.sum() / symmetric.sum() for copy in copies.values()]
    # the larger copy leaves its box
    assert masses == pytest.approx([float(size) ** 3 for size in copies], rel=0.05)
    check_size(symmetric, aligner, min(map(float, copies)))


def check_size(density, aligner, factor):
    """Assert that the copies of `factor` differ enough from the map, and those of more do not."""
    worst = {
        size: max(map_likeness(rescale(density, s), aligner) for s in (size, 1 / size))
        for size in SIZES
        if size >= factor
    }
    assert {size: like <= MAX_SIZE_LIKENESS for size, like in worst.items()} == {
        size: size == factor for size in worst
    }


def test_copies_of_a_sheet_differ_more_in_size(band):
    """A copy of a sheet differs in thickness alone, so at 0.85 it is taken for the sheet."""
    z = np.arange(BOX) - BOX // 2
    leaflets = np.exp(-((abs(z) - 1.5) ** 2) / 2.0)
    sheet = np.broadcast_to(leaflets[:, None, None], (BOX,) * 3).astype(np.float32)
    sheet = sheet * (centre_distance(BOX) < 0.45 * BOX)
    aligner = Aligner(Template(sheet, band), 400)
    factor = min(map(float, make_decoys(sheet, aligner)))
    assert factor < 0.85
    check_size(sheet, aligner, factor)


def test_a_map_like_all_its_copies_is_named(band, caplog):
    ball = np.exp(-(centre_distance(BOX) ** 2) / 8).astype(np.float32)
    aligner = Aligner(Template(ball, band), 100)
    assert list(make_decoys(ball, aligner)) == ["0.60", "1.67"]
    assert "0.60 and 1.67 times the size" in caplog.text


@pytest.mark.parametrize("size", [BOX, BOX + 1])
def test_mirroring_keeps_the_centre_and_twice_is_the_map(density, size):
    cube = np.zeros((size,) * 3, np.float32)
    cube[1:BOX, 1:BOX, 1:BOX] = density[1:, 1:, 1:]
    assert np.array_equal(mirror(mirror(cube)), cube)
    spot = np.zeros((size,) * 3, np.float32)
    spot[size // 2, size // 2, size // 2 + 2] = 1
    assert mirror(spot)[size // 2, size // 2, size // 2 - 2] == 1


def test_particles_prefer_their_hand_and_noise_has_none(helix, rng):
    """Planted particles beat the decoy; boxes of noise do so in half of the cases."""
    options = SearchOptions(lowpass=30.0, highpass_shells=1, rotations=400)
    volume = rng.normal(0, 0.6, (48, 160, 160)).astype(np.float32)
    grid = np.array([(x, y) for x in range(20, 160, 40) for y in range(20, 160, 40)], float)
    places = np.column_stack([grid, np.full(len(grid), 24.0)])
    for place, rotation in zip(places, random_rotations(len(places), rng), strict=True):
        x, y, z = (int(v) - BOX // 2 for v in place)
        volume[z : z + BOX, y : y + BOX, x : x + BOX] += rotate_volume(helix, rotation)
    tomogram = Volume(seen(volume).astype(np.float32), 10.0)
    fits = score_picks(tomogram, places, {"a": helix}, options)["a"]
    assert (fits.scores > fits.decoy_scores).mean() > 0.9
    noise = Volume(seen(rng.normal(0, 1, (48, 200, 200))).astype(np.float32), 10.0)
    empty = rng.uniform([20, 20, 20], [180, 180, 28], (80, 3))
    fits = score_picks(noise, empty, {"a": helix}, options)["a"]
    assert 0.3 < (fits.scores > fits.decoy_scores).mean() < 0.7


def test_the_best_picks_tell_a_wrong_contrast_and_noise_tells_none(density, rng):
    options = SearchOptions(lowpass=40.0, highpass_shells=1, rotations=150)
    volume = rng.normal(0, 0.5, (32, 120, 160)).astype(np.float32)
    places = np.array([(x, y, 16.0) for x in range(16, 150, 28) for y in range(16, 110, 24)])
    for index, (x, y, z) in enumerate(places.astype(int) - BOX // 2):
        if index % 2:  # half of the picks are false
            volume[z : z + BOX, y : y + BOX, x : x + BOX] += density
    for sign, wrong in ((1, False), (-1, True)):
        found = score_picks(Volume(sign * volume, 10.0), places, {"a": density}, options, None)
        warning = contrast_warning(found)
        assert (warning is not None) == wrong
        assert not wrong or "tomograms import --contrast" in warning
        assert not wrong or "import-subtomograms --contrast" in contrast_warning(found, True)
    noise = Volume(rng.normal(0, 1, volume.shape).astype(np.float32), 10.0)
    assert contrast_warning(score_picks(noise, places, {"a": density}, options, None)) is None


def test_what_is_not_there_does_not_rank(density, rng):
    """A particle cut by a face or by padding scores lower than the whole one, never higher."""
    options = SearchOptions(lowpass=30.0, highpass_shells=1, rotations=400)
    volume = rng.normal(0, 0.5, (40, 60, 160)).astype(np.float32)
    whole, half = (16.0, 30.0, 20.0), (100.0, 30.0, 20.0)
    for place in (whole, half):
        x, y, z = (int(v) - BOX // 2 for v in place)
        volume[z : z + BOX, y : y + BOX, x : x + BOX] += density
    volume[:, :, 102:] = 7.0  # padding
    tomogram = Volume(volume, 10.0)
    nothing = (140.0, 30.0, 20.0)
    places = np.array([whole, half, nothing])
    fits = score_picks(tomogram, places, {"a": density}, options)["a"]
    assert fits.scores[0] > fits.scores[1] > 0
    assert fits.scores[2] == fits.decoy_scores[2] == 0


def test_gold_does_not_outrank_particles(helix, rng):
    """A bead of fifty times the grey value of particles scores below every particle."""
    options = SearchOptions(lowpass=30.0, highpass_shells=1, rotations=400)
    volume = rng.normal(0, 0.5, (48, 160, 160)).astype(np.float32)
    places = np.array([(x, y, 24.0) for x in range(20, 160, 40) for y in range(20, 160, 40)])
    turns = random_rotations(len(places), rng)
    bead = 50 * (np.sum((np.indices((BOX,) * 3) - BOX // 2) ** 2, axis=0) < 16)
    for index, (place, rotation) in enumerate(zip(places, turns, strict=True)):
        x, y, z = (int(v) - BOX // 2 for v in place)
        body = bead if index < 1 else rotate_volume(helix, rotation)
        volume[z : z + BOX, y : y + BOX, x : x + BOX] += body
    tomogram = Volume(seen(volume).astype(np.float32), 10.0)
    fits = score_picks(tomogram, places, {"a": helix}, options)["a"]
    assert fits.scores[0] < 0.5 * fits.scores[1:].min()


def test_only_far_denser_picks_are_discounted(rng):
    scores, greys = rng.random(40), rng.uniform(0.5, 1.5, 40)
    assert (discount_dense(scores, greys) == 1).all()
    lowest = int(scores.argmin())
    greys[lowest] = 40.0
    factors = discount_dense(scores, greys)
    assert factors[lowest] == pytest.approx(0.1, rel=0.3)
    assert (np.delete(factors, lowest) == 1).all()
    assert (discount_dense(scores, -greys) == 1).all()


@pytest.mark.parametrize(("colour", "raw", "left"), [(4, 6, 2), (1000, 100, 2)])
def test_whitening_divides_each_shell_by_its_amplitude(rng, colour, raw, left):
    """Shells become equal, but shells that a denoiser emptied are not amplified without limit."""
    options = SearchOptions(lowpass=25.0, highpass_shells=1)
    white = rng.normal(0, 1, (64, 64, 64))
    volume = (white + colour * ndimage.gaussian_filter(white, 1.5)).astype(np.float32)
    plain = search_band(16, 10.0, options, torch.device("cpu"))
    band = whiten(plain, volume, ExclusionMask(volume))
    shells = (plain.points.norm(dim=1).numpy() * 16).round().astype(int)
    spectrum = np.fft.rfftn(volume[1:17, 3:19, 20:36]).ravel()[plain.index.numpy()]
    ratio = (band.weights / plain.weights).numpy()

    def spread(values):
        power = [np.mean(np.abs(values)[shells == k] ** 2) for k in range(1, 6)]
        return max(power) / min(power)

    assert spread(spectrum) > raw
    assert spread(spectrum * ratio) < spread(spectrum) / left
    assert spread(ratio) < 11.01  # (1 + 0.1) / 0.1
