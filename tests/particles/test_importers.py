"""Picks of other programs: each format, unit and frame gives the same particles."""

import json

import mrcfile
import numpy as np
import pandas as pd
import pytest
from scipy import ndimage
from scipy.spatial.transform import Rotation

from cryoetgan.densities.poses import read_pose_prior
from cryoetgan.io.mrc import read_volume, write_volume
from cryoetgan.io.star import ANGLES, COORDINATES, ORIGINS, read_star, write_star
from cryoetgan.particles.curation.select import SelectOptions, select
from cryoetgan.particles.extraction import extract_box
from cryoetgan.physics.geometry import rotation_from_relion
from tests.conftest import refused
from tests.particles.score_tables import scores


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
        write_star(tmp_path / f"{name}.star", table)
        cryoetgan("particles", "import", f"{name}.star", "--tomogram", "t1.mrc", "-o", "o.star")
        found.append(read_star(tmp_path / "o.star").particles)
    assert np.allclose(*[table[COORDINATES].to_numpy(float) for table in found], atol=1e-6)
    assert found[0]["cryoetganId"][0] == found[1]["cryoetganId"][0]
    assert not set(origins) & set(found[0])


def relion_matrix(rot, tilt, psi):
    """RELION's matrix from particle to tomogram, as its header Euler_angles_relion.h spells it."""
    (sp, st, sc), (cp, ct, cc) = np.sin(x := np.radians([rot, tilt, psi])), np.cos(x)
    return np.array(
        [
            [cc * ct * cp - sc * sp, cc * ct * sp + sc * cp, -cc * st],
            [-sc * ct * cp - cc * sp, -sc * ct * sp + cc * cp, sc * st],
            [st * cp, st * sp, ct],
        ]
    )


def test_the_two_parts_of_an_orientation_are_composed_as_relion_does(cryoetgan, tmp_path, rng):
    """RELION: A = A_subtomogram A_particle; position = coordinate - A_subtomogram origin."""
    write_volume(tmp_path / "t1.mrc", rng.standard_normal((40, 44, 48)), 10.0)
    box, own, origin = (30.0, 60.0, -45.0), (-100.0, 20.0, 75.0), np.array([40.0, -25.0, 15.0])
    table = pd.DataFrame({"rlnTomoName": ["t1"] * 2})
    table[COORDINATES] = [[20.0, 21.0, 22.0]] * 2
    table[["rlnTomoSubtomogramRot", "rlnTomoSubtomogramTilt", "rlnTomoSubtomogramPsi"]] = box
    table[ANGLES], table[ORIGINS] = own, [origin, 0 * origin]
    write_star(tmp_path / "p.star", table)
    cryoetgan("particles", "import", "p.star", "--tomogram", "t1.mrc", "-o", "o.star")
    made = read_star(tmp_path / "o.star").particles
    whole = relion_matrix(*box) @ relion_matrix(*own)
    assert np.allclose(rotation_from_relion(made[ANGLES]).as_matrix(), whole, atol=1e-5)
    moved = np.array([20.0, 21.0, 22.0]) - relion_matrix(*box) @ origin / 10
    assert np.allclose(made[COORDINATES], [moved, [20, 21, 22]], atol=1e-4)
    # the same particle as a prior of poses
    prior = read_pose_prior(tmp_path / "p.star", spread=0)
    assert np.allclose(prior.rotations[""].as_matrix(), whole, atol=1e-5)
    assert np.allclose(prior.offsets[""][0], -relion_matrix(*box) @ origin, atol=1e-3)
    # without the particle's own part, the box alone
    write_star(tmp_path / "box.star", table.drop(columns=ANGLES))
    alone = read_pose_prior(tmp_path / "box.star", spread=0).rotations[""].as_matrix()
    assert np.allclose(alone, relion_matrix(*box), atol=1e-5)


@pytest.mark.parametrize(
    "words",
    [(), ("--voxel-size", 15), ("--tilt-axis", "x"), ("--beam-axis", "y")],
    ids=["as it is", "resampled", "tilt axis x", "beam axis y"],
)
def test_annotations_follow_their_tomogram(cryoetgan, tmp_path, words):
    """A particle annotated in the file has the same position in the imported tomogram."""
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
    annotations = pd.DataFrame(places, columns=["x", "y", "z"]).assign(
        tomo="t1", **{"class": "a"}, **matrix
    )
    other = annotations.assign(tomo="t2", x=annotations["x"] + 5)
    pd.concat([annotations, other]).to_csv(tmp_path / "annotations.csv", index=False)
    cryoetgan("tomograms", "import", "in.mrc", "--contrast", "bright", *words, "-o", "t1.mrc")
    cryoetgan("particles", "import", "annotations.csv", "--tomogram", "t1.mrc", "-o", "o.star")
    data = read_volume(tmp_path / "t1.mrc").data
    table = read_star(tmp_path / "o.star").particles
    assert len(table) == 3
    for place in table[COORDINATES].to_numpy(float):
        near = extract_box(data, np.rint(place), 9)
        peak = ndimage.center_of_mass(np.maximum(near - near.max() / 3, 0)) - np.array([4, 4, 4])
        assert np.abs(peak[::-1] - (place - np.rint(place))).max() < 0.4
    # the long axis, too
    along = rotation_from_relion(table[ANGLES].to_numpy(float)[2]).apply([0, 0, 1])
    near = extract_box(data, table[COORDINATES].to_numpy(float)[2], 15)
    near = np.maximum(near - near.max() / 4, 0)
    axes = np.indices(near.shape)[::-1] - 7
    spread = [np.sum(near * axis**2) for axis in axes]
    assert np.argmax(spread) == np.argmax(np.abs(along))
    # positions of our own files are not moved
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


def csv_import(cryoetgan, tmp_path, text, *words, tomogram="TS_01", code=0):
    """Import a CSV file into a tomogram of 40 x 44 x 48 voxels; return the command and its rows."""
    if not (tmp_path / f"{tomogram}.mrc").exists():
        write_volume(tmp_path / f"{tomogram}.mrc", np.ones((40, 44, 48), np.int8), 10.0)
    (tmp_path / "p.csv").write_text(text)
    command = ("particles", "import", "p.csv", "--tomogram", f"{tomogram}.mrc", "-o", "o.star")
    done = cryoetgan(*command, *words, code=code)
    return done, read_star(tmp_path / "o.star").particles if code == 0 else None


@pytest.mark.parametrize(
    ("heading", "mine", "other", "tomogram"),
    [
        ("experiment", "TS_01", "TS_02", "TS_01"),
        ("Run_Name", "TS_01", "TS_02", "TS_01"),
        ("tomo name", "TS_01", "TS_011", "TS_01"),
        ("filename", "/a/b/TS_01.mrc", "/a/b/TS_02.mrc", "TS_01"),
        ("rlnMicrographName", "Tomograms\\TS_01_10.00Apx.rec", "TS_02_10.00Apx.rec", "TS_01"),
        ("tomo", "TS.01", "TS.02", "TS_01"),
        ("tomo", "rec_TS_01", "rec_TS_02", "TS_01_bin4"),
        ("tomogram", "007", "7.5", "007"),
        ("tomogram", "7", "17", "TS_007"),
        ("tomogram", "ts_1", "ts_10", "TS_01"),
        ("run", "NA", "NB", "NA"),
        ("anything", "TS_01.mrc", "TS_02.mrc", "TS_01"),
    ],
)
def test_rows_are_taken_by_any_name_of_their_tomogram(
    cryoetgan, tmp_path, heading, mine, other, tomogram
):
    rows = [(mine, 1), (other, 2), (mine, 3)] if mine != "7" else [(mine, 1), (mine, 3)]
    text = f"{heading},x,y,z\n" + "".join(f"{name},{x},2,3\n" for name, x in rows)
    _, made = csv_import(cryoetgan, tmp_path, text, tomogram=tomogram)
    assert made["rlnCoordinateX"].tolist() == [1, 3]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("run_name,x,y,z\nTS_09,1,2,3\n", ("TS_09", "rename")),
        ("tomo,x,y,z\nTS_01,1,2,3\n,4,5,6\n", ("1 rows have no name", "row 2")),
        ("tomo,x,y,z\nrec_TS_01,1,2,3\nTS_01_bin4,4,5,6\n", ("rec_TS_01", "each may be")),
        ("tomo,x,y,z\n1,1,2,3\n2,4,5,6\n", ("no row of tomogram",)),
        ("x,y,z,class\n1,2,3,../../x\n", ("class of 1 particles is '../../x'",)),
        ("x,y,z,class\n1,2,3,a\n4,5,6,\n", ("class of 1 particles is ''",)),
        ("x,y,z\n1,2,3\n4,,6\n", ("y of row 2 is ''",)),
        ("1,2,3\n4,5,6\n", ("add a heading",)),
        ("", ("is empty",)),
    ],
)
def test_rows_whose_tomogram_is_unknown_are_refused(cryoetgan, tmp_path, text, words):
    done, _ = csv_import(cryoetgan, tmp_path, text, code=2)
    refused(done, "p.csv", *words)


@pytest.mark.parametrize(
    ("heading", "values", "classes"),
    [
        ("particle_type", ("ribosome", "NA"), ["ribosome", "NA"]),
        ("Object", ("a-b", "a"), ["a-b", "a"]),
        ("class_label", ("1", "1"), ["particle", "particle"]),  # one number is no name
        ("label", ("1", "2"), ["particle", "particle"]),  # they number the particles
        ("class", ("80S ribosome", "a.b"), ["80S_ribosome", "a_b"]),
    ],
)
def test_classes_are_found_under_the_names_of_the_field(
    cryoetgan, tmp_path, heading, values, classes
):
    text = f"x;y;z;{heading}\n1,5;2;3;{values[0]}\n4;5;6;{values[1]}\n"
    _, made = csv_import(cryoetgan, tmp_path, text)
    assert made["cryoetganClass"].tolist() == classes
    assert made["rlnCoordinateX"].tolist() == [1.5, 4]


@pytest.mark.parametrize("kind", ["csv", "star"])
def test_class_numbers_do_not_depend_on_the_tomogram(cryoetgan, tmp_path, kind):
    rows = [("TS_01", 2), ("TS_01", 2), ("TS_02", 1), ("TS_02", 2), ("TS_02", 2)]
    for tomogram, classes in {"TS_01": [2, 2], "TS_02": [1, 2, 2]}.items():
        wanted = [f"class_{n}" for n in classes]
        text = "tomo,x,y,z,label\n"
        text += "".join(f"{name},{n},2,3,{label}\n" for n, (name, label) in enumerate(rows))
        _, made = csv_import(cryoetgan, tmp_path, text, tomogram=tomogram)
        if kind == "star":
            table = pd.DataFrame(rows, columns=["rlnTomoName", "rlnClassNumber"])
            table[COORDINATES] = [[n, 2.0, 3.0] for n in range(len(rows))]
            write_star(tmp_path / "p.star", table)
            words = ("--tomogram", f"{tomogram}.mrc", "-o", "o.star")
            cryoetgan("particles", "import", "p.star", *words)
            made = read_star(tmp_path / "o.star").particles
        assert made["cryoetganClass"].tolist() == wanted


def test_labels_that_count_the_particles_of_each_tomogram_are_no_classes(cryoetgan, tmp_path):
    text = "tomo,x,y,z,label\nTS_01,1,2,3,1\nTS_01,4,5,6,2\nTS_02,1,2,3,1\nTS_02,1,2,3,2\n"
    _, made = csv_import(cryoetgan, tmp_path, text)
    assert made["cryoetganClass"].tolist() == ["particle"] * 2


def test_decimal_numbers_name_no_tomogram(cryoetgan, tmp_path):
    text = "x,y,z,class,density\n1,2,3,a,0.3\n4,5,6,a,0.5\n7,8,9,b,1\n"
    _, made = csv_import(cryoetgan, tmp_path, text)
    assert made["cryoetganClass"].tolist() == ["a", "a", "b"]


IDENTITY = {"location": {"x": 100, "y": 200, "z": 300}, "transformation_": np.eye(4).tolist()}
MATRIX = ",".join(f"r{i}{j}" for i in "123" for j in "123")


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("p.json", json.dumps({"pickable_object_name": "a", "points": [IDENTITY] * 2})),
        ("p.csv", f"x,y,z,{MATRIX}\n" + "".join(f"1{n},2,3,1,0,0,0,1,0,0,0,1\n" for n in "12")),
        ("p.csv", "x,y,z,rot,tilt,psi\n1,2,3,0,0,0\n4,5,6,0,0,0\n"),
        ("p.csv", "x,y,z,rot,tilt,psi\n1,2,3,30,0,-30\n4,5,6,-50,0,50\n"),
    ],
)
def test_identity_of_all_particles_is_no_orientation(cryoetgan, tmp_path, rng, name, text):
    write_volume(tmp_path / "in.mrc", rng.standard_normal((40, 44, 48)), 10.0)
    cryoetgan("tomograms", "import", "in.mrc", "--tilt-axis", "x", "-o", "t1.mrc")
    (tmp_path / name).write_text(text)
    words = ("particles", "import", name, "--tomogram", "t1.mrc", "-o", "o.star")
    cryoetgan(*words)
    assert not set(ANGLES) & set(read_star(tmp_path / "o.star").particles)
    if name == "p.csv" and "rot" in text:  # one other angle, and all count
        (tmp_path / name).write_text(text.replace(",0,", ",9,", 1))
        cryoetgan(*words)
        assert set(ANGLES) <= set(read_star(tmp_path / "o.star").particles)


def test_a_file_without_angles_leaves_those_of_the_others(cryoetgan, tmp_path):
    write_volume(tmp_path / "t1.mrc", np.ones((40, 44, 48), np.int8), 10.0)
    (tmp_path / "picks").mkdir()
    (tmp_path / "picks/a.csv").write_text("x,y,z,rot,tilt,psi\n1,2,3,10,20,30\n")
    (tmp_path / "picks/b.csv").write_text("x,y,z\n4,5,6\n7,8,9\n")
    words = ("particles", "import", "picks", "--tomogram", "t1.mrc", "-o", "o.star")
    done = cryoetgan(*words)
    made = read_star(tmp_path / "o.star").particles
    assert np.allclose(made[ANGLES].to_numpy(float)[0], [10, 20, 30])
    assert np.isnan(made[ANGLES].to_numpy(float)[1:]).all()
    assert "2 of 3 particles have no angles (1 of 2 files)" in done.stderr
    # our own STAR file comes back
    cryoetgan("particles", "import", "o.star", "--tomogram", "t1.mrc", "-o", "again.star")
    again = read_star(tmp_path / "again.star").particles
    assert np.isnan(again[ANGLES].to_numpy(float)).any(axis=1).tolist() == [False, True, True]


@pytest.mark.parametrize("imported", [True, False])
@pytest.mark.parametrize(
    ("origin", "start", "shift"),
    [
        ((100, -50, 30), (5, 5, 5), (100, -50, 30)),
        ((0, 0, 0), (2, -3, 4), (20, -30, 40)),
        ((float("nan"), 1, 1), (0, 0, 0), (0, 0, 0)),
        ((1e30, 0, 0), (9999999, 0, 0), (0, 0, 0)),
    ],
)
def test_markers_lie_where_chimerax_shows_them(
    cryoetgan, tmp_path, rng, origin, start, shift, imported
):
    write_volume(tmp_path / "in.mrc", rng.standard_normal((40, 44, 48)), 10.0)
    with mrcfile.open(tmp_path / "in.mrc", "r+") as file:
        file.header.origin = origin
        file.nstart = start
    if imported:
        cryoetgan("tomograms", "import", "in.mrc", "-o", "t1.mrc")
    else:
        (tmp_path / "in.mrc").rename(tmp_path / "t1.mrc")
    x, y, z = np.array([120, 200, 300]) + shift
    text = f'<marker_set name="a"><marker id="1" x="{x}" y="{y}" z="{z}"/></marker_set>'
    (tmp_path / "p.cmm").write_text(text)
    cryoetgan("particles", "import", "p.cmm", "--tomogram", "t1.mrc", "-o", "o.star")
    made = read_star(tmp_path / "o.star").particles
    assert np.allclose(made[COORDINATES].to_numpy(float), [[12, 20, 30]], atol=1e-4)


def test_dropped_classes_are_counted_and_other_spellings_are_not_dropped(cryoetgan, tmp_path):
    text = "class,x,y,z\nRibosome,1,2,3\npro-tea,4,5,6\nproteosome,7,8,9\nproteosome,9,8,9\n"
    words = ("--class", "ribosome", "--class", "proteasome", "--class", "pro_tea")
    done, made = csv_import(cryoetgan, tmp_path, text, *words)
    assert made["cryoetganClass"].tolist() == ["ribosome", "pro_tea"]
    assert "dropped 2 of 4 rows" in done.stderr
    assert "2 'proteosome'; did you mean 'proteasome'?" in done.stderr


def test_a_unit_shows_in_the_places(cryoetgan, tmp_path, rng):
    """Uniform places in voxels a quarter, and four times, the size of the tomogram's."""
    places = rng.uniform(0, 1, (400, 3)) * [47, 43, 39]

    def text(factor):
        return pd.DataFrame(factor * places, columns=["x", "y", "z"]).to_csv(index=False)

    done, made = csv_import(cryoetgan, tmp_path, text(1))
    assert (len(made), "WARNING" in done.stderr) == (400, False)
    done, _ = csv_import(cryoetgan, tmp_path, text(4), code=2)
    refused(done, "of its 400 particles", "annotations_voxel_size")
    done, _ = csv_import(cryoetgan, tmp_path, text(0.25))
    assert "one corner of TS_01" in done.stderr
    done, made = csv_import(cryoetgan, tmp_path, text(1.1))
    assert f"{400 - len(made)} of 400 particles lie outside" in done.stderr
    done, made = csv_import(cryoetgan, tmp_path, "x,y,z\n1,2,3\n1,2,3\n")
    assert "1 particles occur twice" in done.stderr
    assert len(made) == 1


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_files_of_windows_editors_are_read(cryoetgan, tmp_path, encoding):
    write_volume(tmp_path / "t1.mrc", np.ones((40, 44, 48), np.int8), 10.0)
    names = " ".join(f"_{name}" for name in ["rlnTomoName", *COORDINATES])
    points = [{"location": {"x": 10, "y": 20, "z": 30}}]
    texts = {
        "p.star": "data_particles\n\nloop_\n" + names.replace(" ", "\n") + "\nt1 1 2 3\n",
        "p.csv": "tomo,x,y,z\r\nt1,1,2,3\r\n",
        "p.json": json.dumps({"pickable_object_name": "a", "points": points}),
    }
    for name, text in texts.items():
        (tmp_path / name).write_bytes(text.encode(encoding))
        cryoetgan("particles", "import", name, "--tomogram", "t1.mrc", "-o", "o.star")
        assert read_star(tmp_path / "o.star").particles[COORDINATES].values.tolist() == [[1, 2, 3]]


def test_a_folder_holds_a_file_a_class(cryoetgan, tmp_path, rng):
    write_volume(tmp_path / "t1.mrc", rng.standard_normal((40, 44, 48)), 10.0)
    folder = tmp_path / "annotations"
    folder.mkdir()
    words = ("particles", "import", "annotations", "--tomogram", "t1.mrc", "-o", "o.star")
    refused(cryoetgan(*words, code=2), "annotations", "picks", ".star")
    point = {"location": {"x": 120, "y": 200, "z": 300}}
    content = {"pickable_object_name": "a", "points": [point]}
    (folder / "me_1_a.json").write_text(json.dumps(content))
    (folder / "b.csv").write_text("tomo,x,y,z\nt1,1,2,3\nt2,5,6,7\n")
    (folder / "c.csv").write_text("tomo,x,y,z\nt2,1,2,3\nt3,5,6,7\n")  # none in this one
    for name, run, points in (("d", "t1", []), ("e", "t2", [point])):  # none, and another run's
        content = {"pickable_object_name": name, "run_name": run, "points": points}
        (folder / f"me_1_{name}.json").write_text(json.dumps(content))
    (folder / "notes.txt").write_text("")
    cryoetgan(*words)
    table = read_star(tmp_path / "o.star").particles
    assert list(table["cryoetganClass"]) == ["b", "a"]
    assert np.allclose(table[COORDINATES].to_numpy(float), [[1, 2, 3], [12, 20, 30]])
    for name in ("me_1_a.json", "me_1_d.json", "me_1_e.json", "b.csv"):
        (folder / name).unlink()
    refused(cryoetgan(*words, code=2), "c.csv", "t2, t3")


def test_annotations_of_one_tomogram_are_split_as_its_picks_are(cryoetgan, tmp_path, rng):
    box = 16
    write_volume(tmp_path / "t1.mrc", np.zeros((200, 200, 200), np.float32), 10.0)
    chosen = select(scores(rng, ["t1"], 100), SelectOptions(top=999, box=box))
    write_star(tmp_path / "s.star", chosen)
    annotations = pd.DataFrame(rng.uniform(5, 195, (200, 3)), columns=["x", "y", "z"])
    annotations.to_csv(tmp_path / "m.csv", index=False)
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


def test_refusals(cryoetgan, tmp_path, rng):
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


POLNET = "type\tlabel\tcode\tpolymer\tx\ty\tz\tq1\tq2\tq3\tq4\n"
POLNET_1 = (
    "Density\tMicrographs\tPolyData\tTomo3D\tType\tLabel\tCode\tPolymer\tX\tY\tZ\tQ1\tQ2\tQ3\tQ4\n"
)


@pytest.fixture
def density(tmp_path):
    write_volume(tmp_path / "tomo_001_den.mrc", np.zeros((20, 30, 40), np.float32), 10.0)
    return "tomo_001_den.mrc"


def test_motifs_become_particles_and_membranes_do_not(cryoetgan, tmp_path, density):
    text = POLNET + "membrane\t1\tsphere\t0\t50\t60\t70\t0\t0\t1\t0\n"
    text += "cprotein\t2\tpdb_4v4r.a\t0\t105\t200\t62.5\t1\t0\t0\t0\n"
    text += "mbprotein\t3\t5wek\t0\t390\t20\t190\t1\t0\t0\t0\n"
    (tmp_path / "motifs.csv").write_text(text)
    cryoetgan("particles", "import", "motifs.csv", "--tomogram", density, "-o", "p.star")
    rows = read_star(tmp_path / "p.star").particles
    assert list(rows["cryoetganClass"]) == ["pdb_4v4r_a", "5wek"]
    # x of 105 A is voxel 10 (round half to even); no rotation: its box centre and ours are the same
    assert rows[COORDINATES].to_numpy(float).tolist() == [[10, 20, 6], [39, 2, 19]]


def test_a_list_of_all_tomograms_gives_those_of_one(cryoetgan, tmp_path, density):
    text = POLNET_1
    for number, x in (("000", 100), ("001", 200)):
        text += f"/a/tomo_{number}_den.mrc\tm\tp\tt\tSAWLC\t2\t1bxn\t0\t{x}\t20\t30\t1\t0\t0\t0\n"
        text += f"/a/tomo_{number}_den.mrc\tm\tp\tt\tMembrane\t1\tsphere\t0\t1\t2\t3\t1\t0\t0\t0\n"
    (tmp_path / "motifs.csv").write_text(text)
    words = ("particles", "import", "motifs.csv", "-o", "p.star", "--tomogram")
    cryoetgan(*words, density)
    rows = read_star(tmp_path / "p.star").particles
    assert rows[COORDINATES].to_numpy(float).tolist() == [[20, 2, 3]]
    write_volume(tmp_path / "other.mrc", np.zeros((20, 30, 40), np.float32), 10.0)
    refused(cryoetgan(*words, "other.mrc", code=2), "other", "tomo_000_den")
