"""F1, seconds and memory of octopi and DeepFinder, taught by our exports, beside our own detector.

    CRYOETGAN_TEST_DATA=... python benchmarks/other_detectors.py --clients BIN [--folder F]
        [--program octopi deepfinder] [--steps 500] [--epochs 500 ...] [--deepfinder-epochs 10]
        [--without-large]

BIN is the folder of the program's command and of its Python; programs with an environment each are run
one by one. All detectors learn from the two synthetic tomograms of arm `physics` of
benchmarks/detection.py and pick dev_set2_3, without a label of it; octopi and DeepFinder validate
themselves on the second one. Their commands are those of the README of `export copick` and `export plain`,
word for word; `SCALED` is added to octopi's and `SCALED_TRAINING` replaces values of DeepFinder's
train.xml for a CPU. The large tomogram, 630 x 652 x 160 voxels, is dev_set2_3 repeated. Seconds
are of CPU (user and system, of all processes), memory is the largest process's. Files in the folder
are not made again: a killed run goes on.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
from detection import Work

from cryoetgan.io.mrc import read_volume, write_volume
from cryoetgan.io.star import read_star

LARGE = (160, 652, 630)
EXPORTS = {"octopi": "copick", "deepfinder": "plain"}
"""The export that a program reads."""
ONE_THREAD = ("OMP_NUM_THREADS", "OCTOPI_MAX_WORKERS", "TF_NUM_INTRAOP_THREADS")
ONE_THREAD += ("TF_NUM_INTEROP_THREADS",)
SCALED = {
    "octopi train": "--batch-size 4 --dim-in 48",
    "octopi segment": "--ntta 1 --overlap 0.25",
    "octopi localize": "--n-procs 1",
}
"""Options added for a CPU. octopi's own: 16 patches of 96 voxels a step, 1,000 epochs; the mean
of 4 transformed tomograms, windows that overlap by half."""
SCALED_TRAINING = {
    "patch_size": 24,
    "batch_size": 4,
    "random_shift": 4,
    "steps_per_epoch": 25,
    "steps_per_validation": 1,
}
"""DeepFinder's own: 25 patches of 56 voxels a step, shifted by up to 13 voxels, 100 epochs of 100 steps,
10 steps of validation."""
ON_CPU = """
import functools, sys, torch
from octopi.main import routines
from octopi.pytorch.inference import Predictor
torch.cuda.device_count = lambda: 1
Predictor.__init__ = functools.partialmethod(Predictor.__init__, device=torch.device("cpu"))
sys.exit(routines())
"""
"""`octopi segment` refuses to run without a GPU; its `Predictor` takes any device."""
BFLOAT16 = """
import runpy, sys, tensorflow
options = {"auto_mixed_precision_onednn_bfloat16": True}
tensorflow.config.optimizer.set_experimental_options(options)
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""
"""TensorFlow's own switch for convolutions in bfloat16, which our detector uses too if the processor can."""


class Others(Work):
    """The files of detection.py, exports of them, and what each command cost."""

    def __init__(self, folder, data, clients):
        super().__init__(folder, data, "plain")
        self.clients, self.project = clients, self.folder / "copick"
        self.costs = self.folder / "costs.json"

    def measure(self, name, command, cwd=None):
        """Run a shell command once; return its CPU seconds and GB."""
        if name not in self.known():
            path = f"{self.clients}:{os.environ['PATH']}"
            limits = dict.fromkeys(ONE_THREAD, "1")
            with (self.folder / f"{name.replace(' ', '_')}.log").open("w") as log:
                process = subprocess.Popen(
                    ["bash", "-c", command], cwd=cwd or self.folder, stdout=log, stderr=log,
                    env=os.environ | limits | {"PATH": path},
                )  # fmt: skip
                _, status, used = os.wait4(process.pid, 0)
            if status:
                raise SystemExit(f"{command} failed; see {log.name}")
            cost = (used.ru_utime + used.ru_stime, used.ru_maxrss / 1e6)
            self.costs.write_text(json.dumps(self.known() | {name: (*cost, command)}, indent=1))
        return self.known()[name][:2]

    def known(self):
        """Return the costs that were measured, by name of the command."""
        return json.loads(self.costs.read_text()) if self.costs.exists() else {}

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

    def ours(self, tomograms, synthetic, steps):
        """Train our detector, pick the tomograms, and return the cost of each command."""
        ours, model = f"{sys.executable} -m cryoetgan detection", f"physics_0_{steps}.pt"
        words = " ".join([*synthetic, *(f"--class {name}" for name in self.names)])
        train = f"{ours} train {words} --steps {steps} -q -o {model}"
        costs = {"ours train": self.measure("ours train", train)}
        for name in tomograms:
            run = f"{ours} run {model} {name}.mrc -q -o ours_{name}.star"
            costs[f"ours run {name}"] = self.measure(f"ours run {name}", run)
        return costs

    def deepfinder(self, tomograms, epochs):
        """Train DeepFinder, pick the tomograms, and return the cost of each command."""
        project, costs = self.folder / "plain", {}
        parameters = ElementTree.parse(project / "deepfinder/train.xml")
        for key, value in (SCALED_TRAINING | {"number_of_epochs": epochs}).items():
            attributes = parameters.getroot().find(key).attrib
            attributes[next(iter(attributes))] = str(value)
        parameters.write(project / "deepfinder/train.xml")
        (self.folder / "in_bfloat16.py").write_text(BFLOAT16)
        for command in (project / "README.md").read_text().splitlines():
            if command.startswith("python run_deepfinder.py "):
                step = command.split()[-1]
                command = command.replace("python ", "python ../in_bfloat16.py ")
                for one in [""] if step == "train" else tomograms:
                    name = f"deepfinder {step} {one}".strip()
                    costs[name] = self.measure(name, f"{command} {one}", project)
        return costs

    def pick(self, program, files, tomograms, given):
        """Export the files for a program, run it, import its picks, and return its costs."""
        export = EXPORTS[program]
        self.run(export, "export", export, *files)
        if program == "octopi":
            costs, found = self.octopi(tomograms, given.epochs), "data/ExperimentRuns/t3/Picks"
        else:
            costs, found = self.deepfinder(tomograms, given.deepfinder_epochs), "t3_deepfinder.xml"
        list_ = self.folder / export / found
        if list_.is_dir() or "<object " in list_.read_text():
            words = ("particles", "import", f"{export}/{found}", "--tomogram", "t3.mrc")
            self.run(f"{program}.star", *words)
        return costs

    def report(self, picks):
        """Print the number of picks of dev_set2_3 and their F1."""
        if not (self.folder / picks).exists():
            print(f"{picks}: no picks")
            return
        places, classes = self.scores(picks)
        record = json.loads((self.folder / f"{Path(picks).stem}_f1.json").read_text())
        each = ", ".join(f"{one} {record['classes'][one]['f1']:.3f}" for one in self.names)
        count = len(read_star(self.folder / picks).particles)
        print(f"{picks}: {count} picks, F1 places {places:.3f}, classes {classes:.3f}: {each}")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--clients", type=Path, required=True)
    parser.add_argument("--folder", type=Path, default=Path("results/detection"))
    parser.add_argument("--program", nargs="+", choices=EXPORTS, default=["octopi"])
    parser.add_argument("--steps", type=int, default=500)
    parser.add_argument("--epochs", type=int, nargs="+", default=[500])
    parser.add_argument("--deepfinder-epochs", type=int, default=10)
    parser.add_argument("--without-large", action="store_true")
    given = parser.parse_args()
    data = Path(os.environ["CRYOETGAN_TEST_DATA"])
    work = Others(given.folder, data, given.clients.resolve())
    work.prepare()
    synthetic = work.synthetic("physics", {})
    tomograms = ["t3"] if given.without_large else ["t3", "large"]
    if not given.without_large:
        work.enlarge()
    files = [*synthetic, *(f"{name}.mrc" for name in tomograms)]
    costs = work.ours(tomograms, synthetic, given.steps)
    for program in given.program:
        costs |= work.pick(program, files, tomograms, given)
    for name, (seconds, memory) in costs.items():
        print(f"{name:24} {seconds:6.0f} s of CPU {memory:5.2f} GB")
    for name in ("ours_t3", *given.program):
        work.report(f"{name}.star")


if __name__ == "__main__":
    main()
