"""Power of the fitted simulation in tomograms that were not fitted, in four variants of set 2.

    CRYOETGAN_TEST_DATA=... python benchmarks/imaging.py [--look plain denoised defocus narrow]
        [--folder F]

The model is fitted to dev_set2_1 with its own DoG picks and template scores, without labels. It is
compared with boxes at the true centres of dev_set2_2 and dev_set2_3. Wanted: simulated over real
power between 0.9 and 1.1 in every shell. The folder is shared with benchmarks/training_sets.py,
which trains classifiers on the same simulation. An interrupted run resumes.
"""

import argparse
import os
from pathlib import Path

import numpy as np
from set2 import BOX, LOOKS, Set2

from cryoetgan.densities.poses import Poser
from cryoetgan.evaluation.metrics import spectra
from cryoetgan.imaging.fit.fit_data import boxes_inside, cut_box
from cryoetgan.imaging.storage import load_model
from cryoetgan.io.mrc import read_volume
from cryoetgan.io.star import COORDINATES, read_star
from cryoetgan.physics.geometry import random_rotations


def power_ratio(model, tomogram, truth, rng):
    """Return simulated over real power by shell, for equal class fractions."""
    table = read_star(truth).particles
    table = table[table["cryoetganClass"].isin(model.maps)].reset_index(drop=True)
    places = table[COORDINATES].to_numpy(float)
    volume = read_volume(tomogram).data
    posers = {name: Poser(density) for name, density in model.maps.items()}
    real, simulated = [], []
    for index in boxes_inside(places, volume.shape, BOX):
        real.append(cut_box(volume, places[index], BOX))
        centre = rng.uniform(-0.5, 0.5, 3)
        target = posers[table["cryoetganClass"][index]](random_rotations(1, rng)[0], centre)
        simulated.append(sum(model.signal_and_noise(target, centre, rng)))
    powers = (spectra.shell_powers(volumes).mean(axis=0) for volumes in (real, simulated))
    return spectra.power_ratio(*powers)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--folder", type=Path, default=Path("results/training_sets"))
    parser.add_argument("--look", nargs="+", default=sorted(LOOKS), choices=sorted(LOOKS))
    given = parser.parse_args()
    if "CRYOETGAN_TEST_DATA" not in os.environ:
        print("CRYOETGAN_TEST_DATA names no folder: nothing to measure on")
        return
    data = Path(os.environ["CRYOETGAN_TEST_DATA"])
    for look in given.look:
        work = Set2(given.folder / look, data, look)
        work.prepare((1, 2, 3))
        model = load_model(work.folder / "M.json")
        for number in (2, 3):
            tomogram, truth = (work.folder / f"{n}{number}" for n in ("t", "truth"))
            ratio = power_ratio(
                model,
                tomogram.with_suffix(".mrc"),
                truth.with_suffix(".star"),
                np.random.default_rng(1),
            )
            shown = " ".join(f"{v:.2f}" for v in ratio)
            print(
                f"{look:9} power, dev_set2_{number}: {ratio.min():.2f} to {ratio.max():.2f}  ({shown})"
            )
        wedge = model.about["wedge"]
        print(f"{look:9} tilts seen {wedge['seen']}; {wedge['warning'] or 'as given'}")
        fractions = ", ".join(f"{n} {f:.2f}" for n, f in model.class_fractions.items())
        print(f"{look:9} class fractions: {fractions}", flush=True)


if __name__ == "__main__":
    main()
