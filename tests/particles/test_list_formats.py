"""Lists of other programs, written by their rules: places, orientations, classes and tomograms."""

import json

import numpy as np
import pandas as pd
import pytest

from cryoetgan.errors import UserError
from cryoetgan.io.mrc import write_volume
from cryoetgan.io.star import ANGLES, COORDINATES, write_star
from cryoetgan.io.volume_set import write_volume_set
from cryoetgan.particles.importers import read_picks
from cryoetgan.physics.coordinates import ImportTransform
from cryoetgan.physics.geometry import rotation_from_relion
from tests.tom_matrix import tom_matrix

SHAPE, VOXEL = (60, 70, 80), 10.0
PLACES = np.array([[10.5, 20.25, 30.0], [40.0, 50.0, 20.75], [70.0, 5.5, 55.0]])
"""x, y, z in voxels from 0."""
TOM = np.array([[10.0, 40.0, -70.0], [100.0, 20.0, 5.0], [-30.0, 110.0, 60.0]])
"""phi, theta, psi: the reference is rotated about z, x, z, fixed axes."""
TURNS = np.array([tom_matrix(phi, psi, theta) for phi, theta, psi in TOM])
SHIFT = np.array([0.5, -0.25, 1.0])


def read(path, tomogram="TS_3"):
    transform = ImportTransform(SHAPE, VOXEL, 1.0)
    return read_picks(path, tomogram, SHAPE, transform)


def dynamo(tomograms=(3, 3, 3), classes=(1, 2, 1)):
    rows = np.zeros((3, 35))
    rows[:, 0] = 1, 2, 3
    rows[:, 3:6] = SHIFT
    rows[:, 6:9] = -TOM[:, ::-1]  # the inverse rotation
    rows[:, 9], rows[:, 19], rows[:, 21] = 0.5, tomograms, classes
    rows[:, 23:26] = PLACES - SHIFT + 1
    return "\n".join(" ".join(f"{v:g}" for v in row) for row in rows) + "\n"


def motives(tomograms=(3, 3, 3)):
    rows = np.zeros((3, 20), np.float32)
    rows[:, 0], rows[:, 3], rows[:, 4] = 0.5, (1, 2, 3), tomograms
    rows[:, 7:10], rows[:, 10:13] = PLACES - SHIFT + 1, SHIFT
    rows[:, 16:20] = np.column_stack([TOM[:, [0, 2, 1]], (1, 2, 1)])  # phi, psi, theta, class
    return rows


def em_bytes(rows):
    """An EM file of 32-bit floats of a PC."""
    head = bytes([6, 0, 0, 5]) + np.array([20, len(rows), 1], "<i4").tobytes()
    return head.ljust(512, b"\0") + rows.astype("<f4").tobytes()


def stopgap():
    rows = motives()
    table = pd.DataFrame({"tomo_num": rows[:, 4].astype(int), "halfset": "A", "score": 0.5})
    table[["orig_x", "orig_y", "orig_z"]] = rows[:, 7:10]
    table[["x_shift", "y_shift", "z_shift"]] = rows[:, 10:13]
    table[["phi", "psi", "the"]] = rows[:, 16:19]
    table["class"] = [1, 2, 1]
    heading = "".join(f"_{name} #{n}\n" for n, name in enumerate(table, start=1))
    body = table.to_csv(sep=" ", header=False, index=False)
    return f"data_stopgap_motivelist\n\nloop_\n{heading}{body}\n"


def deepfinder(indices=(0, 0, 0), angles=True):
    rows = []
    for (x, y, z), (phi, the, psi), index, label in zip(
        PLACES, TOM, indices, (1, 2, 1), strict=True
    ):
        turn = f' phi="{phi}" psi="{psi}" the="{the}"' if angles else ""
        place = f'class_label="{label}" x="{x}" y="{y}" z="{z}"'
        rows.append(f'<object tomo_idx="{index}" {place}{turn} cluster_size="9"/>')
    return f"<objlist>{''.join(rows)}</objlist>"


def cbox():
    names = ["CoordinateX", "CoordinateY", "CoordinateZ", "Width", "Height", "Depth", "Confidence"]
    heading = "".join(f"_{name} #{n}\n" for n, name in enumerate(names, start=1))
    corners = PLACES - [18.5, 18.5, 0]
    body = "".join(f"{x} {y} {z} 37 37 37 0.5\n" for x, y, z in corners)
    version = "data_global\n\n_cbox_format_version 1.0\n\n"
    slices = "data_cryolo_include\n\nloop_\n_slice_index #1\n20\n30\n"
    return f"{version}data_cryolo\n\nloop_\n{heading}{body}\n{slices}"


def artiax():
    table = pd.DataFrame(PLACES - SHIFT, columns=["pos_x", "pos_y", "pos_z"])
    table[["shift_x", "shift_y", "shift_z"]] = SHIFT
    table[["phi", "the", "psi"]] = TOM
    return table.to_csv(sep="\t", index=False)


def napari():
    table = pd.DataFrame(PLACES[:, ::-1], columns=["axis-0", "axis-1", "axis-2"])
    return table.to_csv(index_label="index")


def markers():
    places = "".join(
        f'<marker id="{n}" x="{x}" y="{y}" z="{z}" radius="5"/>'
        for n, (x, y, z) in enumerate(PLACES * VOXEL)
    )
    return f'<marker_set name="markers 1">{places}</marker_set>'


MATRIX = "x,y,z," + ",".join(f"r{i}{j}" for i in "123" for j in "123") + "\n"


def copick(transformation, name="a"):
    point = {"location": {"x": 100, "y": 100, "z": 100}, "transformation_": transformation}
    return json.dumps({"pickable_object_name": name, "points": [point]})


LISTS = {
    "d.tbl": (dynamo(), True, True),
    "m.em": (em_bytes(motives()), True, True),
    "s.star": (stopgap(), True, True),
    "o.xml": (deepfinder(), True, True),
    "plain.xml": (deepfinder(angles=False), False, True),
    "c.cbox": (cbox(), False, False),
    "t.coords": ("".join(f"{x} {y} {z}\n" for x, y, z in PLACES), False, False),
    "a.tsv": (artiax(), True, False),
    "n.csv": (napari(), False, False),
    "c.cmm": (markers(), False, False),
}


@pytest.mark.parametrize("name", LISTS)
def test_places_orientations_and_classes(tmp_path, name):
    content, has_angles, has_classes = LISTS[name]
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    found = read(path)
    assert np.allclose(found[COORDINATES], PLACES, atol=1e-4)
    assert (set(ANGLES) <= set(found)) == has_angles
    if has_angles:
        turns = rotation_from_relion(found[ANGLES].to_numpy()).as_matrix()
        assert np.allclose(turns, TURNS, atol=1e-5)
    kinds = ["class_1", "class_2", "class_1"] if has_classes else ["particle"] * 3
    assert found["cryoetganClass"].tolist() == kinds
    if name not in ("t.coords", "a.tsv", "n.csv", "c.cmm", "o.xml", "plain.xml"):
        assert (found["cryoetganScore"] == 0.5).all()


@pytest.mark.parametrize(
    ("columns", "cells", "angles", "place"),
    [
        ("Angle Rot Tilt Psi", "0 90 7", (0, 90, 7), (10, 20, 30)),  # whole numbers
        ("Angle Tilt Psi", "90 7", (0, 90, 7), (10, 20, 30)),
        ("TomoSubtomogram Tilt", "90", (0, 90, 0), (10, 20, 30)),
        ("Origin YAngst", "20", None, (10, 18, 30)),
        ("Origin Y", "2", None, (10, 18, 30)),
    ],
)
def test_an_absent_part_of_a_pose_is_zero(tmp_path, columns, cells, angles, place):
    """As RELION reads it (docs of its metadata: columns that are absent have the default 0)."""
    first, *rest = columns.split()
    names = ["rlnCoordinateX", "rlnCoordinateY", "rlnCoordinateZ"]
    heading = "".join(f"_{name}\n" for name in [*names, *(f"rln{first}{part}" for part in rest)])
    (tmp_path / "r.star").write_text(f"data_particles\n\nloop_\n{heading}10 20 30 {cells}\n")
    found = read(tmp_path / "r.star")
    assert found[COORDINATES].to_numpy().tolist() == [list(place)]
    if angles:
        turn = rotation_from_relion(found[ANGLES].to_numpy()[0])
        assert (turn.inv() * rotation_from_relion(angles)).magnitude() < 1e-6


def test_relion_4_states_one_pixel_size_for_a_tomogram(tmp_path):
    table = pd.DataFrame(2 * PLACES, columns=COORDINATES)
    table["rlnTomoName"], table["rlnOpticsGroup"] = ["TS_3", "TS_4", "TS_3"], [1, 2, 1]
    size = {"rlnOpticsGroup": [1, 2], "rlnTomoTiltSeriesPixelSize": [VOXEL / 2, 1.0]}
    write_star(tmp_path / "r.star", table, pd.DataFrame(size))
    assert np.allclose(read(tmp_path / "r.star")[COORDINATES], PLACES[::2])
    write_star(tmp_path / "r.star", table.assign(rlnTomoName="TS_3"), pd.DataFrame(size))
    with pytest.raises(UserError, match="different rlnTomoTiltSeriesPixelSize"):
        read(tmp_path / "r.star")


@pytest.mark.parametrize(
    ("name", "content", "kept"),
    [
        ("a.tsv", artiax().replace("10.0\t40.0\t-70.0", "\t\t"), 3),  # a row without angles
        ("o.xml", deepfinder().replace('tomo_idx="0"', 'tomo_name="TS_9"', 1)
         .replace('tomo_idx="0"', 'tomo_name="TS_3"'), 2),
        ("x.csv", "x,y,z,\n10,20,30,\n40,50,20\n", 2),
        ("x.csv", ",x,y,z\n0,10,20,30\n", 1),
        ("x.csv", "x  y z\n 10  20 30\n", 1),
    ],
)  # fmt: skip
def test_rows_are_kept_and_columns_are_right(tmp_path, name, content, kept):
    (tmp_path / name).write_text(content)
    found = read(tmp_path / name)
    assert len(found) == kept
    assert set(found["rlnCoordinateX"]) <= {*PLACES[:, 0], 10.0}


def test_other_units_are_scaled_before_shifts_count(tmp_path):
    (tmp_path / "t.coords").write_text("".join(f"{x} {y} {z}\n" for x, y, z in 2 * PLACES))
    transform = ImportTransform(SHAPE, VOXEL, 1.0)
    found = read_picks(tmp_path / "t.coords", "T", SHAPE, transform, VOXEL / 2)
    assert np.allclose(found[COORDINATES], PLACES)


@pytest.mark.parametrize(
    ("numbers", "tomogram", "kept"),
    [
        ((3, 3, 3), "TS_03", 3),
        ((0, 0, 0), "TS_03", 3),
        ((1, 1, 1), "cell", 3),
        ((3, 4, 3), "TS_03", 2),
        ((3, 4, 3), "TS_03_bin4", 2),
        ((3, 10, 3), "TS_03_10_00Apx", 2),
        ((4, 4, 4), "TS_03_bin4", None),
        ((1, 1, 1), "TS_03", None),
        ((1, 2, 1), "cell", None),
    ],
)
def test_a_number_stands_for_a_tomogram_or_is_refused(tmp_path, numbers, tomogram, kept):
    for name, content in (
        ("d.tbl", dynamo(numbers).encode()),
        ("m.em", em_bytes(motives(numbers))),
    ):
        (tmp_path / name).write_bytes(content)
        if kept is None:
            with pytest.raises(UserError, match="numbers"):
                read(tmp_path / name, tomogram)
        else:
            assert len(read(tmp_path / name, tomogram)) == kept


def test_a_table_map_names_tomograms(tmp_path):
    (tmp_path / "d.tbl").write_text(dynamo((1, 2, 1)))
    (tmp_path / "d.doc").write_text("1 /data/cell_A.mrc\n2 /data/cell_B.rec\n")
    assert len(read(tmp_path / "d.tbl", "cell_A")) == 2
    assert len(read(tmp_path / "d.tbl", "cell_B")) == 1
    with pytest.raises(UserError, match="cell_A"):
        read(tmp_path / "d.tbl", "cell_C")


def test_deepfinders_indices_are_no_names(tmp_path):
    (tmp_path / "o.xml").write_text(deepfinder((7, 7, 7)))
    assert len(read(tmp_path / "o.xml")) == 3
    (tmp_path / "o.xml").write_text(deepfinder((0, 1, 0)))
    with pytest.raises(UserError, match="numbers"):
        read(tmp_path / "o.xml")


def test_marker_sets_are_classes(tmp_path):
    one = markers().replace("markers 1", "80S ribosome")
    (tmp_path / "m.cmm").write_text(f"<marker_sets>{one}{markers()}</marker_sets>")
    found = read(tmp_path / "m.cmm")
    assert found["cryoetganClass"].value_counts().to_dict() == {"80S_ribosome": 3, "markers_1": 3}


def test_class_numbers_of_relion_are_classes_if_they_differ(tmp_path):
    table = pd.DataFrame(PLACES, columns=COORDINATES).assign(rlnClassNumber=[1, 2, 1])
    write_star(tmp_path / "r.star", table)
    assert read(tmp_path / "r.star")["cryoetganClass"].tolist() == ["class_1", "class_2", "class_1"]
    write_star(tmp_path / "r.star", table.assign(rlnClassNumber=1))
    assert set(read(tmp_path / "r.star")["cryoetganClass"]) == {"particle"}


@pytest.mark.parametrize("whole", [False, True])
@pytest.mark.parametrize("name", ["particles.csv", "dynamo.tbl", "objects.xml", ""])
def test_our_plain_export_comes_back(cryoetgan, tmp_path, rng, name, whole):
    """Also into a tomogram that was resampled and rotated at import: the lists refer to it."""
    table = pd.DataFrame({"rlnTomoName": ["cell", "cell", "demo_2"], "cryoetganClass": list("aba")})
    table[COORDINATES] = PLACES
    table[ANGLES] = rng.uniform(10, 80, (3, 3))
    origin = {f"rlnOrigin{axis}Angst": value for axis, value in zip("XYZ", SHIFT, strict=True)}
    table = table.assign(**origin)
    if whole:
        write_star(tmp_path / "s.star", table)
        for tomogram in ("cell", "demo_2"):
            empty = np.zeros((4, 4, 4), np.float32)
            write_volume(tmp_path / f"{tomogram}.mrc", empty, VOXEL)
        inputs = ("cell.mrc", "demo_2.mrc", "--particles", "s.star")
    else:
        write_volume_set(tmp_path / "s.star", np.zeros((3, 8, 8, 8), np.float32), table, VOXEL)
        inputs = ("s.star",)
    cryoetgan("export", "plain", *inputs, "-o", "plain")
    transform = ImportTransform(SHAPE, VOXEL / 2, 2.0, tilt_axis="x")
    found = read_picks(tmp_path / "plain" / name, "cell", SHAPE, transform)
    assert np.allclose(found[COORDINATES], PLACES[:2] - SHIFT / VOXEL, atol=2e-3)
    turns = rotation_from_relion(found[ANGLES].to_numpy()).as_matrix()
    ours = rotation_from_relion(table[ANGLES].to_numpy()[:2]).as_matrix()
    assert np.allclose(turns, ours, atol=1e-4)
    assert found["cryoetganClass"].tolist() == ["a", "b"]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("d.tbl", "1 2 3\n"),
        ("d.tbl", "a b c\n"),
        ("t.coords", "1 2\n"),
        ("t.coords", "x y z\n1 2 3\n"),
        ("o.xml", "<objlist/>"),
        ("o.xml", "<objlist><object x='1'/></objlist>"),
        ("o.xml", "<params/>"),
        ("o.xml", "no XML"),
        ("o.xml", '<!DOCTYPE a [<!ENTITY b "c">]><objlist/>'),
        ("c.cmm", "<marker_set/>"),
        ("c.cbox", "data_x\n\nloop_\n_a #1\n1\n"),
        ("m.em", "no EM file"),
        ("p.mod", "IMOD"),
        ("t.star", "data_particles\nloop_\n_rlnCoordinateX\n" + 60_000 * "1 " + "\n"),
        ("c.cbox", "data_cryolo\nloop_\n_CoordinateX\n" + 60_000 * "1 " + "\n"),
        ("s.star", stopgap().replace("\n3 A", "\nTS_3 A")),
        ("n.csv", "shape-type,vertex-index,axis-0,axis-1,axis-2\nline,0,1,2,3\n"),
        ("x.csv", "x,y,z\n7,10,20,30\n"),  # which column is x is unknown
        ("x.csv", "x,X,y,z\n1,10,20,30\n"),
        ("x.csv", MATRIX + "10,20,30,-1,0,0,0,1,0,0,0,1\n"),
        ("x.csv", MATRIX + "10,20,30,2,0,0,0,2,0,0,0,2\n"),
        ("c.json", copick([[-1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])),
        ("c.json", copick(np.eye(3).tolist())),
        ("c.json", copick(None, None)),
        (
            "t.star",
            2
            * "data_particles\n\nloop_\n_rlnCoordinateX\n_rlnCoordinateY\n_rlnCoordinateZ\n1 2 3\n",
        ),
    ],
)
def test_broken_lists_are_named(tmp_path, name, content):
    (tmp_path / name).write_text(content)
    with pytest.raises(UserError, match=name):
        read(tmp_path / name)


def test_a_broken_table_beside_our_list_is_named(tmp_path):
    (tmp_path / "d.tbl").write_text(dynamo())
    (tmp_path / "classes.csv").write_text("label,class\n1,../x\n2,b\n")
    with pytest.raises(UserError, match=r"classes\.csv"):
        read(tmp_path / "d.tbl")
    (tmp_path / "classes.csv").write_text("number,class\n1,a\n")
    with pytest.raises(UserError, match=r"classes\.csv"):
        read(tmp_path / "d.tbl")
