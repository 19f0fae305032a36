"""Train DeepFinder 0.2.1 with an export, and pick tomograms: python run_deepfinder.py STEP [TOMOGRAM ...].

STEP is `train`, `segment` or `cluster`, in this order; without names, all tomograms to be picked are
taken. `export plain` puts this file beside the folder `deepfinder`, which holds every number that is
used: train.xml, in DeepFinder's format, and pick.json. It needs DeepFinder, not CryoETGAN.
"""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

HOME = Path("deepfinder")


def train() -> None:
    """Train by train.xml; write net_weights_FINAL.h5 and the history of the training."""
    from deepfinder.training import Train
    from deepfinder.utils import objl, params

    given = params.ParamsTrain()
    given.read(str(HOME / "train.xml"))
    trainer = Train(given.Ncl, given.psize)
    trainer.path_out = given.path_out
    trainer.batch_size, trainer.epochs = given.bsize, given.nepochs
    trainer.steps_per_epoch, trainer.steps_per_valid = given.steps_per_e, given.steps_per_v
    trainer.flag_direct_read = given.flag_direct_read
    trainer.flag_batch_bootstrap, trainer.Lrnd = given.flag_bootstrap, given.rnd_shift
    lists = (objl.read(given.path_objl_train), objl.read(given.path_objl_valid))
    trainer.launch(given.path_tomo, given.path_target, *lists)


def segment(name: str, picking: dict[str, Any]) -> None:
    """Write the class of each voxel of a tomogram: deepfinder/NAME_labelmap.mrc."""
    from deepfinder.inference import Segment
    from deepfinder.utils import common, smap

    weights = str(HOME / "net_weights_FINAL.h5")
    segmenter = Segment(len(picking["classes"]) + 1, weights, picking["patch_size"])
    scores = segmenter.launch(common.read_array(f"tomograms/{name}.mrc"))
    common.write_array(smap.to_labelmap(scores), str(HOME / f"{name}_labelmap.mrc"))


def cluster(name: str, picking: dict[str, Any]) -> None:
    """Write the objects of a segmented tomogram: NAME_deepfinder.xml, `particles import` reads it.

    A class is kept if pick.json has a smallest cluster of it: membranes have none. DeepFinder 0.2.1
    expects labels from 1 without gaps, so labels that occur are counted anew.
    """
    from deepfinder.inference import Cluster
    from deepfinder.utils import common, objl

    smallest = [each["smallest_cluster"] for each in picking["classes"]]
    labels = common.read_array(str(HOME / f"{name}_labelmap.mrc")).astype(int)
    labels[~np.isin(labels, [n for n, size in enumerate(smallest, start=1) if size])] = 0
    present = np.unique(labels)
    found = []
    if len(present) > 1:
        counted = np.searchsorted(np.union1d(present, [0]), labels)
        found = Cluster(picking["cluster_radius"]).launch(counted)
    for each in found:
        each["label"] = int(present[present > 0][each["label"] - 1])
        each["tomo_idx"] = picking["tomograms"][name]
    kept = [one for one in found if one["cluster_size"] >= smallest[one["label"] - 1]]
    objl.write(kept, f"{name}_deepfinder.xml")


def main() -> None:
    """Run one step in the folder of the export."""
    step, names = sys.argv[1], sys.argv[2:]
    if step == "train":
        train()
        return
    picking = json.loads((HOME / "pick.json").read_text(encoding="utf-8"))
    for name in names or picking["pick"]:
        {"segment": segment, "cluster": cluster}[step](name, picking)


if __name__ == "__main__":
    main()
