"""The imaging fit in an open world: a real cell, and set 2 with all or three of its classes named.

    CRYOETGAN_TEST_DATA=... python benchmarks/open_world_fit.py --maps DIR [--case cell all three]
        [--method particles power] [--variant plain dose_filter ...] [--folder F]

DIR holds the maps of set 2 and `ribosome.mrc`, a 70S (10 angstrom a voxel). Each case is fitted to
its DoG picks and scores with decoys (particles), and without the decoys (power). Wanted: amplitude
0.95 to 1.05; simulated over real power 0.9 to 1.1 in the cell and 0.95 to 1.05 in set 2; class
fractions within 0.05 of the truth; AUC of a classifier of real and simulated boxes below 0.65.
`at truth` is the regression of true particles in true poses. Variants of set 2: imaging_variants.py.
An interrupted run resumes.
"""

import argparse
import itertools
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from imaging_variants import VARIANTS, make
from scipy.spatial import cKDTree

from cryoetgan.densities.poses import Poser
from cryoetgan.evaluation.labelled_sets import LabelledSet
from cryoetgan.evaluation.measurement.c2st import c2st_auc
from cryoetgan.evaluation.measurement.metrics_io import MetricInputs
from cryoetgan.imaging.fit.class_agreement import products_by_class, regress
from cryoetgan.imaging.fit.fit_data import (
    boxes_inside,
    cut_box,
    picks_from_table,
    read_fit_data,
    resolve_acquisition,
)
from cryoetgan.imaging.storage import load_model
from cryoetgan.io.star import ANGLES, COORDINATES, read_star, write_star
from cryoetgan.physics.geometry import random_rotations, relion_from_rotation

SET2 = ("T20S", "apoferritin", "hemagglutinin", "hsp90", "insulinreceptor", "p97", "rubisco")
CASES = {"cell": ("ribosome",), "all": SET2, "three": ("T20S", "rubisco", "hemagglutinin")}
TOMOGRAMS = {"cell": ("cell",), "all": ("dev_set2_1", "dev_set2_2")}
MATCH_DISTANCE = 4.0
"""Voxels between a pick and the true particle that it shows."""


def prepare(folder, data, maps, tomogram, variant, case):
    """Import, change, pick and score a tomogram against the classes of a case."""
    cell = tomogram == "cell"
    source = "experimental/mycoplasma_cell/tomogram_lower_10A_int8.mrc"
    source = data / (source if cell else f"tomograms/{tomogram}.mrc")
    optics = ("--defocus", 1.85 if cell else 3.5, "--amplitude-contrast", 0.1 if cell else 0.07)
    path, name = folder / f"{tomogram}.mrc", f"{tomogram}{suffix(variant)}"
    picks, scores = (folder / f"{name}_{case}_{kind}.star" for kind in ("picks", "scores"))
    paths = [maps / f"{name}.mrc" for name in CASES[case]]
    if not path.exists():
        tilts = ("--tilts=-60,60,3", "--ctf", "phase-flipped", "--cs", 2.7, "--voltage", 300)
        cryoetgan("tomograms", "import", source, *tilts, *optics, "-o", path)
    if variant != "plain":
        path, plain = folder / f"{name}.mrc", path
        if not path.exists():
            make(plain, variant, path)
    if not picks.exists():
        cryoetgan("particles", "pick", path, *options("--density", paths), "-o", picks)
    if not scores.exists():
        words = (*options("--template", paths), "--tilts=-60,60")
        cryoetgan("particles", "score", path, picks, *words, "-o", scores)
    return path, scores


def suffix(variant):
    """Return the end of the names of a variant's files."""
    return "" if variant == "plain" else f"_{variant}"


def cryoetgan(*words):
    """Run a command."""
    subprocess.run([sys.executable, "-m", "cryoetgan", *map(str, words)], check=True)


def options(name, paths):
    """Return one option a path."""
    return [word for path in paths for word in (name, path)]


def simulated_boxes(model, names, rng):
    """Return simulated boxes of these classes, and their rows."""
    posers = {name: Poser(density) for name, density in model.maps.items()}
    boxes, turns = [], random_rotations(len(names), rng)
    for name, turn in zip(names, turns, strict=True):
        centre = rng.uniform(-0.5, 0.5, 3)
        boxes.append(sum(model.signal_and_noise(posers[name](turn, centre), centre, rng)))
    table = pd.DataFrame(relion_from_rotation(turns), columns=ANGLES)
    return np.array(boxes), table.assign(cryoetganClass=names)


def auc(data, model, seed=0):
    """Return the record of the two-sample test of boxes of particles and simulated ones."""
    inside = boxes_inside(data.picks.places, data.volume.shape, data.box)
    chosen = inside[data.picks.particles[inside]]
    names = data.picks.names[chosen]
    real = np.array([cut_box(data.volume, data.picks.places[i], data.box) for i in chosen])
    table = pd.DataFrame(data.picks.places[chosen], columns=COORDINATES)
    table = table.assign(rlnTomoName=model.tomogram, cryoetganClass=names)
    boxes, rows = simulated_boxes(model, names, np.random.default_rng(seed))
    sets = (LabelledSet(real, names, table), LabelledSet(boxes, names, rows))
    inputs = MetricInputs(*sets, voxel_size=data.voxel_size)
    return c2st_auc(inputs, {}, seed, torch.device("cpu"))


def truth_of(data, truth):
    """Return the class of the true particle at each pick; `other` without a named one."""
    table = pd.read_csv(truth)
    distance, nearest = cKDTree(table[["x_vox", "y_vox", "z_vox"]]).query(data.picks.places)
    classes = table["class"].str.split("_").str[0].replace("p97hexamer", "p97").to_numpy(str)
    found = np.where(distance < MATCH_DISTANCE, classes[nearest], "other")
    return np.where(np.isin(found, list(data.maps)), found, "other")


def amplitude_at_truth(data, model, truth):
    """Return the regression of true particles, in their true poses, on the fitted signal."""
    table = pd.read_csv(truth)
    named = table["class"].str.split("_").str[0].replace("p97hexamer", "p97")
    rows = pd.DataFrame(table[["x_vox", "y_vox", "z_vox"]].to_numpy(), columns=COORDINATES)
    rows[ANGLES] = -table[["zyz3", "zyz2", "zyz1"]].to_numpy()
    rows = rows.assign(cryoetganClass=named)[named.isin(list(data.maps))]
    picks = picks_from_table(rows, sorted(data.maps), 0)
    exact = replace(data, picks=picks)
    inside = boxes_inside(picks.places, data.volume.shape, data.box)
    pairs = products_by_class(exact, model, inside)
    return regress(np.concatenate(list(pairs.values())))


def measure(folder, data_folder, maps, case, tomogram, variant, method):
    """Fit one tomogram and print what the issue asks for."""
    classes = CASES[case]
    path, scores = prepare(folder, data_folder, maps, tomogram, variant, case)
    name = f"{tomogram}{suffix(variant)}"
    paths = [maps / f"{name}.mrc" for name in classes]
    table = read_star(scores).particles
    judged, used = (folder / f"{name}_{case}_{m}.star" for m in ("particles", method))
    write_star(judged, table)
    if method == "power":
        write_star(used, table.drop(columns=["cryoetganDecoyScore", "cryoetganDecoys"]))
    output = folder / f"{name}_{case}_{method}.json"
    if not output.exists():
        words = ("--particles", used, *options("--density", paths))
        cryoetgan("imaging", "fit", path, *words, "-o", output)
    model = load_model(output)
    data = read_fit_data(path, judged, paths, resolve_acquisition(path, {}), None, 0)
    power = model.about["power"]
    ratio = np.array(power["simulated"]) / power["real"]
    agreement = model.about["agreement"]["overall"]
    print(f"{name} {case} {method}: {model.about['picks_used']} boxes used")
    print(
        f"  tilts {model.about['wedge']['seen']}; {model.about['wedge']['warning'] or 'as given'}"
    )
    print(f"  amplitude {agreement['amplitude']} +- {agreement['error']}", end="")
    truth = data_folder / f"tomograms/{tomogram}_truth.csv"
    if truth.exists():
        exact = amplitude_at_truth(data, model, truth)
        print(f", at truth {exact['amplitude']} +- {exact['error']}", end="")
    print(f"\n  power {ratio.min():.2f} to {ratio.max():.2f}: {ratio.round(2).tolist()}")
    true = truth_of(data, truth) if truth.exists() else None
    for class_name, fraction in model.class_fractions.items():
        share = "" if true is None else f" (true {np.mean(true == class_name):.3f})"
        print(f"  {class_name} {fraction:.3f}{share}")
    found = auc(data, model)
    if found is not None:
        print(f"  AUC {found['value']:.2f} {found['interval']}, {found['baselines']}", flush=True)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--folder", type=Path, default=Path("results/open_world_fit"))
    parser.add_argument("--maps", type=Path, required=True)
    parser.add_argument("--case", nargs="+", default=list(CASES), choices=list(CASES))
    parser.add_argument("--tomogram", nargs="+")
    methods = ("particles", "power")
    parser.add_argument("--method", nargs="+", default=methods, choices=methods)
    parser.add_argument("--variant", nargs="+", default=["plain"], choices=sorted(VARIANTS))
    given = parser.parse_args()
    if "CRYOETGAN_TEST_DATA" not in os.environ:
        print("CRYOETGAN_TEST_DATA names no folder: nothing to measure on")
        return
    data = Path(os.environ["CRYOETGAN_TEST_DATA"])
    given.folder.mkdir(parents=True, exist_ok=True)
    for case in given.case:
        for tomogram in given.tomogram or TOMOGRAMS.get(case, TOMOGRAMS["all"]):
            for variant, method in itertools.product(given.variant, given.method):
                measure(given.folder, data, given.maps, case, tomogram, variant, method)


if __name__ == "__main__":
    main()
