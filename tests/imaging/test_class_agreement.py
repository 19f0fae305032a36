"""A structure that holds more than the sample does is found out, without labels."""

from dataclasses import replace

import numpy as np
import pytest

from cryoetgan.imaging.fit.class_agreement import (
    agreement_warnings,
    amplitude_warning,
    check_class_agreement,
    class_amplitudes,
)
from cryoetgan.imaging.fit.fit_data import FitData, boxes_inside
from tests.imaging.conftest import BOX, VOXEL


@pytest.fixture
def data(tomogram) -> FitData:
    picks = replace(tomogram.picks, aligned=True)
    model = tomogram.model
    return FitData(tomogram.data, VOXEL, picks, model.maps, model.acquisition, "t.mrc")


def chosen(data: FitData) -> np.ndarray:
    return boxes_inside(data.picks.places, data.volume.shape, BOX)


def test_picks_of_the_right_maps_show_them_whole(data, tomogram):
    found = class_amplitudes(data, tomogram.model, chosen(data))
    assert set(found) == {"ball", "rod"}
    for one in found.values():
        assert one["amplitude"] == pytest.approx(1, abs=4 * one["error"] + 0.02)
    assert not agreement_warnings(found)


def test_a_map_with_a_part_that_the_sample_lacks_is_doubted(data, tomogram, caplog):
    """A second rod beside the first: the picks then show half of the map."""
    rod = tomogram.model.maps["rod"]
    maps = dict(tomogram.model.maps) | {"rod": rod + np.roll(rod, 5, axis=2)}
    wrong = replace(tomogram.model, maps=maps)
    found = check_class_agreement(replace(data, maps=maps), wrong, chosen(data))
    assert found["amplitudes"]["rod"]["amplitude"] == pytest.approx(0.5, abs=0.08)
    assert list(found["warnings"]) == ["rod"]
    assert "chains" in found["warnings"]["rod"]
    assert found["warnings"]["rod"] in caplog.text


def test_an_amplitude_is_that_of_the_tomogram(data, tomogram):
    """Twice the grey values: twice the amplitude of every class, so no class stands out."""
    twice = replace(data, volume=2 * np.asarray(data.volume))
    once = class_amplitudes(data, tomogram.model, chosen(data))
    found = class_amplitudes(twice, tomogram.model, chosen(data))
    for name, one in found.items():
        assert one["amplitude"] == pytest.approx(2 * once[name]["amplitude"], abs=0.003)
    assert not agreement_warnings(found)


@pytest.mark.parametrize(
    ("amplitude", "error", "warned"),
    [(0.64, 0.02, True), (1.2, 0.02, True), (0.96, 0.01, False), (0.9, 0.08, False)],
)
def test_particles_that_are_simulated_too_strong_are_warned_of(amplitude, error, warned):
    text = amplitude_warning({"amplitude": amplitude, "error": error})
    assert (text is not None) == warned
    if amplitude == 0.64:
        assert "1.56 times as strong" in text


def test_dark_protein_is_said(data, tomogram, caplog):
    dark = replace(data, volume=-np.asarray(data.volume))
    found = check_class_agreement(dark, tomogram.model, chosen(data))
    assert set(found["warnings"]) == {"ball", "rod"}
    assert caplog.text.count("protein is dark") == 1


def test_picks_whose_poses_nobody_found_are_not_judged(data, tomogram):
    unaligned = replace(data, picks=replace(data.picks, aligned=False))
    found = check_class_agreement(unaligned, tomogram.model, chosen(data))
    assert not any(found.values())
