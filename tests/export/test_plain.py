"""Plain files: opened by the tools' own rules, Dynamo's by an independent reader."""

import re
from xml.etree import ElementTree

import mrcfile
import numpy as np
import pandas as pd
import pytest

from cryoetgan.export.plain import tomotwin_cube
from cryoetgan.io.files import sidecar, write_json
from cryoetgan.io.mrc import read_volume, write_volume
from cryoetgan.io.star import ANGLES, COORDINATES, write_star
from cryoetgan.io.volume_set import write_volume_set
from cryoetgan.physics.geometry import rotation_from_relion
from cryoetgan.setup.validate import find_problems
from tests.export.conftest import BOX, SHAPE, VOXEL
from tests.tom_matrix import tom_matrix


def test_one_file_a_particle_and_its_row(cryoetgan, tmp_path, generated):
    volumes, table = generated
    cryoetgan("export", "plain", "g.star", "-o", "plain")
    rows = pd.read_csv(tmp_path / "plain/particles.csv")
    assert list(rows["class"]) == list(table["cryoetganClass"])
    for name, volume in zip(rows["file"], volumes, strict=True):
        with mrcfile.open(tmp_path / "plain" / name) as file:
            assert np.allclose(file.data, -volume)
            assert file.voxel_size.x == pytest.approx(VOXEL)
    # RELION's sense: an origin of one voxel puts the particle one voxel below the centre
    assert np.allclose(rows["center_x"], [BOX // 2 - 1, BOX // 2, BOX // 2 + 2])
    assert rows["x"].isna().all()
    assert np.allclose(rows[["rot", "tilt", "psi"]], table[ANGLES], atol=1e-3)


def test_dynamo_by_an_independent_reader(cryoetgan, tmp_path, extracted):
    formats = pytest.importorskip("copick.util.formats")
    _, table = extracted
    cryoetgan("export", "plain", "s.star", "-o", "plain")
    path = str(tmp_path / "plain/dynamo.tbl")
    assert np.loadtxt(path).shape == (3, 35)
    places, angles, shifts, scores = formats.read_dynamo_table(path)
    where, turns = formats.dynamo_to_copick_transform(places, angles, shifts, VOXEL)
    # Dynamo counts from 1
    assert np.allclose(where / VOXEL, table[COORDINATES] + 1, atol=1e-3)
    ours = rotation_from_relion(table[ANGLES].to_numpy()).as_matrix()
    assert np.allclose(turns[:, :3, :3], ours, atol=1e-5)
    assert np.allclose(scores, [0.9, 0.8, 0.7])
    numbers = np.loadtxt(path)
    assert numbers[:, 19].tolist() == [1, 1, 2]  # tomogram
    assert numbers[:, 21].tolist() == [1, 2, 2]  # class
    assert numbers[2, 12:15].tolist() == [1, -60, 44]  # wedge about y


@pytest.mark.parametrize(("name", "placed"), [("sets", []), ("mixed", [30.0])])
def test_boxes_of_a_set_have_no_place_in_a_tomogram(cryoetgan, tmp_path, of_sets, name, placed):
    cryoetgan("export", "plain", f"{name}.star", "-o", "plain")
    rows = pd.read_csv(tmp_path / "plain/particles.csv")
    assert len(rows) == 3
    assert rows["x"].dropna().tolist() == placed
    tomograms = ["TS_2"] * len(placed)  # the set itself is none
    assert rows["tomogram"].dropna().tolist() == tomograms
    assert pd.read_csv(tmp_path / "plain/tomograms.csv")["tomogram"].tolist() == tomograms
    assert np.loadtxt(tmp_path / "plain/dynamo.tbl")[:, 19].tolist() == [0] * (3 - len(placed)) + [
        1
    ] * len(placed)
    assert rows["center_z"].tolist() == [BOX // 2] * 3
    assert len(ElementTree.parse(tmp_path / "plain/objects.xml").getroot()) == len(placed)
    stacked = np.loadtxt(tmp_path / "plain/dynamo.tbl")[: 3 - len(placed), 23:26]
    assert not stacked.any()


def test_a_score_that_is_no_number_is_zero_in_dynamos_table(cryoetgan, tmp_path, extracted):
    volumes, table = extracted
    scores = [0.9, np.nan, 0.7]
    write_volume_set(tmp_path / "s.star", volumes, table.assign(cryoetganScore=scores), VOXEL)
    cryoetgan("export", "plain", "s.star", "-o", "plain")
    assert np.loadtxt(tmp_path / "plain/dynamo.tbl")[:, 9].tolist() == [0.9, 0, 0.7]


def test_one_particle_without_angles_leaves_those_of_its_class(cryoetgan, tmp_path, extracted):
    two = pd.concat([extracted[1][:1]] * 3, ignore_index=True)
    two.loc[1, ANGLES] = np.nan
    two.loc[2, ANGLES] = 0.0
    write_star(tmp_path / "known.star", two)
    write_star(tmp_path / "zero.star", two[1:])
    for name, known in (("known", [True, False, True]), ("zero", [False, False])):
        cryoetgan("export", "plain", "TS_1.mrc", "--particles", f"{name}.star", "-o", name)
        assert pd.read_csv(tmp_path / name / "particles.csv")["tilt"].notna().tolist() == known


def test_dynamo_shift_is_the_particles_offset(cryoetgan, tmp_path, generated):
    cryoetgan("export", "plain", "g.star", "-o", "plain")
    numbers = np.loadtxt(tmp_path / "plain/dynamo.tbl")
    assert numbers[:, 3].tolist() == [-1, 0, 2]


def test_deepfinder_object_list(cryoetgan, tmp_path, extracted):
    _, table = extracted
    cryoetgan("export", "plain", "s.star", "-o", "plain")
    objects = ElementTree.parse(tmp_path / "plain/objects.xml").getroot()
    assert objects.tag == "objlist"
    found = [[float(o.get(key)) for key in ("tomo_idx", "class_label", "x", "z")] for o in objects]
    assert found == [[0, 1, 25.5, 12.0], [0, 2, 10.25, 7.5], [1, 2, 30.0, 10.0]]
    angles = [[float(o.get(key)) for key in ("phi", "psi", "the")] for o in objects]
    turns = [tom_matrix(*three) for three in angles]
    ours = rotation_from_relion(table[ANGLES].to_numpy()).as_matrix()
    assert np.allclose(turns, ours, atol=1e-4)
    names = pd.read_csv(tmp_path / "plain/tomograms.csv")
    assert list(names["tomogram"]) == ["TS_1", "TS_2"]
    assert (tmp_path / "plain/dynamo.doc").read_text() == "1 TS_1.mrc\n2 TS_2.mrc\n"


def test_places_are_those_of_particles_not_of_boxes(cryoetgan, tmp_path, extracted):
    """The box was cut at whole voxels: the origin holds the rest."""
    _, table = extracted
    moved = table.assign(rlnOriginXAngst=0.4 * VOXEL, rlnOriginYAngst=0.0, rlnOriginZAngst=-VOXEL)
    volumes = np.zeros((3, BOX, BOX, BOX), np.float32)
    write_volume_set(tmp_path / "m.star", volumes, moved, VOXEL)
    cryoetgan("export", "plain", "m.star", "-o", "plain")
    place = table[COORDINATES].to_numpy() + np.array([-0.4, 0, 1])
    rows = pd.read_csv(tmp_path / "plain/particles.csv")
    assert np.allclose(rows[["x", "y", "z"]], place, atol=1e-3)
    centre = BOX // 2 + np.array([-0.4, 0, 1])
    assert np.allclose(rows[["center_x", "center_y", "center_z"]], centre, atol=1e-3)
    objects = ElementTree.parse(tmp_path / "plain/objects.xml").getroot()
    found = [[float(o.get(axis)) for axis in "xyz"] for o in objects]
    assert np.allclose(found, place, atol=1e-3)
    dynamo = np.loadtxt(tmp_path / "plain/dynamo.tbl")
    assert np.allclose(dynamo[:, 23:26] + dynamo[:, 3:6] - 1, place, atol=1e-3)


def test_whole_tomograms_keep_all_particles(cryoetgan, tmp_path, extracted):
    """Lists beside tomograms need no boxes, so a particle at the border stays."""
    _, table = extracted
    edge = pd.concat([table, table[:1].assign(rlnCoordinateX=0.0, rlnCoordinateZ=1.0)])
    edge = edge.assign(rlnAngleRot=edge["rlnAngleRot"].where(edge["cryoetganClass"] != "b"))
    write_star(tmp_path / "edge.star", edge)
    words = ("--particles", "edge.star", "-o", "plain")
    cryoetgan("export", "plain", "TS_1.mrc", "TS_2.mrc", *words)
    rows = pd.read_csv(tmp_path / "plain/particles.csv")
    assert len(rows) == 4
    assert (rows["tomogram"] + rows["class"]).tolist() == ["TS_1a_x", "TS_1b", "TS_1a_x", "TS_2b"]
    assert rows["x"].tolist() == [25.5, 10.25, 0.0, 30.0]
    assert rows["tilt"].notna().tolist() == [True, False, True, False]  # class b has none
    tomogram = read_volume(tmp_path / "TS_1.mrc").data
    assert np.allclose(mrcfile.read(tmp_path / "plain/tomograms/TS_1.mrc"), -tomogram)
    text = (tmp_path / "plain/README.md").read_text()
    assert all(p.name in text or p.name == "README.md" for p in (tmp_path / "plain").iterdir())


def test_labels_of_tomograms_have_the_numbers_of_the_table(cryoetgan, tmp_path, extracted):
    labels = np.zeros(SHAPE, np.int16)
    labels[0, 0, :2] = 7, 9
    write_volume(tmp_path / "TS_1_labels.mrc", labels, VOXEL)
    write_json(sidecar(tmp_path / "TS_1_labels.mrc"), {"labels": {"7": "membrane", "9": "a_x"}})
    write_star(tmp_path / "TS_1.star", extracted[1])  # truth and labels beside it are taken
    cryoetgan("export", "plain", "TS_1.mrc", "-o", "plain")
    numbers = pd.read_csv(tmp_path / "plain/classes.csv").set_index("class")["label"]
    found = mrcfile.read(tmp_path / "plain/labels/TS_1_labels.mrc")
    assert found[0, 0, :2].tolist() == [numbers["membrane"], numbers["a_x"]]
    assert len(pd.read_csv(tmp_path / "plain/particles.csv")) == 2


@pytest.mark.parametrize("box", [12, 24, 37, 48])
def test_tomotwin_cubes_cover_the_same_field_about_the_centre(box):
    z, y, x = np.indices((box,) * 3) - box // 2
    width, offset = box / 8, np.array([box / 10, 0, -box / 12])
    r2 = (x - offset[0]) ** 2 + (y - offset[1]) ** 2 + (z - offset[2]) ** 2
    cube = tomotwin_cube(np.exp(-r2 / 2 / width**2).astype(np.float32))
    assert cube.shape == (37, 37, 37)
    centre = np.array([(cube * g).sum() for g in np.indices(cube.shape)[::-1]]) / cube.sum()
    assert np.allclose(centre - 37 // 2, offset * 37 / box, atol=0.25)
    assert cube.max() == pytest.approx(1, abs=0.05)


def test_tomotwin_folders_follow_the_splits(cryoetgan, tmp_path, extracted):
    volumes, table = extracted
    split = table.assign(cryoetganSplit=["train", "validation", "test"])
    write_volume_set(tmp_path / "m.star", volumes, split, VOXEL)
    cryoetgan("export", "plain", "m.star", "-o", "plain")
    found = {p.name[-8:-4]: p.parent.name for p in (tmp_path / "plain/tomotwin").glob("*/*.mrc")}
    assert found == {"0001": "training", "0002": "validation", "0003": "validation"}
    with mrcfile.open(next((tmp_path / "plain/tomotwin/training").iterdir())) as file:
        assert file.data.shape == (37, 37, 37)
        assert file.voxel_size.x == pytest.approx(VOXEL * BOX / 37, rel=1e-4)


def test_tomotwin_finds_the_class_in_the_name(cryoetgan, tmp_path, generated):
    cryoetgan("export", "plain", "g.star", "-o", "plain")
    codes = pd.read_csv(tmp_path / "plain/classes.csv", dtype=str).set_index("code")["class"]
    rows = pd.read_csv(tmp_path / "plain/particles.csv")
    for name, kind in zip(rows["file"], rows["class"], strict=True):
        # TomoTwin 0.9's rule, in our words: four characters after "id", the first a digit
        code = re.search(r"id(\d\w{3})", name.removeprefix("volumes/"))[1]
        assert codes[code] == kind


def test_every_file_and_column_is_explained(cryoetgan, tmp_path, extracted):
    cryoetgan("export", "plain", "s.star", "-o", "plain")
    text = (tmp_path / "plain/README.md").read_text()
    for path in (tmp_path / "plain").iterdir():
        assert path.name in text or path.name == "README.md"
    for column in pd.read_csv(tmp_path / "plain/particles.csv").columns:
        assert column in text


@pytest.mark.parametrize("verb", ["plain", "relion", "copick"])
def test_a_changed_file_of_an_export_is_seen(cryoetgan, tmp_path, generated, verb):
    if verb == "copick":
        pytest.importorskip("copick")
    cryoetgan("export", verb, "g.star", "-o", "out")
    assert find_problems(tmp_path / "out")[0] == []
    (changed,) = sorted((tmp_path / "out").rglob("*_000001.mrc"))[:1] or [
        tmp_path / "out/README.md"
    ]
    changed.write_bytes(changed.read_bytes()[:-1] + b"\x01")
    found, _ = find_problems(tmp_path / "out")
    assert len(found) == 1
    assert changed.name in found[0]
    changed.unlink()
    assert "does not exist" in find_problems(tmp_path / "out")[0][0]
