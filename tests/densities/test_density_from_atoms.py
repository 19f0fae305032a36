"""Density maps: EMAN2's rule, laws of mass and place, the structures of the field."""

import csv

import gemmi
import mrcfile
import numpy as np
import pytest

from cryoetgan.densities import simulate
from cryoetgan.densities.atoms import read_atoms
from cryoetgan.densities.connected_parts import split_at_gaps
from cryoetgan.densities.eman2 import read_atoms_as_eman2
from cryoetgan.errors import UserError
from tests.conftest import refused
from tests.densities.size import diameter


def test_one_atom_gives_the_gaussian_of_the_formula():
    map_ = simulate([[13.0, -6.0, 4.0]], [7], 10.0, 30.0, 16)
    z, y, x = (np.indices((16, 16, 16)) - 8) * 10.0
    r2 = (x - 13) ** 2 + (y + 6) ** 2 + (z - 4) ** 2
    assert np.allclose(map_, 7 * np.exp(-r2 / (30 / np.pi) ** 2), atol=7 * 2e-7)


def test_the_map_is_the_sum_over_atoms(rng):
    places, numbers = rng.normal(0, 40, (300, 3)), rng.choice([1, 6, 7, 8, 26], 300)
    whole = simulate(places, numbers, 8.0, 20.0, 24)
    parts = sum(
        simulate(place[None], [number], 8.0, 20.0, 24).astype(float)
        for place, number in zip(places, numbers, strict=True)
    )
    assert np.allclose(whole, parts, atol=1e-5 * whole.max())


def test_the_sum_of_the_map_does_not_depend_on_positions(rng):
    # the sum over voxels of Z exp(-r2/w2) is Z pi^1.5 w^3 / voxel^3
    for _ in range(3):
        map_ = simulate(rng.uniform(-20, 20, (50, 3)), np.full(50, 6), 5.0, 25.0, 40)
        expected = 50 * 6 * np.pi**1.5 * (25 / np.pi) ** 3 / 5.0**3
        assert map_.sum(dtype=float) == pytest.approx(expected, rel=2e-3)


@pytest.mark.parametrize("eman2", [False, True])
def test_a_smaller_box_is_the_crop_of_a_larger_one(rng, eman2):
    # wide Gaussians, atoms in, across and out of the box; a large box holds all of them
    places, numbers = rng.uniform(-70, 70, (400, 3)), rng.choice([6, 8], 400)
    whole = simulate(places, numbers, 5.0, 60.0, 81, eman2)
    cut = simulate(places, numbers, 5.0, 60.0, 21, eman2)
    assert np.allclose(cut, whole[30:51, 30:51, 30:51], atol=2e-6 * whole.max())


def test_memory_does_not_grow_with_the_gaussian_width(rng):
    import tracemalloc

    tracemalloc.start()
    simulate(rng.uniform(-90, 90, (20_000, 3)), np.full(20_000, 6), 5.0, 400.0, 40)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 350e6


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"box": 10**9}, "10+ voxels|voxels an edge"),
        ({"voxel_size": 0.0}, "voxel size"),
        ({"resolution": float("nan")}, "resolution"),
        ({"positions": np.empty((0, 3)), "atomic_numbers": []}, "no atoms"),
        ({"positions": [[np.nan, 0, 0]]}, "not a number"),
        ({"resolution": 1e9}, "only 80 A wide"),
    ],
)
def test_invalid_sizes_and_atoms_are_refused(change, word):
    given = {"positions": [[0, 0, 0.0]], "atomic_numbers": [6], "voxel_size": 5.0}
    given |= {"resolution": 20.0, "box": 16}
    with pytest.raises(UserError, match=word):
        simulate(**(given | change))


def test_every_reference_map_of_eman2_is_reproduced(test_data):
    folder = test_data / "eman2_reference"
    with open(folder / "manifest.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) > 20
    for row in rows:
        atoms = read_atoms_as_eman2(folder / "inputs" / f"{row['structure']}.pdb.gz")
        assert len(atoms) == int(row["n_atoms_used"])
        if "--center" in row["options"]:
            atoms = atoms.centre()
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


@pytest.mark.parametrize(
    ("apix", "res", "box"), [(10, 30, 29), (7.5, 20, 12), (4, 40, 16), (5, 10, 33)]
)
def test_the_map_equals_an_explicit_loop_over_atoms(rng, apix, res, box):
    # round coordinates, so that distances lie on the table's steps; some atoms outside
    places = rng.uniform(-60, 60, (80, 3)).round(2)
    numbers = rng.choice([1, 6, 7, 8, 16], 80)
    width = res / np.pi / apix
    reach = max(1, int(4.01473 * width))
    wanted = np.zeros((box,) * 3)
    for (x, y, z), number in zip(places / apix + box // 2, numbers, strict=True):
        axes = [np.arange(max(0, int(c) - reach), min(box, int(c) + reach)) for c in (z, y, x)]
        away = [np.floor(abs(k - c) * 1000) / 1000 for k, c in zip(axes, (z, y, x), strict=True)]
        gauss = [np.exp(-((d / width) ** 2)) for d in away]
        if all(len(axis) for axis in axes):
            wanted[np.ix_(*axes)] += number * np.einsum("i,j,k->ijk", *gauss)
    made = simulate(places, numbers, apix, res, box, eman2_compatible=True)
    assert np.abs(made - wanted).max() < 1e-6 * wanted.max()


# heavy atoms after the assembly, kDa, longest diameter in angstrom: the test data's own table
TABLE = {
    "proteasome_4r3o.pdb.gz": (47_646, 631, 199),
    "T20S_1pma.pdb.gz": (45_892, 606, 184),
    "T20S_3j9i.pdb.gz": (46_228, 610, 182),
    "ribosome_4v6x.cif.gz": (237_685, 3322, 402),
    "TRiC_4v8r_complex1.cif.gz": (64_390, 853, 181),
    "TRiC_4v8r_AU_both.pdb.gz": (128_780, 1707, 330),
    "GroEL_1oel.pdb.gz": (53_858, 714, 189),
    "GroELES_1aon.pdb.gz": (58_870, 781, 208),
    "apoferritin_6z6u.pdb.gz": (32_618, 432, 134),
    "hemagglutinin_4o5n.pdb.gz": (12_147, 161, 138),
    "insulinreceptor_4zxb.cif.gz": (25_836, 342, 237),
    "rubisco_1bxn.pdb.gz": (36_288, 480, 135),
    "p97_3cf3.pdb.gz": (34_278, 454, 168),
    "hsp90_2cg9.pdb.gz": (11_906, 157, 130),
}


def mass_kda(atoms):
    counts = np.bincount(atoms.atomic_numbers)
    return counts @ np.array([gemmi.Element(z).weight for z in range(len(counts))]) / 1000


@pytest.mark.parametrize("name", TABLE)
def test_the_table_of_structures_is_reproduced(test_data, name):
    atoms = read_atoms(test_data / "structures" / name)
    count, mass, longest = TABLE[name]
    assert len(atoms) == count
    assert mass_kda(atoms) == pytest.approx(mass, abs=1)
    assert diameter(atoms) == pytest.approx(longest, abs=0.6)


def test_two_particles_far_apart_are_two_components(rng):
    one = rng.normal(0, 8, (4000, 3))
    labels, sizes = split_at_gaps(np.concatenate([one, one[:3000] + np.array([120, 0, 0])]))
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
    refused(cryoetgan(*words, "--box", 28, "-o", "x.tif", code=2), "x.tif", ".mrc")


def test_an_unknown_assembly_lists_the_known_ones(cryoetgan, test_data):
    done = cryoetgan(
        "densities", "simulate", test_data / "structures" / "rubisco_1bxn.pdb.gz",
        "--voxel-size", 10, "--resolution", 30, "--box", 28, "--assembly", "7",
        "-o", "x.mrc", code=2,
    )  # fmt: skip
    refused(done, "assembly '7'", "none")


HOSTILE = {
    "cut.pdb.gz": b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03",
    "page.cif": b"<!DOCTYPE html><html></html>",
    "nan.pdb": b"ATOM      1  CA  ALA A   1         nan   2.000   3.000  1.00  0.00           C\n",
    "none.pdb": b"HEADER\nEND\n",
}


@pytest.mark.parametrize(
    ("name", "word"),
    [
        ("cut.pdb.gz", "cut short"),
        ("page.cif", "web page"),
        ("nan.pdb", "line 1"),
        ("none.pdb", "no atoms"),
        ("absent.pdb", "no such"),
    ],
)
def test_hostile_files_get_one_message_each(cryoetgan, tmp_path, name, word):
    if name in HOSTILE:
        (tmp_path / name).write_bytes(HOSTILE[name])
    done = cryoetgan(
        "densities", "simulate", name, "--voxel-size", 10, "--resolution", 30, "--box", 28,
        "-o", "x.mrc", code=2,
    )  # fmt: skip
    refused(done, name, word)
    assert not (tmp_path / "x.mrc").exists()


@pytest.mark.parametrize(
    ("option", "value", "word"),
    [
        ("--box", 1000, "512"),
        ("--box", 0, "--box"),
        ("--voxel-size", 0, "--voxel-size"),
        ("--voxel-size", "nan", "--voxel-size"),
        ("--voxel-size", "1e30", "0.1 to 1000"),
        ("--resolution", "inf", "--resolution"),
        ("--resolution", 19.9, "20"),
    ],
)
def test_invalid_options_are_refused_by_name(cryoetgan, test_data, option, value, word):
    sizes = {"--voxel-size": 10, "--resolution": 30, "--box": 28, option: value}
    source = test_data / "structures" / "hsp90_2cg9.pdb.gz"
    words = [word for item in sizes.items() for word in item]
    done = cryoetgan("densities", "simulate", source, *words, "-o", "x.mrc", code=2)
    refused(done, option, word)


def test_no_center_puts_the_origin_at_the_middle_voxel(cryoetgan, tmp_path):
    line = "ATOM      1  C   ALA A   1      20.000 -30.000  10.000  1.00  0.00           C\n"
    (tmp_path / "a.pdb").write_text(line)
    words = ("densities", "simulate", "a.pdb", "--voxel-size", 10, "--resolution", 20, "--box", 17)
    for extra, peak in ((["--no-center"], (9, 5, 10)), ([], (8, 8, 8))):
        cryoetgan(*words, *extra, "-o", "a.mrc")
        with mrcfile.open(tmp_path / "a.mrc") as file:
            assert np.unravel_index(file.data.argmax(), file.data.shape) == peak


def test_the_header_follows_mrc2014(cryoetgan, tmp_path):
    cryoetgan("structures", "phantom", "apoferritin", "-o", "a.cif")
    cryoetgan(
        "densities", "simulate", "a.cif", "--voxel-size", 5, "--resolution", 20, "--box", 32,
        "-o", "a.mrc",
    )  # fmt: skip
    raw = (tmp_path / "a.mrc").read_bytes()
    words, floats = np.frombuffer(raw[:1024], "<i4"), np.frombuffer(raw[:1024], "<f4")
    assert words[[0, 1, 2, 3]].tolist() == [32, 32, 32, 2]  # size, float32
    assert words[[4, 5, 6, 7, 8, 9]].tolist() == [0, 0, 0, 32, 32, 32]  # start, sampling
    assert floats[10:16].tolist() == [160, 160, 160, 90, 90, 90]  # cell
    assert words[16:19].tolist() == [1, 2, 3]  # axis order
    assert words[22] == 1  # space group of a single volume
    assert words[27] in (20140, 20141)  # nversion
    assert floats[49:52].tolist() == [0, 0, 0]  # origin
    assert raw[208:212] == b"MAP "
    assert raw[212:214] == b"DD"  # little-endian
    assert len(raw) == 1024 + 4 * 32**3
    assert mrcfile.validate(tmp_path / "a.mrc")
    # phantoms say so
    assert b"phantom, not a structure" in raw[224:1024]
    assert '"phantom": true' in (tmp_path / "a.mrc.json").read_text()


def test_a_phantom_counts_as_one_particle(cryoetgan, tmp_path):
    cryoetgan("structures", "phantom", "ribosome", "-o", "r.cif")
    words = ("--voxel-size", 20, "--resolution", 50, "--box", 24, "-o", "r.mrc")
    said = cryoetgan("densities", "simulate", "r.cif", *words).stderr
    assert "separate particles" not in said
    # but a part of it can be had
    cryoetgan("densities", "simulate", "r.cif", "--component", 1, *words[:-1], "large.mrc")
    assert mrcfile.read(tmp_path / "large.mrc").sum() < mrcfile.read(tmp_path / "r.mrc").sum()
