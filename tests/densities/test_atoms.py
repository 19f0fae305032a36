"""Which atoms make up a particle: alternate locations, models, assemblies, parts, elements."""

import gzip
import logging

import gemmi
import numpy as np
import pytest

from cryoetgan.densities.atoms import Part, read_atoms
from cryoetgan.densities.connected_parts import split_at_neck
from cryoetgan.densities.eman2 import eman2_atomic_number, read_atoms_as_eman2
from cryoetgan.errors import UserError
from tests.conftest import refused
from tests.densities.size import diameter


def record(
    name, element, place, serial="1", residue="ALA", chain=" A", number=1, altloc=" ",
    occupancy=1.0, kind="ATOM  ",
):  # fmt: skip
    x, y, z = place
    return (
        f"{kind:<6}{serial:>5} {name:<4}{altloc}{residue:>3}{chain:>2}{number:4d}    "
        f"{x:8.3f}{y:8.3f}{z:8.3f}{occupancy:6.2f}  0.00          {element:>2}"
    )


def write(path, *lines):
    path.write_text("\n".join([*lines, "END", ""]))
    return path


def chain_of(count, chain=" A", start=(0, 0, 0), step=(3.8, 0, 0), first=1):
    return [
        record(" CA ", "C", np.array(start) + i * np.array(step), chain=chain, number=first + i)
        for i in range(count)
    ]


COLUMNS = [
    "group_PDB",
    "id",
    "type_symbol",
    "label_atom_id",
    "label_alt_id",
    "label_comp_id",
    "label_asym_id",
    "label_entity_id",
    "label_seq_id",
    "pdbx_PDB_ins_code",
    "Cartn_x",
    "Cartn_y",
    "Cartn_z",
    "occupancy",
    "B_iso_or_equiv",
    "auth_seq_id",
    "auth_asym_id",
    "pdbx_PDB_model_num",
]


def mmcif(path, places):
    """One carbon a residue, some residues a chain."""
    rows = [
        f"ATOM {i} C CA . ALA A{i // 5000} 1 {i % 5000 + 1} ? {x} {y} {z} 1 0 {i % 5000 + 1} "
        f"A{i // 5000} 1"
        for i, (x, y, z) in enumerate(places)
    ]
    head = ["data_1ABC", "loop_", *(f"_atom_site.{name}" for name in COLUMNS)]
    path.write_text("\n".join([*head, *rows, ""]))


@pytest.fixture
def said(caplog, monkeypatch):
    monkeypatch.setattr(logging.getLogger("cryoetgan"), "propagate", True)
    caplog.set_level(logging.INFO, "cryoetgan")
    return caplog


def test_the_element_column_decides_and_not_the_name(tmp_path):
    lines = [
        record("CA  ", "CA", (0, 0, 0), residue=" CA", kind="HETATM", number=1),
        record(" CA ", "C", (5, 0, 0), number=2),
        record("FE  ", "FE", (10, 0, 0), residue="HEM", kind="HETATM", number=3),
        record(" ZN ", "ZN", (15, 0, 0), residue=" ZN", kind="HETATM", number=4),
        record("SE  ", "SE", (20, 0, 0), residue="MSE", number=5),
    ]
    assert read_atoms(write(tmp_path / "a.pdb", *lines)).atomic_numbers.tolist() == [
        20, 6, 26, 30, 34,
    ]  # fmt: skip


def test_hydrogens_ligands_and_waters_by_choice(tmp_path):
    path = write(
        tmp_path / "a.pdb",
        *chain_of(4),
        record(" H  ", "H", (1, 1, 0)),
        record(" D  ", "D", (1, 2, 0)),
        "TER",
        record(" P  ", "P", (9, 9, 0), residue="ATP", kind="HETATM", number=300),
        record(" O  ", "O", (9, 0, 9), residue="HOH", kind="HETATM", number=400),
    )
    assert len(read_atoms(path)) == 5
    assert len(read_atoms(path, hydrogens=True)) == 7
    assert len(read_atoms(path, ligands=False)) == 4
    assert len(read_atoms(path, waters=True)) == 6


def test_each_residue_keeps_its_best_occupied_conformer(tmp_path):
    path = write(
        tmp_path / "a.pdb",
        record(" N  ", "N", (0, 0, 0)),
        # B is the better one for the residue, although A wins on one atom
        record(" CA ", "C", (1, 0, 0), altloc="A", occupancy=0.6),
        record(" CA ", "C", (2, 0, 0), altloc="B", occupancy=0.5),
        record(" CB ", "C", (3, 0, 0), altloc="A", occupancy=0.1),
        record(" CB ", "C", (4, 0, 0), altloc="B", occupancy=0.9),
        # modelled in one location only: kept
        record(" CG ", "C", (5, 0, 0), altloc="A", occupancy=0.5),
        # two residues at one place: only the better one
        record(" CA ", "C", (20, 0, 0), altloc="A", occupancy=0.3, number=2, residue="SER"),
        record(" OG ", "O", (21, 0, 0), altloc="A", occupancy=0.3, number=2, residue="SER"),
        record(" CA ", "C", (22, 0, 0), altloc="B", occupancy=0.7, number=2, residue="ALA"),
        # equals: the first
        record(" CA ", "C", (30, 0, 0), altloc="A", occupancy=0.5, number=3),
        record(" CA ", "C", (31, 0, 0), altloc="B", occupancy=0.5, number=3),
    )
    atoms = read_atoms(path)
    assert atoms.positions[:, 0].tolist() == [0, 2, 4, 5, 22, 30]


def test_overlapping_models_are_alternatives_and_others_are_parts(tmp_path, said):
    one = chain_of(20)
    shifted = chain_of(20, start=(0.2, 0.1, 0))
    apart = chain_of(20, start=(0, 8, 0))
    nmr = write(tmp_path / "nmr.pdb", "MODEL 1", *one, "ENDMDL", "MODEL 2", *shifted, "ENDMDL")
    parts = write(tmp_path / "parts.pdb", "MODEL 1", *one, "ENDMDL", "MODEL 2", *apart, "ENDMDL")
    assert len(read_atoms(nmr)) == 20
    assert len(read_atoms(parts)) == 40
    assert len(read_atoms(nmr, part=Part(model="all"))) == 40
    second = read_atoms(nmr, part=Part(model="2")).positions
    assert second[0] == pytest.approx([0.2, 0.1, 0])
    with pytest.raises(UserError, match=r"no model '7'.*1, 2"):
        read_atoms(nmr, part=Part(model="7"))


BIOMT = """REMARK 350 BIOMOLECULE: 1
REMARK 350 APPLY THE FOLLOWING TO CHAINS: {chains}
REMARK 350   BIOMT1   1  1.000000  0.000000  0.000000        0.00000
REMARK 350   BIOMT2   1  0.000000  1.000000  0.000000        0.00000
REMARK 350   BIOMT3   1  0.000000  0.000000  1.000000        0.00000
REMARK 350   BIOMT1   2 -1.000000  0.000000  0.000000        0.00000
REMARK 350   BIOMT2   2  0.000000 -1.000000  0.000000        4.00000
REMARK 350   BIOMT3   2  0.000000  0.000000  1.000000        0.00000"""


def test_the_assembly_is_built_and_a_partial_one_is_reported(tmp_path, said):
    path = write(tmp_path / "a.pdb", BIOMT.format(chains="A"), *chain_of(20))
    whole = read_atoms(path)
    assert len(whole) == 40
    assert whole.positions[20:] == pytest.approx(whole.positions[:20] * [-1, -1, 1] + [0, 4, 0])
    assert "copies" not in said.text
    assert "lacks" not in said.text
    assert len(read_atoms(path, assembly="none")) == 20
    assert "one of the 2 copies" in said.text
    assert "--assembly" in said.text
    said.clear()
    path = write(tmp_path / "b.pdb", BIOMT.format(chains="A, B, C"), *chain_of(20))
    assert len(read_atoms(path)) == 40
    assert "lacks chains B, C of assembly" in said.text
    with pytest.raises(UserError, match=r"no assembly '3'.*it has 1"):
        read_atoms(path, assembly="3")


def test_a_partial_assembly_is_reported_for_mmcif_too(test_data, said):
    # its two copies stand in a generator each
    receptor = test_data / "structures" / "insulinreceptor_4zxb.cif.gz"
    assert len(read_atoms(receptor, assembly="none")) == 12_918
    assert "one of the 2 copies in its assembly '1'" in said.text


def test_import_keeps_the_atoms_of_the_particle(tmp_path, cryoetgan, test_data):
    for name in ("GroEL_1oel", "hemagglutinin_4o5n", "apoferritin_6z6u"):
        source = test_data / "structures" / f"{name}.pdb.gz"
        cryoetgan("structures", "import", source, "-o", f"{name}.cif")
        direct, back = read_atoms(source), read_atoms(tmp_path / f"{name}.cif")
        assert len(back) == len(direct)
        assert np.allclose(np.sort(back.positions, 0), np.sort(direct.positions, 0), atol=0.01)


def test_hybrid_36_and_two_letter_chains(tmp_path):
    lines = [
        record(" CA ", "C", (0, 0, 0), serial="99999", chain="AA"),
        record(" CA ", "C", (4, 0, 0), serial="A0000", chain="AB"),
        record(" CA ", "C", (8, 0, 0), serial="A0001", chain="Ab"),
    ]
    (tmp_path / "a.pdb.gz").write_bytes(gzip.compress("\n".join(lines).encode()))
    assert read_atoms(tmp_path / "a.pdb.gz").positions[:, 0].tolist() == [0, 4, 8]


def test_more_atoms_than_the_pdb_format_numbers(tmp_path, rng):
    places = rng.uniform(-90, 90, (120_000, 3)).round(3)
    mmcif(tmp_path / "a.cif", places)
    atoms = read_atoms(tmp_path / "a.cif")
    assert len(atoms) == 120_000
    assert np.allclose(atoms.positions, places)


def test_separate_parts_are_reported_and_can_be_selected(tmp_path, said):
    body = [(i, j, k) for i in range(8) for j in range(8) for k in range(8)]
    lines = [
        record(" CA ", "C", np.array(p) * 3.0 + shift, chain=chain, number=n + 1)
        for chain, shift, count in ((" A", 0, 512), (" B", 60, 400))
        for n, p in enumerate(body[:count])
    ]
    path = write(tmp_path / "a.pdb", *lines)
    assert len(read_atoms(path)) == 912
    assert "2 separate particles (512, 400 atoms)" in said.text
    assert "--component" in said.text
    assert len(read_atoms(path, part=Part(component=1))) == 512
    assert len(read_atoms(path, part=Part(component=2))) == 400
    with pytest.raises(UserError, match=r"2 part"):
        read_atoms(path, part=Part(component=3))


def test_two_complexes_that_touch_are_two_particles(test_data, said):
    both = test_data / "structures" / "TRiC_4v8r_AU_both.pdb.gz"
    assert len(read_atoms(both)) == 128_780
    assert "2 separate particles (64390" in said.text
    one = read_atoms(both, part=Part(component=1))
    alone = read_atoms(test_data / "structures" / "TRiC_4v8r_complex1.cif.gz")
    assert len(one) == len(alone)
    assert diameter(one) == pytest.approx(diameter(alone), abs=0.1)


def test_a_single_complex_is_never_split(test_data):
    # as if none of these entries described its assembly
    for name in ("GroELES_1aon", "hsp90_2cg9", "T20S_3j9i", "rubisco_1bxn"):
        structure = gemmi.read_structure(str(test_data / "structures" / f"{name}.pdb.gz"))
        if len(structure.assemblies):
            structure.transform_to_assembly("1", gemmi.HowToNameCopiedChain.Short)
        structure.remove_waters()
        flat = gemmi.FlatStructure(structure)
        chains = np.unique(flat.chain_ids, axis=0, return_inverse=True)[1].ravel()
        assert split_at_neck(flat.pos, flat.elements.astype(int), chains) is None, name


@pytest.mark.parametrize(
    ("name", "z"),
    [
        (" CA ", 6), ("CA  ", 6), (" N  ", 7), (" OXT", 8), (" P  ", 15), (" SD ", 16),
        ("SE  ", 16), (" K  ", 19), ("HG11", 1), (" H  ", 1), ("MG  ", 0), ("ZN  ", 0),
        ("FE  ", 0), (" D  ", 0), ("CL  ", 6), ("1HB ", 0), (" AE1", 7), ("    ", 0),
    ],
)  # fmt: skip
def test_eman2_takes_z_from_the_atom_name(name, z):
    assert eman2_atomic_number(name) == z


def test_eman2_reads_all_models_and_locations_but_no_hetatm(tmp_path):
    path = write(
        tmp_path / "a.pdb",
        BIOMT.format(chains="A"),
        "MODEL 1",
        record(" CA ", "C", (0, 0, 0), altloc="A", occupancy=0.5),
        record(" CA ", "C", (1, 0, 0), altloc="B", occupancy=0.5),
        record(" HA ", "H", (2, 0, 0)),
        record("MG  ", "MG", (3, 0, 0)),
        record(" P  ", "P", (4, 0, 0), residue="ATP", kind="HETATM"),
        "ENDMDL",
        "MODEL 2",
        record(" CA ", "C", (5, 0, 0)),
        "ENDMDL",
    )
    atoms = read_atoms_as_eman2(path)
    assert atoms.positions[:, 0].tolist() == [0, 1, 2, 5]
    assert atoms.atomic_numbers.tolist() == [6, 6, 1, 6]


def test_unknown_elements_are_reported_and_scattered_atoms_refused(tmp_path, said):
    path = write(tmp_path / "a.pdb", *chain_of(3), record(" X  ", "X", (9, 9, 9), residue="UNX"))
    assert len(read_atoms(path)) == 3
    assert "1 atoms of unknown element" in said.text
    mmcif(tmp_path / "wide.cif", [(0, 0, 0), (1e30, 0, 0)])
    for read in (read_atoms, read_atoms_as_eman2):
        with pytest.raises(UserError, match="spread over"):
            read(tmp_path / "wide.cif")


def test_the_command_passes_model_and_component(cryoetgan, tmp_path):
    write(tmp_path / "a.pdb", "MODEL 1", *chain_of(9), "ENDMDL", "MODEL 2", *chain_of(9), "ENDMDL")
    words = ("densities", "simulate", "a.pdb", "--voxel-size", 5, "--resolution", 20, "--box", 16)
    done = cryoetgan(*words, "--model", "9", "-o", "x.mrc", code=2)
    refused(done, "no model '9'", "--model")
    refused(cryoetgan(*words, "--component", "-1", "-o", "x.mrc", code=2), "--component")
    assert not (tmp_path / "x.mrc").exists()


def test_selected_chains_give_only_their_atoms(tmp_path, caplog):
    both = write(tmp_path / "both.pdb", *chain_of(9, " A"), *chain_of(5, " B", (0, 20, 0)))
    alone = write(tmp_path / "alone.pdb", *chain_of(5, " B", (0, 20, 0)))
    kept = read_atoms(both, part=Part(chains=["B"]))
    np.testing.assert_array_equal(kept.positions, read_atoms(alone).positions)
    assert len(read_atoms(both, part=Part(chains=["A", "B"]))) == 14
    with pytest.raises(UserError, match=r"has no chain C.*some of A, B"):
        read_atoms(both, part=Part(chains=["A", "C"]))


def test_the_assembly_is_built_from_the_selected_chains(test_data, caplog):
    entry = test_data / "structures" / "insulinreceptor_4zxb.cif.gz"
    whole, receptor = read_atoms(entry), read_atoms(entry, part=Part(chains=["E"]))
    # two copies of chain E (6,515 atoms), without the Fabs; none of it is said to be missing
    assert len(receptor) == 2 * 6515
    assert len(whole) == 25836
    assert "lacks" not in caplog.text
    assert diameter(receptor) < diameter(whole) - 40
