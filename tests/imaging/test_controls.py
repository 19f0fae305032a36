"""Controls: of the transfer the wedge alone; real patches that no pick is in."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from cryoetgan.errors import UserError
from cryoetgan.imaging.fit.exclusion import LeftOut
from cryoetgan.imaging.model import crop
from cryoetgan.imaging.simulate.ablated import Backdrop, free_places, without_transfer
from cryoetgan.io.mrc import write_volume
from cryoetgan.io.star import COORDINATES, write_star
from cryoetgan.io.volume_set import read_volume_set, write_volume_set
from cryoetgan.physics.optics import missing_wedge
from tests.conftest import refused
from tests.imaging.conftest import BOX, TILTS, VOXEL


def test_without_transfer_a_density_is_scaled_and_loses_its_wedge_alone(known, maps):
    scene = np.pad(maps["rod"], BOX // 2)
    plain = without_transfer(known)
    expected = np.fft.rfftn(scene) * missing_wedge(scene.shape, TILTS)
    made = np.fft.rfftn(plain.signal(scene))
    inner = np.abs(expected) > 1e-3 * np.abs(expected).max()
    scale = (made[inner] / expected[inner]).real.mean()
    assert np.allclose(made[inner], scale * expected[inner], rtol=1e-3)
    # as strong as the fitted particles are
    variances = [
        sum(crop(m.signal(np.pad(one, BOX // 2)), BOX).var() for one in maps.values())
        for m in (plain, known)
    ]
    assert variances[0] == pytest.approx(variances[1], rel=1e-3)
    # the noise is as it was fitted
    noises = [m.noise(scene.shape, np.random.default_rng(1)) for m in (plain, known)]
    assert np.array_equal(*noises)
    assert not np.allclose(known.signal(scene), plain.signal(scene), rtol=0.1)


@pytest.fixture
def files(tmp_path, tomogram, known, maps):
    """A tomogram with room at one end, its picks, its model, densities."""
    data = np.concatenate([tomogram.data, tomogram.data[:, :, :60]], axis=2)
    write_volume(tmp_path / "t.mrc", data, VOXEL)
    picks = pd.DataFrame(tomogram.picks.places, columns=COORDINATES)
    write_star(tmp_path / "picks.star", picks)
    replace(known, tomogram="t").save(tmp_path / "M.json")
    known.save(tmp_path / "other.json")
    table = pd.DataFrame({"cryoetganClass": ["ball", "rod", "ball"]})
    volumes = np.stack([maps[name] for name in table["cryoetganClass"]])
    write_volume_set(tmp_path / "d.star", volumes, table, VOXEL)
    return data, tomogram.picks.places


def test_pasted_is_the_signal_in_a_patch_without_a_pick(cryoetgan, tmp_path, files, known, maps):
    data, places = files
    words = ("--model", "M.json", "--tomogram", "t.mrc", "--particles", "picks.star", "--seed", 3)
    cryoetgan("imaging", "control", "d.star", "--kind", "pasted", *words, "-o", "p.star")
    made = read_volume_set(tmp_path / "p.star")
    assert list(made.table["cryoetganClass"]) == ["ball", "rod", "ball"]
    free = free_places(Backdrop(tmp_path / "t.mrc", data, places, LeftOut(data)), BOX, 3)
    # the nearest pick, by the axis on which it is farthest: in no box is one
    distance = np.abs(free[:, None] - places[None]).max(axis=2).min(axis=1)
    assert distance.min() > BOX / 2
    corners = {tuple(place[::-1] - BOX // 2) for place in free}
    patches = np.stack([data[tuple(slice(c, c + BOX) for c in at)] for at in corners])
    flat = patches.reshape(len(patches), -1)
    for volume, name in zip(made.volumes, made.table["cryoetganClass"], strict=True):
        rest = volume - crop(known.signal(np.pad(maps[name], BOX // 2)), BOX)
        # what is left is one of the tomogram's own patches, voxel by voxel
        assert np.abs(flat - rest.ravel()).max(axis=1).min() < 1e-3 * data.std()


def test_controls_keep_bytes_and_refuse_what_does_not_fit(cryoetgan, tmp_path, files):
    words = ("imaging", "control", "d.star", "--model", "M.json")
    for name in ("one", "two"):
        cryoetgan(*words, "--kind", "noise", "-o", f"{name}.star")
    assert (tmp_path / "one.mrcs").read_bytes() == (tmp_path / "two.mrcs").read_bytes()
    refused(cryoetgan(*words, "--kind", "nois", "-o", "x.star", code=2), "nois", "'noise'")
    done = cryoetgan(*words, "--kind", "pasted", "-o", "x.star", code=2)
    refused(done, "1 --model, 0 --tomogram", "as many of each")
    given = ("--kind", "pasted", "--tomogram", "t.mrc", "--particles", "picks.star", "-o", "x.star")
    done = cryoetgan(*words[:-1], "other.json", *given, code=2)
    refused(done, "other.json", "tomogram known", "t.mrc")
    for mask, said in (("t.mrc", "NAME=PATH"), ("u=t.mrc", "no --tomogram is named u")):
        refused(cryoetgan(*words, *given, "--mask", mask, code=2), said)
    assert not list(tmp_path.glob("x.*"))


def test_what_is_masked_and_padding_are_not_pasted_into(tmp_path, files):
    data, places = files
    left_out, padded = np.zeros(data.shape, np.int8), np.array(data)
    left_out[:, 40:] = 1
    padded[:, :, :70] = 0.5
    free = free_places(
        Backdrop(tmp_path / "t.mrc", padded, places[:0], LeftOut(padded, left_out)), BOX, 0
    )
    # x y z: no box reaches into mask or padding
    assert (free[:, 1] + BOX // 2 <= 40).all()
    assert (free[:, 0] - BOX // 2 >= 70).all()


def test_a_crowded_tomogram_has_no_place_to_paste_into(tomogram, tmp_path):
    places = np.stack(np.meshgrid(*[np.arange(0, 100, 6.0)] * 3), -1).reshape(-1, 3)
    with pytest.raises(UserError, match=r"t\.mrc: 0 boxes of 16 voxels hold no pick"):
        free_places(
            Backdrop(tmp_path / "t.mrc", tomogram.data, places, LeftOut(tomogram.data)), BOX, 0
        )
    thin = tomogram.data[:10]
    with pytest.raises(UserError, match=r"too small"):
        free_places(Backdrop(tmp_path / "t.mrc", thin, places[:0], LeftOut(thin)), BOX, 0)
