"""`imaging fit` and `imaging simulate --model` from the command line; tests/workflow/test_chain.py fits."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from cryoetgan.errors import UserError
from cryoetgan.imaging.commands import AcquisitionOptions, fit, simulate
from cryoetgan.imaging.storage import save_model
from cryoetgan.io.volume_set import read_volume_set, write_volume_set
from tests.conftest import refused
from tests.imaging.conftest import BOX, VOXEL

MAPS = ("--density", "ball.mrc", "--density", "rod.mrc", "--particles", "scores.star")


@pytest.fixture
def densities(maps, tmp_path):
    """Write `d.star`, four densities."""
    table = pd.DataFrame({"cryoetganClass": ["ball", "rod", "ball", "rod"]})
    volumes = np.stack([maps[name] for name in table["cryoetganClass"]])
    write_volume_set(tmp_path / "d.star", volumes, table, VOXEL)
    return tmp_path


def test_neighbours_are_simulated_unless_omitted(cryoetgan, known, files, densities):
    save_model(known, files / "m.json")
    words = ("imaging", "simulate", "d.star", "--model", "m.json")
    cryoetgan(*words, "-o", "one.star")
    cryoetgan(*words, "--no-neighbours", "-o", "two.star")
    crowded, isolated = (read_volume_set(files / f"{n}.star") for n in ("one", "two"))
    assert list(crowded.table["cryoetganClass"]) == ["ball", "rod", "ball", "rod"]
    assert set(crowded.table["cryoetganSource"]) == {"simulated"}
    assert crowded.box == BOX
    # grey values are those of the tomogram; the set is not rescaled
    assert isolated.volumes.std() != pytest.approx(1, abs=1e-3)
    assert not np.array_equal(crowded.volumes, isolated.volumes)
    assert crowded.optics.iloc[0]["cryoetganTiltHigh"] == 60


def test_adding_volumes_changes_no_other(densities, known):
    for name in ("a", "b"):
        save_model(known, densities / f"{name}.json")
    write_volume_set(
        densities / "more.star",
        np.repeat(read_volume_set(densities / "d.star").volumes, 3, axis=0),
        pd.DataFrame({"cryoetganClass": ["ball", "rod", "rod"] * 4}),
        VOXEL,
    )
    models = [densities / "a.json", densities / "b.json"]
    for source, name in (("more", "x"), ("more", "y"), ("d", "z")):
        target = densities / f"{name}.star"
        simulate(densities / f"{source}.star", target, AcquisitionOptions(), models, seed=3)
    more, fewer = (read_volume_set(densities / f"{name}.star") for name in ("x", "z"))
    assert (densities / "x.mrcs").read_bytes() == (densities / "y.mrcs").read_bytes()
    assert set(more.table["rlnOpticsGroup"]) == {1, 2}
    assert np.array_equal(fewer.volumes[0], more.volumes[0])


def test_every_density_is_simulated_once_for_each_group(densities, known):
    for name, group in (("a", "titan"), ("b", "talos"), ("c", "titan")):
        acquisition = replace(known.acquisition, group=group)
        save_model(replace(known, acquisition=acquisition), densities / f"{name}.json")
    models = [densities / f"{name}.json" for name in "abc"]
    source, unknown = densities / "d.star", AcquisitionOptions()
    simulate(source, densities / "both.star", unknown, models, per_group=True, seed=3)
    simulate(source, densities / "one.star", unknown, [models[1]], seed=3)
    both, one = (read_volume_set(densities / f"{name}.star") for name in ("both", "one"))
    names = both.optics.set_index("rlnOpticsGroup")["cryoetganGroup"]
    assert [names[n] for n in both.table["rlnOpticsGroup"]] == ["titan"] * 4 + ["talos"] * 4
    assert list(both.table["cryoetganClass"]) == 2 * list(one.table["cryoetganClass"])
    # the part of a group is the set of its own models
    assert np.array_equal(both.volumes[4:], one.volumes)


@pytest.mark.parametrize(
    ("source", "given", "named"),
    [
        ("d", {}, "--model .*--snr"),
        ("d", {"model": ["k.json"], "snr": 1.0}, "one or the other"),
        ("d", {"model": ["k.json"], "defocus": 5.0}, "--defocus: give one or the other"),
        ("d", {"model": ["no.json"]}, r"no\.json: no such"),
        ("d", {"snr": 1.0}, "--tilts"),
        ("e", {"model": ["k.json"]}, r"20 voxels.*densities\.box"),
    ],
)
def test_options_of_a_simulation_that_do_not_fit_are_named(densities, known, source, given, named):
    save_model(known, densities / "k.json")
    write_volume_set(
        densities / "e.star",
        np.zeros((1, 20, 20, 20), np.float32),
        pd.DataFrame({"cryoetganClass": ["ball"]}),
        VOXEL,
    )
    given = {k: [densities / n for n in v] if k == "model" else v for k, v in given.items()}
    optics = AcquisitionOptions(defocus=given.pop("defocus", None))
    with pytest.raises(UserError, match=named):
        simulate(densities / f"{source}.star", densities / "s.star", optics, **given)
    assert not list(densities.glob("s.*"))


@pytest.mark.parametrize(
    ("given", "named"),
    [({"ctf": "flipped"}, "wanted raw, phase-flipped"), ({"voltage": -1.0}, "voltage is -1")],
)
def test_values_of_a_fit_out_of_range_are_named(files, given, named):
    options = AcquisitionOptions(tilts="-60,60", **given)
    with pytest.raises(UserError, match=named):
        fit(files / "t.mrc", files / "m.json", files / "scores.star", [files / "ball.mrc"], options)
    assert not list(files.glob("m.*"))


def test_a_model_is_named_by_its_json(cryoetgan, files):
    done = cryoetgan("imaging", "fit", "t.mrc", *MAPS, "--tilts=-60,60", "-o", "m", code=2)
    refused(done, "end it in .json")
    assert not list(files.glob("m*"))
