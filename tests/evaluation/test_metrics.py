"""Metrics: closed forms, baselines, and equality with independent implementations."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch

from cryoetgan.errors import UserError
from cryoetgan.evaluation.labelled_sets import Labelled
from cryoetgan.evaluation.measurement.feature_metrics import _doubt, alike
from cryoetgan.evaluation.measurement.measure import measure
from cryoetgan.evaluation.metrics import auc, inception_score, sd_ratio, shell_ratio, ssim
from cryoetgan.evaluation.metrics.spectra import shell_power, worst
from cryoetgan.physics.optics import missing_wedge


def test_inception_score_of_sure_and_of_undecided():
    assert inception_score(np.eye(5)) == pytest.approx(5)
    assert inception_score(np.full((7, 5), 0.2)) == pytest.approx(1)
    assert inception_score([[1.0, 0.0], [1.0, 0.0]]) == pytest.approx(1)


def test_ssim_is_scikit_images(rng):
    from skimage.metrics import structural_similarity

    a, b = rng.standard_normal((2, 20, 22, 24))
    expected = structural_similarity(a, a + 0.5 * b, data_range=6.0)
    assert ssim(a, a + 0.5 * b, 6.0) == pytest.approx(expected, abs=1e-9)
    assert ssim(a, a, 6.0) == pytest.approx(1)


def test_auc_counts_pairs():
    assert auc([0.1, 0.4, 0.35, 0.8], [False, False, True, True]) == 0.75
    assert auc([1, 1, 1, 1], [False, True, False, True]) == 0.5


def test_power_and_spread_ratios(rng):
    real = rng.standard_normal((6, 16, 16, 16))
    assert np.allclose(shell_ratio(real, 2 * real), 4)
    assert np.allclose(shell_ratio(real, real, (-60, 60)), 1)
    assert sd_ratio(real, 3 * real) == pytest.approx(3)


def test_power_is_counted_inside_and_outside_the_tilt_range(rng):
    """Three times the amplitude inside the range alone; asymmetric, so a flipped sign shows."""
    tilts = (-60, 20)
    real = rng.standard_normal((8, 16, 16, 16))
    mask = np.where(missing_wedge((16,) * 3, tilts), 3.0, 1.0)
    axes = (1, 2, 3)
    made = np.fft.irfftn(np.fft.rfftn(real, axes=axes) * mask, s=(16,) * 3, axes=axes)
    assert np.allclose(shell_ratio(real, made, tilts), 9)
    assert np.allclose(shell_ratio(real, made, tilts, inside=False)[1:], 1)
    other = shell_ratio(real, made, (-20, 60))
    assert other.min() < 8


def test_white_noise_has_flat_power(rng):
    volumes = rng.standard_normal((40, 12, 12, 12))
    assert np.allclose(shell_power(volumes), 12**3, rtol=0.1)


def test_the_worst_shell_is_the_farthest_factor():
    assert worst([1.0, 1.8, 0.5]) == 0.5
    assert worst([np.nan, 1.2, 0.9]) == 1.2


@pytest.mark.parametrize(("classes", "least"), [(2, 0.625), (4, 0.4375), (7, 0.357)])
def test_a_classifier_is_doubted_for_what_it_knows_above_chance(classes, least):
    """Twice the chance of two classes is 1: every classifier that ever errs was doubted."""
    names = [str(i) for i in range(classes)]
    for right, doubted in ((least - 0.01, True), (least + 0.01, False), (None, False)):
        classifier = SimpleNamespace(classes=names, validation=right)
        assert bool(_doubt(classifier)) == doubted


def test_without_a_common_class_all_generated_volumes_are_compared(rng):
    found = alike(np.array(["a", "a", "b"]), np.array(["c"] * 5), rng)
    assert list(found) == [0, 1, 2, 3, 4]
    # alike in share where they can be
    found = alike(np.array(["a", "b"]), np.repeat(["a", "b"], [30, 20]), rng)
    assert list(np.repeat(["a", "b"], [30, 20])[found]) == ["a"] * 20 + ["b"] * 20


def test_of_no_shell_none_is_the_worst():
    assert np.isnan(worst([]))
    assert np.isnan(worst([np.nan, np.inf]))
    assert worst([np.nan, 1.1, 0.5]) == 0.5


@pytest.mark.parametrize("short", ["real", "generated"])
def test_one_volume_is_no_set(short, rng):
    table = pd.DataFrame({"cryoetganClass": ["a"] * 4})
    sets = {
        name: Labelled(rng.standard_normal((4, 8, 8, 8)).astype(np.float32), np.full(4, "a"), table)
        for name in ("real", "generated")
    }
    sets[short] = sets[short].rows(np.array([0]))
    with pytest.raises(UserError, match=f"{short} set has 1 volume"):
        measure(sets["real"], sets["generated"], 10.0, 0, torch.device("cpu"))


def test_a_full_tilt_range_leaves_nothing_outside(rng):
    table = pd.DataFrame({"cryoetganClass": ["a"] * 8})
    real, made = (
        Labelled(rng.standard_normal((8, 8, 8, 8)).astype(np.float32), np.full(8, "a"), table)
        for _ in range(2)
    )
    only = ("power_ratio", "sd_ratio")
    found = measure(real, made, 10.0, 0, torch.device("cpu"), tilts=(-90.0, 90.0), only=only)
    assert found["power_ratio"]["outside"] is None
    assert found["power_ratio"]["value"] == pytest.approx(1, abs=0.5)
