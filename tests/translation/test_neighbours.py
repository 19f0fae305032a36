"""Neighbours beside a density: their number, distance and mass."""

import numpy as np
import pytest
import torch

from cryoetgan.translation.cyclegan.neighbours import (
    CLOSEST,
    FARTHEST,
    add_neighbours,
    draw_offsets,
)
from tests.translation.helpers import small_trainer


def test_neighbours_have_their_mean_number_and_keep_their_distance():
    rng = np.random.default_rng(0)
    drawn = [draw_offsets(4.0, 16, rng) for _ in range(400)]
    assert np.mean([len(offsets) for offsets in drawn]) == pytest.approx(4.0, abs=0.4)
    offsets = np.concatenate(drawn)
    assert np.linalg.norm(offsets, axis=1).min() > CLOSEST * 16
    assert abs(offsets).max() == int(FARTHEST * 16)
    assert abs(offsets.mean(axis=0)).max() < 1.0


def test_a_neighbour_is_another_density_moved(monkeypatch):
    monkeypatch.setattr(
        "cryoetgan.translation.cyclegan.neighbours.draw_offsets",
        lambda *_: np.array([[5, -3, 0], [-6, 0, 2]]),
    )
    bank = torch.rand(3, 1, 8, 8, 8)
    out = add_neighbours(
        torch.zeros(2, 1, 8, 8, 8), 2.0, lambda rows: bank[rows], 3, np.random.default_rng(1)
    )
    rows = np.random.default_rng(1).integers(3, size=4)
    for index, (first, second) in enumerate(rows.reshape(2, 2)):
        expected = torch.zeros(8, 8, 8)
        expected[5:, :5] += bank[first, 0, :3, 3:]
        expected[:2, :, 2:] += bank[second, 0, 6:, :, :6]
        assert torch.equal(out[index, 0], expected)


def test_a_batch_has_the_neighbours_of_its_place_in_the_deck():
    first, second = (small_trainer(neighbours=9.0) for _ in range(2))
    alone = small_trainer(neighbours=0.0).next_batch("d")
    crowded = first.next_batch("d")
    assert torch.equal(crowded, second.next_batch("d"))
    assert not torch.equal(crowded, alone)
    assert (crowded - alone).min() >= 0
