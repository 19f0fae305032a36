"""The conventions, held against tomograms of an independent pipeline and their truth tables.

Each wrong reading (a flipped sign, a swapped axis, the inverse rotation, another centre)
must fit the data worse than ours.
"""

import numpy as np
import pandas as pd
import pytest

from cryoetgan.densities import simulate
from cryoetgan.densities.atoms import read_atoms
from cryoetgan.geometry import rotate_volume, rotation_from_relion
from cryoetgan.optics import missing_wedge
from cryoetgan.particles.extraction import extract
from cryoetgan.particles.importers import read_picks
from cryoetgan.star import ANGLES, COORDINATES
from cryoetgan.tomograms.reading import open_tomogram

BOX = 28
PARTICLES = {
    "hsp90_2cg9": "hsp90_2cg9.pdb.gz",
    "insulinreceptor_4zxb": "insulinreceptor_4zxb.cif.gz",
}


@pytest.fixture(scope="module")
def tomogram(request):
    folder = request.getfixturevalue("test_data") / "tomograms"
    with open_tomogram(folder / "dev_set2_1.mrc") as raw:
        assert raw.voxel_size == pytest.approx(10.0)
        yield -np.asarray(raw.data, np.float32), folder


@pytest.fixture(scope="module")
def truth(tomogram):
    data, folder = tomogram
    return read_picks(folder / "dev_set2_1_truth.csv", "dev_set2_1", data.shape, 10.0)


def test_angles_of_the_importer_are_relions(truth, tomogram):
    table = pd.read_csv(tomogram[1] / "dev_set2_1_truth.csv")
    stated = -table[["zyz3", "zyz2", "zyz1"]].to_numpy()
    assert np.allclose(
        rotation_from_relion(truth[ANGLES].to_numpy(float)).as_matrix(),
        rotation_from_relion(stated).as_matrix(),
        atol=2e-4,
    )


def fit(data, truth, template, turn=lambda r: r, place=lambda c: c, wedge=None):
    """Mean correlation of the turned, wedged template with the crops."""
    found = []
    for _, row in truth.iterrows():
        centre = place(row[COORDINATES].to_numpy(float))
        crop = extract(data, centre, BOX)
        rotation = turn(rotation_from_relion(row[ANGLES].to_numpy(float)))
        shown = rotate_volume(template, rotation)
        shown = np.fft.irfftn(np.fft.rfftn(shown) * wedge, s=shown.shape, axes=(0, 1, 2))
        found.append(np.corrcoef(shown.ravel(), crop.ravel())[0, 1])
    return float(np.mean(found))


@pytest.mark.parametrize("name", PARTICLES)
def test_ours_fits_better_than_every_wrong_reading(tomogram, truth, test_data, name):
    data, _ = tomogram
    atoms = read_atoms(test_data / "structures" / PARTICLES[name]).centred()
    template = simulate(atoms.positions, atoms.atomic_numbers, 10.0, 30.0, BOX)
    rows = truth[truth["cryoetganClass"] == name]
    rows = rows[rows[COORDINATES].min(axis=1) > BOX].head(25)
    seen = missing_wedge((BOX,) * 3, (-60, 60))
    ours = fit(data, rows, template, wedge=seen)
    assert ours > 0.15
    turned = {
        "inverse rotation": lambda r: r.inv(),
        "no rotation": lambda r: r * r.inv(),
    }
    for wrong, turn in turned.items():
        assert fit(data, rows, template, turn=turn, wedge=seen) < 0.8 * ours, wrong
    moved = {
        "1-based coordinates": lambda c: c - 1,
        "centre at (n - 1) / 2": lambda c: c + 0.5,
        "x and y swapped": lambda c: c[[1, 0, 2]],
        "x and z swapped": lambda c: np.clip(c[[2, 1, 0]], 14, 110),
    }
    for wrong, place in moved.items():
        limit = 0.995 if "n - 1" in wrong else 0.9
        assert fit(data, rows, template, place=place, wedge=seen) < limit * ours, wrong
    mirrored = template[::-1]
    assert fit(data, rows, np.roll(mirrored, 1, 0), wedge=seen) < 0.95 * ours, "the other hand"
    assert fit(-data, rows, template, wedge=seen) < 0, "contrast"


def test_the_wedge_lies_where_the_convention_says(tomogram):
    data, _ = tomogram
    n = 128
    part = data[:, 64 : 64 + n, 64 : 64 + n]
    power = np.abs(np.fft.rfftn(part - part.mean())) ** 2
    k = np.fft.fftfreq(n)
    radius = np.sqrt(k[:, None, None] ** 2 + k[None, :, None] ** 2 + np.fft.rfftfreq(n) ** 2)
    ring = (radius > 0.1) & (radius < 0.35)
    full = np.fft.fftshift(np.abs(np.fft.fftn(part - part.mean())) ** 2)
    seen = missing_wedge((n, n, n), (-60, 60))
    inside, outside = power[ring & seen].mean(), power[ring & ~seen].mean()
    assert outside < 0.25 * inside
    # tilted about x, or the beam along x: the empty region would lie elsewhere
    for axes in ((0, 2, 1), (2, 1, 0)):
        swapped = np.abs(np.fft.rfftn((part - part.mean()).transpose(axes))) ** 2
        assert swapped[ring & ~seen].mean() > 0.5 * swapped[ring & seen].mean()
    assert full.shape == (n, n, n)
