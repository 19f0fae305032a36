"""Predicted models, traces, coarse-grained models: completed, cut by choice, or refused."""

import gemmi
import numpy as np
import pytest

from cryoetgan.densities.atoms import Part, read_atoms
from cryoetgan.errors import UserError
from cryoetgan.structures.model_kinds import heavy_electrons
from cryoetgan.structures.read_structure import read_structure
from tests.conftest import refused

ATOM = "ATOM  {:5d} {:<4} {:>3} A{:4d}    {:8.3f}{:8.3f}{:8.3f}  1.00{:6.2f}          {:>2}\n"
BACKBONE = {" N": (-1.2, 0, 0), " CA": (0, 0, 0), " C": (1.2, 0, 0), " O": (1.2, 1.2, 0)}


def model(
    path, *, names=BACKBONE, residue="LEU", count=20, b=lambda n: 30.0, head="", element=None
):
    """Write a chain along x, 3.8 A a residue; `b` gives the B factor of a residue."""
    lines = [
        ATOM.format(1, f"{name:<4}", residue, n + 1, 3.8 * n + x, y, z, b(n), element or name[1])
        for n in range(count)
        for name, (x, y, z) in names.items()
    ]
    path.write_text(head + "".join(lines) + "END\n")
    return path


@pytest.mark.parametrize("name", ["ribosome_4v6x.cif.gz", "proteasome_4r3o.pdb.gz"])
def test_a_residue_has_the_electrons_that_its_atoms_have(test_data, name):
    """The tabulated weight against whole residues of real entries."""
    structure = read_structure(test_data / "structures" / name)
    structure.remove_hydrogens()
    whole = {}
    for chain in structure[0]:
        for residue in chain:
            electrons = sum({a.name: a.element.atomic_number for a in residue}.values())
            if heavy_electrons(residue.name):
                whole.setdefault(residue.name, []).append(electrons)
    assert len(whole) >= 20
    for residue, electrons in whole.items():
        if len(electrons) > 10:
            assert heavy_electrons(residue) == pytest.approx(np.median(electrons), abs=1), residue


def test_a_trace_has_the_mass_of_its_residues(test_data, tmp_path):
    entry = read_structure(test_data / "structures" / "proteasome_4r3o.pdb.gz")
    for chain in entry[0]:
        for residue in chain:
            for index in reversed(range(len(residue))):
                if residue[index].name != "CA" or residue[index].altloc not in "\0A":
                    del residue[index]
    entry.remove_empty_chains()
    entry.make_mmcif_document().write_file(str(tmp_path / "trace.cif"))
    # the entry lacks the side chains of some residues
    trace = read_atoms(tmp_path / "trace.cif", ligands=False)
    whole = read_atoms(test_data / "structures" / "proteasome_4r3o.pdb.gz", ligands=False)
    assert trace.trace
    assert not whole.trace
    assert len(trace) < len(whole) / 7
    assert trace.atomic_numbers.sum() == pytest.approx(whole.atomic_numbers.sum(), rel=0.03)


def test_a_trace_is_said_and_eman2_refuses_it(cryoetgan, tmp_path):
    model(tmp_path / "p.pdb", names={" P": (0, 0, 0)}, residue="A")
    words = ("densities", "simulate", "p.pdb", "--voxel-size", 10, "--resolution", 30, "--box", 24)
    assert "trace of one atom per residue" in cryoetgan(*words, "-o", "a.mrc").stderr
    assert read_atoms(tmp_path / "p.pdb").atomic_numbers.sum() == 20 * heavy_electrons("A")
    refused(cryoetgan(*words, "--engine", "eman2", "-o", "a.mrc", code=2), "trace")


def test_coarse_grained_models_are_refused_and_backbones_are_said(cryoetgan, tmp_path):
    model(tmp_path / "m.pdb", names={" BB": (0, 0, 0), " SC1": (0, 2, 0)}, element="B")
    model(tmp_path / "b.pdb", residue="TRP")
    model(tmp_path / "g.pdb", residue="GLY")
    words = ("--voxel-size", 10, "--resolution", 30, "--box", 24, "-o", "a.mrc")
    done = cryoetgan("densities", "simulate", "m.pdb", *words, code=2)
    refused(done, "m.pdb", "coarse-grained", "BB, SC1")
    said = cryoetgan("densities", "simulate", "b.pdb", *words).stderr
    # N, C, C, O of tryptophan: 27 of 85 electrons
    assert "chain A has 31 % of its residues' electrons (no side chains?)" in said
    # glycine has no side chain
    assert "WARNING" not in cryoetgan("densities", "simulate", "g.pdb", *words).stderr


TITLE = "TITLE     ALPHAFOLD MONOMER V2.0 PREDICTION FOR X (P12345)\n"
EXPERIMENT = "EXPDTA    X-RAY DIFFRACTION\nTITLE     STRUCTURE OF A PREDICTED HYDROLASE\n"


@pytest.mark.parametrize(
    ("name", "head", "scale"),
    [
        ("a.pdb", TITLE, 1),
        ("AF-P12345-F1-model_v4.pdb", "", 1),
        ("fold.pdb", "", 1),
        ("e.pdb", TITLE, 0.01),
        ("fold.pdb", "", 0.01),
    ],
)
def test_predicted_models_are_said_and_cut_by_choice(cryoetgan, tmp_path, name, head, scale):
    """Half of the residues at pLDDT 90, half at 40."""
    names = {**BACKBONE, " CB": (0, -1.2, 0), " CG": (0, -2.4, 0)}
    path = model(
        tmp_path / name, names=names, b=lambda n: scale * (90 if n < 10 else 40), head=head
    )
    words = (name, "--voxel-size", 10, "--resolution", 30, "--box", 24, "-o", "a.mrc")
    said = cryoetgan("densities", "simulate", *words).stderr
    assert "50 % of its residues have a confidence (pLDDT) below 70" in said
    whole, kept = read_atoms(path), read_atoms(path, part=Part(min_confidence=70))
    assert (len(whole), len(kept)) == (120, 60)
    assert kept.positions[:, 0].max() < 3.8 * 10
    assert (
        "predicted" not in cryoetgan("densities", "simulate", *words, "--min-confidence", 70).stderr
    )
    with pytest.raises(UserError, match="highest: 90"):
        read_atoms(path, part=Part(min_confidence=95))
    # the workflow converts the file first: the class gives it another name
    cryoetgan("structures", "import", name, "-o", "ribosome.cif")
    assert len(read_atoms(tmp_path / "ribosome.cif", part=Part(min_confidence=70))) == 60


@pytest.mark.parametrize("b", [lambda n: 40.0, lambda n: float(n)])
def test_b_factors_of_an_experiment_are_no_confidence(cryoetgan, tmp_path, b):
    model(tmp_path / "x.pdb", residue="GLY", b=b, head=EXPERIMENT)
    words = ("x.pdb", "--voxel-size", 10, "--resolution", 30, "--box", 24, "-o", "a.mrc")
    assert "WARNING" not in cryoetgan("densities", "simulate", *words).stderr
    done = cryoetgan("densities", "simulate", *words, "--min-confidence", 70, code=2)
    refused(done, "X-RAY", "min_confidence")


def test_of_several_structures_in_a_file_one_is_read_and_the_others_are_said(tmp_path, caplog):
    cif = gemmi.read_pdb_string(model(tmp_path / "a.pdb").read_text()).make_mmcif_document()
    text = cif.as_string()
    (tmp_path / "a.cif").write_text(text + text.replace("data_", "data_second", 1))
    with caplog.at_level("WARNING", "cryoetgan"):
        assert len(read_atoms(tmp_path / "a.cif")) == 80
    assert "second" in caplog.text


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_a_byte_order_mark_costs_no_atom(tmp_path, encoding):
    text = model(tmp_path / "a.pdb").read_text()
    (tmp_path / "a.pdb").write_bytes(text.encode(encoding))
    assert len(read_atoms(tmp_path / "a.pdb")) == 80
    cif = gemmi.read_pdb_string(text).make_mmcif_document().as_string()
    (tmp_path / "a.cif").write_bytes(cif.encode(encoding))
    assert len(read_atoms(tmp_path / "a.cif")) == 80
