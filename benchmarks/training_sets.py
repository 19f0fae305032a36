"""Accuracy of classifiers trained on each kind of synthetic set, with set 2 of the test data.

    CRYOETGAN_TEST_DATA=... python benchmarks/training_sets.py [--look plain denoised defocus narrow]
        [--folder F] [--count 200] [--seeds 5] [--test 3] [--preset recommended] [--steps N]
        [--only NAME ...] [--few 5] [--mix NAME ...] [--half NAME ...] [--no-training]

The methods are conventional and fitted simulations, their ablations, pseudo-labelled picks and
trained networks; the upper bound is trained on real crops. All sets are made from dev_set2_1 and
its own picks, without labels. --test 2 is the tomogram for decisions, --test 3 the one to report.
`cryoetgan evaluation compare` trains the classifiers and writes the table. --half paper released
adds the paper's networks at half their width and stride 2, trained once for 600 steps, as
`recommended` is. An interrupted run resumes. The diagnostics of the networks are printed, too
(docs/development/experiments.md).
"""

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import torch
import yaml
from scipy.spatial import cKDTree
from set2 import BOX, LOOKS, MAPS, Set2

from cryoetgan.io.star import COORDINATES, read_star, write_star
from cryoetgan.io.volume_set import read_volume_set
from cryoetgan.physics.geometry import centre_distance
from cryoetgan.translation.cyclegan.losses import centre_shift
from cryoetgan.translation.presets import read_preset

SNRS = (0.01, 0.1, 0.5)
CLASS = "cryoetganClass"
HALF_STEPS = 600
PARTICLE_RADIUS = 7.0
"""Voxels; picks this close to a true particle are taken as picks of it."""


def simulate(work):
    """Make the sets without a network."""
    defocus = LOOKS[work.look][1]
    for snr in SNRS:
        work.run(
            f"conventional_snr{snr}.star", "imaging", "simulate", "poses.star", "--snr", snr,
            "--tilts=-60,60", "--defocus", defocus, "--ctf", "phase-flipped",
        )  # fmt: skip
    fitted = ("imaging", "simulate", "poses.star", "--model", "M.json")
    work.run("fitted.star", *fitted)
    work.run("no_neighbours.star", *fitted, "--no-neighbours")
    ablate = ("imaging", "ablate", "poses.star", "--model", "M.json", "--kind")
    work.run("noise_only.star", *ablate, "noise_only")
    words = ("real_background", "--tomogram", "t1.mrc", "--particles", "picks.star")
    work.run("real_background.star", *ablate, *words)


def write_half_preset(work, preset):
    """Write a preset of half the width; return its path."""
    whole = read_preset(preset)
    narrow = whole.replace(
        widths=tuple(width // 2 for width in whole.widths),
        discriminator_widths=tuple(width // 2 for width in whole.discriminator_widths),
        noise_channels=max(1, whole.noise_channels // 2),
        discriminator_stride=2,
        epochs=0.0,
        steps=HALF_STEPS,
    )
    path = work.folder / f"{preset}_half.yaml"
    path.write_text(yaml.safe_dump(narrow.plain(), sort_keys=False))
    return path


def train_and_translate(work, preset, seeds, steps):
    """Train and translate with each seed; return the generated sets."""
    label, made = Path(preset).stem, []
    imaging = ("--imaging", "M.json") if read_preset(str(preset)).model == "residual" else ()
    for seed in range(seeds):
        name = f"{label}_{seed}"
        work.run(
            f"{name}/checkpoint.pt", "translation", "train", "--densities", "poses.star",
            "--subtomograms", "own.star", "--preset", preset, *imaging,
            "--seed", seed, *(("--steps", steps) if steps else ()),
        )  # fmt: skip
        made.append(
            work.run(
                f"made_{name}.star", "translation", "translate", f"{name}/checkpoint.pt",
                "poses.star", "--seed", seed,
            )
        )  # fmt: skip
    return made


def simulate_left_out(work):
    """Make a fitted simulation without picks of each class in turn; return class to set.

    The truth identifies the picks of a class: a sample without the class has none.
    """
    scores, truth = (read_star(work.folder / name) for name in ("scores.star", "truth1.star"))
    made = {}
    for name in MAPS:
        centres = truth.particles.loc[truth.particles[CLASS] == name, COORDINATES].to_numpy(float)
        far = (
            cKDTree(centres).query(scores.particles[COORDINATES].to_numpy(float))[0]
            > PARTICLE_RADIUS
        )
        kept = scores.particles[far & (scores.particles[CLASS] != name)]
        write_star(work.folder / f"scores_{name}.star", kept, scores.optics)
        densities = [word for path in work.maps if name not in path for word in ("--density", path)]
        work.run(
            f"M_{name}.json", "imaging", "fit", "t1.mrc",
            "--particles", f"scores_{name}.star", *densities,
        )  # fmt: skip
        made[name] = work.run(
            f"fitted_{name}.star", "imaging", "simulate", "poses.star",
            "--model", f"M_{name}.json",
        )  # fmt: skip
    return made


def compare(work, given, methods):
    """Run the comparison and print its table."""
    plan = {
        "real_train": "real1.star",
        "real_test": f"real{given.test}.star",
        "methods": methods,
        "baseline": "fitted",
        # picks of the test tomogram, classified by template matching
        "template_matching": work.match(given.test, f"_test{given.test}"),
        "seeds": given.seeds,
        "few_shot": given.few,
        "curve": given.curve,
        "background": given.background,
        "leave_one_out": given.leave_one_out,
    }
    path = work.folder / "compare.yaml"
    path.write_text(yaml.safe_dump(plan, sort_keys=False))
    command = [sys.executable, "-m", "cryoetgan", "evaluation", "compare", "--config", path]
    # leaving out classes takes seven more trainings per seed: a table of its own, with fewer seeds
    output = work.folder / f"{'left_out' if given.leave_one_out else 'compare'}_{given.test}"
    subprocess.run([*command, "-q", "-o", output], check=True)
    print(f"\n{given.look}, dev_set2_{given.test}, {given.seeds} seeds, {given.count} per class")
    print((output / "comparison.csv").read_text())


def diagnose(work, name, generated):
    """Return diagnostics of a network from its volumes and the fitted simulation it started from."""
    made, before = (read_volume_set(work.folder / n) for n in (generated, "fitted.star"))
    change = np.array(made.volumes, np.float32) - before.volumes
    real = read_volume_set(work.folder / "own.star").volumes
    r = centre_distance(BOX)
    # an invented neighbour beside each particle shows in the mean change at its distance
    rings = [change[:, (r >= a) & (r < a + 4)].mean() for a in (0, 4, 8, 12)]
    log = np.genfromtxt(work.folder / name / "log.csv", delimiter=",", names=True)
    last = log[-max(1, len(log) // 10) :]
    watched = {
        "noise kept (SD over z / SD of n)": "noise_ratio",
        "signal: 1 - cosine": "signal_cosine_distance",
        "slope of y on u": "signal_slope",
        "texture: from training crops": "texture_train",
        "texture: from held-out crops": "texture_held_out",
        "cycle with noise over without": "cycle_hidden",
    }
    return {
        "SD over real": made.volumes.std() / np.asarray(real).std(),
        **{k: np.nanmean(last[v]) for k, v in watched.items() if v in log.dtype.names},
        "mean change by radius 0-4-8-12-16": np.round(rings, 4).tolist(),
        "centre shift, voxels": float(
            centre_shift(*(torch.tensor(np.array(v.volumes))[:, None] for v in (made, before)))
        ),
    }


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--folder", type=Path, default=Path("results/training_sets"))
    parser.add_argument("--look", nargs="+", default=["plain"], choices=sorted(LOOKS))
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--test", type=int, default=3, choices=(2, 3))
    parser.add_argument("--preset", default="recommended")
    parser.add_argument("--steps", type=int)
    parser.add_argument("--only", nargs="+", help="methods; default: all")
    parser.add_argument("--few", type=int, default=0, help="labelled real crops per class added")
    parser.add_argument("--mix", nargs="+", help="methods that are mixed; default: all")
    parser.add_argument("--curve", type=int, nargs="*", default=[5, 10, 20, 40])
    parser.add_argument("--background", action="store_true")
    parser.add_argument(
        "--leave-one-out",
        action="store_true",
        help="for simulations; networks would need seven more trainings",
    )
    parser.add_argument("--half", nargs="*", default=[], choices=("paper", "released"))
    parser.add_argument("--no-training", action="store_true")
    options = parser.parse_args()
    if "CRYOETGAN_TEST_DATA" not in os.environ:
        print("CRYOETGAN_TEST_DATA names no folder: nothing to measure on")
        return
    data = Path(os.environ["CRYOETGAN_TEST_DATA"])
    for look in options.look:
        given = argparse.Namespace(**vars(options) | {"look": look})
        work = Set2(given.folder / look, data, look, given.count)
        work.prepare((1, given.test))
        simulate(work)
        conventional = [f"conventional_snr{snr}" for snr in SNRS]
        methods = {name: {"star": f"{name}.star", "uses_picks": False} for name in conventional}
        # the others are made from picks, which can contain the left-out class
        fitted = ("noise_only", "no_neighbours", "fitted", "real_background", "pseudo")
        methods |= {name: f"{name}.star" for name in fitted}
        if given.leave_one_out:
            methods["fitted"] = {"star": "fitted.star", "without": simulate_left_out(work)}
        runs = [] if given.no_training else [(given.preset, given.seeds, given.steps)]
        runs += [(write_half_preset(work, preset), 1, None) for preset in given.half]
        for preset, seeds, steps in runs:
            label, made = Path(preset).stem, train_and_translate(work, preset, seeds, steps)
            methods[label] = {"star": made if seeds > 1 else made[0]}
            for seed, star in enumerate(made):
                for key, value in diagnose(work, f"{label}_{seed}", star).items():
                    print(
                        f"{look} {label}_{seed}  {key:36} {json.dumps(value, default=float)}",
                        flush=True,
                    )
        for name, star in methods.items():
            method = star if isinstance(star, dict) else {"star": star}
            methods[name] = method | {"mix": name in (given.mix or methods)}
        kept = set(given.only or methods) | {"fitted"}
        if unknown := {*kept, *(given.mix or [])} - set(methods):
            raise SystemExit(f"unknown method: {', '.join(sorted(unknown))}")
        compare(work, given, {k: v for k, v in methods.items() if k in kept})


if __name__ == "__main__":
    main()
