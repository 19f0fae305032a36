"""Preset recommended on set 2: GAN-train of fitted physics, of what is added to it, and the ceiling.

    CRYOETGAN_TEST_DATA=... python benchmarks/recommended.py [--folder F] [--seeds 5] [--steps N]
        [--preset recommended] [--test 3] [--epochs N]

Trained on dev_set2_1's own DoG picks, without labels; tested on the true crops of dev_set2_3
(--test 2: the one to choose on). Labels count for the classifiers' test and the ceiling alone.
What is there already in the folder is not made again: a killed run goes on. Prints accuracy of
a small classifier over seeds, and the paired difference to fitted physics; then the numbers that
watch for each failure.
"""

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np

MAPS = {
    "T20S_1pma": "T20S_1pma.pdb",
    "apoferritin_6z6u": "apoferritin_6z6u.pdb",
    "hemagglutinin_4o5n": "hemagglutinin_4o5n.pdb",
    "hsp90_2cg9": "hsp90_2cg9.pdb",
    "insulinreceptor_4zxb": "insulinreceptor_4zxb.cif",
    "p97hexamer_3cf3": "p97_3cf3.pdb",
    "rubisco_1bxn": "rubisco_1bxn.pdb",
}
CHAINS = {"insulinreceptor_4zxb": "E"}
"""What of an entry is in the tomograms: without the Fabs, as averages of picks show."""
COUNT = 200
"""Poses of each class."""


class Work:
    """A folder in which each file is made once."""

    def __init__(self, folder):
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def make(self, name, *words):
        """Run a command that writes `name`, where it is not there."""
        if not (self.folder / name).exists():
            command = [sys.executable, "-m", "cryoetgan", *map(str, words), "-q"]
            target = name if name.endswith((".star", ".mrc", ".json")) else str(Path(name).parent)
            subprocess.run([*command, "-o", target], cwd=self.folder, check=True)
        return name


def prepare(work, data, test):
    """Tomograms, maps, picks, imaging model, crops."""
    for name, file in MAPS.items():
        work.make(
            f"maps/{name}.mrc", "densities", "simulate", data / "structures" / f"{file}.gz",
            "--voxel-size", 10, "--resolution", 30, "--box", 28, "--chains", CHAINS.get(name, ""),
        )  # fmt: skip
    maps = [f"maps/{name}.mrc" for name in MAPS]
    work.make("poses.star", "densities", "pose", *maps, "--count", COUNT, "--max-shift", 20)
    for i in sorted({1, test}):
        work.make(
            f"t{i}.mrc", "tomograms", "import", data / "tomograms" / f"dev_set2_{i}.mrc",
            "--tilts=-60,60,3", "--defocus", 3.5, "--ctf", "phase-flipped",
        )  # fmt: skip
        truth = data / "tomograms" / f"dev_set2_{i}_truth.csv"
        work.make(f"truth{i}.star", "particles", "import", truth, "--tomogram", f"t{i}.mrc")
        work.make(
            f"real{i}.star", "particles", "extract", f"truth{i}.star", "--tomogram", f"t{i}.mrc",
            "--box", 28,
        )  # fmt: skip
    work.make("picks1.star", "particles", "pick", "t1.mrc", "--sigma", 40, "--top", 500)
    templates = [word for m in maps for word in ("--template", m)]
    work.make(
        "scores1.star", "particles", "score", "t1.mrc", "picks1.star", *templates,
        "--tilts=-60,60",
    )  # fmt: skip
    work.make(
        "own1.star", "particles", "extract", "picks1.star", "--tomogram", "t1.mrc", "--box", 28
    )
    densities = [word for m in maps for word in ("--density", m)]
    work.make("M.json", "imaging", "fit", "t1.mrc", "--particles", "scores1.star", *densities)


def accuracy(work, name, train, test, seed, epochs):
    words = ["--epochs", epochs] if epochs else []
    work.make(
        name, "evaluation", "classify", "--train", train, "--test", test, "--seed", seed, *words
    )
    return json.loads((work.folder / name).read_text())["accuracy"]


def diagnostics(work, name, generated, physics):
    """Numbers that watch for failures, from generated volumes and the physics they began as."""
    from cryoetgan.volumes import read_volume_set

    made, before = (read_volume_set(work.folder / n) for n in (generated, physics))
    change = np.array(made.volumes, np.float32) - before.volumes
    real = read_volume_set(work.folder / "own1.star").volumes
    axis = np.arange(made.box) - made.box // 2
    r = np.sqrt(axis[:, None, None] ** 2 + axis[None, :, None] ** 2 + axis[None, None] ** 2)
    # a neighbour invented beside each particle shows in the mean change at its distance
    shells = [change[:, (r >= a) & (r < a + 4)].mean() for a in (0, 4, 8, 12)]
    log = np.genfromtxt(work.folder / name / "log.csv", delimiter=",", names=True)
    last = log[-max(1, len(log) // 10) :]
    drift = centre_drift(np.array(made.volumes), np.array(before.volumes))
    return {
        "SD over real": made.volumes.std() / np.asarray(real).std(),
        "noise kept (SD over z / SD of n)": last["noise_ratio"].mean(),
        "label: 1 - cosine": last["label"].mean(),
        "critic: real - held out": (last["D_s_real"] - last["D_s_held"]).mean(),
        "critic: real - fake": (last["D_s_real"] - last["D_s_fake"]).mean(),
        "mean change by radius 0-4-8-12-16": np.round(shells, 4).tolist(),
        "centre drift, voxels": drift,
    }


def centre_drift(made, before):
    """Distance of the peak of the mean cross-correlation from 0, voxels (whole ones)."""
    total = 0
    for a, b in zip(made, before, strict=True):
        spectrum = np.fft.rfftn(a - a.mean()) * np.conj(np.fft.rfftn(b - b.mean()))
        total = total + np.fft.irfftn(spectrum, a.shape)
    peak = np.array(np.unravel_index(np.argmax(total), total.shape))
    peak = np.where(peak > made.shape[-1] // 2, peak - made.shape[-1], peak)
    return float(np.linalg.norm(peak))


def interval(values):
    """Mean and half of the 95 % interval over seeds (t distribution)."""
    from scipy import stats

    values = np.array(values)
    if len(values) < 2:
        return values.mean(), float("nan")
    return values.mean(), stats.t.ppf(0.975, len(values) - 1) * stats.sem(values)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--folder", type=Path, default=Path("results/recommended"))
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--steps", type=int)
    parser.add_argument("--preset", default="recommended")
    parser.add_argument("--test", type=int, default=3, choices=(2, 3))
    parser.add_argument("--epochs", type=int)
    given = parser.parse_args()
    if "CRYOETGAN_TEST_DATA" not in os.environ:
        print("CRYOETGAN_TEST_DATA names no folder: nothing to measure on")
        return
    work = Work(given.folder.resolve())
    prepare(work, Path(os.environ["CRYOETGAN_TEST_DATA"]).resolve(), given.test)
    test, label = f"real{given.test}.star", Path(given.preset).stem
    found = {"fitted physics (step 0)": [], label: [], "ceiling": []}
    for seed in range(given.seeds):
        steps = ["--steps", given.steps] if given.steps else []
        name = f"{label}_{seed}"
        work.make(
            f"{name}/checkpoint.pt", "translation", "train", "--densities", "poses.star",
            "--subtomograms", "own1.star", "--preset", given.preset, "--imaging", "M.json",
            "--seed", seed, *steps,
        )  # fmt: skip
        words = ("translation", "translate", f"{name}/checkpoint.pt", "poses.star")
        work.make(f"zero_{name}.star", *words, "--seed", seed, "--snapshot", 0)
        work.make(f"made_{name}.star", *words, "--seed", seed)
        sets = (f"zero_{name}.star", f"made_{name}.star", "real1.star")
        for (what, values), train in zip(found.items(), sets, strict=True):
            out = f"{Path(train).stem}_{given.test}_{seed}.json"
            values.append(accuracy(work, out, train, test, seed, given.epochs))
            print(f"seed {seed}  {what:26} {values[-1]:.3f}", flush=True)
        gan_test = accuracy(
            work, f"gantest_{name}.json", "real1.star", f"made_{name}.star", seed, given.epochs
        )
        print(f"seed {seed}  {'GAN-test':26} {gan_test:.3f}")
        for key, value in diagnostics(work, name, sets[1], sets[0]).items():
            shown = f"{value:.3f}" if isinstance(value, float | np.floating) else value
            print(f"seed {seed}    {key:36} {shown}", flush=True)
    print(f"GAN-train on dev_set2_{given.test}, {given.seeds} seeds, 95 % interval:")
    for what, values in found.items():
        mean, half = interval(values)
        print(f"{what:28} {mean:.3f} +- {half:.3f}")
    for other in ("fitted physics (step 0)", "ceiling"):
        mean, half = interval(np.array(found[label]) - found[other])
        print(f"{label} minus {other}, paired: {mean:+.3f} +- {half:.3f}")


if __name__ == "__main__":
    main()
