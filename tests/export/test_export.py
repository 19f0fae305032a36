"""Exports: other readers open them; contrast, angles, sizes come back right."""

import mrcfile
import numpy as np
import pandas as pd
import pytest
import starfile

from cryoetgan.acquisition import Acquisition
from cryoetgan.export.relion import transfer_volume
from cryoetgan.geometry import rotation_from_relion
from cryoetgan.star import ANGLES, COORDINATES, write_star
from cryoetgan.volumes import write_volume, write_volume_set
from tests.conftest import refused


@pytest.fixture
def made(tmp_path, rng):
    table = pd.DataFrame({"cryoetganClass": ["a", "b", "a"]})
    table[ANGLES] = rng.uniform(-90, 90, (3, 3))
    table["rlnOriginXAngst"] = [1.0, 2.0, 3.0]
    volumes = rng.standard_normal((3, 12, 12, 12)).astype(np.float32)
    optics = pd.DataFrame([Acquisition(tilt_low=-50, defocus=3.0).to_optics(1, "t")])
    write_volume_set(tmp_path / "g.star", volumes, table, 13.68, optics)
    return volumes, table


def test_relion_reads_back_what_was_there(cryoetgan, tmp_path, made):
    volumes, table = made
    cryoetgan("export", "relion", "g.star", "-o", "out folder")
    blocks = starfile.read(tmp_path / "out folder" / "particles.star")
    particles, optics = blocks["particles"], blocks["optics"]
    assert np.allclose(particles[ANGLES], table[ANGLES], atol=1e-5)
    assert np.allclose(particles["rlnOriginXAngst"], table["rlnOriginXAngst"])
    assert float(optics["rlnImagePixelSize"].iloc[0]) == pytest.approx(13.68)
    for row, volume in zip(particles.to_dict("records"), volumes, strict=True):
        path = tmp_path / "out folder" / row["rlnImageName"]
        assert mrcfile.validate(path)
        with mrcfile.open(path) as file:
            assert np.allclose(file.data, -volume)  # the user's own contrast: protein dark
            assert file.voxel_size.x == pytest.approx(13.68)
        assert (tmp_path / "out folder" / row["rlnCtfImage"]).exists()
    cryoetgan("export", "relion", "g.star", "--contrast", "bright", "-o", "bright")
    with mrcfile.open(tmp_path / "bright" / "Subtomograms" / "a_000001.mrc") as file:
        assert np.allclose(file.data, volumes[0])
    refused(
        cryoetgan("export", "relion", "g.star", "--contrast", "grey", "-o", "x", code=2), "grey"
    )


@pytest.mark.parametrize("box", [12, 13])
def test_the_transfer_volume_filters_as_the_half_space_does(rng, box):
    recorded = Acquisition(tilt_low=-40, defocus=3.0)
    full = np.fft.ifftshift(transfer_volume(recorded, box, 10.0))
    volume = rng.standard_normal((box,) * 3)
    filtered = np.fft.ifftn(np.fft.fftn(volume) * full)
    assert np.abs(filtered.imag).max() < 1e-6
    assert full[2, 0, 0] == 0  # along the beam: never seen
    assert full[0, 0, 2] > 0


def test_plain_files_and_tables(cryoetgan, tmp_path, made):
    volumes, table = made
    cryoetgan("export", "plain", "g.star", "-o", "plain")
    rows = pd.read_csv(tmp_path / "plain" / "particles.csv")
    assert list(rows["class"]) == ["a", "b", "a"]
    with mrcfile.open(tmp_path / "plain" / rows["file"][1]) as file:
        assert np.allclose(file.data, -volumes[1])
    dynamo = np.loadtxt(tmp_path / "plain" / "dynamo.tbl")
    assert dynamo.shape == (3, 35)
    from scipy.spatial.transform import Rotation

    turned = Rotation.from_euler("zxz", dynamo[:, 6:9], degrees=True)
    ours = rotation_from_relion(table[ANGLES].to_numpy())
    assert (turned.inv() * ours).magnitude().max() < np.radians(0.5)


def test_copick_opens_the_project(cryoetgan, tmp_path, rng):
    copick = pytest.importorskip("copick")
    tomogram = rng.standard_normal((24, 30, 36)).astype(np.float32)
    write_volume(tmp_path / "TS_1.mrc", tomogram, 10.0)
    labels = np.zeros((24, 30, 36), np.int16)
    labels[10, 12, 14] = 1
    write_volume(tmp_path / "TS_1_labels.mrc", labels, 10.0)
    table = pd.DataFrame([[14.0, 12.0, 10.0]], columns=COORDINATES)
    table[ANGLES] = [[10.0, 20.0, 30.0]]
    table["rlnTomoName"], table["cryoetganClass"] = "TS_1", "my_class"
    write_star(tmp_path / "p.star", table)
    cryoetgan(
        "export", "copick", "TS_1.mrc", "--particles", "p.star", "--labels", "TS_1_labels.mrc",
        "-o", "project",
    )  # fmt: skip
    root = copick.from_file(str(tmp_path / "project" / "config.json"))
    (run,) = root.runs
    spacing = run.get_voxel_spacing(10.0)
    (stored,) = spacing.tomograms
    assert np.allclose(stored.numpy(), tomogram, atol=1e-3)
    (picks,) = run.get_picks("my-class")
    points, turns = picks.numpy()
    assert np.allclose(points, [[140, 120, 100]])
    assert np.allclose(
        turns[0, :3, :3], rotation_from_relion([10.0, 20.0, 30.0]).as_matrix(), atol=1e-6
    )
    (segmentation,) = run.get_segmentations()
    assert segmentation.numpy()[10, 12, 14] == 1
