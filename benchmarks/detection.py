"""F1 of detectors taught without labels on dev_set2_3, beside template matching with FDR.

    CRYOETGAN_TEST_DATA=... python benchmarks/detection.py [--variant plain ...] [--arm NAME ...]
        [--folder F] [--checkpoint C.pt ...] [--seeds 0 1 2] [--steps 600]

Variants of the three tomograms: plain, denoised, snr0.1 and snr0.05 (noise of the tomogram's own
spectrum added), and open: three of the seven species are named, the others stand in no table.
Arms: `templates`, 500 picks scored against maps and mirror images and selected at FDR 5 %;
`matched`, the same of 1,000 places found by template matching of the whole tomogram; `renamed`,
the picks of `matched`, each with the class that a classifier of crops by fitted physics gives; detectors
of `detection train`, taught on two tomograms by conventional simulation (typed SNR and defocus),
by physics fitted to dev_set2_1's own picks, by each checkpoint (its folder is the arm's name), or
on dev_set2_1 with its labels; `joined`, the detector on fitted physics with --template; and
`second`, one more round: physics fitted again, to the picks of `joined` in dev_set2_1. No label of a
tomogram is used but by `labels`: thresholds come from held-out synthetic parts. Picks and particles are matched one to
one within 80 angstrom; F1 over classes is the mean of the classes' (`evaluation detect`). Files in
the folder are not made again: a killed run goes on.
"""

import argparse
import json
import os
import resource
from pathlib import Path

import numpy as np
import torch
from scipy import stats
from set2 import BOX, CHAINS, LOOKS, MAPS, VOXEL, Set2

from cryoetgan.evaluation.classifiers.classifier import load_classifier
from cryoetgan.io.star import COORDINATES, read_star, write_star
from cryoetgan.io.volume_set import read_volume_set
from cryoetgan.particles.curation.select import SelectOptions, find_winners, keep_below_fdr

COPIES, SHAPE = 66, "256,256,128"
"""As many particles of each class, in as large a volume, as dev_set2_1 has."""
NAMED = ("T20S_1pma", "apoferritin_6z6u", "p97hexamer_3cf3")
"""Species of variant `open`."""
VARIANTS = ("plain", "denoised", "snr0.1", "snr0.05", "open")
SNR = 0.3
"""Of the shared tomograms; typed for the conventional simulation too, in variants divided."""


class Work(Set2):
    """The files of one variant."""

    def __init__(self, folder, data, variant):
        look = "plain" if variant == "open" else variant
        super().__init__(folder / variant, data, look)
        self.variant = variant
        self.names = sorted(NAMED if variant == "open" else MAPS)
        self.maps = [f"maps/{name}.mrc" for name in self.names]

    def templates(self, option="--template"):
        return [word for path in self.maps for word in (option, path)]

    def prepare(self):
        """Make maps, tomograms, truth, and the model of dev_set2_1's own picks."""
        for name in self.names:
            self.run(
                f"maps/{name}.mrc", "densities", "simulate",
                self.data / "structures" / MAPS[name], "--voxel-size", VOXEL, "--resolution", 30,
                "--box", BOX, "--chains", CHAINS.get(name, ""),
            )  # fmt: skip
        for number in (1, 3):
            self.tomogram(number)
        self.score_picks(1)
        self.fit("physics", 0, 0)

    def fit(self, arm, seed, steps):
        """Return the model of the imaging of dev_set2_1, fitted to its own picks.

        For `second` these are the picks of `joined`.
        """
        scores, model = "scores.star", "M.json"
        if arm == "second":
            found, model = f"joined1_{seed}_{steps}.star", f"M2_{seed}_{steps}.json"
            scores = f"scores1_{seed}_{steps}.star"
            self.picks("physics", seed, steps, {})
            detector = f"physics_{seed}_{steps}.pt"
            aligned = [*self.templates(), "--tilts=-60,60"]
            self.run(found, "detection", "run", detector, "t1.mrc", *aligned)
            self.run(scores, "particles", "score", "t1.mrc", found, *aligned)
        return self.run(
            model, "imaging", "fit", "t1.mrc", "--particles", scores, *self.templates("--density")
        )

    def synthetic(self, arm, checkpoints, model="M.json"):
        """Return two tomograms to learn from."""
        if arm == "labels":
            return ["t1.mrc", "--particles", "truth1.star"]
        made = []
        for number in (1, 2):
            scene = f"scene{number}.mrc"
            crowd = ["--crowder-fraction", 0.1] if self.variant == "open" else []
            self.run(
                scene, "tomograms", "scene", *self.maps, "--copies", COPIES, *crowd,
                f"--shape={SHAPE}", "--seed", number,
            )  # fmt: skip
            name = f"{arm}_{number}.mrc"
            if arm == "conventional":
                snr = float(self.variant[3:]) if self.variant.startswith("snr") else SNR
                words = ("tomograms", "simulate", "--scene", scene, "--snr", snr)
                words += ("--tilts=-60,60,3", "--defocus", LOOKS["plain"][1])
            elif arm in ("physics", "second"):
                name = f"{Path(model).stem.replace('M', 'physics')}_{number}.mrc"
                words = ("imaging", "synthesize", scene, "--model", model)
            else:
                words = ("translation", "synthesize", checkpoints[arm], scene)
            made.append(self.run(name, *words, "--seed", number))
        return made

    def picks(self, arm, seed, steps, checkpoints):
        """Return the STAR file of the picks of one arm in dev_set2_3."""
        if arm in ("templates", "matched"):
            return self.select(arm)
        if arm == "renamed":
            return self.rename(seed)
        kind = "physics" if arm == "joined" else arm
        model, out = f"{kind}_{seed}_{steps}.pt", f"{arm}_{seed}_{steps}.star"
        named = [word for name in self.names for word in ("--class", name)]
        tomograms = self.synthetic(kind, checkpoints, self.fit(kind, seed, steps))
        self.run(model, "detection", "train", *tomograms, *named, "--steps", steps, "--seed", seed)
        words = [*self.templates(), "--tilts=-60,60"] if arm in ("joined", "second") else []
        return self.run(out, "detection", "run", model, "t3.mrc", *words)

    def select(self, arm):
        """Return the picks that match their template at FDR 5 %, as `particles select` does."""
        suffix = "3"
        if arm == "matched":
            suffix = "3_matched"
            search = (*self.templates(), "--tilts=-60,60", "--top", 1000)
            self.run(f"picks{suffix}.star", "particles", "match", "t3.mrc", *search)
        self.score_picks(3, suffix)
        options = SelectOptions(top=1000, box=BOX)
        table = read_star(self.folder / f"scores{suffix}.star")
        best = keep_below_fdr(find_winners(table.particles, options), options, {})
        write_star(self.folder / f"{arm}.star", best, table.optics)
        return f"{arm}.star"

    def rename(self, seed):
        """Return the picks of `matched` with the classes of a classifier taught on fitted physics.

        A pick whose box reaches beyond the tomogram keeps its class.
        """
        out, classifier = f"renamed_{seed}.star", f"classifier_{seed}.pt"
        if (self.folder / out).exists():
            return out
        matched = self.select("matched")
        crops = self.extract("matched_crops.star", matched, 3)
        self.run(
            "poses.star", "densities", "pose", *self.maps, "--count", self.count,
            "--max-shift", self.shift,
        )  # fmt: skip
        self.run("crops.star", "imaging", "simulate", "poses.star", "--model", "M.json")
        self.run(
            f"classifier_{seed}.json", "evaluation", "classify", "--train", "crops.star",
            "--test", crops, "--checkpoint", classifier, "--seed", seed,
        )  # fmt: skip
        network, _ = load_classifier(self.folder / classifier, torch.device("cpu"))
        cut, table = read_volume_set(self.folder / crops), read_star(self.folder / matched)
        keys = cut.table[COORDINATES].round().apply(tuple, axis=1)
        names = dict(zip(keys, network.predict(np.asarray(cut.volumes)), strict=True))
        places = table.particles[COORDINATES].round().apply(tuple, axis=1)
        named = places.map(names).fillna(table.particles["cryoetganClass"])
        renamed = table.particles.assign(cryoetganClass=named)
        write_star(self.folder / out, renamed, table.optics)
        return out

    def scores(self, picks):
        """Return the F1 of places and over classes."""
        name = f"{Path(picks).stem}_f1.json"
        named = [word for one in self.names for word in ("--class", one)]
        self.run(name, "evaluation", "detect", picks, "--truth", "truth3.star", *named)
        found = json.loads((self.folder / name).read_text())
        known = [found["classes"][one]["f1"] for one in self.names]
        return found["places"]["f1"], float(np.mean(known))


def interval(values):
    """Mean and half of the 95 % interval over seeds (t distribution)."""
    if len(values) < 2:
        return float(np.mean(values)), float("nan")
    half = stats.t.ppf(0.975, len(values) - 1) * stats.sem(values)
    return float(np.mean(values)), float(half)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--variant", nargs="*", choices=VARIANTS, default=VARIANTS)
    parser.add_argument("--arm", nargs="*")
    parser.add_argument("--folder", type=Path, default=Path("results/detection"))
    parser.add_argument("--checkpoint", type=Path, nargs="*", default=[])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--steps", type=int, default=600)
    given = parser.parse_args()
    if "CRYOETGAN_TEST_DATA" not in os.environ:
        print("CRYOETGAN_TEST_DATA names no folder: nothing to measure on")
        return
    checkpoints = {path.resolve().parent.name: path.resolve() for path in given.checkpoint}
    arms = given.arm or [
        "templates",
        "matched",
        "renamed",
        "conventional",
        "physics",
        *checkpoints,
        "labels",
        "joined",
        "second",
    ]
    for variant in given.variant:
        work = Work(given.folder, Path(os.environ["CRYOETGAN_TEST_DATA"]), variant)
        work.prepare()
        rival = None
        for arm in arms:
            rows = []
            for seed in given.seeds[:1] if arm in ("templates", "matched") else given.seeds:
                rows.append(work.scores(work.picks(arm, seed, given.steps, checkpoints)))
                print(
                    f"{variant} {arm} seed {seed}: places {rows[-1][0]:.3f}, classes {rows[-1][1]:.3f}"
                )
            places, classes = (interval(column) for column in zip(*rows, strict=True))
            rival = classes[0] if arm == "templates" else rival
            above = f", classes above templates {classes[0] - rival:+.3f}" if rival else ""
            print(
                f"{variant:9} {arm:14} places {places[0]:.3f} +- {places[1]:.3f}, classes "
                f"{classes[0]:.3f} +- {classes[1]:.3f}{above}", flush=True,
            )  # fmt: skip
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    print(
        f"CPU {used.ru_utime + used.ru_stime:.0f} s, largest process {used.ru_maxrss / 1e6:.2f} GB"
    )


if __name__ == "__main__":
    main()
