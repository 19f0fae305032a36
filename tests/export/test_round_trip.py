"""Synthetic data as a person takes them away: a simulated tomogram, and boxes cut from it."""

import mrcfile
import numpy as np
import pandas as pd
import pytest
import starfile
from scipy import ndimage

from cryoetgan.io.mrc import read_volume, write_volume
from cryoetgan.io.star import COORDINATES, ORIGINS

VOXEL, BOX = 20.0, 16
NAMES = {"bent_rod": "bent-rod", "hook": "hook"}


def particle(lobes):
    """A density without symmetry: spots of different weight, xyz from the centre."""
    volume = np.zeros((BOX, BOX, BOX))
    for x, y, z, weight in lobes:
        volume[BOX // 2 + z, BOX // 2 + y, BOX // 2 + x] = weight
    return ndimage.gaussian_filter(volume, 1.2).astype(np.float32)


@pytest.fixture
def simulated(cryoetgan, tmp_path):
    """T.mrc with its truth and labels, of two chiral particles."""
    bent = [(0, 0, 0, 1.0), (4, 0, 0, 1.0), (0, 3, 0, 1.0), (0, 0, 5, 1.0), (2, 0, 0, 1.0)]
    hook = [(0, 0, -5, 1.0), (0, 0, -2, 1.0), (0, 0, 1, 1.0), (3, 0, 3, 1.0), (3, 3, 3, 1.0)]
    maps = []
    for name, lobes in (("bent_rod", bent), ("hook", hook)):
        maps.append(tmp_path / f"{name}.mrc")
        write_volume(maps[-1], particle(lobes), VOXEL)
    words = ("--copies", 5, "--shape=80,72,40", "--tilts=-60,60,10", "--snr", 5, "--seed", 2)
    cryoetgan("tomograms", "simulate", *maps, *words, "-o", "T.mrc")
    return maps


def overlap(first, second):
    return (first & second).sum() / (first | second).sum()


def test_copick_holds_a_simulated_tomogram_with_its_truth(cryoetgan, tmp_path, simulated):
    copick = pytest.importorskip("copick")
    words = ("--particles", "T.star", "--labels", "T_labels.mrc", "-o", "project")
    cryoetgan("export", "copick", "T.mrc", *words)
    root = copick.from_file(str(tmp_path / "project/config.json"))
    run = root.get_run("T")
    (spacing,) = run.voxel_spacings
    assert spacing.voxel_size == pytest.approx(VOXEL)
    stored = spacing.tomograms[0].numpy()
    ours = read_volume(tmp_path / "T.mrc").data
    assert np.allclose(stored, -ours, atol=1e-3)  # protein dark, where nothing else is said
    labels = run.get_segmentations()[0].numpy()
    assert labels.shape == ours.shape == (40, 72, 80)
    numbers = {item.name: item.label for item in root.pickable_objects}
    assert set(numbers) == set(NAMES.values())
    # dark where the labels are: contrast and axes belong together
    assert stored[labels > 0].mean() < stored[labels == 0].mean() - stored.std()
    found = 0
    for path in simulated:
        name = NAMES[path.stem]
        mass = np.where(read_volume(path).data > 0.25 * read_volume(path).data.max(), 1.0, 0.0)
        points, turns = run.get_picks(name)[0].numpy()
        for point, turn in zip(points, turns[:, :3, :3], strict=True):
            corner = np.round(point / VOXEL).astype(int) - BOX // 2
            if (corner < 0).any() or (corner + BOX > labels.shape[::-1]).any():
                continue
            cut = tuple(slice(n, n + BOX) for n in corner[::-1])
            marked = labels[cut] == numbers[name]
            right, wrong = (overlap(turned(mass, matrix), marked) for matrix in (turn, turn.T))
            assert right > 0.3  # particles of a class may touch
            assert right > wrong
            found += 1
    assert found >= 6


def turned(mass, matrix):
    """The map turned about its box's centre by a matrix of xyz."""
    flip = np.eye(3)[::-1]  # zyx
    back = flip @ matrix.T @ flip
    centre = np.full(3, BOX // 2)
    return ndimage.affine_transform(mass, back, centre - back @ centre, order=1) > 0.5


def test_relion_and_plain_hold_the_boxes_of_a_simulated_tomogram(
    cryoetgan,
    tmp_path,
    simulated,
):
    words = ("--tomogram", "T.mrc", "--box", BOX, "-o", "S.star")
    cryoetgan("particles", "extract", "T.star", *words)
    cryoetgan("export", "relion", "S.star", "--tomogram", "T.mrc", "-o", "relion")
    cryoetgan("export", "plain", "S.star", "-o", "plain")
    truth = starfile.read(tmp_path / "T.star")["particles"]
    boxes = starfile.read(tmp_path / "S.star")["particles"]
    assert 5 <= len(boxes) <= len(truth)
    whole = read_volume(tmp_path / "T.mrc").data
    rows = starfile.read(tmp_path / "relion/particles.star")["particles"]
    centred = starfile.read(tmp_path / "relion/particles_relion5.star")
    plain = pd.read_csv(tmp_path / "plain/particles.csv")
    for i, row in rows.iterrows():
        place = row[COORDINATES].to_numpy(float)
        for name, sign in ((f"relion/{row['rlnImageName']}", 1), (f"plain/{plain['file'][i]}", -1)):
            with mrcfile.open(tmp_path / name) as file:
                assert file.voxel_size.x == pytest.approx(VOXEL)
                data = np.array(file.data)
            corner = np.round(place).astype(int)[::-1] - BOX // 2
            own = whole[tuple(slice(n, n + BOX) for n in corner)]
            # up to the subvoxel shift, the same voxels: bright for RELION, else as in the file
            assert np.corrcoef(data.ravel(), sign * own.ravel())[0, 1] > 0.8
        middle = (place - np.array([80, 72, 40]) / 2) * VOXEL
        assert np.allclose(
            [centred.loc[i, f"rlnCenteredCoordinate{axis}Angst"] for axis in "XYZ"],
            middle,
            atol=0.01,
        )
        own = place - row[ORIGINS].to_numpy(float) / VOXEL
        assert list(plain.loc[i, ["x", "y", "z"]]) == pytest.approx(list(own), abs=1e-3)
