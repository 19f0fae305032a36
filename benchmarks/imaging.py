"""Imaging: what fitted physics reaches on the shared tomograms, and on harder variants of them.

    CRYOETGAN_TEST_DATA=... python benchmarks/imaging.py FOLDER [--variant NAME ...] [--no-accuracy]

Fits on dev_set2_1 with its own Difference-of-Gaussians picks and template scores, no label;
tests on crops at the true centres of dev_set2_2 and dev_set2_3. Owed: simulated over real
power between 0.9 and 1.1 in every shell; accuracy of the small classifier trained on the
simulated set at least 0.9 of one trained on the labelled crops of dev_set2_1. FOLDER keeps
what is done: a second run goes on where the first was.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
from imaging_variants import make

from cryoetgan.densities.poses import Poser
from cryoetgan.geometry import random_rotations
from cryoetgan.imaging.data import cut, inside
from cryoetgan.imaging.model import ImagingModel
from cryoetgan.imaging.spectra import both_halves
from cryoetgan.optics import radius
from cryoetgan.star import COORDINATES, read_star
from cryoetgan.volumes import read_volume

BOX, VOXEL = 28, 10.0
CLASSES = {
    "T20S_1pma": "T20S_1pma.pdb.gz",
    "apoferritin_6z6u": "apoferritin_6z6u.pdb.gz",
    "hemagglutinin_4o5n": "hemagglutinin_4o5n.pdb.gz",
    "hsp90_2cg9": "hsp90_2cg9.pdb.gz",
    "insulinreceptor_4zxb": "insulinreceptor_4zxb.cif.gz",
    "rubisco_1bxn": "rubisco_1bxn.pdb.gz",
    "p97hexamer_3cf3": "p97_3cf3.pdb.gz",
}
VARIANTS = {
    "plain": (None, 3.5),
    "denoised": ("denoised", 3.5),
    "defocus": (None, 4.5),
    "narrow": ("narrow", 3.5),
}
"""Name to the change of the volume and the defocus that is typed, micrometres."""
COUNT = 150
"""Simulated volumes a class."""


class Bench:
    """Runs commands whose output is not there yet."""

    def __init__(self, folder, data):
        self.folder, self.data = folder, data
        self.maps = [f"maps/{name}.mrc" for name in CLASSES]

    def run(self, *words):
        output = self.folder / words[-1]
        if not output.exists():
            start = time.process_time()
            command = [sys.executable, "-m", "cryoetgan", *map(str, words)]
            subprocess.run(command, cwd=self.folder, check=True, env={**os.environ})
            print(
                f"# {' '.join(map(str, words[:2]))}: {time.process_time() - start:.0f} s",
                file=sys.stderr,
            )
        return output

    def prepare(self):
        """Maps, tomograms, marks; picks and scores of the first plain tomogram."""
        for name, file in CLASSES.items():
            source = self.data / "structures" / file
            sizes = ("--voxel-size", VOXEL, "--resolution", 30, "--box", BOX)
            self.run("densities", "simulate", source, *sizes, "-o", f"maps/{name}.mrc")
        pose = ("--count", COUNT, "--max-shift", 10)
        self.run("densities", "pose", *self.maps, *pose, "-o", "poses.star")
        for number in (1, 2, 3):
            source = self.data / "tomograms" / f"dev_set2_{number}.mrc"
            about = ("--tilts=-60,60,3", "--defocus", 3.5, "--ctf", "phase-flipped")
            plain = self.run("tomograms", "import", source, *about, "-o", f"plain{number}.mrc")
            truth = self.data / "tomograms" / f"dev_set2_{number}_truth.csv"
            self.run("particles", "import", truth, "--tomogram", plain, "-o", f"truth{number}.star")

    def variant(self, name):
        """Return the tomograms of a variant."""
        change, defocus = VARIANTS[name]
        tomograms = {}
        for number in (1, 2, 3):
            plain = self.folder / f"plain{number}.mrc"
            tomograms[number] = self.folder / f"{name}{number}.mrc" if change else plain
            if not tomograms[number].exists():
                make(plain, change, tomograms[number])
        return tomograms, defocus

    def fit(self, name):
        """Return the model of a variant's first tomogram, fitted to its own picks."""
        tomograms, defocus = self.variant(name)
        key = name if VARIANTS[name][0] else "plain"
        picks = self.run(
            "particles",
            "pick",
            tomograms[1],
            "--sigma",
            40,
            "--top",
            500,
            "-o",
            f"{key}_picks.star",
        )
        templates = [w for path in self.maps for w in ("--template", path)]
        scores = self.run(
            "particles",
            "score",
            tomograms[1],
            picks,
            *templates,
            "--tilts=-60,60",
            "-o",
            f"{key}_scores.star",
        )
        densities = [w for path in self.maps for w in ("--density", path)]
        return self.run(
            "imaging", "fit", tomograms[1], "--particles", scores, *densities, "--tilts=-60,60",
            "--defocus", defocus, "-o", f"{name}.json",
        ), tomograms  # fmt: skip

    def accuracy(self, name, tomograms):
        """Return accuracies: trained on the simulated set, on the labelled crops of tomogram 1."""
        crops = {}
        for key, numbers in (("train", (1,)), ("test", (2, 3))):
            truth = [f"truth{n}.star" for n in numbers]
            volumes = [w for n in numbers for w in ("--tomogram", self.named(name, n, tomograms))]
            crops[key] = self.run(
                "particles", "extract", *truth, *volumes, "--box", BOX, "-o", f"{name}_{key}.star"
            )
        made = self.run(
            "imaging",
            "simulate",
            "poses.star",
            "--model",
            f"{name}.json",
            "-o",
            f"{name}_fitted.star",
        )
        found = []
        for key, train in (("ceiling", crops["train"]), ("fitted", made)):
            path = self.run(
                "evaluation",
                "classify",
                "--train",
                train,
                "--test",
                crops["test"],
                "-o",
                f"{name}_{key}_accuracy.json",
            )
            found.append(json.loads(path.read_text()))
        return found

    def named(self, name, number, tomograms):
        """Return a tomogram under the stem that the marks call it by."""
        folder = self.folder / f"{name}_named"
        folder.mkdir(exist_ok=True)
        link = folder / f"plain{number}.mrc"
        if not link.exists():
            link.symlink_to(tomograms[number].resolve())
        return link


def shells(boxes):
    """Return mean power by shell, 1 to Nyquist, of whole boxes."""
    shell = np.rint(radius((BOX,) * 3, 1.0) * BOX).astype(int)
    used = shell <= BOX // 2
    weight = np.broadcast_to(both_halves(BOX), shell.shape)[used]
    total = sum(
        np.bincount(shell[used], weight * np.abs(np.fft.rfftn(box - box.mean())[used]) ** 2)
        for box in boxes
    )
    return (total / np.bincount(shell[used], weight) / len(boxes))[1:]


def power_ratio(model, tomogram, truth, numbers):
    """Return simulated over real power by shell: as many of each class, at the nearest voxel."""
    table = read_star(truth).particles
    table = table[table["cryoetganClass"].isin(model.maps)].reset_index(drop=True)
    places = table[COORDINATES].to_numpy(float)
    volume = read_volume(tomogram).data
    chosen = inside(places, volume.shape, BOX)
    posers = {name: Poser(density) for name, density in model.maps.items()}
    real, made = [], []
    for index in chosen:
        real.append(cut(volume, places[index], BOX))
        centre = numbers.uniform(-0.5, 0.5, 3)
        target = posers[table["cryoetganClass"][index]](random_rotations(1, numbers)[0], centre)
        made.append(sum(model.halves(target, centre, numbers)))
    return shells(made) / shells(real)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--variant", action="append", choices=sorted(VARIANTS))
    parser.add_argument("--no-accuracy", action="store_true", help="power only: no classifier")
    given = parser.parse_args()
    given.folder.mkdir(parents=True, exist_ok=True)
    (given.folder / "maps").mkdir(exist_ok=True)
    bench = Bench(given.folder.resolve(), Path(os.environ["CRYOETGAN_TEST_DATA"]).resolve())
    bench.prepare()
    for name in given.variant or VARIANTS:
        path, tomograms = bench.fit(name)
        model = ImagingModel.load(path)
        for number in (2, 3):
            truth = bench.folder / f"truth{number}.star"
            ratio = power_ratio(model, tomograms[number], truth, np.random.default_rng(1))
            shown = " ".join(f"{v:.2f}" for v in ratio)
            print(
                f"{name:9} power, dev_set2_{number}: {ratio.min():.2f} to {ratio.max():.2f}  ({shown})"
            )
        wedge = model.about["wedge"]
        print(f"{name:9} tilts seen {wedge['seen']}; {wedge['warning'] or 'as typed'}")
        shares = ", ".join(f"{n} {s:.2f}" for n, s in model.shares.items())
        print(f"{name:9} shares: {shares}", flush=True)
        if not given.no_accuracy:
            ceiling, fitted = bench.accuracy(name, tomograms)
            share = fitted["accuracy"] / ceiling["accuracy"]
            print(
                f"{name:9} accuracy: fitted {fitted['accuracy']:.3f}, real-trained "
                f"{ceiling['accuracy']:.3f}: {share:.2f} of it ({ceiling['n_test']} crops)",
                flush=True,
            )


if __name__ == "__main__":
    main()
