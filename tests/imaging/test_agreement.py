"""A structure that holds more than the sample does is found out, without labels."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from cryoetgan.imaging.fit.class_agreement import class_amplitudes, doubts, warned
from cryoetgan.imaging.fit.inputs import Data, closest, inside
from cryoetgan.imaging.fit.picks import best_rows
from tests.imaging.conftest import BOX, VOXEL, blob


@pytest.fixture
def data(tomogram) -> Data:
    picks = replace(tomogram.picks, aligned=True)
    model = tomogram.model
    return Data(tomogram.data, VOXEL, picks, model.maps, model.acquisition, "t.mrc")


def chosen(data: Data) -> np.ndarray:
    return inside(data.picks.places, data.volume.shape, BOX)


def test_picks_of_the_right_maps_show_them_whole(data, tomogram):
    found = class_amplitudes(data, tomogram.model, chosen(data))
    assert set(found) == {"ball", "rod"}
    for one in found.values():
        assert one["amplitude"] == pytest.approx(1, abs=4 * one["error"] + 0.02)
    assert not doubts(found)


def test_a_map_with_a_part_that_the_sample_lacks_is_doubted(data, tomogram, caplog):
    """A second rod beside the first: the picks then show half of the map."""
    rod = tomogram.model.maps["rod"]
    maps = dict(tomogram.model.maps) | {"rod": rod + np.roll(rod, 5, axis=2)}
    wrong = replace(tomogram.model, maps=maps)
    found = warned(replace(data, maps=maps), wrong, chosen(data))
    assert found["amplitudes"]["rod"]["amplitude"] == pytest.approx(0.5, abs=0.08)
    assert list(found["doubts"]) == ["rod"]
    assert "chains" in found["doubts"]["rod"]
    assert found["doubts"]["rod"] in caplog.text


def test_an_amplitude_is_that_of_the_tomogram(data, tomogram):
    """Twice the grey values: twice the amplitude of every class, so no class stands out."""
    twice = replace(data, volume=2 * np.asarray(data.volume))
    once = class_amplitudes(data, tomogram.model, chosen(data))
    found = class_amplitudes(twice, tomogram.model, chosen(data))
    for name, one in found.items():
        assert one["amplitude"] == pytest.approx(2 * once[name]["amplitude"], abs=0.003)
    assert not doubts(found)


def test_dark_protein_is_said(data, tomogram, caplog):
    dark = replace(data, volume=-np.asarray(data.volume))
    found = warned(dark, tomogram.model, chosen(data))
    assert set(found["doubts"]) == {"ball", "rod"}
    assert caplog.text.count("protein is dark") == 1


def test_picks_whose_poses_nobody_found_are_not_judged(data, tomogram):
    unaligned = replace(data, picks=replace(data.picks, aligned=False))
    found = warned(unaligned, tomogram.model, chosen(data))
    assert found == {"amplitudes": {}, "doubts": {}}


def test_picks_that_aligned_to_one_place_count_once():
    columns = ["rlnCoordinateX", "rlnCoordinateY", "rlnCoordinateZ", "cryoetganScore"]
    rows = [(10, 10, 10, 0.3), (11, 10, 10, 0.5), (14, 10, 10, 0.2), (11, 10, 10, 0.1)]
    table = pd.DataFrame(rows, columns=columns)
    table["cryoetganId"] = list("abcd")
    table["cryoetganClass"] = "ball"
    kept = best_rows(table, ["ball"], 0, closest=2.5)
    assert kept.places[:, 0].tolist() == [11, 14]
    assert len(best_rows(table, ["ball"], 0)) == 4


def test_two_particles_lie_no_closer_than_half_the_smallest_radius():
    # 95 % of a Gaussian ball's mass lies within 2.8 of its widths
    small, large = blob(1.0, 1.0, 1.0), blob(2.0, 2.0, 2.0)
    assert closest({"a": small, "b": large}) == pytest.approx(2.8 / 2, abs=0.2)
