"""The command init: configuration and tables from headers and from files beside the tomograms."""

import gzip
import re

import mrcfile
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
        "TS_7_EVN.mrc",
        "TS_7_odd.mrc",
        "TS_8.a.rec",
        "TS_8_a.mrc",
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
    # labels and masks are not tomograms; two files of one specimen are one
    assert list(rows.index) == ["TS_7_rec_bin4", "TS_8_a", "own"]
    row = rows.loc["TS_7_rec_bin4"]
    assert list(row[["tilt_low", "tilt_high", "voltage", "defocus"]]) == [
        "-54",
        "60.01",
        "200",
        "3.5",
    ]
    assert row["annotations"] == str(folder / "TS_7_annotations.csv")
    assert list(row[["even", "odd"]]) == [str(folder / f"TS_7_{h}.mrc") for h in ("EVN", "odd")]
    assert (row["contrast"], row["ctf"]) == ("dark", "raw")
    # a file of this program states its contrast, and its record the acquisition
    row = rows.loc["own"]
    assert list(row[["tilt_low", "tilt_high", "defocus"]]) == ["-45", "48", "2.5"]
    assert (row["contrast"], row["ctf"]) == ("bright", "phase-flipped")
    assert row["mask"] == str(folder / "own_mask.mrc")
    assert row[["even", "odd"]].isna().all()
    assert "One of: paper" not in (text := (folder / "config.yaml").read_text())
    assert "Any of: relion, copick, plain." in text
    # the box holds 1.3 times the largest particle of the example
    assert yaml.safe_load(text)["densities"]["box"] == 40


def test_the_workflow_accepts_the_files_of_init(cryoetgan, tomograms):
    cryoetgan("init", tomograms)
    assert load(tomograms / "config.yaml").run == "my_tomograms"
    assert len(read_classes(tomograms / "classes.tsv")) == 2


def write_tomograms(folder, rng, *names, shape=(40, 64, 64), **how):
    """Write different tomograms of 20 A; `how` sets image_stack or dtype."""
    folder.mkdir(exist_ok=True)
    for name in names:
        with mrcfile.new(folder / f"{name}.mrc") as file:
            data = rng.standard_normal(shape).astype(np.float32)
            file.set_data((data > 2).astype(np.int8) if how.get("labels") else data)
            if how.get("stack"):
                file.set_image_stack()
            file.voxel_size = how.get("size", 20)


def listed(cryoetgan, folder, *words):
    """Run `init`; return its messages and the table by tomogram."""
    said = cryoetgan("init", folder, "-o", "out", *words).stderr
    table = pd.read_csv("out/tomograms.tsv", sep="\t", dtype=str, keep_default_na=False)
    return said, table.set_index("tomogram")


def test_one_specimen_is_one_row_and_the_other_files_are_named(cryoetgan, tmp_path, rng):
    folder = tmp_path / "lab"
    write_tomograms(folder, rng, "TS_1_rec", "TS_1_EVN", "TS_1_ODD", "TS_1_rec_denoised")
    write_tomograms(folder, rng, "rec_Position_2_half1", "rec_Position_2_half2", "P_3", "TS_1_2")
    write_tomograms(folder, rng, "TS_1_tissue", "pattern", labels=True)
    write_tomograms(folder, rng, "TS_1", size=5, stack=True)
    write_tomograms(folder, rng, "P_3_aligned", shape=(39, 64, 64))
    (folder / "P_3_aligned.rawtlt").write_text("".join(f"{a}\n" for a in range(-57, 58, 3)))
    (folder / "P_3_link.mrc").symlink_to(folder / "P_3.mrc")
    (folder / "broken.mrc").write_bytes(b"MRC" * 500)
    said, table = listed(cryoetgan, folder)
    assert list(table.index) == ["P_3", "TS_1_2", "TS_1_rec", "rec_Position_2_half1"]
    for name, reason in {
        "TS_1_EVN": "half tomogram of the same specimen as TS_1_rec.mrc",
        "TS_1_rec_denoised": "denoised or corrected copy of the same specimen as TS_1_rec.mrc",
        "rec_Position_2_half2": "half tomogram of the same specimen as rec_Position_2_half1.mrc",
        "TS_1": "tilt series, not a tomogram",
        "P_3_aligned": "tilt series, not a tomogram",
        "pattern": "segmentation or mask",
        "P_3_link": "the same file as P_3.mrc",
        "broken": "cannot be read as MRC",
    }.items():
        assert re.search(rf"{name}\.mrc is not listed: .*{reason}", said), (name, said)
    assert table.loc["P_3", "tilt_low"] == "-57"  # of the aligned series


def test_a_header_is_not_made_more_credible_than_it_is(cryoetgan, tmp_path, rng):
    folder = tmp_path / "lab"
    sizes = {"cubic": 13.4812, "flat": (20, 20, 10), "unknown": 0, "one": 0.9999999, "metre": 2e-9}
    for name, size in sizes.items():
        write_tomograms(folder, rng, name, size=size)
    said, table = listed(cryoetgan, folder)
    assert dict(table["voxel_size"]) == {
        "cubic": "13.4812", "flat": "", "metre": "", "one": "", "unknown": "",
    }  # fmt: skip
    for name in ("flat", "unknown", "one", "metre"):
        assert f"{name}.mrc: the header" in said


def test_the_contrast_of_a_compressed_tomogram_is_not_measured(cryoetgan, tmp_path, rng):
    folder = tmp_path / "lab"
    write_tomograms(folder, rng, "TS_1", "TS_2")
    (folder / "TS_1.mrc.gz").write_bytes(gzip.compress((folder / "TS_1.mrc").read_bytes()))
    (folder / "TS_1.mrc").unlink()
    said, table = listed(cryoetgan, folder)
    assert "TS_1.mrc.gz: is compressed, so its contrast is not measured" in said
    assert dict(table["contrast"]) == {"TS_1": "dark", "TS_2": "dark"}


def test_tilts_of_several_files_are_merged_and_compared(cryoetgan, tmp_path, rng):
    folder = tmp_path / "lab"
    write_tomograms(folder, rng, "TS_1_rec", "TS_1_2", "rec_TS_3")
    (folder / "TS_1.tlt").write_text("-61.5\n-1.5\n43.5\n")  # asymmetric
    mdoc = "Voltage = 200\nTiltAngle = -60\nTiltAngle = 45\nTargetDefocus = -3\n"
    (folder / "TS_1.mrc.mdoc").write_text(mdoc)
    (folder / "TS_3.rawtlt").write_text("-30 0\n30 3\n")
    (folder / "TS_3.tlt").write_text("-60\n60\n")
    (folder / "TS_3.aln").write_text("no angle\n")
    said, table = listed(cryoetgan, folder)
    columns = ["tilt_low", "tilt_high", "voltage", "defocus"]
    assert list(table.loc["TS_1_rec", columns]) == ["-61.5", "43.5", "200", "3"]
    # the files of TS_1 do not belong to TS_1_2
    assert list(table.loc["TS_1_2", columns]) == ["", "", "", ""]
    assert list(table.loc["rec_TS_3", columns[:2]]) == ["-60", "60"]
    assert "TS_3.rawtlt has -30 to 30" in said
    assert said.count("TS_3.aln: no tilt angles") == 1


def test_two_folders_of_one_name_do_not_share_results(cryoetgan, tmp_path, rng):
    for lab in ("a", "b"):
        (tmp_path / lab).mkdir()
        write_tomograms(tmp_path / lab / "data", rng, f"TS_{lab}")
        (tmp_path / lab / "data" / f"TS_{lab}.tlt").write_text("-60\n60\n")
        cryoetgan("init", f"{lab}/data")
        assert load(tmp_path / lab / "data/config.yaml").run == "data"
    results = tmp_path / "results" / "data"
    results.mkdir(parents=True)
    (results / "config.yaml").write_text((tmp_path / "a/data/config.yaml").read_text())
    cryoetgan("check", "--config", "a/data/config.yaml")
    done = cryoetgan("check", "--config", "b/data/config.yaml", code=2)
    assert "holds the results of the tomograms in a/data/tomograms.tsv" in done.stdout
    assert "Set another `run`" in done.stdout
    # a new folder gets another name at once
    (tmp_path / "c").mkdir()
    write_tomograms(tmp_path / "c/data", rng, "TS_c")
    assert "results/data exists" in cryoetgan("init", "c/data").stderr
    assert load(tmp_path / "c/data/config.yaml").run == "data_2"
