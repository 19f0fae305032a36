"""Shuffled passes over a set, and volumes that do not fit on the device."""

import torch

from cryoetgan.translation.engine.batches import ShuffledIndices, VolumeLoader


def test_each_pass_draws_every_item_once_in_its_own_order():
    indices = ShuffledIndices(7, 3, "s")
    drawn = torch.cat([indices.draw(n) for n in (1, 5, 4, 11)])
    laps = drawn.reshape(3, 7)
    assert all(sorted(lap.tolist()) == list(range(7)) for lap in laps)
    assert not torch.equal(laps[0], laps[1])
    later = ShuffledIndices(7, 3, "s")
    later.position = 10
    assert torch.equal(later.draw(11), drawn[10:])
    assert not torch.equal(ShuffledIndices(7, 3, "d").draw(7), laps[0])


def test_volumes_too_large_for_the_device_stay_in_main_memory(monkeypatch):
    volumes = torch.rand(4, 1, 8, 8, 8)
    there = VolumeLoader(volumes, torch.device("cpu"))
    assert torch.equal(there.batch(torch.tensor([2, 0])), volumes[[2, 0]])
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (volumes.nbytes, 1))
    assert VolumeLoader(volumes, torch.device("cuda")).data.device.type == "cpu"
