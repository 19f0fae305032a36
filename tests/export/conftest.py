"""A generated set (no places) and an extracted one (places in a tomogram)."""

import numpy as np
import pandas as pd
import pytest

from cryoetgan.io.files import sidecar, write_json
from cryoetgan.io.mrc import write_volume
from cryoetgan.io.star import ANGLES, COORDINATES, write_star
from cryoetgan.io.volume_set import write_volume_set
from cryoetgan.physics.acquisition import Acquisition

BOX, VOXEL = 12, 13.68
SHAPE = (24, 40, 51)  # zyx of the tomogram; x is odd


@pytest.fixture
def generated(tmp_path, rng):
    table = pd.DataFrame({"cryoetganClass": ["a_x", "b", "a_x"]})
    table[ANGLES] = rng.uniform(10, 80, (3, 3)).round(4)
    table["rlnOriginXAngst"] = [VOXEL, 0.0, -2 * VOXEL]
    table["rlnOriginYAngst"] = [0.0, 0.0, 3.0]
    table["rlnOriginZAngst"] = 0.0
    table["cryoetganSource"] = "generated"
    volumes = rng.standard_normal((3, BOX, BOX, BOX)).astype(np.float32)
    optics = pd.DataFrame([Acquisition(tilt_low=-50, defocus=3.0).to_optics(1, "t")])
    write_volume_set(tmp_path / "g.star", volumes, table, VOXEL, optics)
    return volumes, table


@pytest.fixture
def extracted(tmp_path, rng):
    """Two tomograms, one of which was bright in the user's own file."""
    table = pd.DataFrame({"rlnTomoName": ["TS_1", "TS_1", "TS_2"]})
    table["cryoetganClass"] = ["a_x", "b", "b"]
    table[COORDINATES] = [[25.5, 20.0, 12.0], [10.25, 8.0, 7.5], [30.0, 30.0, 10.0]]
    table[ANGLES] = rng.uniform(10, 80, (3, 3)).round(4)
    table["cryoetganScore"] = [0.9, 0.8, 0.7]
    table["rlnOpticsGroup"] = [1, 1, 2]
    recorded = [Acquisition(ctf="corrected"), Acquisition(contrast="bright", tilt_high=44)]
    optics = pd.DataFrame([a.to_optics(n, f"g{n}") for n, a in enumerate(recorded, start=1)])
    volumes = rng.standard_normal((3, BOX, BOX, BOX)).astype(np.float32)
    write_volume_set(tmp_path / "s.star", volumes, table, VOXEL, optics)
    write_star(tmp_path / "p.star", table)
    for name, how in zip(("TS_1", "TS_2"), recorded, strict=True):
        path = tmp_path / f"{name}.mrc"
        write_volume(path, rng.standard_normal(SHAPE).astype(np.float32), VOXEL)
        write_json(sidecar(path), {"acquisition": how.to_json()})
    return volumes, table


@pytest.fixture
def of_sets(extracted, tmp_path):
    """Write `sets.star`: boxes of a set, and `mixed.star`, whose last row is of a tomogram."""
    volumes, table = extracted
    rows = table.assign(rlnTomoName="boxes", cryoetganBoxEdge=20)
    rows["rlnCoordinateZ"] += 20 * np.arange(len(rows))
    write_volume_set(tmp_path / "sets.star", volumes, rows, VOXEL)
    mixed = pd.concat([rows[:2], table[2:]], ignore_index=True)
    write_volume_set(tmp_path / "mixed.star", volumes, mixed, VOXEL)
