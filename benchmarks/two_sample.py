"""How much the two-sample AUC of some sets varies with its seed, and their differences.

    python benchmarks/two_sample.py results/demo/particles/annotated.star \
        results/demo/imaging/fitted.star results/demo/translation/recommended/generated.star

Each seed divides the volumes anew and trains new classifiers. Sets after the first are compared
with the first, as `evaluation choose` does. If they differ by their random numbers alone, a
significant difference is a false one.
"""

import argparse
from pathlib import Path

import torch

from cryoetgan.evaluation.labelled_sets import load_labelled
from cryoetgan.evaluation.measurement.c2st import c2st_auc
from cryoetgan.evaluation.measurement.metrics_io import MetricInputs
from cryoetgan.evaluation.selection import DISTANCES, Distance, closer_distance
from cryoetgan.io.volume_set import read_volume_set

ANSWERS = {1: "closer", -1: "farther", 0: "no significant difference"}


def distance(real, generated, seed):
    """Return the two-sample AUC as `evaluation choose` compares it."""
    inputs = MetricInputs(real, generated, voxel_size=1.0)
    record = c2st_auc(inputs, {}, seed, torch.device("cpu"))
    if record is None:
        raise SystemExit("too few volumes for a two-sample test")
    return Distance(record["value"], *record["interval"], DISTANCES["c2st_auc"][1], "")


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
    first, *others = given.sets
    for seed in given.seeds:
        found = {path: distance(real, generated, seed) for path, generated in sets.items()}
        print(f"seed {seed}: {first} {found[first]}", flush=True)
        for path in others:
            answer = ANSWERS[closer_distance(found[path], found[first])]
            print(f"    {path} {found[path]}: {answer}", flush=True)


if __name__ == "__main__":
    main()
