"""RELION: read back with starfile, mrcfile and copick's RELION reader."""

import mrcfile
import numpy as np
import pytest
import starfile

from cryoetgan.export.relion import (
    centred_angstrom,
    fall_off,
    fall_off_volume,
    normalise_background,
    transfer_volume,
)
from cryoetgan.io.mrc import write_volume
from cryoetgan.io.star import ANGLES
from cryoetgan.physics.acquisition import Acquisition
from cryoetgan.physics.geometry import rotation_from_relion
from cryoetgan.physics.optics import ctf, radius_grid
from tests.conftest import refused
from tests.export.conftest import BOX, SHAPE, VOXEL

BOTH = ("--tomogram", "TS_1.mrc", "--tomogram", "TS_2.mrc")


def test_relion_reads_back_what_was_there(cryoetgan, tmp_path, generated):
    volumes, table = generated
    cryoetgan("export", "relion", "g.star", "-o", "out folder")
    blocks = starfile.read(tmp_path / "out folder" / "particles.star", always_dict=True)
    particles, optics = blocks["particles"], blocks["optics"]
    assert np.allclose(particles[ANGLES], table[ANGLES], atol=1e-5)
    assert np.allclose(particles["rlnOriginXAngst"], table["rlnOriginXAngst"])
    assert list(particles["cryoetganClass"]) == ["a_x", "b", "a_x"]
    row = optics.iloc[0]
    assert float(row["rlnImagePixelSize"]) == pytest.approx(VOXEL)
    assert (row["rlnImageSize"], row["rlnImageDimensionality"]) == (BOX, 3)
    assert (row["rlnVoltage"], row["rlnSphericalAberration"]) == (300, 2.7)
    for record, volume in zip(particles.to_dict("records"), volumes, strict=True):
        path = tmp_path / "out folder" / record["rlnImageName"]
        assert mrcfile.validate(path)
        with mrcfile.open(path) as file:
            # protein bright, as RELION assumes
            assert np.allclose(file.data, normalise_background(volume), atol=1e-5)
            assert file.voxel_size.x == pytest.approx(VOXEL)
        with mrcfile.open(tmp_path / "out folder" / record["rlnCtfImage"]) as file:
            assert file.data.shape == (BOX, BOX, BOX)
    assert "protein bright" in (tmp_path / "out folder" / "README.md").read_text()
    assert not (tmp_path / "out folder" / "particles_relion5.star").exists()


def test_contrast_is_bright_unless_told(cryoetgan, tmp_path, extracted):
    volumes, _ = extracted
    for words, sign in (((), 1), (("--contrast", "dark"), -1)):
        cryoetgan("export", "relion", "s.star", *words, "-o", "out")
        names = starfile.read(tmp_path / "out/particles.star")["particles"]["rlnImageName"]
        for name, volume in zip(names, volumes, strict=True):
            found = mrcfile.read(tmp_path / "out" / name)
            assert np.allclose(found, sign * normalise_background(volume), atol=1e-5)
    refused(
        cryoetgan("export", "relion", "s.star", "--contrast", "grey", "-o", "x", code=2),
        "--contrast",
        "grey",
    )


def test_relion5_coordinates_against_a_hand_computed_case(cryoetgan, tmp_path, extracted):
    # X = 51, Y = 40, Z = 24 voxels of 13.68 A. First particle: x = 25.5 is the middle of X,
    # y = 20 that of Y, z = 12 that of Z; second: (10.25 - 25.5) * 13.68 = -208.62, and so on
    cryoetgan("export", "relion", "s.star", *BOTH, "-o", "o")
    found = starfile.read(tmp_path / "o/particles_relion5.star")
    centred = found[[f"rlnCenteredCoordinate{axis}Angst" for axis in "XYZ"]].to_numpy()
    assert np.allclose(centred[0], 0)
    assert np.allclose(centred[1], [-208.62, -164.16, -61.56])
    assert np.allclose(centred[2], [61.56, 136.8, -27.36])
    assert list(found["rlnTomoName"]) == ["TS_1", "TS_1", "TS_2"]


@pytest.mark.parametrize("words", [("--tilt-axis", "x"), ("--beam-axis", "y")])
def test_relion5_places_are_those_of_the_users_own_file(cryoetgan, tmp_path, rng, words):
    write_volume(tmp_path / "in.mrc", rng.standard_normal((40, 46, 52)).astype(np.float32), 10.0)
    marks = "x,y,z,class,rlnAngleRot,rlnAngleTilt,rlnAnglePsi\n24.5,20,19,a,20,40,-30\n"
    (tmp_path / "m.csv").write_text(marks + "26,23,20,b,0,90,10\n")
    made = ("tomograms", "import", "in.mrc", "--voxel-size", 15, *words, "-o", "T.mrc")
    for command in (
        made,
        ("particles", "import", "m.csv", "--tomogram", "T.mrc", "-o", "p.star"),
        (
            "particles",
            "extract",
            "p.star",
            "--tomogram",
            "T.mrc",
            "--box",
            12,
            "--subpixel",
            "-o",
            "s.star",
        ),
        ("export", "relion", "s.star", "--tomogram", "T.mrc", "-o", "o"),
        ("particles", "import", "o/particles_relion5.star", "--tomogram", "T.mrc", "-o", "q.star"),
    ):
        cryoetgan(*command)
    found = starfile.read(tmp_path / "o/particles_relion5.star")
    centred = found[[f"rlnCenteredCoordinate{axis}Angst" for axis in "XYZ"]].to_numpy()
    assert np.allclose(centred, [[-15, -30, -10], [0, 0, 0]], atol=0.01)
    turns = rotation_from_relion(found[ANGLES].to_numpy(float))
    typed = rotation_from_relion([[20, 40, -30], [0, 90, 10]])
    assert np.allclose(turns.as_matrix(), typed.as_matrix(), atol=1e-4)
    # and back again
    there, back = (starfile.read(tmp_path / n)["particles"] for n in ("p.star", "q.star"))
    places = [f"rlnCoordinate{axis}" for axis in "XYZ"]
    assert np.allclose(there[places], back[places], atol=1e-3)
    turns = [rotation_from_relion(t[ANGLES].to_numpy(float)).as_matrix() for t in (there, back)]
    assert np.allclose(*turns, atol=1e-4)


def test_another_reader_puts_relion5_particles_where_they_were(cryoetgan, tmp_path, extracted):
    formats = pytest.importorskip("copick.util.formats")
    relion = pytest.importorskip("copick.util.relion")
    _, table = extracted
    words = ("--tilt-series-pixel-size", 1.71, "-o", "o")
    cryoetgan("export", "relion", "s.star", *BOTH, *words)
    path = str(tmp_path / "o/particles_relion5.star")
    found, optics = formats.read_star_particles_with_optics(path)
    centre = tuple(np.array(SHAPE[::-1]) / 2 * VOXEL)
    where = formats.relion_coordinates_to_angstrom(
        found, tomogram_centers={"TS_1": centre, "TS_2": centre}
    )
    assert np.allclose(where / VOXEL, table[[f"rlnCoordinate{a}" for a in "XYZ"]], atol=1e-4)
    turns, _ = relion.relion_rows_to_poses(found)
    assert np.allclose(turns, rotation_from_relion(table[ANGLES]).as_matrix(), atol=1e-5)
    sizes = formats.relion_tilt_series_pixel_sizes(found, optics)
    assert np.allclose(sizes, 1.71)


def test_a_tomogram_that_is_not_given_is_named(cryoetgan, tmp_path, extracted):
    done = cryoetgan("export", "relion", "s.star", "--tomogram", "TS_1.mrc", "-o", "o", code=2)
    refused(done, "TS_2", "--tomogram")
    assert not (tmp_path / "o").exists()


@pytest.mark.parametrize("name", ["sets", "mixed"])
def test_boxes_of_a_set_have_no_coordinates(cryoetgan, tmp_path, of_sets, name):
    said = cryoetgan("export", "relion", f"{name}.star", "-o", "o").stderr
    assert "--tomogram" not in said
    found = starfile.read(tmp_path / "o/particles.star")["particles"]
    assert len(found) == 3
    assert not [column for column in found if "Coordinate" in column]
    done = cryoetgan("export", "relion", f"{name}.star", *BOTH, "-o", "p", code=2)
    refused(done, "set of subtomograms 'boxes'", "without --tomogram")


def test_generated_particles_lie_in_no_tomogram(cryoetgan, tmp_path, generated, extracted):
    done = cryoetgan("export", "relion", "g.star", "--tomogram", "TS_1.mrc", "-o", "o", code=2)
    refused(done, "rlnCoordinateX")


def test_the_middle_of_a_tomogram_is_zero():
    assert centred_angstrom(np.array([50.0, 0, 10]), (20, 8, 100), 2.0).tolist() == [0, -8, 0]


@pytest.mark.parametrize("box", [12, 13])
def test_the_transfer_volume_filters_as_the_half_space_does(rng, box):
    recorded = Acquisition(tilt_low=-40, defocus=3.0)
    full = np.fft.ifftshift(transfer_volume(recorded, box, 10.0))
    volume = rng.standard_normal((box,) * 3)
    filtered = np.fft.ifftn(np.fft.fftn(volume) * full)
    assert np.abs(filtered.imag).max() < 1e-6
    assert full[2, 0, 0] == 0  # along the beam: never seen
    assert full[0, 0, 2] > 0


def test_the_ctf_keeps_its_sign_for_raw_data_only():
    # defocus 4 um and 10 A voxels: within the band the CTF changes its sign
    box, size = 24, 10.0
    shell = next(k for k in range(1, 12) if ctf(np.array(k / (box * size)), 4.0) < 0)
    at = box // 2, box // 2 + shell, box // 2
    volumes = {
        state: transfer_volume(Acquisition(defocus=4.0, ctf=state), box, size)
        for state in ("raw", "phase-flipped", "corrected")
    }
    assert volumes["raw"][at] == pytest.approx(ctf(np.array(shell / (box * size)), 4.0), abs=1e-5)
    assert volumes["phase-flipped"][at] == pytest.approx(-volumes["raw"][at])
    assert volumes["corrected"][at] == 1


def noise(rng, count=30, box=16, edge=None):
    """White noise, behind a Gaussian low-pass exp(-(k / edge)^2 / 2), k in Fourier voxels."""
    white = rng.standard_normal((count, 2 * box, 2 * box, 2 * box))
    if edge is not None:
        k = radius_grid((2 * box,) * 3, 1 / box)
        white = np.fft.irfftn(np.fft.rfftn(white, axes=(1, 2, 3)) * np.exp(-((k / edge) ** 2) / 2))
    return white[:, :box, :box, :box]  # cropped, as all boxes are


def test_white_noise_has_no_fall_off(rng):
    assert np.allclose(fall_off(noise(rng), 16, (-60, 60)), 1)


def test_the_fall_off_is_that_of_the_filter_wherever_the_noise_is_weak(rng):
    edge = 4.0
    found = fall_off(noise(rng, edge=edge), 16, (-90, 90))
    filtered = np.exp(-((np.arange(9) / edge) ** 2) / 2)
    weak = (found > 0) & (found < 0.95)
    assert weak.sum() >= 2
    # up to a factor, the same amplitude: the window mixes neighbouring shells
    assert np.ptp(np.log(found[weak] / filtered[weak])) < np.log(1.3)
    assert np.all(np.diff(found) <= 1e-9)


def test_shells_beyond_a_low_pass_are_empty(rng):
    found = fall_off(noise(rng, edge=1.5), 16, (-60, 60))
    assert found[:3].tolist() == [1, 1, 1]
    assert not found[6:].any()


def test_the_volume_of_a_fall_off_is_radial():
    volume = fall_off_volume(np.array([1, 1, 0.5, 0.25]), 6)
    assert volume[3, 3, 3:].tolist() == [1, 1, 0.5]
    assert volume[3, 3, 0] == volume[0, 3, 3] == 0.25


@pytest.mark.parametrize("box", [12, 13])
def test_background_has_mean_0_and_sd_1_whatever_is_inside(rng, box):
    z, y, x = np.indices((box,) * 3) - box // 2
    ball = z**2 + y**2 + x**2 < (box / 4) ** 2
    volume = 3 + 0.2 * rng.standard_normal((box,) * 3) + 50 * ball
    found = normalise_background(volume)
    outside = z**2 + y**2 + x**2 > (box // 2) ** 2
    assert found[outside].mean() == pytest.approx(0, abs=1e-5)
    assert found[outside].std() == pytest.approx(1, rel=1e-5)
    assert np.allclose(found, normalise_background(7 * volume - 2), atol=1e-4)
    assert not normalise_background(np.full((4, 4, 4), 2.0)).any()


@pytest.mark.parametrize("verb", ["relion", "plain", "copick"])
def test_a_failure_leaves_what_was_there(cryoetgan, tmp_path, verb):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("keep")
    refused(cryoetgan("export", verb, "none.star", "-o", "out", code=2), "none.star")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["mine.txt"]
