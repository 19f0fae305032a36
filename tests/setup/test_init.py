"""The command init: configuration and tables from headers and from files beside the tomograms."""

import numpy as np
import pandas as pd
import pytest
import yaml

from cryoetgan.config import load
from cryoetgan.io.files import sidecar, write_json
from cryoetgan.io.mrc import PROTEIN_BRIGHT, write_volume
from cryoetgan.physics.acquisition import Acquisition
from cryoetgan.tables import read_classes
from tests.conftest import refused


def test_init_fills_config_and_tables_from_the_headers(cryoetgan, tomograms):
    said = cryoetgan("init", tomograms).stderr
    assert "TS_02" in said
    # the printed command is quoted for the shell: the path holds a blank
    assert f"cryoetgan check --config '{tomograms / 'config.yaml'}'" in said
    rows = pd.read_csv(tomograms / "tomograms.tsv", sep="\t")
    assert rows["voxel_size"][0] == pytest.approx(13.48)
    assert np.isnan(rows["voxel_size"][1])
    assert (rows["tilt_low"][0], rows["tilt_high"][0]) == (-51, 54)
    # unknown values must be filled in: check names the first one
    wanted = ("row 3", "tilt_low is missing")
    refused(cryoetgan("check", "--config", tomograms / "config.yaml", code=2), *wanted)


def test_init_changes_no_file_that_exists(cryoetgan, configured):
    cryoetgan("check", "--config", configured / "config.yaml")
    before = {path: path.read_bytes() for path in configured.iterdir()}
    cryoetgan("init", configured)
    assert {path: path.read_bytes() for path in configured.iterdir()} == before


def test_init_reads_the_files_that_belong_to_a_tomogram(cryoetgan, tmp_path):
    folder = tmp_path / "data"
    folder.mkdir()
    for name in (
        "TS_7_rec_bin4.mrc",
        "TS_7_rec_bin4.rec",
        "own.mrc",
        "own_labels.mrc",
        "own_mask.mrc",
    ):
        write_volume(folder / "v.mrc", np.zeros((4, 6, 8), np.float32), 9.5)
        (folder / "v.mrc").rename(folder / name)
    mdoc = "Voltage = 200\n" + "".join(
        f"[ZValue = {n}]\nTiltAngle = {angle}\nTargetDefocus = -3.5\n"
        for n, angle in enumerate((0.02, -54.0, 60.01))
    )
    (folder / "TS_7.mdoc").write_text(mdoc)
    (folder / "TS_7_annotations.csv").write_text("x,y,z,class\n")
    write_volume(folder / "own.mrc", np.zeros((4, 6, 8), np.float32), 9.5, [PROTEIN_BRIGHT])
    recorded = Acquisition(tilt_low=-45, tilt_high=48, defocus=2.5, ctf="phase-flipped")
    write_json(sidecar(folder / "own.mrc"), {"acquisition": recorded.to_json()})
    said = cryoetgan("init", folder).stderr
    assert f"cryoetgan check --config {folder / 'config.yaml'}" in said
    rows = pd.read_csv(folder / "tomograms.tsv", sep="\t", dtype=str).set_index("tomogram")
    # labels and masks are not tomograms; a repeated name gets a number
    assert list(rows.index) == ["TS_7_rec_bin4", "TS_7_rec_bin4_2", "own"]
    row = rows.loc["TS_7_rec_bin4"]
    assert list(row[["tilt_low", "tilt_high", "voltage", "defocus"]]) == [
        "-54",
        "60.01",
        "200",
        "3.5",
    ]
    assert row["annotations"] == str(folder / "TS_7_annotations.csv")
    assert (row["contrast"], row["ctf"]) == ("dark", "raw")
    # a file of this program states its contrast, and its record the acquisition
    row = rows.loc["own"]
    assert list(row[["tilt_low", "tilt_high", "defocus"]]) == ["-45", "48", "2.5"]
    assert (row["contrast"], row["ctf"]) == ("bright", "phase-flipped")
    assert row["mask"] == str(folder / "own_mask.mrc")
    assert "One of: paper" not in (text := (folder / "config.yaml").read_text())
    assert "Any of: relion, copick, plain." in text
    # the box holds 1.3 times the largest particle of the example
    assert yaml.safe_load(text)["densities"]["box"] == 40


def test_the_workflow_accepts_the_files_of_init(cryoetgan, tomograms):
    cryoetgan("init", tomograms)
    assert load(tomograms / "config.yaml").run == "my_tomograms"
    assert len(read_classes(tomograms / "classes.tsv")) == 2
