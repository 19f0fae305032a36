"""Uncertainty maps against known error: does the standard deviation of a voxel predict its error?

    python benchmarks/uncertainty.py [--steps 440] [--dropout 0.1] [--seed 0] [--folder DIR]

Simulated data, so truth is known: phantoms in random poses are domain D, others of the same
kinds, simulated conventionally (SNR 0.3), domain S; preset smoke with dropout is trained on them,
unpaired. For unseen poses the truth is the simulated signal without noise; the squared error is
that between truth and the mean over 64 noise draws, minus the draws' remaining noise variance.
Spearman's correlation over voxels with the standard deviation over 20 passes with dropout, and
over 20 noise draws; mean and 95 % interval over volumes. For comparison, two predictors that need
no map: the smoothed density itself, and the map of another volume of the class. A map is more than
an illustration only if the partial correlation, given the density, remains.
"""

import argparse
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
from scipy import ndimage, stats

from cryoetgan.cli import main as command_line
from cryoetgan.imaging.simulate.conventional import ConventionalParameters, ConventionalSimulator
from cryoetgan.io.volume_set import read_volume_set, write_volume_set
from cryoetgan.physics.acquisition import Acquisition
from cryoetgan.seeds import rng
from cryoetgan.translation.presets import read_preset
from cryoetgan.translation.train import TrainingInputs, train
from cryoetgan.translation.translate import list_items, open_translator
from cryoetgan.translation.uncertainty import dropout_layers, standard_deviation

CLASSES = ("ribosome", "proteasome", "tric")
VOXEL, BOX, PASSES, DRAWS = 13.68, 28, 20, 64
COUNT, SEEN, REAL = 100, 45, 45  # poses of each class; of D, of S; the rest is tested on
PHYSICS = ConventionalParameters(snr=0.3, acquisition=Acquisition(defocus=4.0))


def run(*words):
    sys.argv = ["cryoetgan", *map(str, words), "-q"]
    try:
        command_line()
    except SystemExit as end:
        if end.code:
            raise


def prepare(folder, seed):
    """Leave `d.star`, `s.star`, `t.star` there and return the signals of t, scaled as s is."""
    maps = []
    for name in CLASSES:
        cif, maps_of = folder / f"{name}.cif", folder / f"{name}.mrc"
        run("structures", "phantom", name, "-o", cif)
        words = ("--voxel-size", VOXEL, "--resolution", 40, "--box", BOX, "-o", maps_of)
        run("densities", "simulate", cif, *words)
        maps.append(maps_of)
    poses = folder / "poses.star"
    run(
        "densities", "pose", *maps, "--count", COUNT, "--max-shift", 27, "--seed", seed, "-o", poses
    )
    all_poses = read_volume_set(poses)
    place = all_poses.table.groupby("cryoetganClass").cumcount().to_numpy()
    parts = {"d": place < SEEN, "s": (place >= SEEN) & (place < SEEN + REAL)}
    parts["t"] = ~(parts["d"] | parts["s"])
    simulator = ConventionalSimulator(PHYSICS, BOX, VOXEL)
    volumes = {
        name: np.asarray(all_poses.volumes[np.flatnonzero(at)]) for name, at in parts.items()
    }
    noisy = np.stack([
        simulator.simulate(v, rng(seed, "real", i)) for i, v in enumerate(volumes["s"])
    ])  # fmt: skip
    mean, sd = noisy.mean(), noisy.std()
    truth = np.stack([(simulator.signal(v) - mean) / sd for v in volumes["t"]])
    volumes["s"] = (noisy - mean) / sd
    for name, at in parts.items():
        table = all_poses.table[at].reset_index(drop=True)
        write_volume_set(folder / f"{name}.star", volumes[name].astype(np.float32), table, VOXEL)
    return truth


def partial(a, b, given):
    """Partial Spearman correlation of a and b, given a third variable."""
    ab, ag, bg = (stats.spearmanr(*pair)[0] for pair in ((a, b), (a, given), (b, given)))
    return (ab - ag * bg) / np.sqrt((1 - ag**2) * (1 - bg**2))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--steps", type=int, default=440)
    parser.add_argument("--dropout", type=float, default=0.1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path)
    given = parser.parse_args()
    torch.set_num_threads(1)
    folder = given.folder or Path(tempfile.mkdtemp())
    folder.mkdir(parents=True, exist_ok=True)
    truth = prepare(folder, given.seed)
    source = read_volume_set(folder / "t.star")
    settings = read_preset("smoke").replace(dropout=given.dropout, steps=given.steps)
    device, target = torch.device("cpu"), folder / "trained"
    inputs = TrainingInputs(
        densities=read_volume_set(folder / "d.star"),
        subtomograms=read_volume_set(folder / "s.star"),
    )
    train(inputs, settings, target, name="smoke-dropout", device=device, seed=given.seed)
    translator = open_translator(target / "checkpoint.pt", "ds", device)
    layers = dropout_layers(translator.generator)
    maps = {"dropout": [], "noise": []}
    errors, densities = [], []

    def sample(items, seed):
        return [volume for *_, volume in translator.translate_items(source, items, seed)]

    for item in list_items(source):
        drawn = np.stack(sample([item._replace(noise_draw=draw) for draw in range(DRAWS)], 1))
        errors.append((drawn.mean(0) - truth[item.row]) ** 2 - drawn.var(0, ddof=1) / DRAWS)
        noisy = [item._replace(noise_draw=draw) for draw in range(PASSES)]
        maps["noise"].append(standard_deviation(sample(noisy, 2)))
        layers.train()
        maps["dropout"].append(standard_deviation(sample([item] * PASSES, 2)))
        layers.eval()
        densities.append(ndimage.gaussian_filter(source.volumes[item.row], 1.5))
    classes = source.table["cryoetganClass"].to_numpy()
    # the next volume of the same class stands for "any particle of this kind"
    mates = {name: np.flatnonzero(classes == name) for name in CLASSES}
    other = [
        mates[c][(np.searchsorted(mates[c], i) + 1) % len(mates[c])] for i, c in enumerate(classes)
    ]
    print(
        f"{len(classes)} unseen volumes, {given.steps} steps, dropout {given.dropout}, seed {given.seed}"
    )
    flat = [e.ravel() for e in errors]
    found = {
        "smoothed density": [
            stats.spearmanr(d.ravel(), e)[0] for d, e in zip(densities, flat, strict=True)
        ]
    }
    for kind, made in maps.items():
        found[f"{kind} SD"] = [
            stats.spearmanr(m.ravel(), e)[0] for m, e in zip(made, flat, strict=True)
        ]
        found[f"{kind} SD of another"] = [
            stats.spearmanr(made[o].ravel(), e)[0] for o, e in zip(other, flat, strict=True)
        ]
        found[f"{kind} SD, partial"] = [
            partial(m.ravel(), e, d.ravel()) for m, e, d in zip(made, flat, densities, strict=True)
        ]
    for label, values in found.items():
        half = 1.96 * np.std(values, ddof=1) / np.sqrt(len(values))
        print(f"{label:22} rho {np.mean(values):+.3f} +- {half:.3f}", flush=True)
    for kind, made in maps.items():
        across = stats.spearmanr([m.mean() for m in made], [e.mean() for e in errors])
        print(f"{kind} SD, of whole volumes: rho {across[0]:+.3f} (p {across[1]:.2g})")
    ratio = np.sqrt(np.mean([m**2 for m in maps["dropout"]]) / np.mean(errors))
    print(f"dropout SD over the error's root mean square: {ratio:.2f} (calibrated: about 1)")


if __name__ == "__main__":
    main()
