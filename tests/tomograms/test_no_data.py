"""Voxels without data: found at import, kept apart in the grey scale, picks and boxes."""

import json

import numpy as np
import pytest
from scipy import ndimage

from cryoetgan.io.exclusion import excluded_voxels
from cryoetgan.io.mrc import read_volume
from cryoetgan.io.star import COORDINATES, read_star
from cryoetgan.tomograms.importing.no_data import FilledSections, NoData
from tests.conftest import refused
from tests.tomograms.writing import write_mrc

SHAPE = (32, 48, 56)
Z, Y, X = np.indices(SHAPE)
PLACES = {
    "one section": Z < 1,
    "faces of x": (X < 3) | (X > 52),
    "turned series": (X + 4 * Y < 40) | (X + 4 * Y > 204),
    "corner": (X < 9) & (Y < 12),
    "a third": Y < 16,
}


@pytest.fixture
def grey(rng):
    noise = ndimage.gaussian_filter(rng.standard_normal(SHAPE), 1)
    return (1000 + 40 * noise / noise.std()).astype(np.float32)


@pytest.mark.parametrize("level", [0.0, np.nan, 1000.0], ids=str)
@pytest.mark.parametrize("place", list(PLACES))
def test_padding_leaves_no_trace_in_the_other_grey_values(cryoetgan, tmp_path, grey, place, level):
    empty = PLACES[place]
    whole = -(grey - grey[~empty].mean()) / grey[~empty].std()
    write_mrc(tmp_path / "in.mrc", np.where(empty, np.float32(level), grey))
    cryoetgan("tomograms", "import", "in.mrc", "-o", "o.mrc")
    out = read_volume(tmp_path / "o.mrc")
    assert out.marks_no_data is True
    marked = out.data == 0
    assert marked[empty].all()
    # the margin holds mixed grey values
    near = ndimage.distance_transform_cdt(~empty, "chessboard") <= (0 if np.isnan(level) else 2)
    assert not marked[~near].any()
    assert np.allclose(out.data[~near], whole[~near], atol=0.03)
    mask = read_volume(tmp_path / "o_mask.mrc").data
    assert np.array_equal(mask != 0, marked)
    record = json.loads((tmp_path / "o.mrc.json").read_text())["provenance"]["parameters"]
    assert record["no_data"]["fraction"] == pytest.approx(marked.mean(), abs=1e-4)


@pytest.mark.parametrize("options", [("--voxel-size", 20), ("--float16",), ("--beam-axis", "y")])
def test_the_marks_follow_the_tomogram(cryoetgan, tmp_path, grey, options):
    empty = PLACES["a third"]
    write_mrc(tmp_path / "in.mrc", np.where(empty, 0, grey).astype(np.float32))
    write_mrc(tmp_path / "empty.mrc", empty.astype(np.int8))
    cryoetgan("tomograms", "import", "in.mrc", *options, "-o", "o.mrc")
    out = read_volume(tmp_path / "o.mrc")
    cryoetgan("tomograms", "import", "in.mrc", *options, "--mask", "empty.mrc", "-o", "m.mrc")
    wanted = read_volume(tmp_path / "m_mask.mrc").data != 0
    marked = out.data == 0
    assert marked[ndimage.binary_erosion(wanted)].all()
    assert not marked[ndimage.distance_transform_cdt(~wanted, "chessboard") > 2].any()
    assert out.data[~marked].std() == pytest.approx(1, abs=0.05)


def test_single_broken_voxels_get_the_mean_and_are_told(cryoetgan, tmp_path, grey):
    broken = grey.copy()
    broken[5, 6, 7], broken[20, 30, 40] = np.nan, np.inf
    for name, data in (("in", grey), ("broken", broken)):
        write_mrc(tmp_path / f"{name}.mrc", data)
        done = cryoetgan("tomograms", "import", f"{name}.mrc", "-o", f"o_{name}.mrc")
        assert ("2 single voxels are not finite" in done.stderr) == (name == "broken")
    good, out = (read_volume(tmp_path / f"o_{name}.mrc") for name in ("in", "broken"))
    assert (good.marks_no_data, out.marks_no_data) == (False, False)
    assert abs(out.data[5, 6, 7]) < 1e-6
    assert np.abs(out.data - good.data).max() == np.abs(good.data[[5, 20], [6, 30], [7, 40]]).max()


def test_a_background_of_one_value_is_no_padding(cryoetgan, tmp_path, grey):
    density = np.where(PLACES["corner"], grey, 0).astype(np.float32)
    write_mrc(tmp_path / "in.mrc", density)
    done = cryoetgan("tomograms", "import", "in.mrc", "--contrast", "bright", "-o", "o.mrc")
    assert "counts as background" in done.stderr
    assert read_volume(tmp_path / "o.mrc").marks_no_data is False


def test_a_mask_drawn_later_keeps_the_padding(cryoetgan, tmp_path, grey):
    write_mrc(tmp_path / "in.mrc", np.where(PLACES["a third"], 0, grey).astype(np.float32))
    write_mrc(tmp_path / "drawn.mrc", PLACES["corner"].astype(np.int8))
    cryoetgan("tomograms", "import", "in.mrc", "-o", "o.mrc")
    padding = read_volume(tmp_path / "o_mask.mrc").data != 0
    cryoetgan("tomograms", "mask", "drawn.mrc", "--tomogram", "o.mrc", "-o", "o_mask.mrc")
    both = read_volume(tmp_path / "o_mask.mrc").data != 0
    assert np.array_equal(both, padding | PLACES["corner"])
    done = cryoetgan("validate", "o.mrc")
    assert not done.stderr


def test_a_section_is_filled_however_it_is_read(tmp_path, grey):
    data = grey.copy()
    data[:2], data[9, 3, 4] = 0, np.nan
    no_data = NoData(data, tmp_path, "t")
    filled = FilledSections(data, no_data, 7.0)
    read = np.stack(list(filled))
    assert np.array_equal(read, np.where((no_data.flags != 0) | np.isnan(data), 7, data))
    assert all(np.array_equal(filled[n], section) for n, section in enumerate(read))


@pytest.fixture
def padded(cryoetgan, tmp_path, grey):
    """A tomogram with balls of protein, of which a quarter lies in padding or on its edge."""
    data = grey.copy()
    centres = [(16, y, x) for y in (8, 20, 32, 42) for x in (8, 20, 32, 44)]
    for centre in centres:
        ball = sum((axis - c) ** 2 for axis, c in zip((Z, Y, X), centre, strict=True)) <= 9
        data[ball] -= 300
    data[:, :9] = 0
    write_mrc(tmp_path / "in.mrc", data)
    cryoetgan("tomograms", "import", "in.mrc", "-o", "t.mrc")
    return [c for c in centres if c[1] > 8]


def test_no_pick_lies_in_padding_and_no_box_reaches_into_it(cryoetgan, tmp_path, padded):
    cryoetgan("particles", "pick", "t.mrc", "--radius", 30, "-o", "p.star")
    table = read_star(tmp_path / "p.star").particles
    found = table[COORDINATES].to_numpy(float)[:, ::-1]
    assert not excluded_voxels(read_volume(tmp_path / "t.mrc")).holds(found).any()
    near = np.linalg.norm(found[:, None] - np.array(padded)[None], axis=-1).min(axis=0)
    assert (near < 1.5).all()
    done = cryoetgan(
        "particles", "extract", "p.star", "--tomogram", "t.mrc", "--box", 12, "-o", "s.star"
    )
    assert "padding" in done.stderr
    kept = read_star(tmp_path / "s.star").particles[COORDINATES].to_numpy(float)
    assert kept[:, 1].min() >= 11 + 5
    assert len(kept) >= 8


def test_a_tomogram_of_padding_alone_has_no_pick(cryoetgan, tmp_path, padded):
    write_mrc(tmp_path / "all.mrc", np.ones(SHAPE, np.int8))
    words = ("particles", "pick", "t.mrc", "--radius", 30, "--mask", "all.mrc", "-o", "q.star")
    refused(cryoetgan(*words, code=2), "all peaks lie in the mask or in padding")
