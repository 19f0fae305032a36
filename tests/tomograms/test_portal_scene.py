"""Scenes in the layout of the CryoET Data Portal, and the way back from a copick project."""

import json

import numpy as np
import pandas as pd
import pytest

from cryoetgan.errors import UserError
from cryoetgan.io.files import read_json, write_json
from cryoetgan.io.mrc import read_volume, write_volume
from cryoetgan.io.point_files import read_portal_points
from cryoetgan.io.star import ANGLES, COORDINATES, read_star, write_star
from cryoetgan.physics.geometry import angle_between, rotate_volume, rotation_from_relion
from cryoetgan.tomograms.importing.import_scene import _number_objects
from cryoetgan.tomograms.sources.portal_scene import find_portal_files, read_portal_scene
from cryoetgan.tomograms.sources.zarr_volume import read_zarr
from tests.conftest import refused

N, SHAPE, VOXEL = 16, (32, 48, 56), 10.0
PLACES = {"rod_a": [(14.3, 12.0, 14.6), (40.0, 13.5, 16.0)], "hook": [(15.0, 34.2, 15.0)]}
COLUMNS = [*COORDINATES, *ANGLES]


def template(name):
    z, y, x = np.indices((N, N, N)) - 8.0
    body = np.exp(-(x**2 / 4 + (y - 1) ** 2 / 4 + z**2 / 14))
    if name == "hook":
        body = np.maximum(body, np.exp(-((x - 3) ** 2 / 8 + y**2 / 3 + (z - 3) ** 2 / 3)))
    return (1000 * body).astype(np.float32)


@pytest.fixture
def scene(tmp_path):
    """`s.mrc` of two classes and a membrane, with labels, instances and truth."""
    density, instances = np.zeros((2, *SHAPE), np.float32)
    labels = np.zeros(SHAPE, np.int16)
    density[:2], labels[:2], instances[:2] = 300, 2, 9
    rows = []
    for label, (name, places) in zip((3, 1), PLACES.items(), strict=True):
        for place in places:
            rows.append([*place, 20.0 + 31 * len(rows), 50.0, -70.0, name, 4 + len(rows)])
            whole = np.rint(place).astype(int)
            rotation = rotation_from_relion(rows[-1][3:6])
            turned = rotate_volume(template(name), rotation, np.array(place) - whole)
            box = tuple(slice(a, a + N) for a in whole[::-1] - N // 2)
            density[box] += turned
            labels[box][turned > 150] = label
            instances[box][turned > 150] = rows[-1][-1]
    for end, data in (("", density), ("_labels", labels), ("_instances", instances)):
        write_volume(tmp_path / f"s{end}.mrc", data, VOXEL)
    names = {"1": "hook", "2": "membrane", "3": "rod_a"}
    made = {"provenance": {"command": "tomograms scene"}, "labels": names}
    write_json(tmp_path / "s.mrc.json", made)
    write_json(tmp_path / "s_labels.mrc.json", {"labels": names})
    table = pd.DataFrame(rows, columns=[*COLUMNS, "cryoetganClass", "cryoetganInstance"])
    optics = pd.DataFrame([{"rlnOpticsGroup": 1}])
    write_star(tmp_path / "s.star", table.assign(rlnTomoName="s", rlnOpticsGroup=1), optics, VOXEL)
    for name in PLACES:
        write_volume(tmp_path / f"{name}.mrc", template(name), VOXEL)
    return table


def imported(folder, end=""):
    return read_volume(folder / f"o{end}.mrc").data


def test_an_exported_project_gives_back_its_scene(cryoetgan, tmp_path, scene):
    pytest.importorskip("copick")
    cryoetgan("export", "copick", "s.mrc", "-o", "project")
    words = ("--voxel-size", VOXEL, "--template", "hook.mrc", "-o", "o.mrc")
    cryoetgan("tomograms", "import-scene", "project", *words)
    rows = read_star(tmp_path / "o.star").particles
    key = ["cryoetganClass", *COORDINATES]
    rows, truth = (table.sort_values(key).reset_index(drop=True) for table in (rows, scene))
    assert rows["cryoetganClass"].tolist() == truth["cryoetganClass"].tolist()
    assert np.allclose(rows[COORDINATES].to_numpy(float), truth[COORDINATES], atol=1e-4)
    turns = (rotation_from_relion(table[ANGLES].to_numpy(float)) for table in (rows, truth))
    assert np.degrees(angle_between(*turns)).max() < 0.01
    names = {name: int(n) for n, name in read_json(tmp_path / "o.mrc.json")["labels"].items()}
    labels, instances = imported(tmp_path, "_labels"), imported(tmp_path, "_instances")
    for label, name in ((1, "hook"), (2, "membrane"), (3, "rod_a")):
        assert np.array_equal(
            labels == names[name], read_volume(tmp_path / "s_labels.mrc").data == label
        )
    old = read_volume(tmp_path / "s_instances.mrc").data
    for new, before in zip(rows["cryoetganInstance"], truth["cryoetganInstance"], strict=True):
        assert np.array_equal(instances == new, old == before)
    # exported dark, imported bright
    assert np.allclose(imported(tmp_path), read_volume(tmp_path / "s.mrc").data, rtol=0.01, atol=2)
    assert read_json(tmp_path / "o.mrc.json")["maps"]["hook"]["likeness"] > 0.999


def write_points(path, scene, name, kind, **more):
    lines = []
    for _, row in scene[scene["cryoetganClass"] == name].iterrows():
        place = dict(zip("xyz", row[COORDINATES].to_numpy(float), strict=True))
        line = {"type": kind, "location": place} | more
        if kind == "orientedPoint":
            matrix = rotation_from_relion(row[ANGLES].to_numpy(float)).as_matrix()
            line["xyz_rotation_matrix"] = matrix.tolist()
        lines.append(json.dumps(line))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines))


@pytest.fixture
def portal(tmp_path, scene):
    """The folder of a run: oriented points, points with a mask, a membrane."""
    base = tmp_path / "RUN" / "Reconstructions" / "VoxelSpacing10.000"
    (base / "Tomograms/100").mkdir(parents=True)
    (tmp_path / "s.mrc").rename(base / "Tomograms/100/RUN.mrc")
    labels = read_volume(tmp_path / "s_labels.mrc").data
    notes = base / "Annotations"
    write_points(notes / "101/rod_a-1.0_orientedpoint.ndjson", scene, "rod_a", "orientedPoint")
    write_points(notes / "102/hook-1.0_point.ndjson", scene, "hook", "point")
    write_volume(notes / "102/hook-1.0_segmentationmask.mrc", (labels == 1).astype(np.int8), VOXEL)
    write_volume(
        notes / "103/membrane-1.0_segmentationmask.mrc", (labels == 2).astype(np.int8), VOXEL
    )
    for number, name, shapes in (
        (101, "rod a", ["OrientedPoint"]),
        (102, "hook", ["Point", "SegmentationMask"]),
    ):
        stem = (
            f"10000/RUN/Reconstructions/VoxelSpacing10.000/Annotations/{number}/{valid(name)}-1.0"
        )
        files = [
            {
                "shape": shape,
                "path": f"{stem}_{shape.lower()}.{'mrc' if 'Mask' in shape else 'ndjson'}",
            }
            for shape in shapes
        ]
        about = {"annotation_object": {"name": name}, "ground_truth_status": True, "files": files}
        write_json(notes / str(number) / f"{valid(name)}-1.0.json", about)
    return notes


def valid(name):
    return name.replace(" ", "_")


def test_points_and_masks_of_the_portal_are_rows_and_labels(cryoetgan, tmp_path, scene, portal):
    words = ("--voxel-size", VOXEL, "--template", "rod_a.mrc", "-o", "o.mrc")
    cryoetgan("tomograms", "import-scene", "RUN", *words)
    rows = read_star(tmp_path / "o.star").particles.sort_values("rlnCoordinateX")
    truth = scene.sort_values("rlnCoordinateX")
    assert np.allclose(rows[COORDINATES].to_numpy(float), truth[COORDINATES], atol=1e-4)
    known = np.isfinite(rows[ANGLES].to_numpy(float)).all(axis=1)
    assert known.tolist() == (truth["cryoetganClass"] == "rod_a").tolist()
    about = read_json(tmp_path / "o.mrc.json")
    assert about["labels"] == {"1": "hook", "2": "membrane", "3": "rod_a"}
    assert about["maps"]["rod_a"]["likeness"] > 0.999
    # rods have no mask: their voxels are those of the map in its pose
    old = read_volume(tmp_path / "s_labels.mrc").data
    assert np.mean(imported(tmp_path, "_labels") != old) < 1e-4
    cryoetgan("tomograms", "import-scene", "RUN", "--voxel-size", VOXEL, "-o", "o.mrc")
    assert not (imported(tmp_path, "_labels") == 3).any()


def test_an_instance_mask_tells_touching_particles_apart(cryoetgan, tmp_path):
    ids = np.zeros(SHAPE, np.uint16)
    ids[10:16, 10:16, 10:16], ids[10:16, 10:16, 16:22] = 7, 3
    write_volume(tmp_path / "d.mrc", (ids > 0).astype(np.float32), VOXEL)
    write_volume(tmp_path / "101-p97-1.0_instancesegmentationmask.mrc", ids, VOXEL)
    write_volume(tmp_path / "l.mrc", (ids > 0).astype(np.int16), VOXEL)
    # without names in the portal's way, the same by --instances
    words = ("--labels", "l.mrc", "--label", "p97=1", "--voxel-size", VOXEL)
    name = "101-p97-1.0_instancesegmentationmask.mrc"
    for source, more in (("d.mrc", ()), ("d.mrc", (*words, "--instances", name)), (".", ())):
        more = more or ("--voxel-size", VOXEL)
        (tmp_path / "l.mrc").rename(tmp_path / "l") if source == "." else None
        cryoetgan("tomograms", "import-scene", source, *more, "-o", "out/o.mrc")
        rows = read_star(tmp_path / "out/o.star").particles
        assert rows[COORDINATES].to_numpy(float).tolist() == [[18.5, 12.5, 12.5], [12.5] * 3]
        numbers = rows["cryoetganInstance"].astype(int).tolist()
        instances = imported(tmp_path / "out", "_instances")
        assert [np.unique(instances[ids == n]).tolist() for n in (3, 7)] == [[n] for n in numbers]


def test_parts_of_a_mask_without_points_are_particles(tmp_path):
    """Those of a membrane are not."""
    ids = np.zeros(SHAPE, np.int8)
    ids[10:16, 10:16, 10:16] = ids[10:16, 10:16, 20:26] = 1
    membrane = np.zeros(SHAPE, np.int8)
    membrane[:2] = 1
    write_volume(tmp_path / "d.mrc", ids.astype(np.float32), VOXEL)
    write_volume(tmp_path / "101-p97-1.0_segmentationmask.mrc", ids, VOXEL)
    write_volume(tmp_path / "102-membrane-1.0_segmentationmask.mrc", membrane, VOXEL)
    scene = read_portal_scene(find_portal_files(tmp_path), tmp_path)
    instances = np.zeros(SHAPE, np.float32)
    rows = _number_objects(scene, dict(scene.names), scene.label_data, instances, 1.0, {})
    assert rows[COORDINATES].to_numpy(float).tolist() == [[12.5] * 3, [22.5, 12.5, 12.5]]
    assert rows["cryoetganClass"].tolist() == ["p97", "p97"]
    assert len(np.unique(instances)) == 1 + 2 + 1


def test_points_of_one_object_are_no_particles(cryoetgan, tmp_path, scene, portal):
    path = portal / "104" / "microtubule-1.0_instancesegmentation.ndjson"
    write_points(path, scene, "rod_a", "instancePoint", instance_id=5)
    cryoetgan("tomograms", "import-scene", "RUN", "--voxel-size", VOXEL, "-o", "o.mrc")
    rows = read_star(tmp_path / "o.star").particles
    assert rows["cryoetganClass"].value_counts().to_dict() == {"rod_a": 2, "hook": 1}


def test_dark_particles_are_inverted_and_noise_is_said(cryoetgan, tmp_path, portal, rng):
    path = portal.parent / "Tomograms/100/RUN.mrc"
    density = np.array(read_volume(path).data)
    words = ("tomograms", "import-scene", path, "--voxel-size", VOXEL, "-o", "o.mrc")
    write_volume(path, -density, VOXEL)
    assert "noise" not in cryoetgan(*words).stderr
    assert np.array_equal(imported(tmp_path), density)
    write_volume(path, rng.normal(-density, 2000).astype(np.float32), VOXEL)
    assert "tomogram with noise" in cryoetgan(*words).stderr


def test_points_of_the_portal_are_picks(cryoetgan, tmp_path, scene, portal):
    path = portal / "101" / "rod_a-1.0_orientedpoint.ndjson"
    tomogram = portal.parent / "Tomograms/100/RUN.mrc"
    cryoetgan("particles", "import", path, "--tomogram", tomogram, "-o", "p.star")
    rows = read_star(tmp_path / "p.star").particles
    truth = scene[scene["cryoetganClass"] == "rod_a"]
    assert np.allclose(rows[COORDINATES].to_numpy(float), truth[COORDINATES], atol=1e-4)
    turns = (rotation_from_relion(table[ANGLES].to_numpy(float)) for table in (rows, truth))
    assert np.degrees(angle_between(*turns)).max() < 0.01
    assert set(rows["cryoetganClass"]) == {"rod_a"}


def spoil(portal, what):
    points = portal / "101" / "rod_a-1.0_orientedpoint.ndjson"
    if what == "line":
        points.write_text('{"location": {"x": 1}}\n')
    if what == "matrix":
        points.write_text(points.read_text().replace("[[", "[[9, 9, 9], ["))
    if what == "scale":
        line = {"location": dict(x=1, y=2, z=3), "xyz_rotation_matrix": (2 * np.eye(3)).tolist()}
        points.write_text(json.dumps(line))
    if what == "mask":
        write_volume(
            portal / "103/membrane-1.0_segmentationmask.mrc", np.zeros((4, 5, 6), np.int8), VOXEL
        )
    if what == "twice":
        (portal / "105").mkdir()
        (portal / "105" / "membrane-2.0_segmentationmask.mrc").write_bytes(
            (portal / "103/membrane-1.0_segmentationmask.mrc").read_bytes()
        )
    if what == "volumes":
        (portal.parent / "Tomograms/101").mkdir()
        write_volume(portal.parent / "Tomograms/101/B.mrc", np.ones(SHAPE, np.float32), VOXEL)


@pytest.mark.parametrize(
    ("what", "said"),
    [
        ("line", ("rod_a-1.0_orientedpoint.ndjson", "location")),
        ("matrix", ("rod_a-1.0_orientedpoint.ndjson", "3 x 3")),
        ("scale", ("particle 1", "determinant 8")),
        ("mask", ("membrane-1.0_segmentationmask.mrc", "6x5x4")),
        ("twice", ("several annotations of membrane", "membrane-2.0")),
        ("volumes", ("RUN.mrc", "B.mrc", "name the file")),
    ],
)
def test_damaged_annotations_are_refused(cryoetgan, tmp_path, portal, what, said):
    spoil(portal, what)
    words = ("tomograms", "import-scene", "RUN", "--voxel-size", VOXEL, "-o", "o.mrc")
    refused(cryoetgan(*words, code=2), *said)
    assert not list(tmp_path.glob("o*"))


def annotate(folder, **entry):
    """Write metadata of an annotation with one file."""
    files = [{"shape": "SegmentationMask", "path": "near/m.mrc"} | entry]
    write_json(folder / "p97-1.0.json", {"annotation_object": {"name": "p97"}, "files": files})
    write_volume(folder / "run.mrc", np.ones((4, 5, 6), np.float32), VOXEL)
    (folder / "near").mkdir()
    write_volume(folder / "near/m.mrc", np.ones((4, 5, 6), np.int8), VOXEL)


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        ({"path": "/etc/passwd"}, "wanted a path below"),
        ({"path": "../../secret.mrc"}, "wanted a path below"),
        ({"mask_label": 0}, "mask_label is 0, wanted"),
        ({"mask_label": "1"}, "mask_label is '1', wanted"),
    ],
)
def test_paths_out_of_the_folder_and_odd_labels_are_refused(tmp_path, entry, said):
    annotate(tmp_path, **entry)
    with pytest.raises(UserError, match=said) as error:
        find_portal_files(tmp_path)
    assert "p97-1.0.json" in str(error.value)


def test_only_files_below_the_named_folder_are_read(tmp_path):
    folder = tmp_path / "run"
    folder.mkdir()
    annotate(folder, mask_label=1)
    assert find_portal_files(folder).annotations[0].files["SegmentationMask"][1] == 1
    (folder / "near/m.mrc").rename(tmp_path / "m.mrc")
    (folder / "near/m.mrc").symlink_to(tmp_path / "m.mrc")
    assert find_portal_files(folder) is None


def test_other_json_files_do_not_matter(tmp_path):
    (tmp_path / "notes.json").write_text("{broken")
    (tmp_path / "folder.json").mkdir()
    assert find_portal_files(tmp_path) is None
    annotate(tmp_path)
    assert find_portal_files(tmp_path).density.name == "run.mrc"
    (tmp_path / "notes.json").write_text('{"annotation_object": ')
    with pytest.raises(UserError, match=r"notes\.json"):
        find_portal_files(tmp_path)


def test_a_list_in_the_metadata_of_a_tomogram_names_no_volume(tmp_path):
    notes = tmp_path / "Annotations"
    notes.mkdir()
    annotate(notes)
    (tmp_path / "Tomograms").mkdir()
    (tmp_path / "Tomograms/tomogram_metadata.json").write_text("[]")
    with pytest.raises(UserError, match="no volume"):
        find_portal_files(tmp_path)


@pytest.mark.parametrize("value", ["1" + 400 * "0", 5000 * "[" + 5000 * "]", 100_000 * "["])
def test_long_integers_and_deep_lists_are_no_points(tmp_path, value):
    path = tmp_path / "a.ndjson"
    path.write_text(f'{{"location": {{"x": {value}, "y": 1, "z": 1}}}}')
    with pytest.raises(UserError, match=r"a\.ndjson"):
        read_portal_points(path)


@pytest.mark.parametrize(
    ("about", "said"),
    [
        ({"unit": ["angstrom"]}, "unit is"),
        ({"scale": ["a", "b", "c"]}, "not an OME-Zarr"),
        ({"scale": [10.0]}, "wanted 3 numbers"),
        ({"path": ""}, "not an OME-Zarr"),
        ({"dtype": "c8"}, "complex64"),
        ({"shape": (0, 8, 8)}, "shape"),
    ],
)
def test_damaged_zarr_volumes_are_refused(tmp_path, about, said):
    zarr = pytest.importorskip("zarr")
    about = {"unit": "angstrom", "scale": [10.0] * 3, "path": "0", "dtype": "f4"} | about
    group = zarr.open_group(str(tmp_path / "v.zarr"), mode="w")
    shape = about.get("shape", (8, 8, 8))
    group.create_dataset("0", shape=shape, dtype=about["dtype"], chunks=(8, 8, 8))
    scale = [{"type": "scale", "scale": about["scale"]}]
    group.attrs["multiscales"] = [
        {
            "axes": [{"name": n, "unit": about["unit"]} for n in "zyx"],
            "datasets": [{"path": about["path"], "coordinateTransformations": scale}],
        }
    ]
    with pytest.raises(UserError, match=said) as error:
        read_zarr(tmp_path / "v.zarr", tmp_path)
    assert "v.zarr" in str(error.value)
