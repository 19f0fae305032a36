"""Selection, splits, extraction, import of other programs' picks."""

import json
import math
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import ndimage
from scipy.spatial.transform import Rotation

from cryoetgan.errors import UserError
from cryoetgan.io.files import read_json, sidecar, write_json
from cryoetgan.io.mrc import read_volume, write_volume
from cryoetgan.io.star import ANGLES, COORDINATES, ORIGINS, read_star, write_star
from cryoetgan.io.volume_set import read_volume_set
from cryoetgan.particles.curation.select import select
from cryoetgan.particles.curation.splits import block_split
from cryoetgan.particles.extraction import boxes, extract, fits
from cryoetgan.physics.acquisition import Acquisition
from cryoetgan.physics.geometry import rotation_from_relion
from tests.conftest import refused


def scores(rng, tomograms=("t1", "t2"), picks=40, classes=("a", "b")):
    rows = []
    for tomogram in tomograms:
        for index in range(picks):
            place = rng.uniform(20, 180, 3)
            for name in classes:
                row = dict(zip(COORDINATES, place, strict=True))
                row |= {"rlnTomoName": tomogram, "cryoetganId": f"{tomogram}-{index}"}
                rows.append(row | {"cryoetganClass": name, "cryoetganScore": rng.random()})
    return pd.DataFrame(rows)


SPLITS = {"t1": "train", "t2": "test"}


def test_a_place_has_one_class_and_the_best_of_each_stay(rng):
    table = scores(rng)
    chosen = select(table, 10, 16, SPLITS, 0.25)
    assert chosen["cryoetganId"].is_unique
    assert (chosen.groupby("cryoetganClass").size() == 10).all()
    best = table.groupby("cryoetganId")["cryoetganScore"].max()
    assert (chosen.set_index("cryoetganId")["cryoetganScore"] == best[chosen["cryoetganId"]]).all()
    for name, part in chosen.groupby("cryoetganClass"):
        winners = table.loc[table.groupby("cryoetganId")["cryoetganScore"].idxmax()]
        mine = winners[winners["cryoetganClass"] == name]["cryoetganScore"]
        assert part["cryoetganScore"].min() >= mine.nlargest(12).min()
    assert set(chosen[chosen["rlnTomoName"] == "t2"]["cryoetganSplit"]) == {"test"}


def test_the_best_of_each_class_are_taken_in_each_group_of_tomograms(rng, cryoetgan, tmp_path):
    table = scores(rng, ["t1", "t2", "t3"])
    # another microscope, whose scores are lower throughout
    table.loc[table["rlnTomoName"] == "t3", "cryoetganScore"] -= 2
    write_star(tmp_path / "c.star", table)
    words = ("particles", "select", "c.star", "--top", 5, "--box", 16, "--split", "t1=train")
    words = (*words, "--split", "t2=test", "--split", "t3=train")
    groups = ("--group", "t1=titan", "--group", "t2=titan", "--group", "t3=talos")
    counts = {}
    for name, more in (("all", ()), ("each", groups)):
        cryoetgan(*words, *more, "-o", f"{name}.star")
        chosen = read_star(tmp_path / f"{name}.star").particles
        mine = chosen["rlnTomoName"].map({"t3": "talos"}).fillna("titan")
        counts[name] = chosen.groupby([mine, "cryoetganClass"]).size().to_dict()
    assert counts["all"] == {("titan", "a"): 5, ("titan", "b"): 5}
    assert counts["each"] == {(g, c): 5 for g in ("talos", "titan") for c in "ab"}
    refused(cryoetgan(*words, "--group", "titan", "-o", "x.star", code=2), "--group", "TOMOGRAM=")


def test_one_particle_picked_twice_is_taken_once(rng):
    table = scores(rng, picks=10)
    copy = table[table["cryoetganId"] == "t1-0"].copy()
    copy[COORDINATES] += 0.5
    copy["cryoetganId"], copy["cryoetganScore"] = "t1-0b", 2.0
    chosen = select(pd.concat([table, copy]), 99, 16, SPLITS, 0.25)
    assert "t1-0b" in set(chosen["cryoetganId"])
    assert "t1-0" not in set(chosen["cryoetganId"])


def test_boxes_of_train_and_test_share_no_voxel(rng):
    box = 16
    chosen = select(scores(rng, ["t1"], 200), 999, box, {}, 0.25)
    where = chosen[COORDINATES].to_numpy(float)
    train, test = (where[chosen["cryoetganSplit"] == s] for s in ("train", "test"))
    assert len(train) > 2 * len(test) > 20
    apart = np.abs(train[:, None] - test[None]).max(axis=2)
    assert apart.min() >= box


def test_a_class_nothing_fits_is_named(rng):
    table = scores(rng)
    table.loc[table["cryoetganClass"] == "b", "cryoetganScore"] = -1.0
    with pytest.raises(UserError, match="class b"):
        select(table, 10, 16, SPLITS, 0.25)


def test_a_persons_decisions_win(rng, cryoetgan, tmp_path):
    table = scores(rng, picks=10)
    write_star(tmp_path / "c.star", table)
    folder = tmp_path / "curation"
    folder.mkdir()
    (folder / "me.csv").write_text("id,accepted,class\nt1-0,no,\nt1-1,yes,b\nt1-2,yes,a\n")
    words = ("particles", "select", "c.star", "--top", 4, "--box", 16, "--curation", folder)
    cryoetgan(*words, "--split", "t1=train", "--split", "t2=test", "-o", "s.star")
    chosen = read_star(tmp_path / "s.star").particles.set_index("cryoetganId")
    assert "t1-0" not in chosen.index
    assert chosen.loc["t1-1", "cryoetganClass"] == "b"
    assert chosen.loc["t1-2", "cryoetganClass"] == "a"
    (folder / "me.csv").write_text("id,accepted,class\nt1-0,perhaps,\n")
    refused(cryoetgan(*words, "-o", "x.star", code=2), "me.csv", "row 2", "perhaps")
    (folder / "me.csv").write_text("id,accepted,class\nt1-0,yes,c\n")
    refused(cryoetgan(*words, "-o", "x.star", code=2), "'c'", "a, b")
    (folder / "me.csv").write_text("id,accepted,class\nt1-0,no,c\n")  # what it is does not matter
    cryoetgan(*words, "-o", "x.star")
    assert "t1-0" not in set(read_star(tmp_path / "x.star").particles["cryoetganId"])


def test_a_named_class_brings_its_own_pose_and_no_score_is_touched(rng):
    table = scores(rng, picks=30)
    table["rlnAngleRot"] = rng.uniform(0, 360, len(table))
    best = table.loc[table.groupby("cryoetganId")["cryoetganScore"].idxmax()]
    other = {"a": "b", "b": "a"}
    said = {row.cryoetganId: other[row.cryoetganClass] for row in best[::7].itertuples()}
    chosen = select(table, 99, 16, SPLITS, 0.25, {"t1-0": "*", **said})
    assert len(chosen) > 50
    columns = ["cryoetganId", "cryoetganClass", "cryoetganScore", "rlnAngleRot", *COORDINATES]
    rows = set(table[columns].itertuples(index=False, name=None))
    assert set(chosen[columns].itertuples(index=False, name=None)) <= rows
    assert chosen.set_index("cryoetganId")["cryoetganClass"].loc[list(said)].to_dict() == said


def test_what_was_accepted_outranks_any_score_and_any_neighbour(rng):
    table = scores(rng, picks=30, classes=("a",))
    table["cryoetganScore"] *= 100  # a sum of squares, a z-score: any program's
    worst = table.nsmallest(3, "cryoetganScore")["cryoetganId"].tolist()
    beside = table[table["cryoetganId"] == worst[0]].copy()
    beside[COORDINATES] += 0.5
    beside["cryoetganId"], beside["cryoetganScore"] = "beside", 1e3
    table = pd.concat([table, beside], ignore_index=True)
    chosen = select(table, 3, 16, SPLITS, 0.25, dict.fromkeys(worst, "a"))
    assert set(chosen["cryoetganId"]) == set(worst)


@pytest.mark.parametrize("box", [16, 17])
def test_extraction_between_voxels_keeps_the_power_of_every_shell(rng, box):
    # white noise without its highest frequency, whose phase is unknown between voxels
    volume = rng.standard_normal((64, 64, 64)).astype(np.float32)
    power = {shift: np.zeros(box // 2) for shift in (0.0, 0.5)}
    frequency = [np.fft.fftfreq(box)] * 2 + [np.fft.rfftfreq(box)]
    radius = np.sqrt(sum(f**2 for f in np.meshgrid(*frequency, indexing="ij"))) * box
    shell = np.rint(radius).astype(int)
    for shift, total in power.items():
        for place in rng.integers(24, 40, (60, 3)):
            cut = extract(volume, place + shift, box)
            spectrum = np.abs(np.fft.rfftn(cut)) ** 2
            total += np.bincount(shell.ravel(), spectrum.ravel())[: box // 2]
    # a cubic spline leaves a third of the last shell
    assert power[0.5][1:] / power[0.0][1:] == pytest.approx(1, abs=0.1)


def test_extraction_between_voxels_is_what_a_wave_is_there(rng):
    z, y, x = np.indices((64, 60, 56)).astype(float)
    for k in rng.uniform(-0.4, 0.4, (6, 3)):
        place = rng.uniform(24, 32, 3)
        cut = extract(np.cos(2 * np.pi * (k[0] * x + k[1] * y + k[2] * z)), place, 16)
        at = np.indices((16,) * 3)[::-1] - 8 + place[:, None, None, None]
        exact = np.cos(2 * np.pi * np.tensordot(k, at, 1))
        assert np.abs(cut - exact).max() < 0.025, k


def test_extraction_is_centred_subvoxel():
    z, y, x = np.indices((40, 44, 48)).astype(float)
    centre = np.array([23.3, 20.6, 18.2])  # xyz
    square = (x - centre[0]) ** 2 + (y - centre[1]) ** 2 + (z - centre[2]) ** 2
    volume = np.exp(-square / 12).astype(np.float32)
    box = extract(volume, centre, 16)
    zz, yy, xx = np.indices((16, 16, 16)) - 8
    assert np.allclose(box, np.exp(-(xx**2 + yy**2 + zz**2) / 12), atol=2e-3)
    whole = extract(volume, np.array([23, 20, 18]), 16)
    assert np.array_equal(whole, volume[10:26, 12:28, 15:31])


def test_boxes_at_whole_voxels_are_the_tomogram_and_say_where_the_particle_is(
    cryoetgan, tmp_path, rng
):
    volume = rng.standard_normal((40, 44, 48)).astype(np.float32)
    write_volume(tmp_path / "t1.mrc", volume, 10.0)
    places = rng.uniform(9, 30, (20, 3))
    table = pd.DataFrame(places, columns=COORDINATES).assign(rlnTomoName="t1")
    table.loc[0, COORDINATES] = 20.5, 21.5, 18.49  # a half goes up, as elsewhere
    origins = rng.uniform(-5, 5, (20, 3))
    for name, known in (
        ("plain", table),
        ("moved", table.assign(**dict(zip(ORIGINS, origins.T, strict=True)))),
    ):
        write_star(tmp_path / f"{name}.star", known)
        words = ("--tomogram", "t1.mrc", "--box", 16, "--whole-voxels", "-o", f"{name}_s.star")
        cryoetgan("particles", "extract", f"{name}.star", *words)
        made = read_volume_set(tmp_path / f"{name}_s.star")
        whole = made.table[COORDINATES].to_numpy(int)
        assert list(whole[0]) == [21, 22, 18]
        for box, (x, y, z) in zip(made.volumes, whole, strict=True):
            assert np.array_equal(box, volume[z - 8 : z + 8, y - 8 : y + 8, x - 8 : x + 8])
        # where the particle is: coordinate - origin / voxel size, before and after
        was = known[COORDINATES].to_numpy(float) - (origins / 10 if name == "moved" else 0)
        now = whole - made.table[ORIGINS].to_numpy(float) / 10
        assert np.allclose(now, was, atol=1e-5)


def test_boxes_of_many_particles_hold_little_of_a_large_tomogram(tmp_path, rng):
    shape = (200, 1000, 1000)
    with open(tmp_path / "large", "wb") as file:
        file.truncate(4 * math.prod(shape))  # no room on the disk
    volume = np.memmap(tmp_path / "large", np.float32, "r", shape=shape)

    def held():  # megabytes of files in this process's memory
        status = Path("/proc/self/status").read_text()
        return int(re.search(r"RssFile:\s+(\d+)", status)[1]) / 1024

    before, most = held(), 0.0
    for _ in boxes(volume, np.round(rng.uniform(20, 180, (80, 3))) * [5, 5, 1], 28):
        most = max(most, held() - before)
    # each touches 28 x 28 rows, a page or two a row: 250 MB and more in all
    assert most < 100


def test_the_border_rule():
    shape = (40, 44, 48)
    assert fits(np.array([8, 8, 8]), shape, 16)
    assert not fits(np.array([7.9, 8, 8]), shape, 16)
    assert fits(np.array([40, 36, 32]), shape, 16)
    assert not fits(np.array([40.1, 36, 32]), shape, 16)


def test_the_command_keeps_rows_splits_and_geometry(cryoetgan, tmp_path, rng):
    for name, low in (("t1", -60), ("t2", -40)):
        write_volume(tmp_path / f"{name}.mrc", rng.standard_normal((40, 44, 48)), 10.0)
        write_json(
            sidecar(tmp_path / f"{name}.mrc"),
            {"acquisition": Acquisition(tilt_low=low, defocus=3.0).to_json()},
        )
    table = pd.DataFrame(
        {
            "rlnTomoName": ["t1", "t2", "t2"],
            "rlnCoordinateX": [20.0, 24.0, 2.0],
            "rlnCoordinateY": [20.0, 21.0, 20.0],
            "rlnCoordinateZ": [20.0, 19.0, 20.0],
            "cryoetganClass": ["a", "b", "b"],
            "cryoetganSplit": ["train", "test", "test"],
        }
    )
    write_star(tmp_path / "p.star", table)
    words = ("particles", "extract", "p.star", "--tomogram", "t1.mrc", "--tomogram", "t2.mrc")
    said = cryoetgan(*words, "--box", 16, "-o", "s.star").stderr
    assert "1 of 3 boxes" in said
    made = read_volume_set(tmp_path / "s.star")
    assert list(made.table["cryoetganSplit"]) == ["train", "test"]
    assert set(made.table["cryoetganSource"]) == {"real"}
    inputs = read_json(sidecar(tmp_path / "s.star"))["provenance"]["inputs"]
    assert set(inputs) == {"p.star", "t1.mrc", "t2.mrc"}
    groups = made.optics.set_index("rlnOpticsGroup")
    second = groups.loc[made.table["rlnOpticsGroup"][1]]
    assert Acquisition.from_optics(second.to_dict()).tilts == (-40, 60)
    done = cryoetgan("particles", "extract", "p.star", "--tomogram", "t1.mrc", "--box", 16, "-o", "x.star", code=2)  # fmt: skip
    refused(done, "'t2'")
    done = cryoetgan(*words, "--box", 64, "-o", "x.star", code=2)
    refused(done, "--box")


@pytest.mark.parametrize("kind", ["csv", "relion3", "relion5", "copick"])
def test_other_programs_picks_come_to_the_same_place(cryoetgan, tmp_path, rng, kind):
    write_volume(tmp_path / "t1.mrc", rng.standard_normal((40, 44, 48)), 10.0)
    place = np.array([12.5, 20.0, 31.25])
    if kind == "csv":
        (tmp_path / "p.csv").write_text("x,y,z,class\n12.5,20,31.25,a\n")
    elif kind == "copick":
        content = {
            "pickable_object_name": "a",
            "points": [{"location": dict(zip("xyz", place * 10, strict=True))}],
        }
        (tmp_path / "p.json").write_text(json.dumps(content))
    else:
        table = pd.DataFrame({"rlnTomoName": ["t1"], "cryoetganClass": ["a"]})
        if kind == "relion3":
            table[COORDINATES] = place[None]
        else:
            names = [f"rlnCenteredCoordinate{axis}Angst" for axis in "XYZ"]
            table[names] = ((place - np.array([48, 44, 40]) / 2) * 10)[None]
        write_star(tmp_path / "p.star", table)
    file = next(tmp_path.glob("p.*"))
    cryoetgan(
        "particles", "import", file, "--tomogram", "t1.mrc", "--split", "test", "-o", "o.star"
    )
    made = read_star(tmp_path / "o.star").particles
    assert np.allclose(made[COORDINATES].to_numpy(float)[0], place, atol=1e-4)
    assert made["cryoetganClass"][0] == "a"
    assert made["cryoetganSplit"][0] == "test"


@pytest.mark.parametrize("columns", ["rlnOrigin{}Angst", "rlnOrigin{}"])
@pytest.mark.parametrize("axis", ["y", "x"])
def test_a_refined_particle_lies_where_it_was_refined_to(cryoetgan, tmp_path, rng, columns, axis):
    write_volume(tmp_path / "in.mrc", rng.standard_normal((40, 44, 48)), 10.0)
    cryoetgan("tomograms", "import", "in.mrc", "--tilt-axis", axis, "-o", "t1.mrc")
    shift = np.array([3.0, -2.0, 1.5])  # voxels
    origins = [columns.format(axis) for axis in "XYZ"]
    found = []
    for name, origin in (("refined", shift), ("moved", 0 * shift)):
        table = pd.DataFrame({"rlnTomoName": ["t1"], "cryoetganClass": ["a"]})
        table[COORDINATES] = [np.array([20.0, 21.0, 22.0]) - (shift - origin)]
        table[origins] = [origin * (10.0 if "Angst" in columns else 1.0)]
        table["rlnTomoSubtomogramRot"] = 30.0
        write_star(tmp_path / f"{name}.star", table)
        words = ("particles", "import", f"{name}.star", "--tomogram", "t1.mrc", "-o", "o.star")
        assert "rlnTomoSubtomogramRot" in cryoetgan(*words).stderr
        found.append(read_star(tmp_path / "o.star").particles)
    assert np.allclose(*[table[COORDINATES].to_numpy(float) for table in found], atol=1e-6)
    assert found[0]["cryoetganId"][0] == found[1]["cryoetganId"][0]
    assert not set(origins) & set(found[0])


@pytest.mark.parametrize(
    "words",
    [(), ("--voxel-size", 15), ("--tilt-axis", "x"), ("--beam-axis", "y")],
    ids=["as it is", "resampled", "tilt axis x", "beam axis y"],
)
def test_marks_follow_their_tomogram(cryoetgan, tmp_path, words):
    """A particle marked in the file lies where it is in the imported tomogram."""
    places = np.array([[12.0, 30, 15], [40, 14, 25], [28, 36, 31]])  # xyz of the file
    z, y, x = np.indices((40, 44, 52)).astype(float)
    file = sum(np.exp(-((x - a) ** 2 + (y - b) ** 2 + (z - c) ** 2) / 8) for a, b, c in places)
    # longer along the particle's z, which lies along the file's x
    file += np.exp(-((x - 28) ** 2 / 40 + (y - 36) ** 2 / 4 + (z - 31) ** 2 / 4))
    write_volume(tmp_path / "in.mrc", file.astype(np.float32), 10.0)
    turn = Rotation.from_euler("y", 90, degrees=True)
    matrix = dict(
        zip([f"r{i}{j}" for i in "123" for j in "123"], turn.as_matrix().ravel(), strict=True)
    )
    marks = pd.DataFrame(places, columns=["x", "y", "z"]).assign(
        tomo="t1", **{"class": "a"}, **matrix
    )
    other = marks.assign(tomo="t2", x=marks["x"] + 5)
    pd.concat([marks, other]).to_csv(tmp_path / "marks.csv", index=False)
    cryoetgan("tomograms", "import", "in.mrc", "--contrast", "bright", *words, "-o", "t1.mrc")
    cryoetgan("particles", "import", "marks.csv", "--tomogram", "t1.mrc", "-o", "o.star")
    data = read_volume(tmp_path / "t1.mrc").data
    table = read_star(tmp_path / "o.star").particles
    assert len(table) == 3
    for place in table[COORDINATES].to_numpy(float):
        near = extract(data, np.rint(place), 9)
        peak = ndimage.center_of_mass(np.maximum(near - near.max() / 3, 0)) - np.array([4, 4, 4])
        assert np.abs(peak[::-1] - (place - np.rint(place))).max() < 0.4
    # the long axis, too
    along = rotation_from_relion(table[ANGLES].to_numpy(float)[2]).apply([0, 0, 1])
    near = extract(data, table[COORDINATES].to_numpy(float)[2], 15)
    near = np.maximum(near - near.max() / 4, 0)
    axes = np.indices(near.shape)[::-1] - 7
    spread = [np.sum(near * axis**2) for axis in axes]
    assert np.argmax(spread) == np.argmax(np.abs(along))
    # what we wrote ourselves stays where it is
    cryoetgan("particles", "import", "o.star", "--tomogram", "t1.mrc", "-o", "again.star")
    again = read_star(tmp_path / "again.star").particles
    assert np.allclose(again[COORDINATES].to_numpy(float), table[COORDINATES].to_numpy(float))


def test_coordinates_of_other_units_and_tomograms(cryoetgan, tmp_path, rng):
    write_volume(tmp_path / "t1.mrc", rng.standard_normal((40, 44, 48)), 10.0)
    words = ("--tomogram", "t1.mrc", "-o", "o.star")

    def imported(file, *more):
        cryoetgan("particles", "import", file, *more, *words)
        return read_star(tmp_path / "o.star").particles[COORDINATES].to_numpy(float)

    (tmp_path / "a.csv").write_text("tomo,x,y,z\nt1,120,200,300\nt2,100,100,100\n")
    assert np.allclose(imported("a.csv", "--voxel-size", 1), [[12, 20, 30]])
    # RELION 4: voxels of the unbinned tilt series; RELION 3 and Warp name micrographs
    table = pd.DataFrame({"rlnTomoName": ["t1"], "cryoetganClass": ["a"]})
    table[COORDINATES] = [[48.0, 80, 120]]
    optics = pd.DataFrame({"rlnOpticsGroup": [1], "rlnTomoTiltSeriesPixelSize": [2.5]})
    write_star(tmp_path / "four.star", table, optics)
    assert np.allclose(imported("four.star"), [[12, 20, 30]])
    table = pd.DataFrame({"rlnMicrographName": ["x/t1.tomostar", "x/t2.tomostar"]})
    table[COORDINATES] = [[12.0, 20, 30], [1, 2, 3]]
    write_star(tmp_path / "warp.star", table)
    assert np.allclose(imported("warp.star"), [[12, 20, 30]])
    table["rlnMicrographName"] = ["u.mrc", "v.mrc"]
    write_star(tmp_path / "no.star", table)
    refused(cryoetgan("particles", "import", "no.star", *words, code=2), "t1", "u, v")


def test_a_folder_holds_a_file_a_class(cryoetgan, tmp_path, rng):
    write_volume(tmp_path / "t1.mrc", rng.standard_normal((40, 44, 48)), 10.0)
    folder = tmp_path / "marks"
    folder.mkdir()
    words = ("particles", "import", "marks", "--tomogram", "t1.mrc", "-o", "o.star")
    refused(cryoetgan(*words, code=2), "marks", "holds no picks")
    point = {"location": {"x": 120, "y": 200, "z": 300}}
    content = {"pickable_object_name": "a", "points": [point]}
    (folder / "me_1_a.json").write_text(json.dumps(content))
    (folder / "b.csv").write_text("tomo,x,y,z\nt1,1,2,3\nt2,5,6,7\n")
    (folder / "c.csv").write_text("tomo,x,y,z\nt2,1,2,3\nt3,5,6,7\n")  # none in this one
    (folder / "notes.txt").write_text("")
    cryoetgan(*words)
    table = read_star(tmp_path / "o.star").particles
    assert list(table["cryoetganClass"]) == ["b", "a"]
    assert np.allclose(table[COORDINATES].to_numpy(float), [[1, 2, 3], [12, 20, 30]])
    for name in ("me_1_a.json", "b.csv"):
        (folder / name).unlink()
    refused(cryoetgan(*words, code=2), "c.csv", "t2, t3")


def test_marks_of_one_tomogram_are_split_as_its_picks_are(cryoetgan, tmp_path, rng):
    box = 16
    write_volume(tmp_path / "t1.mrc", np.zeros((200, 200, 200), np.float32), 10.0)
    chosen = select(scores(rng, ["t1"], 100), 999, box, {}, 0.25)
    write_star(tmp_path / "s.star", chosen)
    marks = pd.DataFrame(rng.uniform(5, 195, (200, 3)), columns=["x", "y", "z"])
    marks.to_csv(tmp_path / "m.csv", index=False)
    words = ("particles", "import", "m.csv", "--tomogram", "t1.mrc", "--selected", "s.star")
    cryoetgan(*words, "--box", box, "-o", "o.star")
    table = read_star(tmp_path / "o.star").particles
    everything = pd.concat([table, chosen])
    train, test = (
        everything[everything["cryoetganSplit"] == s][COORDINATES].to_numpy(float)
        for s in ("train", "test")
    )
    assert np.abs(train[:, None] - test[None]).max(axis=2).min() >= box
    assert (table["cryoetganSplit"] == "test").sum() > 20
    refused(cryoetgan(*words, "-o", "x.star", code=2), "--box")
    write_star(tmp_path / "s.star", chosen.assign(cryoetganSplit="train"))
    refused(cryoetgan(*words, "--box", box, "-o", "x.star", code=2), "gap of one box")


def test_what_cannot_be_imported_is_said(cryoetgan, tmp_path, rng):
    write_volume(tmp_path / "t1.mrc", rng.standard_normal((40, 44, 48)), 10.0)
    words = ("--tomogram", "t1.mrc", "-o", "o.star")
    (tmp_path / "far.csv").write_text("x,y,z\n900,20,31\n")
    refused(cryoetgan("particles", "import", "far.csv", *words, code=2), "far.csv", "inside t1")
    (tmp_path / "no.csv").write_text("a,b\n1,2\n")
    refused(cryoetgan("particles", "import", "no.csv", *words, code=2), "x, y, z")
    (tmp_path / "p.txt").write_text("1 2 3")
    refused(cryoetgan("particles", "import", "p.txt", *words, code=2), ".star")
    (tmp_path / "p.json").write_text("[1]")
    refused(cryoetgan("particles", "import", "p.json", *words, code=2), "copick")
    (tmp_path / "c.csv").write_text("x,y,z,class\n9,20,31,riboso\n")
    done = cryoetgan("particles", "import", "c.csv", "--class", "ribosome", *words, code=2)
    refused(done, "riboso", "ribosome")


def test_no_test_side_is_asked_for_by_a_share_of_zero():
    few = np.array([[1.0, 2.0, 3.0], [4.0, 2.0, 3.0]])
    assert block_split(few, 28, 0.0).tolist() == ["train", "train"]


@pytest.mark.parametrize("verb", ["select", "import"])
def test_particles_go_by_the_name_of_a_star_file(cryoetgan, tmp_path, rng, verb):
    write_star(tmp_path / "c.star", scores(rng))
    words = ("--tomogram", "t1.mrc") if verb == "import" else ()
    refused(cryoetgan("particles", verb, "c.star", *words, "-o", "c.mrc", code=2), "c.mrc", ".star")
    assert not (tmp_path / "c.mrc").exists()
