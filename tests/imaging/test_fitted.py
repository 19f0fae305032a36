"""Ablated simulations: a flat transfer, no neighbours, patches of the real tomogram."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from cryoetgan.errors import UserError
from cryoetgan.imaging.model import crop_centre
from cryoetgan.imaging.simulate.fitted import BackgroundPatches, flatten_transfer
from cryoetgan.imaging.storage import load_model, save_model
from cryoetgan.io.exclusion import ExclusionMask
from cryoetgan.io.mrc import write_volume
from cryoetgan.io.star import COORDINATES, write_star
from cryoetgan.io.volume_set import read_volume_set, write_volume_set
from cryoetgan.physics.geometry import block_slices
from cryoetgan.physics.optics import missing_wedge
from tests.conftest import refused
from tests.imaging.conftest import BOX, TILTS, VOXEL


def test_a_flat_transfer_is_the_missing_wedge_times_a_constant(known, maps):
    scene = np.pad(maps["rod"], BOX // 2)
    expected = np.fft.rfftn(scene) * missing_wedge(scene.shape, TILTS)
    found = np.fft.rfftn(flatten_transfer(known).signal(scene))
    inner = np.abs(expected) > 1e-3 * np.abs(expected).max()
    scale = (found[inner] / expected[inner]).real.mean()
    assert np.allclose(found[inner], scale * expected[inner], rtol=1e-3)


def test_a_flat_transfer_keeps_signal_variance_and_noise(known, maps):
    flat, scenes = flatten_transfer(known), [np.pad(one, BOX // 2) for one in maps.values()]
    before, after = (
        sum(crop_centre(m.signal(scene), BOX).var() for scene in scenes) for m in (known, flat)
    )
    assert after == pytest.approx(before, rel=1e-3)
    noises = [m.noise(scenes[0].shape, np.random.default_rng(1)) for m in (flat, known)]
    assert np.array_equal(*noises)


@pytest.fixture
def files(tmp_path, tomogram, known, maps):
    """A tomogram with room at one end, its picks, its model, densities."""
    data = np.concatenate([tomogram.data, tomogram.data[:, :, :60]], axis=2)
    write_volume(tmp_path / "t.mrc", data, VOXEL)
    picks = pd.DataFrame(tomogram.picks.places, columns=COORDINATES)
    write_star(tmp_path / "picks.star", picks)
    save_model(replace(known, tomogram="t"), tmp_path / "M.json")
    save_model(known, tmp_path / "other.json")
    table = pd.DataFrame({"cryoetganClass": ["ball", "rod", "ball"]})
    volumes = np.stack([maps[name] for name in table["cryoetganClass"]])
    write_volume_set(tmp_path / "d.star", volumes, table, VOXEL)
    return data, tomogram.picks.places


REAL = ("--kind", "real_background", "--tomogram", "t.mrc", "--particles", "picks.star")


def test_real_background_is_the_signal_in_a_patch_without_picks(
    cryoetgan, tmp_path, files, known, maps
):
    data, places = files
    words = ("--model", "M.json", "--seed", 3, "-o", "p.star")
    cryoetgan("imaging", "ablate", "d.star", *REAL, *words)
    simulated = read_volume_set(tmp_path / "p.star")
    assert list(simulated.table["cryoetganClass"]) == ["ball", "rod", "ball"]
    boxes = BackgroundPatches(tmp_path / "t.mrc", data, places, ExclusionMask(data), BOX, 3).centres
    # no box holds a pick
    assert np.abs(boxes[:, None] - places[None]).max(axis=2).min() > BOX / 2
    corners = {tuple(place[::-1] - BOX // 2) for place in boxes}
    patches = np.stack([data[block_slices(corner, (BOX,) * 3)].ravel() for corner in corners])
    for volume, name in zip(simulated.volumes, simulated.table["cryoetganClass"], strict=True):
        rest = volume - crop_centre(known.signal(np.pad(maps[name], BOX // 2)), BOX)
        # the rest is one of the tomogram's patches, voxel by voxel
        assert np.abs(patches - rest.ravel()).max(axis=1).min() < 1e-3 * data.std()


def test_without_neighbours_it_is_the_fitted_simulation(cryoetgan, tmp_path, files):
    words = ("d.star", "--model", "M.json", "--seed", 3)
    cryoetgan("imaging", "ablate", *words, "--kind", "no_neighbours", "-o", "a.star")
    cryoetgan("imaging", "simulate", *words, "--no-neighbours", "-o", "b.star")
    assert (tmp_path / "a.mrcs").read_bytes() == (tmp_path / "b.mrcs").read_bytes()


def test_noise_only_has_a_flat_transfer_and_no_neighbours(cryoetgan, tmp_path, files):
    save_model(flatten_transfer(load_model(tmp_path / "M.json")), tmp_path / "flat.json")
    words = ("d.star", "--seed", 3)
    cryoetgan(
        "imaging", "ablate", *words, "--model", "M.json", "--kind", "noise_only", "-o", "a.star"
    )
    cryoetgan(
        "imaging", "simulate", *words, "--model", "flat.json", "--no-neighbours", "-o", "b.star"
    )
    assert (tmp_path / "a.mrcs").read_bytes() == (tmp_path / "b.mrcs").read_bytes()


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (("--model", "M.json", "--kind", "noise_onl"), ("noise_onl", "'noise_only'")),
        (
            ("--model", "M.json", "--kind", "real_background"),
            ("1 --model, 0 --tomogram", "as many of each"),
        ),
        (("--model", "other.json", *REAL), ("other.json", "tomogram known", "t.mrc")),
        (("--model", "M.json", *REAL, "--mask", "t.mrc"), ("TOMOGRAM=VALUE",)),
        (("--model", "M.json", *REAL, "--mask", "u=t.mrc"), ("no --tomogram is named u",)),
        (
            ("--model", "M.json", "--kind", "noise_only", "--mask", "t=t.mrc"),
            ("--mask", "noise_only"),
        ),
    ],
)
def test_options_that_do_not_fit_are_named(cryoetgan, tmp_path, files, words, named):
    refused(cryoetgan("imaging", "ablate", "d.star", *words, "-o", "x.star", code=2), *named)
    assert not list(tmp_path.glob("x.*"))


def test_no_patch_holds_a_masked_voxel_or_padding(tmp_path, files):
    data, places = files
    mask, padded = np.zeros(data.shape, np.int8), np.array(data)
    mask[:, 40:] = 1
    padded[:, :, :70] = 0.5
    excluded = ExclusionMask(padded, mask)
    path = tmp_path / "t.mrc"
    boxes = BackgroundPatches(path, padded, places[:0], excluded, BOX, 0, tries=1000).centres
    assert (boxes[:, 1] + BOX // 2 <= 40).all()  # x y z
    assert (boxes[:, 0] - BOX // 2 >= 70).all()


@pytest.mark.parametrize(("depth", "named"), [(64, "0 boxes of 16 voxels"), (10, "too small")])
def test_a_crowded_or_thin_tomogram_is_refused(tomogram, tmp_path, depth, named):
    data = tomogram.data[:depth]
    places = np.stack(np.meshgrid(*[np.arange(0, 100, 6.0)] * 3), -1).reshape(-1, 3)
    excluded = ExclusionMask(data)
    with pytest.raises(UserError, match=rf"t\.mrc: .*{named}"):
        BackgroundPatches(tmp_path / "t.mrc", data, places, excluded, BOX, 0, tries=1000)
