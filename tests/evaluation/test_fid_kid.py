"""FID and KID: closed forms, and equality with other implementations."""

import importlib
import sys
from unittest.mock import MagicMock

import numpy as np
import pytest
from scipy import linalg

from cryoetgan.evaluation.metrics import fid, kid
from cryoetgan.evaluation.metrics.fid_kid import nuclear_norm


@pytest.fixture
def fidelity(monkeypatch):
    """The torch-fidelity package, without the image library that its metrics do not need."""
    pytest.importorskip("torch")
    for name in ("", ".datasets", ".transforms", ".transforms.functional"):
        monkeypatch.setitem(sys.modules, f"torchvision{name}", MagicMock())
    pytest.importorskip("torch_fidelity")
    return lambda name: importlib.import_module(f"torch_fidelity.{name}")


def fid_by_square_root(a, b):
    """The textbook formula, with scipy's matrix square root."""
    sa, sb = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
    root = linalg.sqrtm(sa @ sb)
    return float(((a.mean(0) - b.mean(0)) ** 2).sum() + np.trace(sa + sb - 2 * root.real))


@pytest.mark.parametrize(("n", "m", "f"), [(60, 50, 8), (40, 90, 12)])
def test_fid_equals_the_square_root_of_the_covariances(rng, n, m, f):
    a, b = rng.normal(size=(n, f)), rng.normal(size=(m, f)) @ rng.normal(size=(f, f)) + 1
    assert fid(a, b) == pytest.approx(fid_by_square_root(a, b), rel=1e-9)


def test_both_forms_of_fid_agree(rng):
    """Few samples of many features, and the same features in another basis and padded."""
    a, b = rng.normal(size=(30, 20)), rng.normal(size=(30, 20)) * 1.3
    wide = np.zeros((30, 50))
    assert fid(np.hstack([a, wide]), np.hstack([b, wide])) == pytest.approx(fid(a, b), rel=1e-10)


def test_fid_equals_torch_fidelity(rng, fidelity):
    metric = fidelity("metric_fid")
    a, b = rng.normal(size=(300, 64)), rng.normal(size=(250, 64)) * 0.8 + 0.3

    def statistics(x):
        return {"mu": x.mean(0), "sigma": np.cov(x, rowvar=False)}

    peer = metric.fid_statistics_to_metric(statistics(a), statistics(b), verbose=False)
    assert fid(a, b) == pytest.approx(float(peer[metric.KEY_METRIC_FID]), rel=1e-6)


@pytest.mark.parametrize(("n", "m"), [(40, 60), (60, 40), (50, 50)])
@pytest.mark.parametrize("fall", [1e9, 20.0, 3.0, 0.0])
def test_the_nuclear_norm_is_the_sum_of_singular_values(rng, n, m, fall):
    """Whether they fall off slowly, steeply, or only a few are not zero."""
    width = np.exp(-np.arange(80) / fall) if fall else (np.arange(80) < 4).astype(float)
    a, b = (rng.standard_normal((count, 80)) * width for count in (n, m))
    a, b = a - a.mean(axis=0), b - b.mean(axis=0)
    expected = np.linalg.svd(a @ b.T, compute_uv=False).sum()
    assert nuclear_norm(a @ b.T, n_zero=1) == pytest.approx(expected, rel=1e-12)
    assert nuclear_norm(a @ b.T) == pytest.approx(expected, rel=1e-10)
    assert nuclear_norm(np.zeros((n, m))) == 0


def test_fid_of_a_set_with_itself_is_zero(rng):
    a = rng.normal(size=(50, 300))
    assert fid(a, a) == pytest.approx(0, abs=1e-9)


def test_a_shift_adds_its_square(rng):
    a, shift = rng.normal(size=(200, 16)), rng.normal(size=16)
    assert fid(a, a + shift) == pytest.approx((shift**2).sum(), rel=1e-9)


def test_scaling_the_spread(rng):
    """FID(x, s x) = (s - 1)^2 (|mean|^2 + trace of the covariance)."""
    a, s = rng.normal(size=(80, 10)) + 2, 1.7
    wanted = (s - 1) ** 2 * ((a.mean(0) ** 2).sum() + a.var(0, ddof=1).sum())
    assert fid(a, s * a) == pytest.approx(wanted, rel=1e-9)


def test_fid_is_symmetric(rng):
    a, b = rng.normal(size=(20, 40)), rng.normal(size=(30, 40)) + 1
    assert fid(a, b) == pytest.approx(fid(b, a), rel=1e-10)


def test_fid_of_a_vector_is_refused():
    with pytest.raises(ValueError, match=r"wanted \(N, F\)"):
        fid(np.zeros(5), np.zeros((5, 1)))


def test_kid_equals_torch_fidelity(rng, fidelity):
    metric = fidelity("metric_kid")
    a, b = rng.normal(size=(200, 32)), rng.normal(size=(200, 32)) + 0.2
    # one subset that holds all samples: the estimate without subsampling
    peer = metric.kid_features_to_metric(
        _torch(a), _torch(b), kid_subsets=1, kid_subset_size=200, verbose=False
    )
    assert kid(a, b) == pytest.approx(float(peer[metric.KEY_METRIC_KID_MEAN]), rel=1e-6)


def test_kid_is_unbiased(rng):
    """Equal distributions give zero on average, at any number of samples."""
    values = [kid(rng.normal(size=(20, 4)), rng.normal(size=(20, 4))) for _ in range(400)]
    assert abs(np.mean(values)) < 3 * np.std(values) / np.sqrt(len(values))


def test_kid_does_not_depend_on_blocks(rng):
    a, b = rng.normal(size=(70, 5)), rng.normal(size=(50, 5)) + 1
    assert kid(a, b, block=16) == pytest.approx(kid(a, b), rel=1e-12)


def _torch(x):
    return pytest.importorskip("torch").from_numpy(x)
