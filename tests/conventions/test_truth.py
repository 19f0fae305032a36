"""The conventions, held against tomograms whose truth is known.

Two kinds of tomograms go through the same tests: those of an independent pipeline (the
shared test data, imported by our command) and our own simulated ones. Each wrong reading
(a flipped sign, a swapped axis, the inverse rotation, another centre, another voxel size)
must fit the particles worse than ours, by a paired test over the particles.
"""

import functools
import json
import os
import subprocess
from dataclasses import dataclass

import numpy as np
import pandas as pd
import pytest

from cryoetgan.densities import simulate
from cryoetgan.densities.atoms import read_atoms
from cryoetgan.io.mrc import read_volume, write_volume
from cryoetgan.io.raw_mrc import open_raw_volume
from cryoetgan.io.star import ANGLES, COORDINATES
from cryoetgan.particles.extraction import extract_box
from cryoetgan.particles.importers import read_picks
from cryoetgan.physics.acquisition import read_acquisition
from cryoetgan.physics.coordinates import ImportTransform
from cryoetgan.physics.geometry import rotate_volume, rotation_from_relion
from cryoetgan.physics.optics import ctf, missing_wedge, radius_grid
from tests.conftest import ROOT
from tests.fork_server import forking_python

BOX = 28
VOXEL_SIZE = 10.0
STRUCTURES = {
    "hsp90_2cg9": "hsp90_2cg9.pdb.gz",
    "hemagglutinin_4o5n": "hemagglutinin_4o5n.pdb.gz",
}
MOST = 10
SURE = 5.0
"""Standard errors by which ours must fit better."""


@dataclass(eq=False)
class Known:
    """A tomogram (protein bright), its truth, the atoms of its classes."""

    data: np.ndarray
    path: object
    truth: pd.DataFrame
    atoms: dict


def cryoetgan(*words):
    done = subprocess.run(
        [forking_python(), "-m", "cryoetgan", *map(str, words)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def picks_of(path, name, shape):
    """Read the picks of a tomogram that was not resampled or rotated."""
    return read_picks(path, name, shape, ImportTransform(shape, VOXEL_SIZE, 1.0))


def simulated(folder):
    """Ours: a chiral heap of atoms without symmetry, and another."""
    atoms = {}
    for number, name in enumerate(("heap", "pile")):
        rng = np.random.default_rng(number)
        centres = rng.normal(0, 38, (9, 3))
        positions = (centres[:, None] + rng.normal(0, 12, (9, 300, 3))).reshape(-1, 3)
        positions -= positions.mean(axis=0)
        atoms[name] = (positions, np.full(len(positions), 7))
        density = simulate(*atoms[name], VOXEL_SIZE, 30.0, BOX)
        write_volume(folder / f"{name}.mrc", density, VOXEL_SIZE)
    words = ("--copies", 30, "--shape=160,150,70", "--snr", 0.3, "--tilts=-35,60,2.5")
    words += ("--defocus", 3.5, "--ctf", "phase-flipped", "--seed", 5)
    maps = [folder / f"{name}.mrc" for name in atoms]
    path = folder / "ours.mrc"
    cryoetgan("tomograms", "simulate", *maps, *words, "-o", path)
    data = read_volume(path).data
    return Known(data, path, picks_of(folder / "ours.star", "ours", data.shape), atoms)


def imported(folder, test_data, name="dev_set2_1"):
    path = folder / f"{name}.mrc"
    words = ("--voxel-size", 10, "--contrast", "dark", "--defocus", 3.5, "--ctf", "phase-flipped")
    source = test_data / "tomograms" / f"{name}.mrc"
    cryoetgan("tomograms", "import", source, *words, "-o", path)
    data = read_volume(path).data
    picks = test_data / "tomograms" / f"{name}_truth.csv"
    atoms = {}
    for key, file in STRUCTURES.items():
        read = read_atoms(test_data / "structures" / file).centre()
        atoms[key] = (read.positions, read.atomic_numbers)
    return Known(data, path, picks_of(picks, name, data.shape), atoms)


@pytest.fixture(scope="module")
def ours(tmp_path_factory):
    return simulated(tmp_path_factory.mktemp("simulated"))


@pytest.fixture(scope="module", params=["simulated", "imported"])
def known(request, tmp_path_factory):
    if request.param == "simulated":
        return request.getfixturevalue("ours")
    return imported(tmp_path_factory.mktemp("imported"), request.getfixturevalue("test_data"))


def transfer(known, **other):
    """Wedge, CTF and envelope as recorded, or with something else in their place."""
    recorded = read_acquisition(known.path)
    k = radius_grid((BOX,) * 3, VOXEL_SIZE)
    wedge = missing_wedge((BOX,) * 3, other.get("tilts", recorded.tilts))
    return wedge * np.abs(ctf(k, recorded.defocus, b_factor=600.0))


def identity(value):
    return value


@functools.cache
def template_of(known, name, voxel_size=VOXEL_SIZE):
    return simulate(*known.atoms[name], voxel_size, 30.0, BOX)


@functools.cache
def spectra(known, name, turn=identity, change=identity, voxel_size=VOXEL_SIZE):
    """Coordinate and spectrum of the turned template of each particle."""
    template = change(template_of(known, name, voxel_size))
    rows = known.truth[known.truth["cryoetganClass"] == name]
    where = rows[COORDINATES].to_numpy(float)
    margin = BOX // 2 + 2
    far = ((where > margin) & (where < np.array(known.data.shape)[::-1] - margin)).all(axis=1)
    chosen = rows[far].head(MOST)
    rotations = map(rotation_from_relion, chosen[ANGLES].to_numpy(float))
    turned = (rotate_volume(template, turn(rotation)) for rotation in rotations)
    return where[far][:MOST], [np.fft.rfftn(volume) for volume in turned]


def fits(known, name, place=identity, filtered=None, **template):
    """Correlation of each particle's crop with the turned, filtered template."""
    filtered = transfer(known) if filtered is None else filtered
    found = []
    for where, spectrum in zip(*spectra(known, name, **template), strict=True):
        shown = np.fft.irfftn(spectrum * filtered, s=(BOX,) * 3, axes=(0, 1, 2))
        crop = extract_box(known.data, place(where), BOX)
        found.append(np.corrcoef(shown.ravel(), crop.ravel())[0, 1])
    return np.array(found)


def flipped(template, axis):
    """Mirrored about voxel n // 2."""
    return np.roll(np.flip(template, axis), 1, axis)


def mirror(sign):
    """The rotation as a program with another hand would mean it."""
    from scipy.spatial.transform import Rotation

    turn = np.diag(sign)
    return lambda r: Rotation.from_matrix(turn @ r.as_matrix() @ turn)


def test_ours_fits_better_than_every_wrong_reading(known):
    for name in known.atoms:
        ours = fits(known, name)
        assert ours.mean() > 0.15, name
        wrong = {
            "inverse rotation": {"turn": lambda r: r.inv()},
            "no rotation": {"turn": lambda r: r * r.inv()},
            "angles of the other hand about z": {"turn": mirror((1, 1, -1))},
            "angles of the other hand about y": {"turn": mirror((1, -1, 1))},
            "axes zyx": {"change": lambda t: np.ascontiguousarray(t.transpose(2, 1, 0))},
            "axes yx": {"change": lambda t: np.ascontiguousarray(t.transpose(0, 2, 1))},
            "the other hand": {"change": lambda t: flipped(t, 0)},
            "1-based coordinates": {"place": lambda c: c - 1},
            "0-based read as 1-based": {"place": lambda c: c + 1},
            "centre at (n - 1) / 2": {"place": lambda c: c + 0.5},
            "centre at (n + 1) / 2": {"place": lambda c: c - 0.5},
            "x and y swapped": {"place": lambda c: c[[1, 0, 2]]},
            "voxels of 9.3 A": {"voxel_size": 9.3},
            "voxels of 11 A": {"voxel_size": 11.0},
            "a narrower wedge": {"filtered": transfer(known, tilts=(-25, 25))},
            "no wedge": {"filtered": transfer(known, tilts=(-90, 90))},
        }
        for reading, change in wrong.items():
            worse = ours - fits(known, name, **change)
            sure = worse.mean() / (worse.std(ddof=1) / np.sqrt(len(worse)))
            assert sure > SURE, f"{name}: {reading} fits as well ({worse.mean():.4f}, {sure:.1f})"


def test_the_wedge_lies_where_the_convention_says(known):
    tilts = read_acquisition(known.path).tilts
    part = known.data - known.data.mean()
    part = part[:, : min(part.shape[1:]), : min(part.shape[1:])].astype(np.float32)

    def emptiness(axes, tilts):
        """Power a voxel inside the missing wedge over power outside it."""
        turned = part.transpose(axes)
        power = np.abs(np.fft.rfftn(turned)) ** 2
        k = radius_grid(turned.shape, 1.0)
        ring = (k > 0.1) & (k < 0.35)
        seen = missing_wedge(turned.shape, tilts)
        return power[ring & ~seen].mean() / power[ring & seen].mean()

    ours = emptiness((0, 1, 2), tilts)
    assert ours < 0.25
    # tilted about x; the beam along x; the beam along y
    for axes in ((0, 2, 1), (2, 1, 0), (1, 0, 2)):
        assert emptiness(axes, tilts) > 3 * ours, axes
    if tilts[0] != -tilts[1]:
        assert emptiness((0, 1, 2), (-tilts[1], -tilts[0])) > 2 * ours, "the sign of the tilts"


def test_angles_of_the_importer_are_relions(test_data):
    folder = test_data / "tomograms"
    table = pd.read_csv(folder / "dev_set2_1_truth.csv")
    picks = picks_of(folder / "dev_set2_1_truth.csv", "dev_set2_1", (128, 256, 256))
    stated = rotation_from_relion(-table[["zyz3", "zyz2", "zyz1"]].to_numpy())
    found = rotation_from_relion(picks[ANGLES].to_numpy(float))
    assert np.allclose(found.as_matrix(), stated.as_matrix(), atol=2e-4)
    matrix = table[[f"r{i}{j}" for i in (1, 2, 3) for j in (1, 2, 3)]].to_numpy()
    assert np.allclose(found.as_matrix().reshape(-1, 9), matrix, atol=2e-4)


def label_of_each(labels, places):
    """The commonest label within two voxels of each place: centres may be hollow."""
    found = []
    for x, y, z in places.round().astype(int):
        near = labels[max(z - 2, 0) : z + 3, max(y - 2, 0) : y + 3, max(x - 2, 0) : x + 3]
        counts = np.bincount(near[near > 0].astype(int).ravel(), minlength=1)
        found.append(counts.argmax())
    return np.array(found)


def one_label_a_class(labels, table):
    """Share of particles whose centre holds the commonest label of their class."""
    found = pd.Series(label_of_each(labels, table[COORDINATES].to_numpy(float)))
    classes = table["cryoetganClass"].reset_index(drop=True)
    common = found[found > 0].groupby(classes).agg(lambda numbers: numbers.mode().iloc[0])
    assert common.is_unique
    return float((found == classes.map(common)).mean())


@pytest.mark.parametrize("name", ["dev_set2_1", "dev_set2_3"])
def test_labels_and_coordinates_of_the_shared_data_share_their_axes(test_data, name):
    folder = test_data / "tomograms"
    with open_raw_volume(folder / f"{name}_labels.mrc.gz") as raw:
        labels = np.asarray(raw.data)
    table = picks_of(folder / f"{name}_truth.csv", name, labels.shape)
    assert one_label_a_class(labels, table) > 0.95
    swapped = table.assign(**{COORDINATES[0]: table[COORDINATES[1]]})
    swapped[COORDINATES[1]] = table[COORDINATES[0]]
    found = label_of_each(labels, swapped[COORDINATES].to_numpy(float))
    assert (found > 0).mean() < 0.5


def test_our_labels_name_the_classes(ours):
    labels = read_volume(ours.path.with_name("ours_labels.mrc")).data
    names = json.loads(ours.path.with_name("ours.mrc.json").read_text())["labels"]
    found = label_of_each(labels, ours.truth[COORDINATES].to_numpy(float))
    named = [names.get(str(number)) for number in found]
    agree = np.mean([n == c for n, c in zip(named, ours.truth["cryoetganClass"], strict=True)])
    assert agree > 0.95
