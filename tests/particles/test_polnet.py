"""PolNet's lists of motifs, as its versions write them."""

import numpy as np
import pytest

from cryoetgan.io.mrc import write_volume
from cryoetgan.io.star import ANGLES, COORDINATES, read_star
from tests.conftest import refused

NEW = "type\tlabel\tcode\tpolymer\tx\ty\tz\tq1\tq2\tq3\tq4\n"
OLD = (
    "Density\tMicrographs\tPolyData\tTomo3D\tType\tLabel\tCode\tPolymer\tX\tY\tZ\tQ1\tQ2\tQ3\tQ4\n"
)


@pytest.fixture
def density(tmp_path):
    write_volume(tmp_path / "tomo_001_den.mrc", np.zeros((20, 30, 40), np.float32), 10.0)
    return "tomo_001_den.mrc"


def test_motifs_become_particles_and_membranes_do_not(cryoetgan, tmp_path, density):
    text = NEW + "membrane\t1\tsphere\t0\t50\t60\t70\t0\t0\t1\t0\n"
    text += "cprotein\t2\tpdb_4v4r.a\t0\t105\t200\t62.5\t1\t0\t0\t0\n"
    text += "mbprotein\t3\t5wek\t0\t390\t20\t190\t1\t0\t0\t0\n"
    (tmp_path / "motifs.csv").write_text(text)
    cryoetgan("particles", "import", "motifs.csv", "--tomogram", density, "-o", "p.star")
    rows = read_star(tmp_path / "p.star").particles
    assert list(rows["cryoetganClass"]) == ["pdb_4v4r_a", "5wek"]
    assert rows[COORDINATES].to_numpy(float).tolist() == [[10.5, 20, 6.25], [39, 2, 19]]
    # how its quaternions turn is not known: nothing is claimed
    assert not set(ANGLES) & set(rows)


def test_a_list_of_all_tomograms_gives_those_of_one(cryoetgan, tmp_path, density):
    text = OLD
    for number, x in (("000", 100), ("001", 200)):
        text += f"/a/tomo_{number}_den.mrc\tm\tp\tt\tSAWLC\t2\t1bxn\t0\t{x}\t20\t30\t1\t0\t0\t0\n"
        text += f"/a/tomo_{number}_den.mrc\tm\tp\tt\tMembrane\t1\tsphere\t0\t1\t2\t3\t1\t0\t0\t0\n"
    (tmp_path / "motifs.csv").write_text(text)
    words = ("particles", "import", "motifs.csv", "-o", "p.star", "--tomogram")
    cryoetgan(*words, density)
    rows = read_star(tmp_path / "p.star").particles
    assert rows[COORDINATES].to_numpy(float).tolist() == [[20, 2, 3]]
    write_volume(tmp_path / "other.mrc", np.zeros((20, 30, 40), np.float32), 10.0)
    refused(cryoetgan(*words, "other.mrc", code=2), "other", "tomo_000_den")
