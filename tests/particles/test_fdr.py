"""Target-decoy competition: rates are right for simulated picks, and laws of the estimate hold."""

import numpy as np
import pandas as pd
import pytest

from cryoetgan.errors import UserError
from cryoetgan.particles.curation.fdr import (
    LEAST_CONFIDENT,
    add_q_values,
    far_below,
    posterior,
    q_values,
    rank_values,
)
from cryoetgan.particles.curation.select import SelectOptions, select
from tests.conftest import refused
from tests.particles.score_tables import scores


def simulated(rng, particles=300, others=900, decoys=1):
    """Scores of particles and of picks of nothing, for which map and decoys are equal."""
    true = np.r_[np.ones(particles, bool), np.zeros(others, bool)]
    level = np.where(true, 0.35, 0.2) + rng.normal(0, 0.04, len(true))
    own = level + rng.normal(0, 0.01, len(true))
    rivals = level - 0.05 * true + rng.normal(0, 0.01, (decoys, len(true)))
    return true, own, rivals.max(axis=0)


@pytest.mark.parametrize("decoys", [1, 2])
@pytest.mark.parametrize("level", [0.02, 0.05, 0.2])
def test_the_estimated_rate_is_the_true_rate(rng, decoys, level):
    wrong = []
    for _ in range(30):
        true, own, rival = simulated(rng, decoys=decoys)
        # with two decoys, two of three picks of nothing go to a decoy: K = 2
        q = q_values(rank_values(own, rival), own > rival, decoys)
        chosen = (q <= level) & (own > rival)
        wrong.append((~true[chosen]).mean())
    assert np.mean(wrong) == pytest.approx(level, rel=0.2, abs=0.005)


@pytest.mark.parametrize("decoys", [1, 3])
def test_posterior_is_the_share_of_right_picks_at_a_rank(rng, decoys):
    """Right picks have higher ranks and prefer their map; wrong ones prefer any of K + 1 alike."""
    right = rng.random(20000) < 0.4
    ranks = rng.normal(np.where(right, 1.5, 0.0), 1.0)
    target = right | (rng.random(20000) < 1 / (decoys + 1))
    found = posterior(ranks, target, decoys)
    expected = 1 / (1 + 0.6 / 0.4 * np.exp((ranks - 1.5) ** 2 / 2 - ranks**2 / 2))
    assert np.abs(found - expected).mean() < 0.03
    likely = found >= 0.5
    assert found[likely].mean() == pytest.approx(right[likely].mean(), abs=0.02)


def test_few_picks_of_nothing_are_likely(rng):
    counts = [(posterior(rng.random(50), rng.random(50) < 0.5, 1) >= 0.5).sum() for _ in range(500)]
    assert np.mean(counts) < 1.5


def lookalikes(rng, particles=80, others=20):
    """Ranks of a class, and of a species that fits its map less well; which are which."""
    ranks = np.r_[rng.normal(0.4, 0.04, particles), rng.normal(0.24, 0.02, others)]
    return ranks, np.arange(len(ranks)) < particles


def test_lookalikes_lie_far_below_their_class_and_particles_do_not(rng):
    """Of normal ranks 0.3 % lie there; of a fifth of look-alikes, four deviations below, nearly all."""
    lost, found = [], []
    for _ in range(100):
        ranks, own = lookalikes(rng)
        far = far_below(ranks, np.ones(len(ranks), bool))
        lost.append(far[own].mean())
        found.append(far[~own].mean())
        alone = far_below(ranks[own], np.ones(own.sum(), bool))
        lost.append(alone.mean())
    assert np.mean(lost) < 0.02
    assert np.mean(found) > 0.95


def test_far_below_ignores_scale_and_order_and_needs_confident_picks(rng):
    ranks, _ = lookalikes(rng)
    sure = np.ones(len(ranks), bool)
    far = far_below(ranks, sure)
    mixed = rng.permutation(len(ranks))
    assert np.array_equal(far_below(3 * ranks[mixed] - 7, sure), far[mixed])
    assert not far_below(ranks, np.arange(len(ranks)) < LEAST_CONFIDENT - 1).any()
    assert not far_below(np.full(30, 0.3), np.ones(30, bool)).any()


def test_the_q_value_of_a_lookalike_is_one_in_its_own_tomogram(rng):
    """A tomogram with more noise, whose particles all have lower ranks, loses none."""
    ranks, own = lookalikes(rng)
    tables = [
        pd.DataFrame({"rlnTomoName": name, "cryoetganScore": values, "true": true})
        for name, values, true in (("a", ranks, own), ("b", ranks[own] / 2, own[own]))
    ]
    table = pd.concat(tables, ignore_index=True).assign(
        cryoetganClass="c", cryoetganDecoyScore=0.0, cryoetganDecoys="mirror"
    )
    q = add_q_values(table, np.full(len(table), "all"))["cryoetganQValue"]
    assert (q[~table["true"]] == 1).mean() > 0.9
    assert (q[table["true"]] < 0.05).mean() > 0.95


def test_q_values_rise_as_the_rank_falls_and_ignore_the_order(rng):
    _, own, rival = simulated(rng)
    ranks, target = rank_values(own, rival), own > rival
    q = q_values(ranks, target, 1)
    assert (np.diff(q[np.argsort(-ranks)]) >= 0).all()
    mixed = rng.permutation(len(q))
    assert np.array_equal(q_values(ranks[mixed], target[mixed], 1), q[mixed])


def test_the_rank_does_not_tell_map_from_decoy(rng):
    _, own, rival = simulated(rng)
    assert np.array_equal(rank_values(own, rival), rank_values(rival, own))


def test_equal_ranks_have_equal_q_values():
    q = q_values(np.full(4, 1.0), np.array([True, False, True, True]), 1)
    assert np.ptp(q) == 0


def table_of(rng, **columns):
    table = scores(rng, picks=len(next(iter(columns.values()))) // 2, classes=("a",))
    return table.assign(cryoetganDecoys="mirror", **columns)


def test_selection_keeps_what_wins_below_the_rate(rng):
    true, own, rival = simulated(rng, 100, 300)
    table = table_of(rng, cryoetganScore=own, cryoetganDecoyScore=rival)
    chosen = select(table, SelectOptions(top=400, box=1, test_fraction=0.0))
    assert (chosen["cryoetganQValue"] <= 0.05).all()
    names = set(table["cryoetganId"][true])
    kept = chosen["cryoetganId"].isin(names)
    assert kept.mean() > 0.9
    assert kept.sum() > 80
    wider = select(table, SelectOptions(top=400, box=1, fdr=0.2, test_fraction=0.0))
    assert set(chosen["cryoetganId"]) <= set(wider["cryoetganId"])


def test_a_tomogram_of_the_wrong_hand_is_named(rng):
    """Its particles fit the mirror images; picks of nothing fit neither."""
    _, own, rival = simulated(rng, 100, 300)
    options = SelectOptions(top=400, box=1, test_fraction=0.0)
    flipped = table_of(rng, cryoetganScore=rival, cryoetganDecoyScore=own)
    with pytest.raises(UserError, match=r"\d+ picks fit the mirror image.*wrong hand"):
        select(flipped, options)
    _, own, rival = simulated(rng, 0, 400)
    nothing = table_of(rng, cryoetganScore=own, cryoetganDecoyScore=rival)
    with pytest.raises(UserError) as refusal:
        select(nothing, options)
    assert "hand" not in str(refusal.value)


def test_a_person_overrules_the_decoys(rng):
    _, own, rival = simulated(rng, 100, 300)
    table = table_of(rng, cryoetganScore=own, cryoetganDecoyScore=rival)
    lost = table["cryoetganId"].iloc[int(np.argmin(own - rival))]
    options = SelectOptions(top=400, box=1, test_fraction=0.0)
    assert lost not in set(select(table, options)["cryoetganId"])
    assert lost in set(select(table, options, {lost: "a"})["cryoetganId"])


def test_classes_and_groups_have_rates_of_their_own():
    ranks = pd.DataFrame(
        {
            "rlnTomoName": "t",
            "cryoetganClass": ["a", "a", "b", "b"],
            "cryoetganScore": [0.5, 0.4, 0.3, 0.2],
            "cryoetganDecoyScore": [0.1, 0.1, 0.1, 0.3],
            "cryoetganDecoys": ["mirror", "mirror", "smaller,larger", "smaller,larger"],
        }
    )
    found = add_q_values(ranks, np.array(["g"] * 4))["cryoetganQValue"]
    assert found.tolist() == [0.5, 0.5, 0.5, 1.0]
    apart = add_q_values(ranks, np.array(["g", "h", "g", "g"]))["cryoetganQValue"]
    assert apart.tolist()[:2] == [1.0, 1.0]


def test_a_rate_of_zero_is_refused(cryoetgan):
    done = cryoetgan("particles", "select", "s.star", "--fdr", 0, "-o", "q.star", code=2)
    refused(done, "--fdr", "0")
