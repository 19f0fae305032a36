"""Tomograms of every make come in alike; what is no tomogram ends in one message."""

import gzip
import json

import mrcfile
import numpy as np
import pytest
from scipy import ndimage

from cryoetgan.io.mrc import PROTEIN_BRIGHT, read_header, read_volume, write_volume
from cryoetgan.io.star import COORDINATES, read_star
from cryoetgan.tomograms.importing.contrast import measure_contrast
from cryoetgan.tomograms.importing.no_data import NoData
from cryoetgan.tomograms.importing.normalise import SAMPLE_VOXELS, measure_grey_scale
from cryoetgan.tomograms.importing.resample import lanczos_weights, resample_into, resampled_shape
from tests.conftest import refused
from tests.tomograms.writing import as_big_endian, patched, write_mrc

SHAPE = (12, 16, 20)


@pytest.mark.parametrize("dtype", [np.int8, np.int16, np.uint16, np.float16, np.float32])
def test_every_mode_is_inverted_once_and_standardised(cryoetgan, tmp_path, rng, dtype):
    dark = (-20 * rng.random(SHAPE) + 60).astype(dtype)
    write_mrc(tmp_path / "in.mrc", dark)
    cryoetgan("tomograms", "import", "in.mrc", "-o", "out.mrc", "--tilts=-50,60,2")
    out = read_volume(tmp_path / "out.mrc")
    assert out.data.dtype == np.float32
    assert np.corrcoef(out.data.ravel(), dark.astype(float).ravel())[0, 1] < -0.999
    assert abs(out.data.mean()) < 0.05
    assert out.data.std() == pytest.approx(1, abs=0.05)
    assert "inverted" in " ".join(read_header(tmp_path / "out.mrc").labels)
    record = json.loads((tmp_path / "out.mrc.json").read_text())["acquisition"]
    assert (record["tilt_low"], record["tilt_high"], record["tilt_step"]) == (-50, 60, 2)


def test_bright_protein_is_not_inverted_and_float16_takes_half_the_disk(cryoetgan, tmp_path, rng):
    large = (40, 44, 48)  # sums of so many halves overflow
    write_mrc(tmp_path / "in.mrc", (50000 + 3000 * rng.random(large)).astype(np.uint16))
    words = ("tomograms", "import", "in.mrc", "--contrast")
    cryoetgan(*words, "dark", "-o", "dark.mrc")
    cryoetgan(*words, "bright", "--float16", "-o", "half.mrc")
    dark, half = read_volume(tmp_path / "dark.mrc").data, read_volume(tmp_path / "half.mrc").data
    assert half.dtype == np.float16
    for name in ("dark.mrc", "half.mrc"):
        assert mrcfile.validate(tmp_path / name)
    assert np.allclose(half, -dark, atol=2e-3)
    assert "inverted" not in " ".join(read_header(tmp_path / "half.mrc").labels)
    cryoetgan(*words, "bright", "--float16", "--voxel-size", 20, "-o", "coarse.mrc")
    assert np.isfinite(read_volume(tmp_path / "coarse.mrc").data).all()


def test_a_mirrored_file_and_its_annotations_get_their_hand_back(cryoetgan, tmp_path, rng):
    data = rng.standard_normal(SHAPE).astype(np.float32)
    write_mrc(tmp_path / "right.mrc", data)
    write_mrc(tmp_path / "wrong.mrc", data[::-1])
    (tmp_path / "picks.csv").write_text("x,y,z\n3,4,2\n15,8,9\n")
    mirrored = f"x,y,z\n3,4,{SHAPE[0] - 1 - 2}\n15,8,{SHAPE[0] - 1 - 9}\n"
    (tmp_path / "mirrored.csv").write_text(mirrored)
    cryoetgan("tomograms", "import", "right.mrc", "-o", "a/t.mrc", "--tilts=-60,40,2")
    options = ("--tilts=-40,60,2", "--flip-hand")
    cryoetgan("tomograms", "import", "wrong.mrc", "-o", "b/t.mrc", *options)
    kept, flipped = (read_volume(tmp_path / folder / "t.mrc").data for folder in "ab")
    assert np.array_equal(kept, flipped)
    records = [
        json.loads((tmp_path / folder / "t.mrc.json").read_text())["acquisition"] for folder in "ab"
    ]
    assert records[0] == records[1]
    for folder, name in (("a", "picks"), ("b", "mirrored")):
        tomogram = ("--tomogram", f"{folder}/t.mrc", "-o", f"{folder}/t.star")
        cryoetgan("particles", "import", f"{name}.csv", *tomogram)
    places = [read_star(tmp_path / f"{f}/t.star").particles[COORDINATES] for f in "ab"]
    assert np.array_equal(*places)


def test_byte_order_gzip_headers_and_stamps_make_no_difference(cryoetgan, tmp_path, rng):
    values = rng.integers(0, 255, SHAPE).astype(np.uint8)
    values[0, 0, 0] = 200
    raw = write_mrc(tmp_path / "plain.mrc", values.astype(np.int16)).read_bytes()
    unsigned = write_mrc(tmp_path / "bytes.mrc", values.view(np.int8)).read_bytes()
    extended = patched(raw[:1024], w23=np.array([640], "<i4").tobytes()) + bytes(640) + raw[1024:]
    turned = np.ascontiguousarray(values.transpose(2, 0, 1)).astype(np.int16)
    order = write_mrc(tmp_path / "turned.mrc", turned).read_bytes()
    files = {
        "big": as_big_endian(raw),
        "gzip": gzip.compress(raw),
        "extended": extended,
        # no map id, no machine stamp, no axis order: programs of the nineties
        "old": patched(raw, w52=bytes(8), w16=bytes(12)),
        "big_without_stamp": patched(as_big_endian(raw), w53=bytes(4)),
        "imod": patched(unsigned, w38=np.array([1146047817, 0], "<i4").tobytes()),
        "range": patched(unsigned, w19=np.array([0, 254], "<f4").tobytes()),
        # columns are y, rows z, sections x
        "axes": patched(order, w16=np.array([2, 3, 1], "<i4").tobytes()),
        # a series of images in the header: mz = 1, its cell says nothing of z
        "series": patched(raw, w9=np.array([1], "<i4").tobytes()),
        "surplus": raw + bytes(77),
    }
    cryoetgan("tomograms", "import", "plain.mrc", "-o", "expected.mrc")
    expected = read_volume(tmp_path / "expected.mrc")
    for name, content in files.items():
        (tmp_path / f"{name}.rec").write_bytes(content)
        cryoetgan("tomograms", "import", f"{name}.rec", "-o", f"out/{name}.mrc")
        found = read_volume(tmp_path / "out" / f"{name}.mrc")
        assert found.data.shape == SHAPE, name
        assert np.allclose(found.data, expected.data, atol=1e-5), name
        assert found.voxel_size == pytest.approx(10), name
    assert not list((tmp_path / "out").glob(".*"))


def test_other_tilt_and_beam_axes_are_turned_with_the_hand_kept(cryoetgan, tmp_path):
    # three rods of unlike length along x, y, z from one corner: a hand
    data = np.zeros((24, 24, 24), np.float32)
    data[4, 4, 4:20] = data[4, 4:14, 4] = data[4:9, 4, 4] = 1
    write_mrc(tmp_path / "in.mrc", data)

    def rods(*words):
        cryoetgan("tomograms", "import", "in.mrc", "--contrast", "bright", *words, "-o", "o.mrc")
        bright = np.argwhere(read_volume(tmp_path / "o.mrc").data > 1)[:, ::-1]
        values, counts = zip(
            *[np.unique(bright[:, axis], return_counts=True) for axis in range(3)], strict=True
        )
        corner = np.array([v[c.argmax()] for v, c in zip(values, counts, strict=True)])
        ends = [max(bright[:, axis] - corner[axis], key=abs) for axis in range(3)]
        return ends

    assert rods() == [15, 9, 4]
    assert rods("--beam-axis", "y") == [15, -4, 9]  # x, -z, y
    assert rods("--tilt-axis", "x") == [9, -15, 4]  # y, -x, z
    for turn in ([[1, 0, 0], [0, 0, -1], [0, 1, 0]], [[0, 1, 0], [-1, 0, 0], [0, 0, 1]]):
        assert np.linalg.det(turn) == pytest.approx(1)


def test_resampling_keeps_positions_and_removes_high_frequencies(rng):
    fine = ndimage.gaussian_filter(rng.standard_normal((80, 60, 70)), 4).astype(np.float32)
    for step in (2.0, 1.5, 0.8):
        shape = resampled_shape(fine.shape, step)
        assert shape == tuple(int((n - 1) / step + 1e-6) + 1 for n in fine.shape)
        out = np.empty(shape, np.float32)
        resample_into(out, fine, step)
        expected = ndimage.map_coordinates(fine, np.indices(shape) * step, order=3, mode="nearest")
        inner = (slice(8, -8),) * 3
        assert np.abs(out - expected)[inner].max() < 0.02 * fine.std()
    constant = np.full((20, 20, 20), 3.0, np.float32)
    out = np.empty(resampled_shape(constant.shape, 1.7), np.float32)
    resample_into(out, constant, 1.7)
    assert np.allclose(out, 3, atol=1e-5)
    # a wave above the coarse grid's limit would come back as a false slow one
    wave = np.cos(2 * np.pi * 0.4 * np.arange(400))
    assert np.abs(lanczos_weights(400, 200, 2.0) @ wave)[10:-10].max() < 0.05
    assert np.allclose(lanczos_weights(50, 50, 1.0).toarray(), np.eye(50), atol=1e-6)


def test_a_coarser_tomogram_has_its_own_grey_scale(cryoetgan, tmp_path, rng):
    write_mrc(tmp_path / "fine.mrc", rng.standard_normal((80, 60, 70)).astype(np.float32), 5.0)
    cryoetgan("tomograms", "import", "fine.mrc", "--voxel-size", 13, "-o", "o.mrc")
    coarse = read_volume(tmp_path / "o.mrc")
    assert coarse.voxel_size == pytest.approx(13)
    assert coarse.data.shape == (31, 23, 27)
    assert coarse.data.std() == pytest.approx(1, abs=0.03)


def test_gold_does_not_set_the_grey_scale(cryoetgan, tmp_path, rng):
    data = rng.standard_normal((40, 40, 40)).astype(np.float32)
    gold = data.copy()
    gold[5:9, 5:9, 5:9] = -300
    for name, content in (("plain", data), ("gold", gold)):
        write_mrc(tmp_path / f"{name}.mrc", content)
        cryoetgan("tomograms", "import", f"{name}.mrc", "-o", f"{name}_out.mrc")
    plain, with_gold = (read_volume(tmp_path / f"{n}_out.mrc").data for n in ("plain", "gold"))
    assert np.allclose(plain[12:], with_gold[12:], atol=0.01)


def test_memory_does_not_grow_with_the_tomogram(tmp_path):
    import tracemalloc

    data = np.memmap(tmp_path / "big", np.int8, "w+", shape=(600, 256, 256))
    data[::7, ::3] = 1
    out = np.memmap(tmp_path / "out", np.float32, "w+", shape=resampled_shape(data.shape, 1.5))
    tracemalloc.start()
    resample_into(out, data, 1.5)
    resampling = tracemalloc.get_traced_memory()[1]
    tracemalloc.reset_peak()
    measure_grey_scale(data, "big")
    measuring = tracemalloc.get_traced_memory()[1]
    tracemalloc.reset_peak()
    measure_contrast(data, 5.0)
    contrast = tracemalloc.get_traced_memory()[1]
    data[:20] = 7
    tracemalloc.reset_peak()
    assert NoData(data, tmp_path, "big").fraction > 0.03
    padding = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert resampling < 25 * 4 * 256 * 256  # some sections of 600
    assert measuring < 40 * SAMPLE_VOXELS  # the sample, not the tomogram
    assert contrast < 40 * 96**3  # a tile
    assert padding < 40 * 142**3  # a block


@pytest.mark.parametrize("size", [0.0, 1.0, -5.0, np.nan, np.inf, 1e6, 1e-9])
def test_an_implausible_voxel_size_is_refused(cryoetgan, tmp_path, rng, size):
    write_mrc(tmp_path / "in.mrc", rng.standard_normal(SHAPE).astype(np.float32), size)
    done = cryoetgan("tomograms", "import", "in.mrc", "-o", "o.mrc", code=2)
    refused(done, "in.mrc", "--input-voxel-size", "voxel_size of the table")
    cryoetgan("tomograms", "import", "in.mrc", "--input-voxel-size", 13.5, "-o", "o.mrc")
    assert read_volume(tmp_path / "o.mrc").voxel_size == pytest.approx(13.5)


def test_voxels_that_are_not_cubes_need_a_voxel_size(cryoetgan, tmp_path, rng):
    write_mrc(tmp_path / "in.mrc", rng.standard_normal(SHAPE).astype(np.float32), (10, 10, 12))
    done = cryoetgan("tomograms", "import", "in.mrc", "-o", "o.mrc", code=2)
    refused(done, "in.mrc", "not cubes", "--input-voxel-size")
    cryoetgan("tomograms", "import", "in.mrc", "--input-voxel-size", 10, "-o", "o.mrc")


def broken(kind, rng):
    data = rng.standard_normal(SHAPE).astype(np.float32)
    if kind == "constant":
        data[:] = 3
    if kind == "nan":
        data[:] = np.nan
    if kind == "flat":
        data = data[:1]
    if kind == "swapped integers":
        data = (100 + 20 * data).astype(np.int16)
    return data


@pytest.mark.parametrize(
    ("kind", "word"),
    [
        ("constant", "same value"),
        ("nan", "no voxel is a finite number"),
        ("flat", "20x16x1 voxels (x, y, z)"),
        ("truncated", "500 bytes are missing"),
        ("jpeg", "cannot be read as MRC"),
        ("page", "a web page?"),
        ("short", "a header has 1024"),
        ("gzip", "cut short or damaged"),
        ("missing", "no such MRC file"),
        ("folder", "is a folder"),
        ("complex", "mode 4"),
        ("stack", "stack of volumes"),
        ("endian", "cannot be read as MRC"),
        ("swapped", "another byte order"),
        ("swapped integers", "another byte order"),
    ],
)
def test_an_invalid_tomogram_is_refused_and_nothing_is_written(
    cryoetgan, tmp_path, rng, kind, word
):
    path = tmp_path / "bad one.mrc"
    if kind == "jpeg":
        path.write_bytes(b"\xff\xd8\xff\xe0" + rng.bytes(5000))
    elif kind == "page":
        path.write_bytes(b"<!DOCTYPE html><html>" + b"sorry " * 999)
    elif kind == "folder":
        path.mkdir()
    elif kind == "complex":
        write_mrc(path, np.ones(SHAPE, np.complex64))
    elif kind == "stack":
        write_mrc(path, np.ones((3, 12, 12, 12), np.float32))
    elif kind != "missing":
        write_mrc(path, broken(kind, rng))
    whole = path.read_bytes() if path.is_file() else b""
    if kind == "truncated":
        path.write_bytes(whole[:-500])
    if kind == "short":
        path.write_bytes(whole[:700])
    if kind == "gzip":
        path.write_bytes(gzip.compress(whole)[:-2000])
    if kind == "endian":  # half swapped by a careless conversion
        path.write_bytes(patched(whole, w0=np.frombuffer(whole[:8], "<i4").byteswap().tobytes()))
    if kind.startswith("swapped"):  # the voxels alone, and the stamp is right for the header
        size = "<i2" if kind.endswith("integers") else "<i4"
        path.write_bytes(whole[:1024] + np.frombuffer(whole[1024:], size).byteswap().tobytes())
    (tmp_path / "o.mrc").write_text("earlier content")
    done = cryoetgan("tomograms", "import", path, "-o", "o.mrc", code=2)
    refused(done, "bad one.mrc", word)
    assert (tmp_path / "o.mrc").read_text() == "earlier content"
    assert not list(tmp_path.glob(".*"))


@pytest.mark.parametrize(
    ("option", "value", "word"),
    [
        ("--voxel-size", 0, "above zero"),
        ("--voxel-size", 40, "fewer than 8"),
        ("--voxel-size", 1e9, "fewer than 8"),
        ("--voxel-size", 1e-3, "are free"),
        ("--input-voxel-size", -3, "above zero"),
        ("--contrast", "grey", "'dark', 'bright'"),
        ("--tilts", "60,-60", "LO < HI"),
        ("--tilts", "-60,60,500", "STEP"),
        ("--ctf", "done", "phase-flipped"),
        ("--voltage", 0, "voltage is 0 kV, wanted a number above zero"),
        ("--cs", "nan", "zero or more"),
        ("--cs", -1, "zero or more"),
        ("--defocus", "inf", "zero or more"),
        ("--defocus", -2, "zero or more"),
        ("--group", "", "letters"),
        ("--amplitude-contrast", 7, "fraction"),
        ("--tilt-axis", "z", "'y', 'x'"),
        ("--output", "o.tif", ".mrc"),
    ],
)
def test_invalid_options_are_refused_by_name(cryoetgan, tmp_path, rng, option, value, word):
    write_mrc(tmp_path / "in.mrc", rng.standard_normal(SHAPE).astype(np.float32))
    words = ("tomograms", "import", "in.mrc", "-o", "o.mrc", f"{option}={value}")
    refused(cryoetgan(*words, code=2), word)
    assert not (tmp_path / "o.mrc").exists()


@pytest.mark.parametrize("again", ["imported", "simulated"])
def test_bright_protein_of_our_files_is_not_inverted_again(cryoetgan, tmp_path, rng, again):
    first, second = tmp_path / "first.mrc", tmp_path / "second.mrc"
    if again == "imported":
        write_mrc(tmp_path / "in.mrc", rng.normal(size=SHAPE).astype(np.float32))
        cryoetgan("tomograms", "import", "in.mrc", "-o", first)
    else:
        data = rng.normal(size=SHAPE).astype(np.float32)
        write_volume(first, data, 10.0, [PROTEIN_BRIGHT, "simulated"])
    words = ("tomograms", "import", first, "-o", second)
    refused(cryoetgan(*words, code=2), "first.mrc", "--contrast bright")
    assert not second.exists()
    cryoetgan(*words, "--contrast", "bright")
    before, after = read_volume(first).data, read_volume(second).data
    assert np.corrcoef(before.ravel(), after.ravel())[0, 1] > 0.999


def write_sections(path, rng, shape, image_stack, independent):
    data = rng.standard_normal(shape).astype(np.float32)
    if not independent:
        data = ndimage.gaussian_filter(data, (1, 0, 0))
    with mrcfile.new(path) as file:
        file.set_data(data)
        if image_stack:
            file.set_image_stack()
        file.voxel_size = 10.0


FEW, SOME, MANY = (18, 150, 150), (40, 130, 130), (40, 50, 50)


@pytest.mark.parametrize(
    ("name", "shape", "image_stack", "independent", "mdoc", "outcome"),
    [
        ("TS_1.mrc", FEW, True, False, 0, "refused"),
        ("TS_1.st", FEW, False, False, 0, "refused"),
        ("TS_1.mrc", FEW, False, False, 18, "refused"),
        ("TS_1.mrc", FEW, False, True, 0, "refused"),
        ("TS_1.mrc", FEW, False, False, 0, "warned"),
        ("TS_1.mrc", SOME, False, True, 0, "warned"),
        ("TS_1.mrc", SOME, False, False, 0, "silent"),
        ("TS_1_ali.mrc", MANY, True, False, 0, "refused"),
        # an old program's header, and a volume with the description of its tilt series beside it
        ("TS_1.mrc", MANY, True, False, 0, "warned"),
        ("TS_1.mrc", MANY, False, False, 31, "silent"),
    ],
)
def test_a_tilt_series_is_no_tomogram(
    cryoetgan, tmp_path, rng, name, shape, image_stack, independent, mdoc, outcome
):
    write_sections(tmp_path / name, rng, shape, image_stack, independent)
    (tmp_path / f"{name}.mdoc").write_text("[ZValue = 0]\nTiltAngle = 3\n" * mdoc)
    words = ("tomograms", "import", name, "-o", "o.mrc")
    done = cryoetgan(*words, code=2 if outcome == "refused" else 0)
    assert ("tilt series" in done.stderr) == (outcome != "silent")
    assert (tmp_path / "o.mrc").exists() == (outcome != "refused")
