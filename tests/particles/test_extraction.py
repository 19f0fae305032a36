"""Extraction: grey values and positions at the nearest voxels, power and phase between voxels."""

import math
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from cryoetgan.errors import UserError
from cryoetgan.io.files import read_json, sidecar, write_json
from cryoetgan.io.mrc import write_volume
from cryoetgan.io.star import COORDINATES, ORIGINS, picks_table, read_star, write_star
from cryoetgan.io.volume_set import read_volume_set
from cryoetgan.particles.extraction import box_fits, extract_box, extract_boxes
from cryoetgan.physics.acquisition import Acquisition
from tests.conftest import refused


@pytest.mark.parametrize("box", [16, 17])
def test_extraction_between_voxels_keeps_the_power_of_every_shell(rng, box):
    # white noise without its highest frequency, whose phase is unknown between voxels
    volume = rng.standard_normal((64, 64, 64)).astype(np.float32)
    power = {shift: np.zeros(box // 2) for shift in (0.0, 0.5)}
    frequency = [np.fft.fftfreq(box)] * 2 + [np.fft.rfftfreq(box)]
    radius = np.sqrt(sum(f**2 for f in np.meshgrid(*frequency, indexing="ij"))) * box
    shell = np.rint(radius).astype(int)
    for shift, total in power.items():
        for place in rng.integers(24, 40, (60, 3)):
            cut = extract_box(volume, place + shift, box)
            spectrum = np.abs(np.fft.rfftn(cut)) ** 2
            total += np.bincount(shell.ravel(), spectrum.ravel())[: box // 2]
    # a cubic spline leaves a third of the last shell
    assert power[0.5][1:] / power[0.0][1:] == pytest.approx(1, abs=0.1)


def test_a_wave_between_voxels_is_extracted_right(rng):
    z, y, x = np.indices((64, 60, 56)).astype(float)
    for k in rng.uniform(-0.4, 0.4, (6, 3)):
        place = rng.uniform(24, 32, 3)
        cut = extract_box(np.cos(2 * np.pi * (k[0] * x + k[1] * y + k[2] * z)), place, 16)
        at = np.indices((16,) * 3)[::-1] - 8 + place[:, None, None, None]
        exact = np.cos(2 * np.pi * np.tensordot(k, at, 1))
        assert np.abs(cut - exact).max() < 0.025, k


def test_extraction_is_centred_subvoxel():
    z, y, x = np.indices((40, 44, 48)).astype(float)
    centre = np.array([23.3, 20.6, 18.2])  # xyz
    square = (x - centre[0]) ** 2 + (y - centre[1]) ** 2 + (z - centre[2]) ** 2
    volume = np.exp(-square / 12).astype(np.float32)
    box = extract_box(volume, centre, 16)
    zz, yy, xx = np.indices((16, 16, 16)) - 8
    assert np.allclose(box, np.exp(-(xx**2 + yy**2 + zz**2) / 12), atol=2e-3)
    whole = extract_box(volume, np.array([23, 20, 18]), 16)
    assert np.array_equal(whole, volume[10:26, 12:28, 15:31])


def test_boxes_at_the_nearest_voxels_keep_grey_values_and_positions(cryoetgan, tmp_path, rng):
    volume = rng.standard_normal((40, 44, 48)).astype(np.float32)
    write_volume(tmp_path / "t1.mrc", volume, 10.0)
    places = rng.uniform(9, 30, (20, 3))
    table = pd.DataFrame(places, columns=COORDINATES).assign(rlnTomoName="t1")
    table.loc[0, COORDINATES] = 20.5, 21.5, 18.49  # a half goes up, as elsewhere
    origins = rng.uniform(-5, 5, (20, 3))
    for name, known in (
        ("plain", table),
        ("moved", table.assign(**dict(zip(ORIGINS, origins.T, strict=True)))),
    ):
        write_star(tmp_path / f"{name}.star", known)
        words = ("--tomogram", "t1.mrc", "--box", 16, "-o", f"{name}_s.star")
        cryoetgan("particles", "extract", f"{name}.star", *words)
        made = read_volume_set(tmp_path / f"{name}_s.star")
        whole = made.table[COORDINATES].to_numpy(int)
        assert list(whole[0]) == [21, 22, 18]
        for box, (x, y, z) in zip(made.volumes, whole, strict=True):
            assert np.array_equal(box, volume[z - 8 : z + 8, y - 8 : y + 8, x - 8 : x + 8])
        # position of the particle: coordinate - origin / voxel size, before and after
        was = known[COORDINATES].to_numpy(float) - (origins / 10 if name == "moved" else 0)
        now = whole - made.table[ORIGINS].to_numpy(float) / 10
        assert np.allclose(now, was, atol=1e-5)


def test_boxes_of_many_particles_hold_little_of_a_large_tomogram(tmp_path, rng):
    shape = (200, 1000, 1000)
    with open(tmp_path / "large", "wb") as file:
        file.truncate(4 * math.prod(shape))  # no room on the disk
    volume = np.memmap(tmp_path / "large", np.float32, "r", shape=shape)

    def held():  # megabytes of files in this process's memory
        status = Path("/proc/self/status").read_text()
        return int(re.search(r"RssFile:\s+(\d+)", status)[1]) / 1024

    before, most = held(), 0.0
    for _ in extract_boxes(volume, np.round(rng.uniform(20, 180, (80, 3))) * [5, 5, 1], 28):
        most = max(most, held() - before)
    # each touches 28 x 28 rows, a page or two a row: 250 MB and more in all
    assert most < 100


def test_the_border_rule():
    shape = (40, 44, 48)
    assert box_fits(np.array([8, 8, 8]), shape, 16)
    assert not box_fits(np.array([7.9, 8, 8]), shape, 16)
    assert box_fits(np.array([40, 36, 32]), shape, 16)
    assert not box_fits(np.array([40.1, 36, 32]), shape, 16)


def test_the_command_keeps_rows_splits_and_geometry(cryoetgan, tmp_path, rng):
    for name, low in (("t1", -60), ("t2", -40)):
        write_volume(tmp_path / f"{name}.mrc", rng.standard_normal((40, 44, 48)), 10.0)
        write_json(
            sidecar(tmp_path / f"{name}.mrc"),
            {"acquisition": Acquisition(tilt_low=low, defocus=3.0).to_json()},
        )
    table = pd.DataFrame(
        {
            "rlnTomoName": ["t1", "t2", "t2"],
            "rlnCoordinateX": [20.0, 24.0, 2.0],
            "rlnCoordinateY": [20.0, 21.0, 20.0],
            "rlnCoordinateZ": [20.0, 19.0, 20.0],
            "cryoetganClass": ["a", "b", "b"],
            "cryoetganSplit": ["train", "test", "test"],
        }
    )
    write_star(tmp_path / "p.star", table)
    words = ("particles", "extract", "p.star", "--tomogram", "t1.mrc", "--tomogram", "t2.mrc")
    said = cryoetgan(*words, "--box", 16, "-o", "s.star").stderr
    assert "1 of 3 boxes" in said
    made = read_volume_set(tmp_path / "s.star")
    assert list(made.table["cryoetganSplit"]) == ["train", "test"]
    assert set(made.table["cryoetganSource"]) == {"real"}
    inputs = read_json(sidecar(tmp_path / "s.star"))["provenance"]["inputs"]
    assert set(inputs) == {"p.star", "t1.mrc", "t2.mrc"}
    groups = made.optics.set_index("rlnOpticsGroup")
    second = groups.loc[made.table["rlnOpticsGroup"][1]]
    assert Acquisition.from_optics(second.to_dict()).tilts == (-40, 60)
    done = cryoetgan("particles", "extract", "p.star", "--tomogram", "t1.mrc", "--box", 16, "-o", "x.star", code=2)  # fmt: skip
    refused(done, "'t2'")
    done = cryoetgan(*words, "--box", 64, "-o", "x.star", code=2)
    refused(done, "--box")


def test_no_pick_becomes_an_empty_set_a_page_and_an_export(cryoetgan, tmp_path, rng):
    tomogram, picks, made = (tmp_path / name for name in ("t.mrc", "p.star", "set.star"))
    write_volume(tomogram, rng.standard_normal((20, 24, 24)).astype(np.float32), 10.0)
    write_star(picks, picks_table("t", np.zeros((0, 3)), {"cryoetganClass": []}), voxel_size=10.0)
    words = ("particles", "extract", picks, "--tomogram", tomogram, "--box", 8, "-o", made)
    refused(cryoetgan(*words, code=2), "hold no particle", "detection.threshold")
    assert not made.exists()
    assert "the set is empty" in cryoetgan(*words, "--allow-empty").stderr
    with pytest.raises(UserError, match="holds no volume"):
        read_volume_set(made)
    opened = read_volume_set(made, allow_empty=True)
    assert (opened.volumes.shape, opened.voxel_size) == ((0, 8, 8, 8), 10.0)
    cryoetgan("particles", "gallery", made, "-o", tmp_path / "page.html")
    assert "set: 0 boxes" in (tmp_path / "page.html").read_text()
    cryoetgan("export", "relion", made, "--tomogram", tomogram, "-o", tmp_path / "export")
    for name in ("particles.star", "particles_relion5.star"):
        assert not len(read_star(tmp_path / "export" / name).particles)
    cryoetgan("validate", tmp_path)
    # a set that has lost its rows is no empty set
    write_volume(tmp_path / "lost.mrcs", rng.random((8, 8, 8), np.float32), 10.0)
    (tmp_path / "lost.star").write_text(made.read_text())
    done = cryoetgan("validate", tmp_path, code=2)
    refused(done, "2 of")
    assert "lost.star: holds no volume" in done.stdout
