"""Full disks, read-only folders, and files that changed after they were written."""

import os
import shutil
import subprocess
from contextlib import contextmanager
from pathlib import Path

import pytest

from cryoetgan.setup.validate import find_problems
from tests.conftest import refused

MAP = ("--voxel-size", "10", "--resolution", "30", "--box", "24")


@contextmanager
def mounted(folder: Path, *options: str):
    """Mount a small file system in memory; skip the test if that is not possible."""
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", ",".join(("size=1m", *options)), "tmpfs", folder]
    if os.geteuid() != 0 or subprocess.run(command, capture_output=True).returncode:
        pytest.skip("NO FULL DISK IS TESTED: mounting a small file system is for root")
    try:
        yield folder
    finally:
        # lazily: this process may still hold a map of a file
        subprocess.run(["umount", "--lazy", folder], check=True)


@pytest.fixture
def small(cryoetgan, tmp_path):
    """A map and a set of posed volumes."""
    folder = tmp_path / "whole"
    cryoetgan("densities", "membrane", *MAP, "-o", folder / "membrane.mrc")
    pose = ("--count", "4", "--max-shift", "10", "-o", folder / "poses.star")
    cryoetgan("densities", "pose", folder / "membrane.mrc", *pose)
    return folder


def test_a_full_disk_ends_in_a_message_and_leaves_no_half_file(cryoetgan, tmp_path, small):
    tomogram = ("--copies", "1", "--shape=96,96,64", "--tilts=-60,60,20", "--snr", "1")
    writers = {
        "poses.star": ("densities", "pose", small / "membrane.mrc", "--count", "40"),
        "t.mrc": ("tomograms", "simulate", small / "membrane.mrc", *tomogram),
    }
    with mounted(tmp_path / "disk") as disk:
        for name, words in writers.items():
            target = disk / name
            target.write_text("earlier content")
            max_shift = ("--max-shift", "10") if words[1] == "pose" else ()
            done = cryoetgan(*words, *max_shift, "-o", target, code=2)
            refused(done, str(disk))
            assert "No space left" in done.stderr or " free" in done.stderr
            assert target.read_text() == "earlier content"
            assert [path.name for path in disk.iterdir()] == [name], "nothing half written"
            target.unlink()


def test_a_read_only_folder_ends_in_a_message(cryoetgan, tmp_path, small):
    with mounted(tmp_path / "disk") as disk:
        shutil.copy(small / "membrane.mrc", disk)
        subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
        words = ("densities", "pose", disk / "membrane.mrc", "--count", "2", "--max-shift", "10")
        refused(cryoetgan(*words, "-o", disk / "poses.star", code=2), "Read-only", str(disk))
        # reading still works
        cryoetgan(*words, "-o", tmp_path / "poses.star")


def test_validate_finds_every_file_that_was_cut_or_changed(cryoetgan, small):
    tomogram = ("--copies", "2", "--shape=48,48,32", "--tilts=-60,60,20", "--snr", "1")
    cryoetgan("tomograms", "simulate", small / "membrane.mrc", *tomogram, "-o", small / "t.mrc")
    assert find_problems(small) == ([], len(list(small.iterdir())))
    for path in sorted(small.iterdir()):
        whole = path.read_bytes()
        middle = len(whole) // 2
        damaged = {"cut": whole[:middle], "empty": b""}
        if path.suffix != ".json":  # a changed digit in a record cannot be detected
            damaged["changed"] = whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :]
        for how, content in damaged.items():
            path.write_bytes(content)
            found, _ = find_problems(small)
            assert any(path.name in line for line in found), f"{path.name} {how}: {found}"
        path.write_bytes(whole)
    assert find_problems(small)[0] == []


def test_a_table_that_is_cut_short_is_an_error(cryoetgan, small):
    star = small / "poses.star"
    whole = star.read_text()
    words = ("imaging", "simulate", star, "--snr", "1", "--tilts=-60,60", "--lowpass", "40")
    star.write_text(whole.rstrip("\n")[:-1])  # all rows, but the last one lacks a letter
    refused(cryoetgan(*words, "-o", small / "x.star", code=2), "poses.star", "cut short")
    # a table without a record, of another program, may lack the last newline
    (small / "poses.star.json").unlink()
    star.write_text(whole.rstrip("\n"))
    cryoetgan(*words, "-o", small / "x.star")
