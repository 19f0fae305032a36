"""One specimen is used once: by name, by content, and by what it looks like."""

import os

import numpy as np
import pytest
from scipy import ndimage

from cryoetgan.io.mrc import write_volume
from cryoetgan.tomograms.same_specimen import find_alike, find_repeated, make_thumbnail
from cryoetgan.tomograms.specimens import match_tomogram, specimen_name, volume_kind

SAME = {
    "ts_1": "TS_1 TS_1_rec TS_1_EVN TS_1_ODD_Vol TS_1_full_rec TS_1.evn rec_TS_1_half1 TS_1_bin4 "
    "TS_1_10.00Apx TS_1_10_00Apx TS_1_13.48Apx_halfmap2 TS_1_denoised TS_1_rec_corrected TS_1_deconv TS_1_ali "
    "TS_1_SIRT_10_iter5 TS_1_half_2 TS_1_seg denoised_TS_1 TS_1_labels",
    "position_2_2": "Position_2_2 rec_Position_2_2_half1 Position_2_2_8.00Apx",
    "tomo_7": "tomo_7 tomo_7_even tomo_7_dn rec_tomo_7",
    "evening_3": "evening_3 evening_3_odd",
}
KINDS = {
    "half tomogram": "TS_1_EVN TS_1_odd_Vol rec_1_half2 a_halfmap1 TS01odd",
    "denoised or corrected copy": "TS_1_denoised TS_1_isonet TS_1_corrected_bin4 lp40_TS_1",
    "segmentation": "TS_1_seg TS_1_MemBrain_seg_segmented TS_1_labels mask_1",
    "tilt series": "TS_1_ali TS_1_preali",
    "": "TS_1 TS_1_rec_bin4 evening_3 segovia_1 halfway_2",
}


def test_words_of_the_processing_do_not_name_a_specimen():
    for wanted, names in SAME.items():
        found = {name: specimen_name(f"{name}.mrc") for name in names.split()}
        assert set(found.values()) - {"ts_1_10"} == {wanted}, found
    for wanted, names in KINDS.items():
        assert {
            name: volume_kind(name) for name in names.split() if volume_kind(name) != wanted
        } == {}


def test_numbers_distinguish_specimens():
    names = [f"TS_{n}_rec.mrc" for n in range(30)] + ["Position_2.mrc", "Position_2_2.mrc"]
    assert len({specimen_name(name) for name in names}) == len(names)
    for number in range(30):
        assert match_tomogram(names, f"TS_{number:03}") == {f"TS_{number}_rec.mrc"}


@pytest.mark.parametrize(
    ("names", "tomogram", "matches"),
    [
        (["4"], "TS_03_bin4", False),
        (["3"], "TS_03_bin4", True),
        (["TS_1.tomostar", "TS_10.tomostar"], "TS_1_10_00Apx", True),
        (["TS_1.tomostar", "TS_13.tomostar"], "TS_1_13_48Apx", True),
        (["TS_1_2.tomostar", "TS_1.tomostar"], "TS_1_2_10Apx", True),
        (["48"], "TS_1_13_48Apx", False),
        (["13"], "TS_1_13_48Apx", False),  # TS_1 at 13.48 A, or TS_1_13 at 48 A
    ],
)
def test_the_processing_gives_a_tomogram_no_number(names, tomogram, matches):
    assert match_tomogram(names, tomogram) == (set(names[:1]) if matches else set())


def test_folders_count_unless_they_name_a_kind_of_volume(tmp_path):
    def repeated(*paths):
        return find_repeated({str(n): str(tmp_path / path) for n, path in enumerate(paths)})

    assert not repeated("TS_1/rec.mrc", "TS_2/rec.mrc")
    assert not repeated("monday/TS_1.mrc", "tuesday/TS_1.mrc")
    assert repeated("warp/even/TS_1_10.00Apx.mrc", "warp/odd/TS_1_10.00Apx.mrc")
    assert repeated("TS_1.mrc", "denoised/TS_1_denoised.mrc")
    address = "copick:project.json?run={}&tomogram={}"
    pairs = {"a": address.format("R1", "wbp"), "b": address.format("R1", "denoised")}
    assert find_repeated(pairs)
    assert not find_repeated({"a": pairs["a"], "c": address.format("R2", "wbp")})
    assert not find_repeated({"a": "portal:tomogram/1", "b": "portal:tomogram/2"})
    assert find_repeated({"a": "emdb:1234", "b": "EMDB:1234"})


def test_copies_and_links_are_found_by_content(tmp_path, rng):
    data = rng.standard_normal((20, 64, 64)).astype(np.float32)
    names = ("first", "copy", "other")
    for name in names:
        write_volume(tmp_path / f"{name}.mrc", data + (name == "other"), 10.0, [f"label {name}"])
    os.link(tmp_path / "first.mrc", tmp_path / "link.mrc")
    (tmp_path / "soft.mrc").symlink_to(tmp_path / "other.mrc")
    paths = {n: str(tmp_path / f"{n}.mrc") for n in ("first", "link", "other", "copy", "soft")}
    found = {
        pair: reason for *pair, reason in map(list, find_repeated(paths)) for pair in [tuple(pair)]
    }
    assert found == {
        ("first", "link"): "are the same file",
        ("other", "soft"): "are the same file",
        ("first", "copy"): "have the same content",
    }


@pytest.mark.parametrize("factor", [1.0, -1.0])
def test_halves_and_denoised_copies_look_alike_and_others_do_not(rng, factor):
    """Particles at SNR 0.3 per voxel, with equal padding at the borders of all volumes."""
    shape, thumbnails = (40, 160, 160), {}
    for name in "abc":
        points = (rng.random(shape) < 2e-4).astype(float)
        signal = ndimage.gaussian_filter(points, 3)
        signal *= np.sqrt(0.3) / signal.std()
        for half in "12":
            volume = (factor if half == "2" else 1) * signal + rng.standard_normal(shape)
            volume[:, :12] = volume[:, :, -12:] = 3.0
            thumbnails[name + half] = make_thumbnail(volume)
        thumbnails[f"{name}3"] = make_thumbnail(ndimage.zoom(signal, 0.8, order=1))
    pairs = {first + second for first, second, _ in find_alike(thumbnails)}
    assert pairs == {f"{n}{i}{n}{j}" for n in "abc" for i, j in ("12", "13", "23")}
    assert make_thumbnail(np.zeros(shape)) is None
