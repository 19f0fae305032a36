"""The EMAN2 engine, against a stand-in that keeps to e2pdb2mrc.py's habits."""

import stat
import sys

import mrcfile
import numpy as np
import pytest

from cryoetgan.densities.atoms import Atoms, read_atoms
from cryoetgan.densities.density_from_atoms import simulate
from cryoetgan.densities.eman2 import (
    drop_unknown_elements,
    format_pdb,
    read_atoms_as_eman2,
    run_e2pdb2mrc,
)
from cryoetgan.errors import UserError
from tests.conftest import ROOT, refused

# reads ATOM records only, leaves a log where it runs, writes a header strict readers reject
STAND_IN = f"""#!{sys.executable}
import argparse, os, pathlib, sys
sys.path.insert(0, {str(ROOT)!r})
parser = argparse.ArgumentParser()
for name in ("--apix", "--res"):
    parser.add_argument(name, type=float, required=True)
parser.add_argument("--box", type=int, required=True)
parser.add_argument("--center", action="store_true")
parser.add_argument("names", nargs=2)
given = parser.parse_args()
pathlib.Path(".eman2log.txt").write_text(" ".join(sys.argv))
if os.environ.get("MOOD") == "fails":
    sys.exit("Segmentation fault")
import mrcfile, numpy as np
from cryoetgan.densities.eman2 import read_atoms_as_eman2
from cryoetgan.densities.density_from_atoms import simulate
atoms = read_atoms_as_eman2(pathlib.Path(given.names[0]))
count = len(atoms) - (os.environ.get("MOOD") == "loses")
print(f"{{count}} atoms used with a total charge of 1 e- and a mass of 1 kDa")
atoms = atoms.centre() if given.center else atoms
box = given.box + (os.environ.get("MOOD") == "boxes")
map_ = simulate(atoms.positions, atoms.atomic_numbers, given.apix, given.res, box, True)
map_ *= 0.9 if os.environ.get("MOOD") == "weighs" else 1
with mrcfile.new(given.names[1], map_) as file:
    file.header.nversion = 0
    file.header.ispg = 0
"""


@pytest.fixture
def eman2(tmp_path, monkeypatch):
    folder = tmp_path / "eman2 bin"
    folder.mkdir()
    program = folder / "e2pdb2mrc.py"
    program.write_text(STAND_IN)
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    return {"PATH": f"{folder}:/usr/bin:/bin"}


def words(source):
    return ("densities", "simulate", source, "--voxel-size", 10, "--resolution", 30, "--box", 33)


def test_its_map_equals_the_builtin_map_to_the_fifth_digit(cryoetgan, tmp_path, test_data, eman2):
    source = test_data / "structures" / "hemagglutinin_4o5n.pdb.gz"
    cryoetgan(*words(source), "--engine", "eman2", "-o", "e.mrc", **eman2)
    cryoetgan(*words(source), "-o", "b.mrc")
    assert mrcfile.validate(tmp_path / "e.mrc")
    with mrcfile.open(tmp_path / "e.mrc") as e, mrcfile.open(tmp_path / "b.mrc") as b:
        assert e.voxel_size == b.voxel_size
        # EMAN2's shorter window
        assert np.abs(e.data - b.data).max() < 5e-3 * b.data.max()
        atoms = read_atoms(source).centre()
        wanted = simulate(atoms.positions, atoms.atomic_numbers, 10, 30, 33, True)
        # coordinates of three decimals
        assert np.abs(e.data - wanted).max() < 5e-5 * b.data.max()
    left = {path.name for path in tmp_path.iterdir()}
    assert left == {"eman2 bin", "e.mrc", "e.mrc.json", "b.mrc", "b.mrc.json"}


@pytest.mark.parametrize(
    ("mood", "word"),
    [
        ("fails", "Segmentation"),
        ("loses", "atoms of"),
        ("boxes", "34, 34, 34"),
        ("weighs", "differs from the built-in engine"),
    ],
)
def test_a_failed_run_writes_nothing(cryoetgan, tmp_path, eman2, test_data, mood, word):
    source = test_data / "structures" / "hsp90_2cg9.pdb.gz"
    done = cryoetgan(*words(source), "--engine", "eman2", "-o", "x.mrc", code=2, MOOD=mood, **eman2)
    refused(done, "e2pdb2mrc.py", word)
    assert not (tmp_path / "x.mrc").exists()


def test_a_particle_far_from_the_origin_and_odd_sizes_get_through(tmp_path, eman2, monkeypatch):
    monkeypatch.setenv("PATH", eman2["PATH"])
    places = np.array([[-4000.123, 20000.5, 3.0], [-4030.0, 20010.25, 8.0], [-3990.5, 20000, -9]])
    numbers = np.array([6, 34, 8])
    made = run_e2pdb2mrc(Atoms(places, numbers), 13.6812345, 40.0, 28)
    seen = Atoms(places, np.array([6, 16, 8])).centre()
    wanted = simulate(seen.positions, seen.atomic_numbers, 13.6812345, 40.0, 28, True)
    assert np.abs(made - wanted).max() < 5e-5 * wanted.max()
    with pytest.raises(UserError, match="omit --no-center"):
        run_e2pdb2mrc(Atoms(places, numbers), 13.6812345, 40.0, 28, center=False)


def test_the_pdb_text_for_eman2_is_read_back_by_its_rules(tmp_path, rng):
    # more atoms than serials and residues, negative coordinates, all its elements
    count = 100_500
    numbers = np.resize([1, 6, 7, 8, 15, 16, 19, 34], count)
    atoms = Atoms(rng.uniform(-400, 400, (count, 3)), numbers)
    (tmp_path / "a.pdb").write_text(format_pdb(atoms))
    back = read_atoms_as_eman2(tmp_path / "a.pdb")
    assert np.abs(back.positions - atoms.positions).max() <= 0.00051
    assert np.array_equal(back.atomic_numbers, np.where(numbers == 34, 16, numbers))
    assert len(read_atoms(tmp_path / "a.pdb", hydrogens=True)) == count
    with pytest.raises(UserError, match="columns"):
        format_pdb(Atoms(np.array([[-1000.0, 0, 0]]), np.array([6])))


def test_elements_that_eman2_drops_are_reported(caplog, monkeypatch, tmp_path):
    import logging

    monkeypatch.setattr(logging.getLogger("cryoetgan"), "propagate", True)
    kept = drop_unknown_elements(Atoms(np.eye(3), np.array([6, 26, 12])), tmp_path)
    assert kept.atomic_numbers.tolist() == [6]
    assert "drops 2 atoms" in caplog.text
    assert "12, 26" in caplog.text
    with pytest.raises(UserError, match="none of its elements"):
        drop_unknown_elements(Atoms(np.eye(3), np.full(3, 26)), tmp_path)


def test_if_eman2_is_not_installed_the_message_says_how_to_get_it(cryoetgan, test_data):
    source = test_data / "structures" / "hsp90_2cg9.pdb.gz"
    done = cryoetgan(
        *words(source), "--engine", "eman2", "-o", "x.mrc", code=2, PATH="/usr/bin:/bin"
    )
    refused(done, "e2pdb2mrc.py", "--use-conda", "eman-dev", "cryoem", "builtin, which equals it")
    done = cryoetgan(*words(source), "--engine", "eman", "-o", "x.mrc", code=2)
    refused(done, "--engine", "'eman'", "'builtin', 'eman2'")
