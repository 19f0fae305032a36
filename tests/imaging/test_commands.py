"""`imaging fit` and `imaging simulate --model` from the command line."""

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from cryoetgan.errors import UserError
from cryoetgan.imaging.commands import _acquisition, fit, simulate
from cryoetgan.imaging.fit.plot import drawn
from cryoetgan.imaging.model import ImagingModel
from cryoetgan.io.files import sidecar, write_json
from cryoetgan.io.mrc import write_volume
from cryoetgan.io.star import ANGLES, COORDINATES, read_star, write_star
from cryoetgan.io.volume_set import read_volume_set, write_volume_set
from cryoetgan.physics.geometry import relion_from_rotation
from tests.conftest import refused
from tests.imaging.conftest import BOX, VOXEL


@pytest.fixture
def files(tomogram, maps, tmp_path):
    """Tomogram, scored picks (each class a row, the true one best), maps, densities."""
    write_volume(tmp_path / "t.mrc", tomogram.data, VOXEL)
    for name, density in maps.items():
        write_volume(tmp_path / f"{name}.mrc", density, VOXEL)
    picks = tomogram.picks
    rows = pd.DataFrame(picks.places, columns=COORDINATES)
    rows[ANGLES] = relion_from_rotation(picks.rotations)
    rows["cryoetganId"] = [f"p{i}" for i in range(len(rows))]
    scored = [
        rows.assign(cryoetganClass=n, cryoetganScore=np.where(picks.names == n, 0.6, 0.3))
        for n in maps
    ]
    write_star(tmp_path / "scores.star", pd.concat(scored, ignore_index=True))
    table = pd.DataFrame({"cryoetganClass": ["ball", "rod", "ball", "rod"]})
    volumes = np.stack([maps[name] for name in table["cryoetganClass"]])
    write_volume_set(tmp_path / "d.star", volumes, table, VOXEL)
    return tmp_path


MAPS = ("--density", "ball.mrc", "--density", "rod.mrc", "--particles", "scores.star")


def test_fit_then_simulate(cryoetgan, files):
    words = ("imaging", "fit", "t.mrc", *MAPS, "--tilts=-60,60")
    said = cryoetgan(*words, "--defocus", 3, "--ctf", "phase-flipped", "-o", "m.json")
    assert "no defocus" not in said.stderr
    model = ImagingModel.load(files / "m.json")
    assert model.tomogram == "t"
    assert model.acquisition.tilts == (-60, 60)
    assert model.acquisition.defocus == 3
    assert set(json.loads((files / "m.json").read_text())["provenance"]["inputs"]) == {
        "t.mrc",
        "scores.star",
        "ball.mrc",
        "rod.mrc",
    }
    # a picture of fit against data, the same bytes for the same fit
    picture = (files / "m.png").read_bytes()
    assert picture.startswith(b"\x89PNG")
    assert drawn(model) == picture
    cryoetgan("imaging", "simulate", "d.star", "--model", "m.json", "-o", "one.star")
    simulate(files / "d.star", files / "two.star", [files / "m.json"], neighbours=False)
    with_others, alone = (read_volume_set(files / f"{n}.star") for n in ("one", "two"))
    assert list(with_others.table["cryoetganClass"]) == ["ball", "rod", "ball", "rod"]
    assert set(with_others.table["cryoetganSource"]) == {"simulated"}
    assert with_others.box == BOX
    # the grey values are the tomogram's own: about variance 1 here, and no set is rescaled
    assert alone.volumes.std() != pytest.approx(1, abs=1e-3)
    assert not np.array_equal(with_others.volumes, alone.volumes)
    assert with_others.optics.iloc[0]["cryoetganTiltHigh"] == 60


def test_a_model_is_drawn_for_each_volume_and_adding_volumes_changes_none(files, known):
    for name in ("a", "b"):
        known.save(files / f"{name}.json")
    write_volume_set(
        files / "more.star",
        np.repeat(read_volume_set(files / "d.star").volumes, 3, axis=0),
        pd.DataFrame({"cryoetganClass": ["ball", "rod", "rod"] * 4}),
        VOXEL,
    )
    models = [files / "a.json", files / "b.json"]
    for source, name in (("more", "x"), ("more", "y"), ("d", "z")):
        simulate(files / f"{source}.star", files / f"{name}.star", models, seed=3)
    made = read_volume_set(files / "x.star")
    assert (files / "x.mrcs").read_bytes() == (files / "y.mrcs").read_bytes()
    assert set(made.table["rlnOpticsGroup"]) == {1, 2}
    assert np.array_equal(read_volume_set(files / "z.star").volumes[0], made.volumes[0])


def test_each_group_of_tomograms_sees_every_density(files, known):
    for name, group in (("a", "titan"), ("b", "talos"), ("c", "titan")):
        replace(known, acquisition=replace(known.acquisition, group=group)).save(
            files / f"{name}.json"
        )
    models = [files / f"{name}.json" for name in "abc"]
    simulate(files / "d.star", files / "both.star", models, per_group=True, seed=3)
    simulate(files / "d.star", files / "one.star", [models[1]], seed=3)
    both, one = (read_volume_set(files / f"{name}.star") for name in ("both", "one"))
    of = both.optics.set_index("rlnOpticsGroup")["cryoetganGroup"]
    groups = [of[number] for number in both.table["rlnOpticsGroup"]]
    assert groups == ["titan"] * 4 + ["talos"] * 4
    assert list(both.table["cryoetganClass"]) == 2 * list(one.table["cryoetganClass"])
    # a group's part is what its models alone make
    assert np.array_equal(both.volumes[4:], one.volumes)


def test_what_is_not_typed_comes_from_the_record_and_is_said(files, caplog):
    with pytest.raises(UserError, match=r"t\.mrc: .*--tilts"):
        _acquisition(files / "t.mrc", None, {})
    record = {"acquisition": {"tilt_low": -50.0, "tilt_high": 60.0, "voltage": 200.0}}
    write_json(sidecar(files / "t.mrc"), record)
    with caplog.at_level("WARNING", logger="cryoetgan"):
        found = _acquisition(files / "t.mrc", None, {"defocus": None, "cs": 1.0})
    assert (found.tilts, found.voltage, found.cs, found.defocus) == ((-50, 60), 200, 1, None)
    assert "no defocus is known" in caplog.text
    # what is typed wins over the record
    typed = _acquisition(files / "t.mrc", "-40,40", {"voltage": 300.0, "defocus": 2.0})
    assert (typed.tilts, typed.voltage, typed.defocus) == ((-40, 40), 300, 2)


def test_mistakes_of_a_fit_are_named_and_leave_nothing(files, maps):
    write_volume(files / "other.mrc", maps["ball"], 10.0)
    write_volume(files / "large.mrc", np.pad(maps["ball"], 2), VOXEL)
    write_star(files / "none.star", pd.DataFrame(columns=COORDINATES))
    for changes, named in (
        ({"density": ["ball.mrc", "other.mrc"]}, r"other\.mrc has 10\.000 A"),
        ({"density": ["ball.mrc", "large.mrc"]}, r"large\.mrc.*cubes of one size"),
        ({"particles": "none.star"}, r"none\.star: holds no pick"),
        ({"ctf": "flipped"}, "--ctf: got 'flipped', wanted raw, phase-flipped"),
        ({"voltage": -1.0}, "--voltage"),
    ):
        given = {"density": ["ball.mrc"], "particles": "scores.star", "tilts": "-60,60"} | changes
        given["density"] = [files / name for name in given["density"]]
        given["particles"] = files / given["particles"]
        with pytest.raises(UserError, match=named):
            fit(files / "t.mrc", files / "m.json", **given)
    assert not list(files.glob("m.*"))


def test_mistakes_of_a_simulation_are_named_and_leave_nothing(files, known):
    known.save(files / "k.json")
    write_volume_set(
        files / "e.star",
        np.zeros((1, 20, 20, 20), np.float32),
        pd.DataFrame({"cryoetganClass": ["ball"]}),
        VOXEL,
    )
    for source, given, named in (
        ("d", {}, "--model .*--snr"),
        ("d", {"model": [files / "k.json"], "snr": 1.0}, "one or the other"),
        ("d", {"model": [files / "k.json"], "defocus": 5.0}, "--defocus: give one or the other"),
        ("d", {"model": [files / "no.json"]}, r"no\.json: no such"),
        ("d", {"snr": 1.0}, "--tilts"),
        ("e", {"model": [files / "k.json"]}, r"20 voxels.*densities\.box"),
    ):
        with pytest.raises(UserError, match=named):
            simulate(files / f"{source}.star", files / "s.star", **given)
    assert not list(files.glob("s.*"))


def test_picks_of_other_tomograms_have_no_part_in_a_fit(cryoetgan, files):
    words = ("imaging", "fit", "t.mrc", "--density", "ball.mrc", "--density", "rod.mrc")
    words += ("--tilts=-60,60", "--defocus", 3, "--particles")
    table = read_star(files / "scores.star").particles
    write_star(files / "own.star", table.assign(rlnTomoName="t"))
    others = table.assign(rlnTomoName="u", rlnCoordinateX=table["rlnCoordinateX"] + 5)
    both = pd.concat([table.assign(rlnTomoName="t"), others], ignore_index=True)
    write_star(files / "both.star", both)
    write_star(files / "others.star", others)
    cryoetgan(*words, "own.star", "-o", "a.json")
    said = cryoetgan(*words, "both.star", "-o", "b.json").stderr
    assert f"{len(table)} of {2 * len(table)} particles lie in other tomograms" in said
    first, second = (json.loads((files / f"{n}.json").read_text()) for n in "ab")
    assert first["about"] == second["about"]
    refused(
        cryoetgan(*words, "others.star", "-o", "c.json", code=2), "others.star", "lie in u", "'t'"
    )
    # of another binning
    write_star(files / "fine.star", table.assign(rlnCoordinateX=3 * table["rlnCoordinateX"]))
    assert "another binning" in cryoetgan(*words, "fine.star", "-o", "d.json").stderr


def test_a_fit_is_refused_before_it_starts_where_its_names_cannot_be(cryoetgan, files):
    words = ("imaging", "fit", "t.mrc", "--particles", "scores.star", "--tilts=-60,60")
    (files / "o").mkdir()
    for name, target in (("ball.mrc", "o/ball.mrc"), ("rod.mrc", "empty.mrc")):
        (files / target).write_bytes((files / name).read_bytes())
    ball = ("--density", "ball.mrc", "--density")
    refused(cryoetgan(*words, *ball, "o/ball.mrc", "-o", "m.json", code=2), "same name", "ball.mrc")
    refused(cryoetgan(*words, *ball, "empty.mrc", "-o", "m.json", code=2), "empty.mrc", "rename")
    refused(cryoetgan(*words, *ball, "rod.mrc", "-o", "m", code=2), "end it in .json")
    assert not list(files.glob("m*"))


def test_classes_without_a_map_are_named(cryoetgan, files):
    words = ("imaging", "fit", "t.mrc", "--density", "ball.mrc", "--particles", "scores.star")
    tilts = ("--tilts=-60,60", "--defocus", 3, "-o")
    assert "classes without a map (rod)" in cryoetgan(*words, *tilts, "m.json").stderr
    (files / "ball.mrc").rename(files / "sphere.mrc")
    words = ("imaging", "fit", "t.mrc", "--density", "sphere.mrc", "--particles", "scores.star")
    done = cryoetgan(*words, *tilts, "n.json", code=2)
    refused(done, "scores.star", "ball, rod", "sphere")
    assert not list(files.glob("n.*"))
