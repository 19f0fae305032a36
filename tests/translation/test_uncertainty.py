"""Uncertainty maps: over dropout with fixed noise, and over noise without dropout."""

import numpy as np

from cryoetgan.io.volume_set import read_volume_set
from cryoetgan.translation.uncertainty import standard_deviation
from tests.conftest import refused


def test_the_standard_deviation_is_numpys():
    values = np.random.default_rng(0).normal(5, 2, (7, 3, 3, 3))
    assert np.allclose(standard_deviation(values), values.std(axis=0, ddof=1))


def test_uncertainty_separates_dropout_and_noise(here, tmp_path, trained):
    words = ("translation", "uncertainty", trained, "d.star", "--passes", 4)
    here(*words, "-o", "u")
    here(*words, "-o", "again")
    both = {}
    for name in ("dropout_sd", "noise_sd"):
        made = read_volume_set(tmp_path / "u" / f"{name}.star")
        assert list(made.table["cryoetganClass"]) == ["a", "b"] * 6
        assert (made.volumes > 0).mean() > 0.9
        stack = f"{name}.mrcs"
        first, second = ((tmp_path / n / stack).read_bytes() for n in ("u", "again"))
        assert first == second
        both[name] = made.volumes
    assert not np.allclose(both["dropout_sd"], both["noise_sd"])
    # the first rows of each class are those of the whole
    here(*words, "--sample", 1, "-o", "few")
    for name, whole in both.items():
        few = read_volume_set(tmp_path / "few" / f"{name}.star")
        assert list(few.table["cryoetganClass"]) == ["a", "b"]
        assert np.array_equal(few.volumes, whole[:2])
    refused(here(*words, "--sample", 0, "-o", "x", code=2), "--sample")
    refused(here(*words[:-1], 1, "-o", "x", code=2), "--passes")
