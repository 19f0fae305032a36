"""Synthetic tomograms on the page, where a run made some."""

import numpy as np
import pandas as pd

from cryoetgan.io.mrc import write_volume
from cryoetgan.io.star import COORDINATES, write_star
from cryoetgan.report.page import build
from cryoetgan.report.results import open_results
from tests.report.conftest import CLASSES, VOXEL


def made(folder, name):
    """A tomogram with labels and a truth of four particles in its middle plane."""
    rng = np.random.default_rng(2)
    write_volume(folder / f"{name}.mrc", rng.normal(0, 1, (20, 40, 60)), VOXEL)
    write_volume(folder / f"{name}_labels.mrc", np.zeros((20, 40, 60), np.int16), VOXEL)
    rows = pd.DataFrame(rng.uniform(8, 30, (4, 3)), columns=COORDINATES)
    rows["rlnCoordinateZ"] = 10.0
    write_star(folder / f"{name}.star", rows.assign(cryoetganClass=list(CLASSES) * 2))


def test_synthetic_tomograms_are_shown_with_their_truth(make_run, tmp_path):
    run = make_run(tmp_path / "run")
    assert 'id="synthetic"' not in build(open_results(run), "T", 1)
    for number in (1, 2, 3):
        made(run / "imaging/tomograms", f"synthetic_{number}")
    page = build(open_results(run), "T", 1)
    part = page[page.index('<section id="synthetic"') :].split("</section>")[0]
    assert part.count("<svg class=") == 2
    assert part.count("<circle cx=") == 2 * (4 + 2)  # its particles, and the legend's classes
    assert "imaging/tomograms" in part
    assert "_labels" not in part
    made(run / "translation/smoke/tomograms", "synthetic_1")
    page = build(open_results(run), "T", 1)
    assert "translation/smoke/tomograms" in page[page.index('<section id="synthetic"') :]
