"""Files of networks: damage is damage at every length, no code runs, a full disk is said."""

import io
import os
import pickle
import zipfile

import numpy as np
import pytest
import torch

from cryoetgan.errors import UserError
from cryoetgan.io.weights import DamagedError, find_difference, read_weights, write_weights
from tests.faults.test_files import mounted

CONTENT = {"x": torch.arange(20_000.0), "names": ["a", "b"], "rest": {"y": torch.ones(3)}}


def read(path, keys=frozenset({"x"})):
    return read_weights(path, "checkpoint", set(keys), "train again")


@pytest.fixture
def whole(tmp_path):
    write_weights(tmp_path / "w.pt", "checkpoint", CONTENT)
    return (tmp_path / "w.pt").read_bytes()


def test_content_round_trips_and_gives_equal_bytes(tmp_path, whole):
    back = read(tmp_path / "w.pt")
    assert torch.equal(back["x"], CONTENT["x"])
    assert back["names"] == ["a", "b"]
    write_weights(tmp_path / "again.pt", "checkpoint", {k: back[k] for k in CONTENT})
    assert (tmp_path / "again.pt").read_bytes() == whole


def test_a_file_cut_at_any_length_is_damaged(tmp_path, whole):
    path = tmp_path / "cut.pt"
    ends = {0, 1, 3, 4, 22, 64, 100, 4096, 60_000, 65_536, 70_000}
    for size in sorted(ends | {len(whole) - n for n in (1, 21, 22, 23, 64, 1000)}):
        path.write_bytes(whole[:size])
        with pytest.raises(DamagedError, match="train again"):
            read(path)
    path.write_bytes(os.urandom(5000))
    with pytest.raises(DamagedError):
        read(path)


def test_flipped_bits_are_damage_or_change_nothing(tmp_path, whole):
    path, generator, damaged = tmp_path / "flip.pt", np.random.default_rng(3), 0
    near_ends = [*range(60), *range(len(whole) - 700, len(whole), 9)]
    for place in [*near_ends, *generator.integers(0, len(whole), 60)]:
        changed = bytearray(whole)
        changed[place] ^= 1 << int(generator.integers(8))
        path.write_bytes(changed)
        try:
            back = read(path)
        except DamagedError as error:
            damaged += 1
            assert str(error).isprintable()  # noqa: PT017
        except UserError as error:
            assert "format" in str(error)  # noqa: PT017
        else:
            assert torch.equal(back["x"], CONTENT["x"])
            assert back["names"] == CONTENT["names"]
    assert damaged > 60


class Code:
    def __reduce__(self):
        return os.system, ("touch ran",)


def archive(parts, compression=zipfile.ZIP_STORED):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", compression) as made:
        for name, content in parts.items():
            made.writestr(f"archive/{name}", content)
    return out.getvalue()


def saved(content):
    out = io.BytesIO()
    torch.save(content, out)
    return out.getvalue()


GOOD = {"format": 1, "kind": "checkpoint", "version": "0", "x": 1}


def nested(depth):
    value = []
    for _ in range(depth):
        value = [value, value]
    return value


@pytest.mark.parametrize(
    "content",
    [
        saved({**GOOD, "x": Code()}),
        pickle.dumps(GOOD),
        archive({"data.pkl": bytes(5_000_000), "version": b"3"}, zipfile.ZIP_DEFLATED),
        archive({"data.pkl": b"cos\nsystem\n(S'touch ran'\ntR.", "version": b"3"}),
        saved({**GOOD, "x": torch.zeros(1).expand(1 << 40)}),
        saved([1]),
        saved({**GOOD, "kind": "classifier"}),
        saved({**GOOD, "kind": ["checkpoint"]}),
        saved({"format": 1, "x": 1}),
        saved({key: GOOD[key] for key in ("format", "kind", "version")}),
        b"PK\x05\x06" + bytes(18),
    ],
)
def test_files_made_to_do_harm_are_refused(tmp_path, monkeypatch, content):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bad.pt").write_bytes(content)
    with pytest.raises(DamagedError) as caught:
        read(tmp_path / "bad.pt")
    assert "weights_only" not in str(caught.value)
    assert not (tmp_path / "ran").exists()


def test_values_that_share_themselves_cost_nothing(tmp_path):
    (tmp_path / "deep.pt").write_bytes(saved({**GOOD, "x": nested(60)}))
    assert len(read(tmp_path / "deep.pt")["x"]) == 2


def test_another_format_is_not_damage(tmp_path):
    (tmp_path / "new.pt").write_bytes(saved({**GOOD, "format": 99}))
    with pytest.raises(UserError, match="format 99") as caught:
        read(tmp_path / "new.pt")
    assert not isinstance(caught.value, DamagedError)


def test_a_full_disk_is_said_and_the_old_file_stays(tmp_path, whole):
    with mounted(tmp_path / "disk") as disk:
        (disk / "w.pt").write_bytes(b"old")
        with pytest.raises(OSError, match="No space left") as caught:
            write_weights(disk / "w.pt", "checkpoint", {"x": torch.zeros(1_000_000)})
        assert caught.value.filename == str(disk / "w.pt")
        assert [path.name for path in disk.iterdir()] == ["w.pt"]
        assert (disk / "w.pt").read_bytes() == b"old"


def test_a_network_is_compared_without_its_memory():
    def huge():
        return torch.nn.Linear(1 << 20, 1 << 20)  # 4 TB

    assert "wanted (1048576,)" in find_difference(huge, {"weight": torch.ones(1)})
    linear = torch.nn.Linear(2, 3)
    assert find_difference(lambda: torch.nn.Linear(2, 3), linear.state_dict()) == ""
    assert find_difference(lambda: torch.nn.Linear(2, 3), {"weight": 1}) != ""
    for factor in (float("nan"), 1j):
        state = {name: factor * value for name, value in linear.state_dict().items()}
        assert "not finite" in find_difference(lambda: torch.nn.Linear(2, 3), state)
