"""Fixtures of the stage: small tomograms of two planted classes, and a detector trained on one."""

import numpy as np
import pandas as pd
import pytest

from cryoetgan.io.files import write_json
from cryoetgan.io.mrc import write_volume
from cryoetgan.io.star import COORDINATES, write_star

SHAPE = (40, 48, 96)
"""z, y, x, voxels."""
SIGMA = {"big": 3.0, "small": 1.6}


def plant(folder, name, seed, count=14, noise=0.3):
    """Write a tomogram of bright balls of two classes and a membrane; truth and labels beside it."""
    rng = np.random.default_rng(seed)
    grid = np.indices(SHAPE).astype(np.float32)
    data = rng.standard_normal(SHAPE, np.float32) * noise
    labels = np.zeros(SHAPE, np.int16)
    data[:, :3] += 4
    labels[:, :3] = 3
    places, rows = np.empty((0, 3)), []
    while len(rows) < count:
        place = rng.uniform((6, 10, 6), np.array(SHAPE) - 7)
        if len(places) and np.linalg.norm(places - place, axis=1).min() < 11:
            continue
        kind = ("big", "small")[len(rows) % 2]
        far = np.sqrt(((grid - place[:, None, None, None]) ** 2).sum(axis=0))
        data += np.exp(-((far / SIGMA[kind]) ** 2) / 2) * (4 if kind == "small" else 3)
        labels[far <= 2 * SIGMA[kind]] = 1 + len(rows) % 2
        places = np.vstack([places, place])
        rows.append({**dict(zip(COORDINATES, place[::-1], strict=True)), "cryoetganClass": kind})
    write_volume(folder / f"{name}.mrc", data, 10.0)
    write_volume(folder / f"{name}_labels.mrc", labels, 10.0)
    write_json(
        folder / f"{name}_labels.mrc.json",
        {"labels": {"1": "big", "2": "small", "3": "membrane"}},
    )
    write_star(folder / f"{name}.star", pd.DataFrame(rows).assign(rlnTomoName=name), None, 10.0)


@pytest.fixture(scope="session")
def planted(tmp_path_factory):
    """A folder with tomograms a and b, their truth and labels, and a detector of a: model.pt."""
    from cryoetgan.detection.detector import write_detector
    from cryoetgan.detection.train_detector import TrainOptions, train
    from cryoetgan.detection.training_tomograms import open_inputs
    from cryoetgan.devices import choose_device

    folder = tmp_path_factory.mktemp("planted")
    plant(folder, "a", 1, 20)
    plant(folder, "b", 2)
    inputs = open_inputs([folder / "a.mrc"], [], [], [], None)
    options = TrainOptions(steps=60, batch=3, patch=32, width=4, seed=1)
    detector, _ = train(inputs, options, choose_device("cpu"), folder / "model.pt", {})
    write_detector(folder / "model.pt", detector)
    return folder
