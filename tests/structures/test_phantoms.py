"""Phantoms: symmetry and size as published, and marked as what they are."""

import gemmi
import numpy as np
import pytest
from scipy.spatial import cKDTree
from scipy.spatial.transform import Rotation

from cryoetgan.structures.phantoms import PHANTOMS, write_phantom
from cryoetgan.structures.read_structure import read_structure
from tests.conftest import refused


def atoms(name):
    return np.concatenate(PHANTOMS[name]())


@pytest.mark.parametrize(
    ("name", "group", "copies"),
    [("proteasome", "D7", 14), ("tric", "D8", 16), ("apoferritin", "O", 24)],
)
def test_a_phantom_has_its_symmetry_and_no_other(name, group, copies):
    points = atoms(name)
    assert len(PHANTOMS[name]()) == copies
    tree = cKDTree(points)
    for operation in Rotation.create_group(group):
        assert tree.query(operation.apply(points))[0].max() < 1e-6
    off = Rotation.from_euler("z", 11, degrees=True).apply(points)
    assert tree.query(off)[0].max() > 1


@pytest.mark.parametrize(
    ("name", "length", "width"),
    [
        ("proteasome", (140, 160), (105, 120)),
        ("tric", (150, 175), (155, 180)),
        ("apoferritin", (115, 145), (115, 145)),
        ("ribosome", (240, 300), (200, 280)),
    ],
)
def test_a_phantom_has_its_size(name, length, width):
    extent = np.ptp(atoms(name), axis=0)
    assert length[0] <= extent[2] <= length[1], extent
    assert width[0] <= max(extent[0], extent[1]) <= width[1], extent


def test_the_ribosome_is_the_heaviest_and_apoferritin_hollow():
    counts = {name: len(atoms(name)) for name in PHANTOMS}
    assert max(counts, key=counts.get) == "ribosome"
    assert np.linalg.norm(atoms("apoferritin"), axis=1).min() > 30


def test_the_file_says_that_it_is_a_phantom(tmp_path, cryoetgan):
    write_phantom("tric", tmp_path / "tric.cif")
    document = gemmi.cif.read(str(tmp_path / "tric.cif"))
    assert "PHANTOM" in document[0].name.upper()
    assert "not a structure" in (tmp_path / "tric.cif").read_text()
    assert len(read_structure(tmp_path / "tric.cif")[0]) == 16
    refused(cryoetgan("structures", "phantom", "trik", "-o", "x.cif", code=2), "trik", "'tric'")
