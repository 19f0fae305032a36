"""The contrast of protein is measured, with its sign, and said to be uncertain if it is."""

import numpy as np
import pytest
from scipy import ndimage

from cryoetgan.io.exclusion import ExclusionMask
from cryoetgan.io.mrc import read_volume
from cryoetgan.tomograms.importing.contrast import measure_contrast, measured_contrast
from tests.tomograms.writing import write_mrc

SHAPE = (40, 96, 96)
VOXEL_A = 20.0


def tomogram(rng, particles, strength, radius=3.5):
    """Balls of protein, bright, with the dark fringe of the CTF, in noise."""
    scene = np.zeros(SHAPE)
    places = (rng.random((particles, 3)) * SHAPE).astype(int)
    np.add.at(scene, tuple(places.T), 1)
    balls = [ndimage.gaussian_filter(scene, s * radius / 1.7) for s in (1, 1.6)]
    signal = balls[0] - balls[1]
    return strength * signal / signal.max() + ndimage.gaussian_filter(
        rng.standard_normal(SHAPE), 0.7
    )


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize(("particles", "strength"), [(40, 2), (150, 1), (400, 2)])
def test_the_sign_is_that_of_protein(rng, particles, strength, sign):
    data = (1000 + 40 * sign * tomogram(rng, particles, strength)).astype(np.float32)
    found = measure_contrast(data, VOXEL_A)
    assert found.contrast == ("bright" if sign > 0 else "dark")
    opposite = measure_contrast(-data, VOXEL_A)
    assert opposite.typical == pytest.approx(-found.typical, rel=1e-3)


@pytest.mark.parametrize("seed", range(6))
def test_noise_has_no_contrast(seed):
    data = ndimage.gaussian_filter(np.random.default_rng(seed).standard_normal(SHAPE), seed / 3)
    found = measure_contrast(data, VOXEL_A)
    assert found.contrast is None
    assert "uncertain" in str(found)


def test_gold_and_padding_do_not_turn_the_sign(rng):
    data = -tomogram(rng, 60, 2)
    data[20:23, 40:43, 40:43] += 300  # X-ray hits, brighter than all protein is dark
    data[:, :12] = 500
    padding = np.zeros(SHAPE, np.uint8)
    padding[:, :12] = 1
    excluded = ExclusionMask(data, padding, labelled=False)
    assert measure_contrast(data.astype(np.float32), VOXEL_A, excluded).contrast != "bright"
    data[20:23, 40:43, 40:43] = -30  # gold is dark where protein is
    assert measure_contrast(data.astype(np.float32), VOXEL_A, excluded).contrast != "bright"
    data[20:23, 40:43, 40:43] = 0
    assert measure_contrast(data.astype(np.float32), VOXEL_A, excluded).contrast == "dark"


def test_too_few_voxels_are_said_to_be_too_few(rng):
    found = measure_contrast(rng.standard_normal((12, 16, 20)), VOXEL_A)
    assert found.contrast is None
    assert "too small" in str(found)


@pytest.mark.parametrize(("given", "warned"), [("dark", True), ("bright", False)])
def test_import_says_if_the_contrast_given_looks_wrong(cryoetgan, tmp_path, rng, given, warned):
    write_mrc(tmp_path / "in.mrc", tomogram(rng, 40, 2).astype(np.float32), VOXEL_A)
    done = cryoetgan("tomograms", "import", "in.mrc", "--contrast", given, "-o", "o.mrc")
    assert ("wrong contrast" in done.stderr) == warned
    if warned:
        assert "--contrast bright" in done.stderr
    assert measured_contrast(tmp_path / "in.mrc").contrast == "bright"
    sign = 1 if given == "bright" else -1
    skewness = measure_contrast(read_volume(tmp_path / "o.mrc").data, VOXEL_A).typical
    assert np.sign(skewness) == sign


@pytest.mark.parametrize(
    "name",
    [
        "tomograms/dev_set1_1.mrc",
        "tomograms/dev_set2_3.mrc",
        pytest.param(
            "experimental/mycoplasma_cell/tomogram_lower_10A_int8.mrc", marks=pytest.mark.slow
        ),
    ],
)
def test_the_shared_tomograms_are_dark(test_data, name):
    assert measured_contrast(test_data / name).contrast == "dark"
