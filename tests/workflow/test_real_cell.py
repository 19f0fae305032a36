"""The real cell of docs/real_data.md, from the tomogram to its particles and the fitted physics."""

import subprocess
import sys

import numpy as np
import pytest

from cryoetgan.io.files import read_json
from cryoetgan.io.star import read_star
from tests.conftest import ROOT

RESULTS = ROOT / "results" / "real_cell"
FILES = ("particles/selected.star", "evaluation/hand_cell.json", "imaging/cell.json")


@pytest.mark.slow
@pytest.mark.usefixtures("test_data")
def test_the_command_of_the_docs_finds_ribosomes_and_fits_the_cell():
    wanted = [str((RESULTS / name).relative_to(ROOT)) for name in FILES]
    subprocess.run(
        [sys.executable, "benchmarks/real_cell.py", "--until", *wanted], cwd=ROOT, check=True
    )
    assert len(read_star(RESULTS / FILES[0]).particles) >= 120
    hand = read_json(RESULTS / FILES[1])
    assert hand["all"]["share"] > 0.9
    assert hand["warning"] is None
    about = read_json(RESULTS / FILES[2])["about"]
    assert about["wedge"]["warning"] is None
    assert about["agreement"]["overall"]["amplitude"] == pytest.approx(1, abs=0.05)
    ratio = np.divide(about["power"]["simulated"], about["power"]["real"])
    assert ratio.min() > 0.9
    assert ratio.max() < 1.1
