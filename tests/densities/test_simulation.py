"""Density maps: EMAN2's rule, laws of mass and place, the structures of the field."""

import csv
import time

import mrcfile
import numpy as np
import pytest

from cryoetgan.densities import simulate
from cryoetgan.densities.atoms import read_atoms
from cryoetgan.densities.eman2_atoms import read_atoms_as_eman2
from cryoetgan.densities.parts import gaps
from cryoetgan.errors import UserError
from tests.conftest import refused


def test_an_atom_gives_the_gaussian_of_the_rule():
    map_ = simulate([[13.0, -6.0, 4.0]], [7], 10.0, 30.0, 16)
    z, y, x = (np.indices((16, 16, 16)) - 8) * 10.0
    r2 = (x - 13) ** 2 + (y + 6) ** 2 + (z - 4) ** 2
    assert np.allclose(map_, 7 * np.exp(-r2 / (30 / np.pi) ** 2), atol=7 * 2e-7)


def test_many_atoms_are_the_sum_of_each(rng):
    places, numbers = rng.normal(0, 40, (300, 3)), rng.choice([1, 6, 7, 8, 26], 300)
    whole = simulate(places, numbers, 8.0, 20.0, 24)
    parts = sum(
        simulate(place[None], [number], 8.0, 20.0, 24).astype(float)
        for place, number in zip(places, numbers, strict=True)
    )
    assert np.allclose(whole, parts, atol=1e-5 * whole.max())


def test_mass_is_that_of_the_atoms_wherever_they_lie(rng):
    # the sum over voxels of Z exp(-r2/w2) is Z pi^1.5 w^3 / voxel^3
    for _ in range(3):
        map_ = simulate(rng.uniform(-20, 20, (50, 3)), np.full(50, 6), 5.0, 25.0, 40)
        expected = 50 * 6 * np.pi**1.5 * (25 / np.pi) ** 3 / 5.0**3
        assert map_.sum(dtype=float) == pytest.approx(expected, rel=2e-3)


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"box": 10**9}, "10+ voxels|voxels an edge"),
        ({"voxel_size": 0.0}, "voxel size"),
        ({"resolution": float("nan")}, "resolution"),
        ({"positions": np.empty((0, 3)), "atomic_numbers": []}, "no atoms"),
        ({"positions": [[np.nan, 0, 0]]}, "not a number"),
    ],
)
def test_what_cannot_be_simulated_is_said(change, word):
    given = {"positions": [[0, 0, 0.0]], "atomic_numbers": [6], "voxel_size": 5.0}
    given |= {"resolution": 20.0, "box": 16}
    with pytest.raises(UserError, match=word):
        simulate(**(given | change))


def test_every_reference_map_of_eman2_is_met(test_data):
    folder = test_data / "eman2_reference"
    with open(folder / "manifest.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) > 20
    for row in rows:
        atoms = read_atoms_as_eman2(folder / "inputs" / f"{row['structure']}.pdb.gz")
        assert len(atoms) == int(row["n_atoms_used"])
        if "--center" in row["options"]:
            atoms = atoms.centred()
        ours = simulate(
            atoms.positions,
            atoms.atomic_numbers,
            float(row["apix_A"]),
            float(row["res_A"]),
            int(row["box"]),
            eman2_compatible=True,
        )
        with mrcfile.open(folder / row["map"], permissive=True) as file:
            error = np.abs(ours - file.data).max() / file.data.max()
        assert error < 5e-5, row["map"]


# heavy atoms after the assembly, longest diameter in angstrom: the test data's own table
TABLE = {
    "proteasome_4r3o.pdb.gz": (47_646, 199),
    "T20S_1pma.pdb.gz": (45_892, 183.5),
    "T20S_3j9i.pdb.gz": (46_228, 183.5),
    "ribosome_4v6x.cif.gz": (237_685, 402),
    "TRiC_4v8r_complex1.cif.gz": (64_390, 181),
    "TRiC_4v8r_AU_both.pdb.gz": (128_780, 330),
    "GroEL_1oel.pdb.gz": (53_858, 189),
    "GroELES_1aon.pdb.gz": (58_870, 208),
    "apoferritin_6z6u.pdb.gz": (32_618, 134),
    "hemagglutinin_4o5n.pdb.gz": (12_147, 138),
    "insulinreceptor_4zxb.cif.gz": (25_836, 237),
    "rubisco_1bxn.pdb.gz": (36_288, 135),
    "p97_3cf3.pdb.gz": (34_278, 168),
    "hsp90_2cg9.pdb.gz": (11_906, 130),
}


@pytest.mark.parametrize("name", TABLE)
def test_the_table_of_structures_is_reproduced(test_data, name):
    atoms = read_atoms(test_data / "structures" / name)
    count, diameter = TABLE[name]
    assert len(atoms) == count
    assert atoms.diameter() == pytest.approx(diameter, abs=2.5)


def test_two_particles_far_apart_are_two_components(rng):
    one = rng.normal(0, 8, (4000, 3))
    labels, sizes = gaps(np.concatenate([one, one[:3000] + np.array([120, 0, 0])]))
    assert sizes[0] == (labels == 0).sum()
    assert sizes[0] == pytest.approx(4000, rel=0.02)
    assert sizes[1] == pytest.approx(3000, rel=0.02)


def test_the_command_centres_warns_of_a_cut_map_and_writes_a_valid_header(
    cryoetgan, tmp_path, test_data
):
    source = test_data / "structures" / "GroEL_1oel.pdb.gz"
    words = ("densities", "simulate", source, "--voxel-size", 10, "--resolution", 30)
    cryoetgan(*words, "--box", 28, "-o", "groel.mrc")
    assert mrcfile.validate(tmp_path / "groel.mrc")
    with mrcfile.open(tmp_path / "groel.mrc") as file:
        data = file.data.astype(float)
        assert file.voxel_size.x == pytest.approx(10)
    centre = [(axis * data).sum() / data.sum() for axis in np.indices(data.shape)]
    assert np.allclose(centre, 14, atol=0.01)
    said = cryoetgan(*words, "--box", 16, "-o", "cut.mrc").stderr
    assert "cut by the box of 16" in said
    refused(cryoetgan(*words[:-1], 15, "--box", 28, "-o", "x.mrc", code=2), "15", "20")


def test_eman2_where_it_is_not_installed(cryoetgan, tmp_path, test_data):
    done = cryoetgan(
        "densities", "simulate", test_data / "structures" / "hsp90_2cg9.pdb.gz",
        "--voxel-size", 10, "--resolution", 30, "--box", 28, "--engine", "eman2",
        "-o", "x.mrc", code=2, PATH="/usr/bin:/bin",
    )  # fmt: skip
    refused(done, "e2pdb2mrc.py", "--use-conda", "builtin")


def test_an_unknown_assembly_names_the_known(cryoetgan, test_data):
    done = cryoetgan(
        "densities", "simulate", test_data / "structures" / "rubisco_1bxn.pdb.gz",
        "--voxel-size", 10, "--resolution", 30, "--box", 28, "--assembly", "7",
        "-o", "x.mrc", code=2,
    )  # fmt: skip
    refused(done, "assembly '7'", "none")


def test_fifty_thousand_atoms_take_no_minute(rng):
    places = rng.normal(0, 50, (50_000, 3))
    start = time.process_time()
    simulate(places, np.full(50_000, 6), 10.0, 30.0, 40)
    assert time.process_time() - start < 20  # a naive sum takes minutes; not a benchmark
