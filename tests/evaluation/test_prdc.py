"""Precision, recall, density, coverage: laws, and equality with the prdc package."""

import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cryoetgan.evaluation.measurement.feature_metrics import saturation_warning
from cryoetgan.evaluation.metrics import prdc
from cryoetgan.evaluation.metrics.prdc import median_neighbour_distance


@pytest.mark.parametrize(("n", "m", "f", "k"), [(200, 150, 5, 5), (90, 300, 64, 3), (60, 60, 1, 1)])
def test_equals_the_prdc_package(rng, n, m, f, k):
    peer = pytest.importorskip("prdc")
    real, fake = rng.normal(size=(n, f)), 0.9 * rng.normal(size=(m, f)) + 0.1
    assert prdc(real, fake, k) == pytest.approx(peer.compute_prdc(real, fake, k), abs=1e-12)


def test_blocks_do_not_matter(rng):
    real, fake = rng.normal(size=(130, 6)), rng.normal(size=(110, 6)) * 0.8
    assert prdc(real, fake, block=17) == prdc(real, fake)


def test_single_precision_decides_nothing(rng):
    """Far from the origin float32 has no digits left: the answer must not change."""
    real, fake = rng.normal(size=(150, 8)), rng.normal(size=(150, 8)) * 0.9
    away = 2.0**24
    near, far = prdc(real, fake), prdc(real + away, fake + away)
    assert far == pytest.approx(near, abs=0.02)


def test_a_constant_set_in_the_middle_is_saturated(rng):
    """Precision 1, recall 0, density N / k, coverage 1: the paper's row, from empty volumes."""
    n, k = 400, 5
    real = rng.normal(size=(n, 4096))
    values = prdc(real, np.zeros((n, 4096)), k)
    assert values == {"precision": 1.0, "recall": 0.0, "density": n / k, "coverage": 1.0}
    assert "N / k = 80" in saturation_warning(values, n / k)


def test_less_spread_is_called_variance_collapse(rng):
    real, fake = rng.normal(size=(300, 64)), 0.8 * rng.normal(size=(300, 64))
    assert "collapse" in saturation_warning(prdc(real, fake), 60)


def test_the_same_distribution_is_not_flagged(rng):
    real, fake = rng.normal(size=(300, 16)), rng.normal(size=(300, 16))
    values = prdc(real, fake)
    assert saturation_warning(values, 60) == ""
    assert values["density"] == pytest.approx(1, abs=0.25)


def test_a_missing_mode_costs_recall_and_coverage_only(rng):
    real = np.concatenate([rng.normal(size=(150, 4)), rng.normal(size=(150, 4)) + 20])
    values = prdc(real, rng.normal(size=(300, 4)))
    assert values["precision"] > 0.9
    assert values["recall"] < 0.5
    assert values["coverage"] < 0.51


def test_invented_samples_cost_precision(rng):
    real = rng.normal(size=(200, 4))
    fake = np.concatenate([rng.normal(size=(100, 4)), rng.normal(size=(100, 4)) + 30])
    assert prdc(real, fake)["precision"] == pytest.approx(0.5, abs=0.06)


def test_by_hand():
    """On a line: balls of radius 1 about 0, 1, 3 (to the nearest other: 1, 1, 2)."""
    values = prdc([[0.0], [1.0], [3.0]], [[0.5], [4.5], [9.0]], k=1)
    assert values == {"precision": 2 / 3, "recall": 1.0, "density": 1.0, "coverage": 1.0}


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.floats(0.5, 3.0), st.integers(1, 4))
def test_turning_scaling_and_moving_both_sets_changes_nothing(seed, scale, k):
    rng = np.random.default_rng(seed)
    real, fake = rng.normal(size=(40, 3)), rng.normal(size=(30, 3)) * 0.8
    turn, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    shift = rng.normal(size=3)
    moved = [scale * x @ turn + shift for x in (real, fake)]
    assert prdc(*moved, k) == pytest.approx(prdc(real, fake, k), abs=1e-12)


def test_memory_does_not_grow_with_the_product(rng):
    """6,000 squared distances in float64 alone would be 288 MB."""
    real, fake = rng.normal(size=(6000, 4)), rng.normal(size=(6000, 4))
    tracemalloc.start()
    prdc(real, fake)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 60e6


def test_the_distance_to_the_kth_neighbour_does_not_depend_on_the_origin(rng):
    x = rng.standard_normal((80, 5))
    by_hand = np.sort(np.linalg.norm(x[:, None] - x[None], axis=2), axis=1)[:, 4]
    assert median_neighbour_distance(x, 4) == pytest.approx(np.median(by_hand), rel=1e-5)
    assert median_neighbour_distance(100 + 3 * x, 4) == pytest.approx(
        3 * median_neighbour_distance(x, 4), rel=1e-4
    )


def test_a_few_good_volumes_are_not_called_saturated():
    values = {"precision": 0.9, "recall": 0.9, "density": 0.85, "coverage": 0.9}
    assert saturation_warning(values, 1.2) == ""
    assert "maximum" in saturation_warning(values | {"density": 9.0}, 12.0)


def test_too_few_samples_are_refused():
    with pytest.raises(ValueError, match="more than 5"):
        prdc(np.zeros((5, 2)), np.zeros((9, 2)))
    with pytest.raises(ValueError, match="shapes"):
        prdc(np.zeros((9, 2)), np.zeros((9, 3)))
