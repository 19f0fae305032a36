"""The small classifier beside CB3D on set 2: accuracy on unseen crops, and CPU time of training.

    CRYOETGAN_TEST_DATA=... python benchmarks/classifiers.py [--look plain] [--folder F]
        [--seeds 3] [--count 200] [--networks small cb3d] [--sets real1 fitted] [--epochs N]

Both are trained on the labelled crops of dev_set2_1, and on a simulation fitted to its own picks
(`benchmarks/training_sets.py` makes both sets in the same folder). They are tested on the true crops
of dev_set2_3. Seconds are the processor time of one thread, so two cores need no more. Target: `small`
is at least as accurate as CB3D, and takes at most three minutes on two cores.
"""

import argparse
import os
import time
from pathlib import Path

import numpy as np
import torch
from set2 import LOOKS, Set2

from cryoetgan.evaluation.classifiers.train_classifier import (
    TrainingOptions,
    evaluate_classifier,
    train_on_set,
)
from cryoetgan.evaluation.labelled_sets import load_labelled
from cryoetgan.io.volume_set import read_volume_set


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--look", default="plain", choices=sorted(LOOKS))
    parser.add_argument("--folder", type=Path, default=Path("results/training_sets"))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--networks", nargs="+", default=["small", "cb3d"])
    parser.add_argument("--sets", nargs="+", default=["real1", "fitted"])
    parser.add_argument("--epochs", type=int, help="at most; default: by the size of the set")
    given = parser.parse_args()
    if "CRYOETGAN_TEST_DATA" not in os.environ:
        print("CRYOETGAN_TEST_DATA names no folder: nothing to measure on")
        return
    torch.set_num_threads(1)
    data = Path(os.environ["CRYOETGAN_TEST_DATA"])
    work = Set2(given.folder / given.look, data, given.look, given.count)
    work.prepare((1, 3))
    work.run("fitted.star", "imaging", "simulate", "poses.star", "--model", "M.json")
    test = load_labelled(read_volume_set(work.folder / "real3.star"))
    for name in given.sets:
        train = load_labelled(read_volume_set(work.folder / f"{name}.star"))
        for network in given.networks:
            found = []
            for seed in range(given.seeds):
                start = time.process_time()
                title = f"{network} on {name}"
                options = TrainingOptions(network, given.epochs, seed=seed, title=title)
                classifier = train_on_set(train, options)
                seconds = time.process_time() - start
                accuracy = evaluate_classifier(classifier, test)["accuracy"]
                found.append(accuracy)
                print(
                    f"{given.look} {name} ({len(train)}) {network} seed {seed}: "
                    f"{accuracy:.3f}, {seconds:.0f} s",
                    flush=True,
                )
            print(f"{given.look} {name} {network}: mean {np.mean(found):.3f}", flush=True)


if __name__ == "__main__":
    main()
