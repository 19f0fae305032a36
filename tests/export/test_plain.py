"""Plain files: opened by the tools' own rules, Dynamo's by an independent reader."""

import re
from xml.etree import ElementTree

import mrcfile
import numpy as np
import pandas as pd
import pytest

from cryoetgan.io.star import ANGLES, COORDINATES
from cryoetgan.physics.geometry import rotation_from_relion
from cryoetgan.setup.validate import find_problems
from tests.export.conftest import BOX, VOXEL


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
    assert np.allclose(where / VOXEL, table[COORDINATES], atol=1e-3)
    ours = rotation_from_relion(table[ANGLES].to_numpy()).as_matrix()
    assert np.allclose(turns[:, :3, :3], ours, atol=1e-5)
    assert np.allclose(scores, [0.9, 0.8, 0.7])
    numbers = np.loadtxt(path)
    assert numbers[:, 19].tolist() == [1, 1, 2]  # tomogram
    assert numbers[:, 21].tolist() == [1, 2, 2]  # class
    assert numbers[2, 12:15].tolist() == [1, -60, 44]  # wedge about y


def test_dynamo_shift_is_the_particles_offset(cryoetgan, tmp_path, generated):
    cryoetgan("export", "plain", "g.star", "-o", "plain")
    numbers = np.loadtxt(tmp_path / "plain/dynamo.tbl")
    assert numbers[:, 3].tolist() == [-1, 0, 2]


def test_deepfinder_object_list(cryoetgan, tmp_path, extracted):
    cryoetgan("export", "plain", "s.star", "-o", "plain")
    objects = ElementTree.parse(tmp_path / "plain/objects.xml").getroot()
    assert objects.tag == "objlist"
    found = [[float(o.get(key)) for key in ("tomo_idx", "class_label", "x", "z")] for o in objects]
    assert found == [[0, 1, 25.5, 12.0], [0, 2, 10.25, 7.5], [1, 2, 30.0, 10.0]]
    names = pd.read_csv(tmp_path / "plain/tomograms.csv")
    assert list(names["tomogram"]) == ["TS_1", "TS_2"]


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
