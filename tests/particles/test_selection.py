"""Selection: one class a place, no duplicates, splits without a shared voxel, decisions win."""

import re

import numpy as np
import pandas as pd
import pytest

from cryoetgan.errors import UserError
from cryoetgan.io.star import COORDINATES, read_star, write_star
from cryoetgan.particles.curation.select import (
    SelectOptions,
    block_split,
    find_winners,
    select,
    select_others,
)
from tests.conftest import refused
from tests.particles.score_tables import scores


def options(top, box, splits=(("t1", "train"), ("t2", "test"))):
    return SelectOptions(top=top, box=box, splits=dict(splits))


def test_a_place_has_one_class_and_the_best_of_each_stay(rng):
    table = scores(rng)
    chosen = select(table, options(10, 16))
    assert chosen["cryoetganId"].is_unique
    assert (chosen.groupby("cryoetganClass").size() == 10).all()
    best = table.groupby("cryoetganId")["cryoetganScore"].max()
    assert (chosen.set_index("cryoetganId")["cryoetganScore"] == best[chosen["cryoetganId"]]).all()
    for name, part in chosen.groupby("cryoetganClass"):
        winners = table.loc[table.groupby("cryoetganId")["cryoetganScore"].idxmax()]
        mine = winners[winners["cryoetganClass"] == name]["cryoetganScore"]
        assert part["cryoetganScore"].min() >= mine.nlargest(12).min()
    assert set(chosen[chosen["rlnTomoName"] == "t2"]["cryoetganSplit"]) == {"test"}


def test_the_best_of_each_class_are_taken_in_each_group_of_tomograms(rng, cryoetgan, tmp_path):
    table = scores(rng, ["t1", "t2", "t3"])
    # another microscope, whose scores are lower throughout
    table.loc[table["rlnTomoName"] == "t3", "cryoetganScore"] -= 2
    write_star(tmp_path / "c.star", table)
    words = ("particles", "select", "c.star", "--top", 5, "--box", 16, "--split", "t1=train")
    words = (*words, "--split", "t2=test", "--split", "t3=train")
    groups = ("--group", "t1=titan", "--group", "t2=titan", "--group", "t3=talos")
    counts = {}
    for name, more in (("all", ()), ("each", groups)):
        cryoetgan(*words, *more, "-o", f"{name}.star")
        chosen = read_star(tmp_path / f"{name}.star").particles
        mine = chosen["rlnTomoName"].map({"t3": "talos"}).fillna("titan")
        counts[name] = chosen.groupby([mine, "cryoetganClass"]).size().to_dict()
    assert counts["all"] == {("titan", "a"): 5, ("titan", "b"): 5}
    assert counts["each"] == {(g, c): 5 for g in ("talos", "titan") for c in "ab"}
    refused(cryoetgan(*words, "--group", "titan", "-o", "x.star", code=2), "--group", "TOMOGRAM=")


def test_one_particle_picked_twice_is_taken_once(rng):
    table = scores(rng, picks=10)
    copy = table[table["cryoetganId"] == "t1-0"].copy()
    copy[COORDINATES] += 0.5
    copy["cryoetganId"], copy["cryoetganScore"] = "t1-0b", 2.0
    chosen = select(pd.concat([table, copy]), options(99, 16))
    assert "t1-0b" in set(chosen["cryoetganId"])
    assert "t1-0" not in set(chosen["cryoetganId"])


def test_boxes_of_train_and_test_share_no_voxel(rng):
    box = 16
    chosen = select(scores(rng, ["t1"], 200), options(999, box, splits={}))
    where = chosen[COORDINATES].to_numpy(float)
    train, test = (where[chosen["cryoetganSplit"] == s] for s in ("train", "test"))
    assert len(train) > 2 * len(test) > 20
    apart = np.abs(train[:, None] - test[None]).max(axis=2)
    assert apart.min() >= box


def test_a_class_that_no_pick_fits_is_named(rng):
    table = scores(rng)
    table.loc[table["cryoetganClass"] == "b", "cryoetganScore"] = -1.0
    with pytest.raises(UserError, match="class b"):
        select(table, options(10, 16))


def test_a_persons_decisions_win(rng, cryoetgan, tmp_path):
    table = scores(rng, picks=10)
    write_star(tmp_path / "c.star", table)
    folder = tmp_path / "curation"
    folder.mkdir()
    (folder / "me.csv").write_text("id,accepted,class\nt1-0,no,\nt1-1,yes,b\nt1-2,yes,a\n")
    words = ("particles", "select", "c.star", "--top", 4, "--box", 16, "--curation", folder)
    cryoetgan(*words, "--split", "t1=train", "--split", "t2=test", "-o", "s.star")
    chosen = read_star(tmp_path / "s.star").particles.set_index("cryoetganId")
    assert "t1-0" not in chosen.index
    assert chosen.loc["t1-1", "cryoetganClass"] == "b"
    assert chosen.loc["t1-2", "cryoetganClass"] == "a"
    (folder / "me.csv").write_text("id,accepted,class\nt1-0,perhaps,\n")
    refused(cryoetgan(*words, "-o", "x.star", code=2), "me.csv", "row 2", "perhaps")
    (folder / "me.csv").write_text("id,accepted,class\nt1-0,yes,c\n")
    refused(cryoetgan(*words, "-o", "x.star", code=2), "'c'", "a, b")
    (folder / "me.csv").write_text("id,accepted,class\nt1-0,no,c\n")  # what it is does not matter
    cryoetgan(*words, "-o", "x.star")
    assert "t1-0" not in set(read_star(tmp_path / "x.star").particles["cryoetganId"])


def test_a_named_class_brings_its_own_pose_and_no_score_is_touched(rng):
    table = scores(rng, picks=30)
    table["rlnAngleRot"] = rng.uniform(0, 360, len(table))
    best = table.loc[table.groupby("cryoetganId")["cryoetganScore"].idxmax()]
    other = {"a": "b", "b": "a"}
    said = {row.cryoetganId: other[row.cryoetganClass] for row in best[::7].itertuples()}
    chosen = select(table, options(99, 16), {"t1-0": "*", **said})
    assert len(chosen) > 50
    columns = ["cryoetganId", "cryoetganClass", "cryoetganScore", "rlnAngleRot", *COORDINATES]
    rows = set(table[columns].itertuples(index=False, name=None))
    assert set(chosen[columns].itertuples(index=False, name=None)) <= rows
    assert chosen.set_index("cryoetganId")["cryoetganClass"].loc[list(said)].to_dict() == said


def test_an_accepted_particle_outranks_any_score_and_any_neighbour(rng):
    table = scores(rng, picks=30, classes=("a",))
    table["cryoetganScore"] *= 100  # a sum of squares, a z-score: any program's
    worst = table.nsmallest(3, "cryoetganScore")["cryoetganId"].tolist()
    beside = table[table["cryoetganId"] == worst[0]].copy()
    beside[COORDINATES] += 0.5
    beside["cryoetganId"], beside["cryoetganScore"] = "beside", 1e3
    table = pd.concat([table, beside], ignore_index=True)
    chosen = select(table, options(3, 16), dict.fromkeys(worst, "a"))
    assert set(chosen["cryoetganId"]) == set(worst)


def test_a_test_fraction_of_zero_gives_no_test_side():
    few = np.array([[1.0, 2.0, 3.0], [4.0, 2.0, 3.0]])
    assert block_split(few, 28, 0.0).tolist() == ["train", "train"]


@pytest.mark.parametrize("column", ["cryoetganScore", "cryoetganDecoyScore"])
def test_rows_without_a_score_are_not_dropped_unsaid(rng, column):
    table = scores(rng).assign(cryoetganDecoyScore=0.1, cryoetganDecoys="mirror")
    table.loc[table["rlnTomoName"] == "t2", column] = np.nan  # scored without decoys
    with pytest.raises(UserError, match=rf"no {column} \(t2\)"):
        select(table, options(10, 16))


@pytest.mark.parametrize("verb", ["select", "import"])
def test_particles_go_by_the_name_of_a_star_file(cryoetgan, tmp_path, rng, verb):
    write_star(tmp_path / "c.star", scores(rng))
    words = ("--tomogram", "t1.mrc") if verb == "import" else ()
    refused(cryoetgan("particles", verb, "c.star", *words, "-o", "c.mrc", code=2), "c.mrc", ".star")
    assert not (tmp_path / "c.mrc").exists()


def test_others_are_picks_that_lost_to_decoys_away_from_particles(rng, caplog):
    table = scores(rng, picks=60, classes=("a",))
    won = rng.random(len(table)) < 0.5
    table["cryoetganScore"] = np.where(won, 0.9, 0.1)
    table["cryoetganDecoyScore"], table["cryoetganDecoys"] = 0.2, "mirror"
    rejected = table["cryoetganId"][won.argmax()]
    chosen = select(table, options(99, 16), {rejected: ""})
    winners = find_winners(table, options(99, 16), {rejected: ""})
    others = select_others(winners, chosen, options(99, 16), {rejected: ""})
    lost = set(table["cryoetganId"][~won]) | {rejected}
    assert rejected in set(others["cryoetganId"])
    assert set(others["cryoetganId"]) <= lost
    assert set(others["cryoetganClass"]) == {"other"}
    for name, part in others.groupby("rlnTomoName"):
        assert set(part["cryoetganSplit"]) == {{"t1": "train", "t2": "test"}[name]}
        places = chosen[chosen["rlnTomoName"] == name][COORDINATES].to_numpy()
        gaps = part[COORDINATES].to_numpy()[:, None] - places[None]
        assert np.linalg.norm(gaps, axis=-1).min() > 4
    caplog.set_level("INFO", "cryoetgan")
    few = select_others(winners, chosen, options(3, 16))
    assert few.groupby("cryoetganSplit").size().to_dict() == {"test": 15, "train": 3}
    assert re.search(r"test: 15 of \d\d picks without a particle are drawn", caplog.text)
