"""Metrics: closed forms, nulls, and equality with independent implementations."""

import numpy as np
import pytest

from cryoetgan.evaluation.intervals import clustered, subsampled, wilson
from cryoetgan.evaluation.metrics import (
    auc,
    fid,
    inception_score,
    kid,
    pose_recovery,
    prdc,
    sd_ratio,
    shell_ratio,
    ssim,
)


def test_fid_of_a_set_with_itself_is_zero_and_a_shift_adds_its_square(rng):
    x = rng.standard_normal((60, 12))
    assert fid(x, x) == pytest.approx(0, abs=1e-9)
    shift = rng.standard_normal(12)
    assert fid(x, x + shift) == pytest.approx((shift**2).sum(), rel=1e-9)
    y = rng.standard_normal((40, 12)) * 2
    assert fid(x, y) == pytest.approx(fid(y, x), rel=1e-9)


@pytest.mark.parametrize("shape", [(80, 5), (30, 200)])
def test_fid_is_that_of_matrix_square_roots(rng, shape):
    from scipy import linalg

    x, y = (
        rng.standard_normal(shape),
        rng.standard_normal(shape) @ np.diag(rng.uniform(0.5, 2, shape[1])),
    )
    sx, sy = np.cov(x.T), np.cov(y.T)
    root = linalg.sqrtm(sx @ sy + 1e-12 * np.eye(shape[1])).real
    mean = ((x.mean(0) - y.mean(0)) ** 2).sum()
    expected = mean + np.trace(sx) + np.trace(sy) - 2 * np.trace(root)
    assert fid(x, y) == pytest.approx(expected, rel=2e-3)


def test_kid_is_unbiased_and_grows_with_distance(rng):
    def draw(mean):
        return rng.standard_normal((80, 8)) + mean

    same = [kid(draw(0), draw(0)) for _ in range(30)]
    assert abs(np.mean(same)) < 3 * np.std(same) / np.sqrt(30)
    assert kid(draw(0), draw(0.5)) < kid(draw(0), draw(1.0))
    # by hand: one feature, kernel (xy + 1)^3
    assert kid([[0.0], [1.0]], [[0.0], [1.0]]) == pytest.approx(1 + 1 - 2 * (1 + 1 + 1 + 8) / 4)


def test_prdc_on_a_line_by_hand():
    real = [[0.0], [1.0], [2.0], [3.0]]
    fake = [[0.1], [0.2], [9.0], [9.5]]
    found = prdc(real, fake, k=1)
    assert found["precision"] == 0.5  # two of four lie within 1 of a real one
    assert found["density"] == pytest.approx((2 + 2) / 4)  # 0.1 and 0.2: in the balls of 0 and 1
    assert found["coverage"] == 0.5  # 0 and 1 have a fake within 1
    assert found["recall"] == 0.0 or found["recall"] == 0.25


def test_prdc_of_a_constant_is_the_saturated_row_of_the_paper(rng):
    real = rng.standard_normal((160, 500))
    found = prdc(real, np.zeros((160, 500)) + 1e-3 * rng.standard_normal((160, 500)), k=5)
    assert found["precision"] == 1
    assert found["recall"] == 0
    assert found["density"] == pytest.approx(160 / 5)
    assert found["coverage"] == 1


@pytest.mark.parametrize("block", [7, 2048])
def test_prdc_is_that_of_plain_distances(rng, monkeypatch, block):
    from scipy.spatial.distance import cdist

    from cryoetgan.evaluation.metrics import neighbours

    monkeypatch.setattr(neighbours, "BLOCK", block)
    real, fake, k = rng.standard_normal((50, 6)) + 30, rng.standard_normal((40, 6)) + 30.3, 3
    rr, ff, rf = cdist(real, real), cdist(fake, fake), cdist(real, fake)
    real_radius, fake_radius = np.sort(rr)[:, k], np.sort(ff)[:, k]
    expected = {
        "precision": (rf < real_radius[:, None]).any(0).mean(),
        "recall": (rf < fake_radius[None]).any(1).mean(),
        "density": (rf < real_radius[:, None]).sum() / (k * len(fake)),
        "coverage": (rf.min(1) < real_radius).mean(),
    }
    assert prdc(real, fake, k) == pytest.approx(expected, abs=1e-5)


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


def test_pose_recovery_knows_the_right_map_and_the_right_angles(rng):
    import pandas as pd

    from cryoetgan.densities.poses import poses

    z, y, x = np.indices((16,) * 3) - 8
    maps = {
        "long": np.exp(-(x**2 / 20 + y**2 / 3 + z**2 / 3)),
        "flat": np.exp(-(x**2 / 12 + y**2 / 12 + z**2 / 2)),
    }
    made = [item for name, m in maps.items() for item in poses(name, m, 6, 10.0, 10.0, 1)]
    volumes = np.array([v for v, _ in made])
    noisy = volumes + 0.3 * volumes.std() * rng.standard_normal(volumes.shape)
    table = pd.DataFrame([row for _, row in made])
    assert pose_recovery(noisy, table, maps, (-60, 60), 10.0).mean() == 1
    swapped = table.assign(
        cryoetganClass=table["cryoetganClass"].map({"long": "flat", "flat": "long"})
    )
    assert pose_recovery(noisy, swapped, maps, (-60, 60), 10.0).mean() == 0


def test_intervals():
    low, high = wilson(80, 100)
    assert (low, high) == pytest.approx((0.7112, 0.8666), abs=1e-3)
    right = np.repeat([True, False], 50)
    alone = clustered(right, np.full(100, "t"))
    together = clustered(right, np.repeat(["a", "b"], 50))
    assert together[1] - together[0] > 2 * (alone[1] - alone[0])


def test_a_subsampled_interval_covers_the_truth(rng):
    hits = 0
    for _ in range(60):
        x, y = rng.standard_normal(100), rng.standard_normal(100) + 1
        low, high = subsampled(
            lambda a, b, x=x, y=y: float(y[b].mean() - x[a].mean()), 100, 100, rng
        )
        hits += low <= 1 <= high
    assert 48 <= hits <= 60
