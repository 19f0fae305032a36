"""A small results folder with everything a run leaves, made by hand."""

import functools
import json
import shutil

import numpy as np
import pandas as pd
import pytest

from cryoetgan.evaluation.half_agreement import record
from cryoetgan.evaluation.hand import judge_hands
from cryoetgan.io.mrc import write_volume
from cryoetgan.io.star import ANGLES, COORDINATES, write_star
from cryoetgan.io.volume_set import write_volume_set
from cryoetgan.physics.acquisition import Acquisition

BOX, VOXEL = 16, 12.0
CLASSES = ("ribosome", "proteasome")


def accuracy(value, n=200, **others):
    """What `evaluation classify` writes, two classes of n / 2."""
    right = round(value * n / 2)
    half = 1.96 * (value * (1 - value) / n) ** 0.5 + 0.005
    wrong = n // 2 - right
    return {
        "accuracy": value,
        "interval": [max(0.0, value - half), min(1.0, value + half)],
        "classes": list(CLASSES),
        "confusion": [[right, wrong], [wrong, right]],
        "n_train": 400,
        "n_test": n,
        "network": "small",
        **others,
    }


def metric(value, spread=0.1, warning=None, **baselines):
    return {
        "value": value,
        "interval": [value - spread, value + spread],
        "baselines": baselines,
        "warning": warning,
    }


def hand_test(share, count, warning=None, likeness=0.5):
    """What `evaluation hand` writes of one class."""
    right = round(share * count)
    pair = np.array([[0.4, 0.1]] * right + [[0.1, 0.4]] * (count - right)).reshape(-1, 2)
    table = pd.DataFrame(pair, columns=["cryoetganScore", "cryoetganDecoyScore"])
    found = judge_hands(table.assign(cryoetganClass="ribosome"), {"ribosome": likeness}, None)
    return found | ({"warning": warning} if warning else {})


def half_test(confirmed, count, other=0, others=0):
    """What `evaluation halves` writes of one class and of the picks without a particle."""
    found, rest = (
        record(np.arange(n)[:, None].repeat(2, axis=1) < both)
        for both, n in ((confirmed, count), (other, others))
    )
    content = {"all": found, "classes": {"ribosome": found}, "others": rest}
    return {"tomogram": "t1", "chance": 4e-4, "warning": None, **content}


def table(count, rng, source, tomogram=None):
    """Rows of a volume set."""
    rows = pd.DataFrame({"cryoetganClass": [CLASSES[i % 2] for i in range(count)]})
    rows[ANGLES] = rng.uniform(0, 90, (count, 3)).round(3)
    for axis in "XYZ":
        rows[f"rlnOrigin{axis}Angst"] = rng.uniform(-10, 10, count).round(3)
    rows["cryoetganSource"] = source
    if tomogram:
        rows["rlnTomoName"] = tomogram
        rows[COORDINATES] = rng.uniform(BOX, 40, (count, 3)).round(2)
        rows["cryoetganSplit"] = ["train", "train", "test", "test"] * (count // 4)
        rows["cryoetganId"] = [f"p{i:012x}" for i in range(count)]
        rows["cryoetganScore"] = np.linspace(0.9, 0.1, count)
    return rows


@pytest.fixture
def no_pictures(monkeypatch):
    """Draw no figure, which takes half of the time of a page: for tests of its text."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    monkeypatch.setattr(FigureCanvasAgg, "print_png", lambda canvas, file, **_: file.write(b"-"))


def write_run(folder, annotated, simulated):
    """Write a results folder with all that a run leaves."""
    rng = np.random.default_rng(5)
    optics = pd.DataFrame([Acquisition(defocus=3.0).to_optics(1, "t1")])

    def volumes(name, rows, level=0.0):
        data = rng.normal(level, 1, (len(rows), BOX, BOX, BOX)).astype(np.float32)
        data[:, 5:11, 5:11, 5:11] += 2
        write_volume_set(folder / name, data, rows, VOXEL, optics)

    poses = table(12, rng, "density")
    volumes("densities/poses.star", poses)
    volumes("imaging/simulated.star", poses.assign(cryoetganSource="simulated"))
    generated = poses.assign(cryoetganSource="generated")
    volumes("translation/smoke/generated.star", generated)
    volumes("translation/smoke/cycled.star", poses)
    (folder / "translation/smoke/checkpoint.pt").write_bytes(b"")
    steps = ["step,cycle_d", "1,0.6", "2,x", "3,0.5"]
    (folder / "translation/smoke/log.csv").write_text("\n".join(steps))
    rows = table(12, rng, "real", "t1")
    volumes("particles/subtomograms.star", rows)
    selected = rows.assign(cryoetganQValue=np.linspace(0.01, 0.043, len(rows)))
    write_star(folder / "particles/selected.star", selected)
    tomogram = rng.standard_normal((48, 56, 64)).astype(np.float32)
    write_volume(folder / "tomograms/t1.mrc", tomogram, VOXEL)
    if simulated:
        write_star(folder / "tomograms/t1.star", rows)
    if annotated:
        volumes("particles/annotated.star", rows)
        write_star(folder / "particles/t1_annotations.star", rows)
    evaluation = {
        "gan_train": accuracy(0.9),
        "conventional_train": accuracy(0.7),
        "real_train": accuracy(0.92),
        "gan_test": accuracy(0.95),
        "gan_train_40": accuracy(0.6, n_train=40),
        "gan_train_100": accuracy(0.88, n_train=100),
        "measure": {
            "kid": metric(2.0, real_half=0.1),
            "density": metric(66.0, warning="density is near its cap"),
            "c2st_auc": metric(0.6, real_half=0.51),
            "pose_recovery": metric(0.85, chance=0.5),
            "coverage": metric(0.9, real_half=0.95),
        },
        "measure_untrained": {"kid": metric(50.0, real_half=0.1)},
        "measure_conventional": {"c2st_auc": metric(0.95)},
        "hand_t1": hand_test(0.97, 120),
    }
    (folder / "evaluation").mkdir()
    for name, content in evaluation.items():
        (folder / "evaluation" / f"{name}.json").write_text(json.dumps(content))
    (folder / "config.yaml").write_text("run: small\ndensities: {box: 16}\n")
    timing = folder / "benchmarks/densities/poses.tsv"
    timing.parent.mkdir(parents=True)
    timing.write_text("s\th:m:s\tmax_rss\tcpu_time\n12.5\t0:00:12\t345.0\t20.1\n")


@pytest.fixture(scope="session")
def make_run(tmp_path_factory):
    """Return a function that copies a results folder, which is written once."""

    @functools.cache
    def written(annotated, simulated):
        folder = tmp_path_factory.mktemp("written")
        write_run(folder, annotated, simulated)
        return folder

    def make(folder, annotated=True, simulated=True):
        return shutil.copytree(written(annotated, simulated), folder)

    return make


@pytest.fixture(scope="session")
def whole_run(make_run, tmp_path_factory):
    return make_run(tmp_path_factory.mktemp("results") / "small")
