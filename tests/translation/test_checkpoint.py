"""Checkpoints: damage is detected, files of other versions are refused by name."""

import copy

import pytest
import torch

from cryoetgan.errors import UserError
from cryoetgan.io.weights import write_weights
from cryoetgan.translation.engine import checkpoint
from cryoetgan.translation.translate import open_translator
from tests.conftest import refused
from tests.translation.helpers import load, write_preset


def refusal(path):
    """Return the message of the checkpoint's refusal."""
    with pytest.raises(UserError) as error:
        open_translator(path, "ds", torch.device("cpu"))
    return str(error.value)


def test_damaged_weights_are_detected(tmp_path, trained):
    path = tmp_path / trained
    whole = path.read_bytes()
    first = next(iter(load(path)["average"].values()))
    position = whole.index(first.numpy().tobytes())
    path.unlink()
    path.write_bytes(whole[:position] + bytes([whole[position] ^ 64]) + whole[position + 1 :])
    message = refusal(path)
    assert "has changed since it was written" in message
    assert "train again" in message


def test_other_files_are_refused(here, tmp_path, sets):
    path = tmp_path / "x.pt"
    path.write_bytes(b"not a checkpoint")
    words = ("translation", "translate", "x.pt", "d.star", "-o", "x.star")
    refused(here(*words, code=2), "x.pt", "train again")
    write_weights(path, "classifier", {"state": {}})
    assert "it is a classifier" in refusal(path)
    torch.save({"format": 1, "version": "0", "code": refusal}, path)  # code
    assert "unexpected content" in refusal(path)
    assert "weights_only" not in refusal(path)


def test_checkpoints_of_other_versions_are_refused_by_name(tmp_path, trained):
    path = tmp_path / trained
    content = {**load(path), "version": "0.0.7"}
    average = {k.replace("G_ds.", "G_ds.before."): v for k, v in content["average"].items()}
    for change, words in (
        ({"settings": content["settings"] | {"sharpness": 3}}, ("'sharpness'",)),
        ({"average": average}, ("0.0.7", "before.", "train again")),
        ({"format": 99}, ("format 99", "0.0.7", "update, or train again")),
    ):
        torch.save({**content, **change}, path)
        message = refusal(path)
        assert all(word in message for word in (str(path), *words)), message
    torch.save({key: value for key, value in content.items() if key != "optics"}, path)
    assert "no optics" in refusal(path)


@pytest.mark.parametrize("part", ["networks", "optimisers"])
def test_states_of_other_versions_are_refused_and_kept(here, tmp_path, sets, trained, part):
    state = tmp_path / "t" / checkpoint.IN_PROGRESS
    content = copy.deepcopy({**load(state), "version": "0.0.7", "step": 3})
    if part == "networks":
        content[part] = {f"before.{name}": value for name, value in content[part].items()}
    else:
        content[part]["generators"]["param_groups"][0]["params"].pop()
    (tmp_path / trained).unlink()
    torch.save(content, state)
    before = state.read_bytes()
    write_preset(tmp_path, 4)
    refused(here("translation", "train", *sets, "-o", "t", code=2), "0.0.7", "this")
    assert state.read_bytes() == before
