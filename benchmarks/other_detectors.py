"""F1, seconds and memory of octopi, taught by our exports, beside our own detector.

    CRYOETGAN_TEST_DATA=... python benchmarks/other_detectors.py --clients BIN [--folder F]
        [--steps 500] [--epochs 500 ...] [--without-large]

BIN is the folder of octopi's command and of its Python. Both detectors learn from the two synthetic tomograms of arm
`physics` of benchmarks/detection.py and pick dev_set2_3, without a label of it; octopi validates
itself on the second one. Its commands are those of the README of `export copick`, word for word;
`SCALED` is added to them for a CPU. The large tomogram, 630 x 652 x 160 voxels, is dev_set2_3
repeated. Seconds are of CPU (user and system, of all processes), memory is the largest process's.
Files in the folder are not made again: a killed run goes on.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
from detection import Work

from cryoetgan.io.mrc import read_volume, write_volume
from cryoetgan.io.star import read_star

LARGE = (160, 652, 630)
SCALED = {
    "octopi train": "--batch-size 4 --dim-in 48",
    "octopi segment": "--ntta 1 --overlap 0.25",
    "octopi localize": "--n-procs 1",
}
"""Options added for a CPU. octopi's own: 16 patches of 96 voxels a step, 1,000 epochs; the mean
of 4 transformed tomograms, windows that overlap by half."""
ON_CPU = """
import functools, sys, torch
from octopi.main import routines
from octopi.pytorch.inference import Predictor
torch.cuda.device_count = lambda: 1
Predictor.__init__ = functools.partialmethod(Predictor.__init__, device=torch.device("cpu"))
sys.exit(routines())
"""
"""`octopi segment` refuses to run without a GPU; its `Predictor` takes any device."""


class Others(Work):
    """The files of detection.py, a copick project of them, and what each command cost."""

    def __init__(self, folder, data, clients):
        super().__init__(folder, data, "plain")
        self.clients, self.project = clients, self.folder / "copick"
        self.costs = self.folder / "costs.json"

    def measure(self, name, command, cwd=None):
        """Run a shell command once; return its CPU seconds and GB."""
        known = json.loads(self.costs.read_text()) if self.costs.exists() else {}
        if name not in known:
            path = f"{self.clients}:{os.environ['PATH']}"
            limits = dict.fromkeys(("OMP_NUM_THREADS", "OCTOPI_MAX_WORKERS"), "1")
            with (self.folder / f"{name.replace(' ', '_')}.log").open("w") as log:
                process = subprocess.Popen(
                    ["bash", "-c", command], cwd=cwd or self.folder, stdout=log, stderr=log,
                    env=os.environ | limits | {"PATH": path},
                )  # fmt: skip
                _, status, used = os.wait4(process.pid, 0)
            if status:
                raise SystemExit(f"{command} failed; see {log.name}")
            cost = (used.ru_utime + used.ru_stime, used.ru_maxrss / 1e6)
            known[name] = (*cost, command)
            self.costs.write_text(json.dumps(known, indent=1))
        return known[name][:2]

    def enlarge(self):
        """Write large.mrc: dev_set2_3 repeated in all three axes."""
        if not (self.folder / "large.mrc").exists():
            volume = read_volume(self.folder / "t3.mrc")
            times = [
                -(-wanted // had) for wanted, had in zip(LARGE, volume.data.shape, strict=True)
            ]
            z, y, x = LARGE
            write_volume(
                self.folder / "large.mrc", np.tile(volume.data, times)[:z, :y, :x],
                volume.voxel_size,
            )  # fmt: skip
            shutil.copy(self.folder / "t3.mrc.json", self.folder / "large.mrc.json")

    def commands(self):
        """Return octopi's commands of the project's README, and its function `runs`."""
        lines = (self.project / "README.md").read_text().splitlines()
        runs = next(line for line in lines if line.startswith("runs()"))
        found = {" ".join(line.split()[:2]): line for line in lines if line.startswith("octopi ")}
        return runs, found

    def octopi(self, tomograms, epochs):
        """Train octopi, pick the tomograms, and return the cost of each command.

        Each further number of epochs goes on from the best weights.
        """
        runs, found = self.commands()
        (self.folder / "octopi_on_cpu.py").write_text(ON_CPU)
        costs, picked = {}, '"$(runs pick)"'
        for name, command in found.items():
            command += f" {SCALED.get(name, '')}"
            turns = {}
            if name == "octopi train":
                for turn, count in enumerate(epochs, start=1):
                    more = f" --num-epochs {count} --val-interval {count // 2}"
                    more += " --model-weights octopi/best_model.pth" if turn > 1 else ""
                    turns[f"{name} {turn}"] = command + more
            elif picked in command:
                command = command.replace("octopi segment", "python ../octopi_on_cpu.py segment")
                turns = {f"{name} {one}": command.replace(picked, one) for one in tomograms}
            for key, one in (turns or {name: command}).items():
                costs[key] = self.measure(key, f"{runs}\n{one}", self.project)
        return costs

    def counts(self, picks):
        """Return the number of picks."""
        return len(read_star(self.folder / picks).particles)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--clients", type=Path, required=True)
    parser.add_argument("--folder", type=Path, default=Path("results/detection"))
    parser.add_argument("--steps", type=int, default=500)
    parser.add_argument("--epochs", type=int, nargs="+", default=[500])
    parser.add_argument("--without-large", action="store_true")
    given = parser.parse_args()
    work = Others(given.folder, Path(os.environ["CRYOETGAN_TEST_DATA"]), given.clients.resolve())
    work.prepare()
    synthetic = work.synthetic("physics", {})
    tomograms = ["t3"] if given.without_large else ["t3", "large"]
    if not given.without_large:
        work.enlarge()
    files = [*synthetic, *(f"{name}.mrc" for name in tomograms)]
    work.run("copick", "export", "copick", *files)
    named = " ".join(f"--class {name}" for name in work.names)
    ours, words = f"{sys.executable} -m cryoetgan detection", f"{' '.join(synthetic)} {named}"
    model = f"physics_0_{given.steps}.pt"
    train = f"{ours} train {words} --steps {given.steps} -q -o {model}"
    costs = {"ours train": work.measure("ours train", train)}
    for name in tomograms:
        run = f"{ours} run {model} {name}.mrc -q -o ours_{name}.star"
        costs[f"ours run {name}"] = work.measure(f"ours run {name}", run)
    costs |= work.octopi(tomograms, given.epochs)
    for name, (seconds, memory) in costs.items():
        print(f"{name:24} {seconds:6.0f} s of CPU {memory:5.2f} GB")
    work.run(
        "octopi.star", "particles", "import", "copick/data/ExperimentRuns/t3/Picks",
        "--tomogram", "t3.mrc",
    )  # fmt: skip
    for name in ("ours_t3.star", "octopi.star"):
        places, classes = work.scores(name)
        found = json.loads((work.folder / f"{Path(name).stem}_f1.json").read_text())["classes"]
        each = ", ".join(f"{one} {found[one]['f1']:.3f}" for one in work.names)
        print(
            f"{name}: {work.counts(name)} picks, F1 places {places:.3f}, classes {classes:.3f}: {each}"
        )


if __name__ == "__main__":
    main()
