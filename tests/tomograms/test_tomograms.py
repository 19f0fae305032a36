"""Import and simulation of tomograms."""

import gzip
import json
import warnings

import mrcfile
import numpy as np
import pytest
from scipy import ndimage

from cryoetgan.acquisition import Acquisition
from cryoetgan.geometry import rotate_volume, rotation_from_relion
from cryoetgan.optics import missing_wedge
from cryoetgan.star import ANGLES, COORDINATES, read_star
from cryoetgan.tomograms.packing import MASK_LEVEL, pack
from cryoetgan.tomograms.projection import as_sections, as_volume, project, projector
from cryoetgan.tomograms.simulation import simulate_tomogram
from cryoetgan.volumes import labels_of, read_volume, write_volume
from tests.conftest import refused


def write_mrc(path, data, voxel_size=10.0):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # mrcfile warns of the NaN that a test plants
        with mrcfile.new(path, overwrite=True) as file:
            file.set_data(data)
            file.voxel_size = voxel_size
    return path


@pytest.fixture
def blob():
    z, y, x = np.indices((24, 24, 24)) - 12.0
    return np.exp(-(x**2 / 18 + (y - 2) ** 2 / 8 + (z + 1) ** 2 / 30))


@pytest.mark.parametrize("dtype", [np.int8, np.int16, np.uint16, np.float16, np.float32])
def test_every_mode_comes_in_inverted_once_and_standardised(cryoetgan, tmp_path, rng, dtype):
    dark = (-20 * rng.random((12, 16, 20)) + 60).astype(dtype)
    write_mrc(tmp_path / "in.mrc", dark)
    cryoetgan("tomograms", "import", "in.mrc", "-o", "out.mrc", "--tilts=-50,60,2")
    out = read_volume(tmp_path / "out.mrc")
    assert out.data.dtype == np.float32
    assert np.corrcoef(out.data.ravel(), dark.astype(float).ravel())[0, 1] < -0.999
    assert abs(out.data.mean()) < 0.05
    assert out.data.std() == pytest.approx(1, abs=0.05)
    assert "inverted" in " ".join(labels_of(tmp_path / "out.mrc"))
    record = json.loads((tmp_path / "out.mrc.json").read_text())["acquisition"]
    assert (record["tilt_low"], record["tilt_high"], record["tilt_step"]) == (-50, 60, 2)
    cryoetgan("tomograms", "import", "in.mrc", "-o", "bright.mrc", "--contrast", "bright")
    bright = read_volume(tmp_path / "bright.mrc").data
    assert np.allclose(bright, -out.data, atol=1e-4)


def test_big_endian_gzip_and_imod_bytes_come_in_alike(cryoetgan, tmp_path, rng):
    values = rng.integers(0, 255, (12, 16, 20)).astype(np.uint8)
    plain = write_mrc(tmp_path / "plain.mrc", values.astype(np.int16))
    raw = plain.read_bytes()
    header = np.frombuffer(raw[:1024], "<i4").copy()
    swapped = bytearray(header.byteswap().tobytes())
    text = raw[196:208], raw[212:216], raw[220:1024]
    swapped[208:212], swapped[212:216] = b"MAP ", bytes([0x11, 0x11, 0, 0])
    swapped[224:1024] = raw[224:1024]
    assert text
    data = np.frombuffer(raw[1024:], "<i2").byteswap().tobytes()
    (tmp_path / "big.mrc").write_bytes(bytes(swapped) + data)
    (tmp_path / "zipped.mrc.gz").write_bytes(gzip.compress(raw))
    with mrcfile.new(tmp_path / "bytes.mrc", overwrite=True) as file:
        file.set_data(values.view(np.int8))
        file.voxel_size = 10.0
    imod = bytearray((tmp_path / "bytes.mrc").read_bytes())
    imod[152:160] = np.array([1146047817, 0], "<i4").tobytes()  # IMOD's stamp, bytes unsigned
    (tmp_path / "bytes.mrc").write_bytes(bytes(imod))
    for name in ("plain.mrc", "big.mrc", "zipped.mrc.gz", "bytes.mrc"):
        cryoetgan("tomograms", "import", name, "-o", f"out/{name}.mrc")
    first = read_volume(tmp_path / "out" / "plain.mrc.mrc").data
    for name in ("big.mrc", "zipped.mrc.gz", "bytes.mrc"):
        assert np.allclose(read_volume(tmp_path / "out" / f"{name}.mrc").data, first, atol=1e-5)


def test_resampling_keeps_places_and_grey_values(cryoetgan, tmp_path, rng):
    smooth = ndimage.gaussian_filter(rng.standard_normal((80, 60, 70)), 4).astype(np.float32)
    write_mrc(tmp_path / "fine.mrc", smooth, 5.0)
    cryoetgan(
        "tomograms", "import", "fine.mrc", "--voxel-size", 10, "--contrast", "bright", "-o", "o.mrc"
    )
    coarse = read_volume(tmp_path / "o.mrc")
    assert coarse.data.shape == (40, 30, 35)
    assert coarse.voxel_size == pytest.approx(10)
    expected = smooth[::2, ::2, ::2]
    inner = (slice(3, -3),) * 3
    assert np.corrcoef(coarse.data[inner].ravel(), expected[inner].ravel())[0, 1] > 0.99


@pytest.mark.parametrize("size", [0.0, 1.0])
def test_a_header_that_says_nothing_is_not_believed(cryoetgan, tmp_path, rng, size):
    write_mrc(tmp_path / "in.mrc", rng.standard_normal((12, 16, 20)).astype(np.float32), size)
    done = cryoetgan("tomograms", "import", "in.mrc", "-o", "o.mrc", code=2)
    refused(done, "in.mrc", "--input-voxel-size", "voxel_size of the table")
    cryoetgan("tomograms", "import", "in.mrc", "--input-voxel-size", 13.5, "-o", "o.mrc")
    assert read_volume(tmp_path / "o.mrc").voxel_size == pytest.approx(13.5)


def broken(kind, rng):
    data = rng.standard_normal((12, 16, 20)).astype(np.float32)
    if kind == "constant":
        data[:] = 3
    if kind == "nan":
        data[5, 5, 5] = np.nan
    if kind == "flat":
        data = data[:1]
    return data


@pytest.mark.parametrize(
    ("kind", "word"),
    [
        ("constant", "same value"),
        ("nan", "not finite"),
        ("flat", "tilt series or a single image"),
        ("truncated", "cannot be read"),
        ("jpeg", "cannot be read"),
        ("missing", "no such tomogram"),
        ("complex", "mode 4"),
    ],
)
def test_a_bad_tomogram_ends_in_one_message_and_touches_nothing(
    cryoetgan, tmp_path, rng, kind, word
):
    path = tmp_path / "bad one.mrc"
    if kind == "jpeg":
        path.write_bytes(b"\xff\xd8\xff\xe0" + rng.bytes(5000))
    elif kind == "complex":
        write_mrc(path, np.ones((12, 16, 20), np.complex64))
    elif kind != "missing":
        write_mrc(path, broken(kind, rng))
    if kind == "truncated":
        path.write_bytes(path.read_bytes()[:-500])
    (tmp_path / "o.mrc").write_text("what was there")
    done = cryoetgan("tomograms", "import", path, "-o", "o.mrc", code=2)
    refused(done, "bad one.mrc", word)
    assert (tmp_path / "o.mrc").read_text() == "what was there"
    assert not list(tmp_path.glob(".o*"))


def test_projection_keeps_mass_and_is_exact_untilted(blob):
    sections = as_sections(blob)
    assert np.array_equal(as_volume(sections, blob.shape), blob)
    straight = project(sections, projector(24, 24, 0.0))  # (u, y)
    assert np.allclose(straight, blob.sum(axis=0).T, atol=1e-6)
    for tilt in (-60, -37, 20, 44, 46, 60):
        tilted = project(sections, projector(24, 24, tilt))
        assert tilted.sum() == pytest.approx(blob.sum(), rel=0.01)


def test_a_point_is_projected_where_the_convention_says():
    volume = np.zeros((32, 8, 32))
    z, x = 5, -4  # from the centre
    volume[16 + z, 4, 16 + x] = 1
    for tilt in (-50, -20, 30, 60):
        image = project(as_sections(volume), projector(32, 32, tilt))[:, 4]
        u = (np.arange(32) - 16) @ image / image.sum()
        expected = x * np.cos(np.radians(tilt)) + z * np.sin(np.radians(tilt))
        assert u == pytest.approx(expected, abs=0.3)


def test_projection_agrees_with_turning_and_summing(blob):
    section = blob[:, 12, :]
    for tilt in (-55.0, -30.0, 0.0, 25.0, 60.0):
        ours = project(as_sections(section[:, None, :]), projector(24, 24, tilt))[:, 0]
        # turn the section so that the beam runs down its columns, then sum
        cos, sin = np.cos(np.radians(tilt)), np.sin(np.radians(tilt))
        back = np.array([[cos, sin], [-sin, cos]])
        turned = ndimage.affine_transform(section, back, offset=12 - back @ [12, 12], order=3)
        assert np.corrcoef(ours, turned.sum(axis=0))[0, 1] > 0.999


def test_no_two_masks_share_a_voxel_and_truth_finds_the_particles(blob):
    scene = pack({"a": blob, "b": np.roll(blob, 3, 0)}, {"a": 8, "b": 8}, (40, 64, 64), "t", 1)
    total = np.zeros(scene.density.shape)
    coefficients = {"a": blob, "b": np.roll(blob, 3, 0)}
    masks = np.zeros(scene.density.shape, int)
    for row in scene.rows:
        centre = np.array([row[c] for c in COORDINATES])
        whole = np.round(centre).astype(int)
        turned = rotate_volume(
            coefficients[row["cryoetganClass"]],
            rotation_from_relion([row[a] for a in ANGLES]),
            centre - whole,
        )
        for index in np.argwhere(turned > 1e-9):
            place = index - 12 + whole[::-1]
            if (place >= 0).all() and (place < total.shape).all():
                total[tuple(place)] += turned[tuple(index)]
                masks[tuple(place)] += turned[tuple(index)] > MASK_LEVEL * blob.max()
    assert np.corrcoef(total.ravel(), scene.density.ravel())[0, 1] > 0.999
    assert masks.max() == 1
    assert ((scene.labels > 0) == (masks > 0)).mean() > 0.999


def test_what_finds_no_place_is_counted(blob):
    scene = pack({"a": blob}, {"a": 500}, (28, 28, 28), "t", 1)
    assert scene.missing["a"] + len(scene.rows) == 500
    assert scene.missing["a"] > 400


def test_a_tilt_range_leaves_its_wedge_and_no_other(rng):
    density = ndimage.gaussian_filter(rng.standard_normal((48, 48, 48)), 1)
    recorded = Acquisition(tilt_low=-20, tilt_high=60, tilt_step=2, defocus=2.0)
    tomogram = simulate_tomogram(density, 10.0, recorded, 100.0, "t", 1)
    power = np.abs(np.fft.rfftn(tomogram)) ** 2
    k = np.fft.fftfreq(48)
    radius = np.sqrt(k[:, None, None] ** 2 + k[None, :, None] ** 2 + np.fft.rfftfreq(48) ** 2)
    ring = (radius > 0.08) & (radius < 0.3)

    def share(tilts):
        seen = missing_wedge((48, 48, 48), tilts)
        return power[ring & seen].sum() / power[ring].sum()

    assert share((-20, 60)) > 0.93
    assert share((-60, 20)) < share((-20, 60)) - 0.2  # not mirrored


def test_the_ratio_of_signal_to_noise_is_as_typed(rng):
    density = ndimage.gaussian_filter(rng.standard_normal((32, 48, 48)), 2)
    recorded = Acquisition(defocus=3.0)

    def tomogram(snr):
        return simulate_tomogram(density, 10.0, recorded, snr, "t", 1).astype(float)

    clean = tomogram(1e9)
    for snr in (0.1, 1.0):
        # correlation with the clean one: c^2 = snr / (1 + snr), the same jitter in both
        c = np.corrcoef(tomogram(snr).ravel(), clean.ravel())[0, 1]
        assert c**2 / (1 - c**2) == pytest.approx(snr, rel=0.1)


def test_the_command_gives_the_same_bytes_and_a_truth_that_fits(cryoetgan, tmp_path, blob):
    for name in ("a", "b"):
        write_volume(tmp_path / f"{name}.mrc", blob if name == "a" else np.roll(blob, 2, 1), 10.0)
    words = ("tomograms", "simulate", "a.mrc", "b.mrc", "--copies", 5, "--shape=64,56,40")
    for folder in ("one", "two"):
        cryoetgan(*words, "--tilts=-60,60,6", "--snr", 5, "--seed", 3, "-o", f"{folder}/t.mrc")
    names = ["t.mrc", "t.star", "t_labels.mrc", "t.mrc.json"]
    for name in names:
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()
    tomogram = read_volume(tmp_path / "one" / "t.mrc").data
    assert tomogram.shape == (40, 56, 64)
    truth = read_star(tmp_path / "one" / "t.star").particles
    at = truth[COORDINATES].to_numpy(float).round().astype(int)
    values = tomogram[at[:, 2], at[:, 1], at[:, 0]]
    assert values.mean() > 1  # protein is bright
    labels = read_volume(tmp_path / "one" / "t_labels.mrc").data
    named = json.loads((tmp_path / "one" / "t_labels.mrc.json").read_text())["labels"]
    for (x, y, z), name in zip(at, truth["cryoetganClass"], strict=True):
        if name == "a":  # its map's densest voxel is its centre
            assert named[str(int(labels[z, y, x]))] == "a"
    assert read_star(tmp_path / "one" / "t.star").optics["cryoetganTiltHigh"][0] == 60
