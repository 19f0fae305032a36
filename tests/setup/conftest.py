"""Tomograms without records, and a disk whose free space the tests set."""

from types import SimpleNamespace

import mrcfile
import numpy as np
import pytest


@pytest.fixture(autouse=True)
def disk(monkeypatch):
    """Return a function that sets the free disk space in gigabytes; it starts with 1000."""

    def free(gigabytes):
        usage = SimpleNamespace(free=gigabytes * 1e9)
        monkeypatch.setattr("cryoetgan.setup.check.shutil.disk_usage", lambda _: usage)

    free(1000)
    return free


@pytest.fixture
def tomograms(tmp_path):
    """A folder with two tomograms; the second has neither a voxel size nor a tilt file."""
    folder = tmp_path / "my tomograms"
    folder.mkdir()
    for name, size in (("TS_01", 13.48), ("TS_02", 0.0)):
        with mrcfile.new(folder / f"{name}.mrc") as file:
            file.set_data(np.zeros((4, 6, 8), np.int16))
            file.voxel_size = size
    (folder / "TS_01.rawtlt").write_text("-51.0\n-48.0\n0\n54.0\n")
    return folder


@pytest.fixture
def configured(cryoetgan, tomograms):
    """The same folder after `init`, with the empty cells of the table filled in."""
    cryoetgan("init", tomograms)
    table = tomograms / "tomograms.tsv"
    table.write_text(table.read_text().replace(".mrc\t\t\t\t\t", ".mrc\t10\t-60\t60\t3\t", 1))
    return tomograms
