"""The hand test: its share counts right picks; a wrong hand and a map without one are named."""

import numpy as np
import pandas as pd
import pytest

from cryoetgan.evaluation.hand import best_ranks, hand_record, judge_hands
from cryoetgan.io.files import read_json
from cryoetgan.io.mrc import write_volume
from cryoetgan.io.star import COORDINATES, read_star, write_star
from cryoetgan.physics.geometry import mirror, random_rotations, rotate_volume
from tests.conftest import refused

BOX, VOXEL = 24, 10.0
WORDS = ("--tilts=-60,60", "--rotations", 400, "--highpass-shells", 1)


def particles(count, wrong, rng):
    """Scores of particles, that prefer their map, and of picks of nothing."""
    low = rng.normal(0.1, 0.02, (wrong, 2))
    high = np.column_stack([rng.normal(0.4, 0.05, count), rng.normal(0.15, 0.02, count)])
    return np.concatenate([high, low])


def table(pairs, name="a"):
    columns = ["cryoetganScore", "cryoetganDecoyScore"]
    return pd.DataFrame(pairs, columns=columns).assign(cryoetganClass=name)


@pytest.mark.parametrize("share", [0.0, 0.3, 0.8, 1.0])
def test_the_precision_is_the_share_of_right_picks(rng, share):
    pairs = particles(round(4000 * share), round(4000 * (1 - share)), rng)
    found = hand_record(*pairs.T)
    assert found["n"] == 4000
    assert found["share"] == pytest.approx((1 + share) / 2, abs=0.03)
    assert found["precision"] == pytest.approx(share, abs=0.06)
    low, high = found["precision_interval"]
    assert low <= found["precision"] <= high
    assert not found["is_wrong_hand"]


def test_both_hands_count_alike(rng):
    pairs = particles(100, 300, rng)
    own, other = hand_record(*pairs.T), hand_record(*pairs.T[::-1])
    assert own["share"] == pytest.approx(1 - other["share"])
    assert (own["is_wrong_hand"], other["is_wrong_hand"]) == (False, True)
    assert np.array_equal(best_ranks(*pairs.T, 0.05), best_ranks(*pairs.T[::-1], 0.05))


def test_picks_of_nothing_rarely_raise_the_alarm(rng):
    alarms = [hand_record(*particles(0, 200, rng).T)["is_wrong_hand"] for _ in range(300)]
    assert np.mean(alarms) < 0.01


def test_equal_scores_count_half():
    assert hand_record(np.zeros(10), np.zeros(10))["share"] == 0.5


def test_the_best_ranks_are_the_particles_and_of_nothing_all(rng):
    pairs = particles(100, 300, rng)
    chosen = best_ranks(*pairs.T, 0.05)
    assert chosen[:100].mean() > 0.95
    assert chosen[100:].mean() < 0.1
    noise = particles(0, 200, rng)
    shares = []
    for _ in range(100):
        noise = particles(0, 100, rng)
        shares.append(hand_record(*noise[best_ranks(*noise.T, 0.05)].T)["share"])
    # the choice of ranks favours no hand
    assert np.mean(shares) == pytest.approx(0.5, abs=0.02)


def test_the_warning_names_the_tomogram_or_the_map(rng):
    pairs = particles(100, 50, rng)
    likeness = {"a": 0.5, "b": 0.6}
    right = table(pairs, "a")
    both = judge_hands(pd.concat([right, table(pairs, "b")]), likeness, None)
    assert both["warning"] is None
    assert both["all"]["n"] == 300
    wrong = judge_hands(
        pd.concat([table(pairs[:, ::-1], name) for name in likeness]), likeness, None
    )
    assert "flip" in wrong["warning"]
    assert "other particles" not in wrong["warning"]
    # a slight preference may come from other particles
    mixed = np.concatenate([pairs[:, ::-1], pairs[:50]])
    weak = judge_hands(pd.concat([table(mixed, name) for name in likeness]), likeness, None)
    assert "other particles" in weak["warning"]
    one = judge_hands(pd.concat([right, table(pairs[:, ::-1], "b")]), likeness, None)
    assert one["warning"] is None
    assert one["classes"]["a"]["warning"] is None
    assert "mirror the map" in one["classes"]["b"]["warning"]


def test_a_map_without_a_hand_is_not_judged(rng):
    found = judge_hands(table(particles(100, 0, rng)), {"a": 0.99}, None)
    record = found["classes"]["a"]
    assert record["precision"] is None
    assert "0.99" in record["warning"]
    assert found["all"]["share"] is None
    assert found["all"]["n"] == 0


@pytest.fixture(scope="module")
def tomogram(tmp_path_factory):
    """A folder with a tomogram of 24 helices, its mirror image, noise, maps, and picks."""
    folder = tmp_path_factory.mktemp("hand")
    rng = np.random.default_rng(3)
    z, y, x = np.indices((BOX,) * 3) - BOX // 2
    turns = np.linspace(0, 1.5 * np.pi, 9)
    helix = sum(
        np.exp(
            -((x - 5 * np.cos(t)) ** 2 + (y - 5 * np.sin(t)) ** 2 + (z - 3 * (t - 2.3)) ** 2) / 5
        )
        for t in turns
    ).astype(np.float32)
    places = np.array([(x, y, 24) for x in range(16, 176, 27) for y in range(16, 124, 27)], float)
    volume = rng.normal(0, 0.6, (48, 120, 170)).astype(np.float32)
    for place, rotation in zip(places, random_rotations(len(places), rng), strict=True):
        x, y, z = (int(v) - BOX // 2 for v in place)
        volume[z : z + BOX, y : y + BOX, x : x + BOX] += rotate_volume(helix, rotation)
    write_volume(folder / "helix.mrc", helix, VOXEL)
    # the same blobs at other places: another structure of equal mass
    other = sum(
        np.exp(-((x - a) ** 2 + (y - b) ** 2 + (z - c) ** 2) / 5)
        for z, y, x in [np.indices((BOX,) * 3) - BOX // 2]
        for a, b, c in rng.normal(0, 3.5, (9, 3))
    ).astype(np.float32)
    write_volume(folder / "other.mrc", other, VOXEL)
    write_volume(folder / "ball.mrc", helix + mirror(helix), VOXEL)
    write_volume(folder / "t.mrc", volume, VOXEL)
    write_volume(folder / "flipped.mrc", np.ascontiguousarray(volume[:, :, ::-1]), VOXEL)
    noise = rng.standard_normal(volume.shape).astype(np.float32)
    write_volume(folder / "noise.mrc", noise, VOXEL)
    picks = pd.DataFrame(places, columns=COORDINATES)
    write_star(folder / "p.star", picks)
    write_star(folder / "flipped.star", picks.assign(rlnCoordinateX=169 - places[:, 0]))
    more = pd.DataFrame(rng.uniform(14, [155, 105, 34], (100, 3)), columns=COORDINATES)
    write_star(folder / "more.star", more)
    return folder


def run(cryoetgan, folder, picks, tomogram, *templates):
    maps = [word for name in templates for word in ("--template", folder / f"{name}.mrc")]
    words = ("evaluation", "hand", picks, "--tomogram", folder / f"{tomogram}.mrc", *maps)
    cryoetgan(*words, *WORDS, "-o", "x.json")


def test_picks_of_any_program_are_judged(cryoetgan, tmp_path, tomogram):
    run(cryoetgan, tomogram, tomogram / "p.star", "t", "helix")
    found = read_json(tmp_path / "x.json")
    assert found["judged"] == "all picks"
    assert found["classes"]["helix"]["share"] > 0.9
    assert found["classes"]["helix"]["mirror_likeness"] < 0.9
    assert found["warning"] is None


def test_controls_that_must_fail_do_fail(cryoetgan, tmp_path, tomogram):
    """A flipped tomogram, white noise, another structure, and a map without a hand."""
    run(cryoetgan, tomogram, tomogram / "flipped.star", "flipped", "helix")
    flipped = read_json(tmp_path / "x.json")
    assert flipped["all"]["share"] < 0.1
    assert flipped["all"]["precision"] == 0
    assert "wrong hand" in flipped["warning"]
    run(cryoetgan, tomogram, tomogram / "more.star", "noise", "helix")
    noise = read_json(tmp_path / "x.json")
    assert noise["all"]["precision_interval"][0] == 0
    assert noise["all"]["precision"] < 0.3
    assert noise["warning"] is None
    run(cryoetgan, tomogram, tomogram / "p.star", "t", "other")
    assert read_json(tmp_path / "x.json")["all"]["precision_interval"][0] < 0.3
    run(cryoetgan, tomogram, tomogram / "p.star", "t", "ball")
    ball = read_json(tmp_path / "x.json")["classes"]["ball"]
    assert ball["precision"] is None
    assert "says nothing" in ball["warning"]


def test_scores_are_judged_without_a_second_search(cryoetgan, tmp_path, tomogram):
    folder = tomogram
    picks = read_star(folder / "p.star").particles.assign(rlnTomoName="t")
    picks["cryoetganId"] = [f"p{i}" for i in range(len(picks))]
    write_star(tmp_path / "t_picks.star", picks)
    words = ("--template", folder / "helix.mrc", *WORDS)
    cryoetgan("particles", "score", folder / "t.mrc", "t_picks.star", *words, "-o", "c.star")
    run(cryoetgan, folder, "c.star", "t", "helix")
    assert read_json(tmp_path / "x.json")["judged"] == "best ranks"
    found = read_json(tmp_path / "x.json")["classes"]["helix"]
    scores = read_star(tmp_path / "c.star").particles
    own = scores["cryoetganScore"] > scores["cryoetganDecoyScore"]
    assert found["share"] == pytest.approx(own.mean(), abs=0.1)
    # selected particles prefer their map by construction, so the test warns of them and gives no precision
    cryoetgan("particles", "select", "c.star", "--box", 1, "--fdr", 1, "-o", "s.star")
    run(cryoetgan, folder, "s.star", "t", "helix")
    selected = read_json(tmp_path / "x.json")
    assert selected["all"]["share"] == 1
    assert selected["all"]["precision"] is None
    assert "by construction" in selected["warning"]


def test_refusals(cryoetgan, tmp_path, tomogram):
    words = ("--tomogram", tomogram / "t.mrc", "--template", tomogram / "helix.mrc", *WORDS)
    picks = read_star(tomogram / "p.star").particles
    write_star(tmp_path / "p.star", picks.assign(rlnTomoName="u"))
    refused(cryoetgan("evaluation", "hand", "p.star", *words, "-o", "x.json", code=2), "u", "t")
    write_star(tmp_path / "p.star", picks.assign(cryoetganClass="b", cryoetganId="p"))
    done = cryoetgan("evaluation", "hand", "p.star", *words, "-o", "x.json", code=2)
    refused(done, "class b", "helix")


def test_a_detector_that_finds_nothing_has_a_result(cryoetgan, tmp_path, rng):
    write_volume(tmp_path / "t.mrc", rng.standard_normal((24, 32, 32)), VOXEL)
    write_volume(tmp_path / "a.mrc", rng.standard_normal((12, 12, 12)), VOXEL)
    columns = ["rlnTomoName", *COORDINATES, "cryoetganClass", "cryoetganDetectionScore"]
    words = ("evaluation", "hand", "p.star", "--tomogram", "t.mrc", "--template", "a.mrc", *WORDS)
    write_star(tmp_path / "p.star", pd.DataFrame(columns=columns))
    cryoetgan(*words, "-o", "hand.json")
    found = read_json(tmp_path / "hand.json")
    assert (found["all"]["n"], found["all"]["share"], found["warning"]) == (0, None, None)
    write_star(tmp_path / "p.star", pd.DataFrame(columns=columns[:-1]))
    refused(cryoetgan(*words, "-o", "again.json", code=2), "holds no pick")
