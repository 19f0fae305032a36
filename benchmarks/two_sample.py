"""How much the two-sample AUC of some sets varies with its seed, and their differences.

    python benchmarks/two_sample.py results/demo/particles/annotated.star \
        results/demo/imaging/fitted.star results/demo/translation/recommended/generated.star

Each seed divides the volumes anew and trains new classifiers. Sets after the first are compared
with the first: the difference, and the error that `evaluation choose` gives it. With sets that
differ by their random numbers alone, a difference above its error is a false one.
"""

import argparse
from pathlib import Path

import numpy as np
import torch

from cryoetgan.evaluation.labelled_sets import load_labelled
from cryoetgan.evaluation.measurement.c2st import c2st_auc
from cryoetgan.evaluation.measurement.metrics_io import MetricInputs
from cryoetgan.io.volume_set import read_volume_set


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("real", type=Path)
    parser.add_argument("sets", type=Path, nargs="+")
    parser.add_argument("--split", default="test", help="of the real crops")
    parser.add_argument("--seeds", type=int, nargs="+", default=list(range(6)))
    given = parser.parse_args()
    torch.set_num_threads(1)
    real = load_labelled(read_volume_set(given.real), given.split)
    sets = {path: load_labelled(read_volume_set(path)) for path in given.sets}
    differences = {path: [] for path in given.sets[1:]}
    for seed in given.seeds:
        found = {}
        for path, generated in sets.items():
            inputs = MetricInputs(real, generated, voxel_size=1.0)
            found[path] = c2st_auc(inputs, {}, seed, torch.device("cpu"))
        first = found[given.sets[0]]
        print(f"seed {seed}: {given.sets[0]} {first['value']:.2f}", end="")
        for path in given.sets[1:]:
            difference = found[path]["value"] - first["value"]
            low, high = first, found[path]
            if difference < 0:
                low, high = high, low
            error = np.hypot(low["interval"][1] - low["value"], high["value"] - high["interval"][0])
            differences[path].append(difference)
            print(
                f"; {path} {found[path]['value']:.2f}: {difference:+.2f}, error {error:.2f}", end=""
            )
        print(flush=True)
    for path, values in differences.items():
        print(f"{path}: {np.mean(values):+.3f} on average, standard deviation {np.std(values, ddof=1):.3f}")  # fmt: skip


if __name__ == "__main__":
    main()
