"""Class fractions of the fit against the truth, with some of seven species named.

    CRYOETGAN_TEST_DATA=... python benchmarks/class_fractions.py --keep DIR [--tomogram dev_set2_2]
        [--variants plain ...]

DIR holds the scores that `decoys.py --keep DIR` wrote. Each class, each pair, each third triple and all
seven are named in turn; the fractions are those of `imaging fit`, `other` included, minus the true
ones. Wanted: within 0.05.
"""

import argparse
import itertools
import os
from pathlib import Path

import numpy as np
import pandas as pd
from decoys import VARIANTS
from particles_quality import FILES, templates
from scipy.spatial import cKDTree

from cryoetgan.imaging.fit.class_fractions import count_class_fractions
from cryoetgan.imaging.fit.fit_data import judge_picks, min_particle_distance
from cryoetgan.io.star import COORDINATES, OTHER
from cryoetgan.particles.curation.fdr import rank_rows
from cryoetgan.particles.picking.dog import non_maximum_suppression

NEAR = 4.0
"""Voxels between a pick and the true particle that it shows."""


def one_row_a_pick(table, names, distance):
    """Return the best class of each pick; picks at one place are one."""
    table = table[table["cryoetganClass"].isin(names)]
    table = table.iloc[np.argsort(-rank_rows(table), kind="stable")]
    table = table.drop_duplicates("cryoetganId").reset_index(drop=True)
    places = table[COORDINATES].to_numpy(float)
    kept = non_maximum_suppression(places, rank_rows(table), np.full(len(table), distance))
    return table.iloc[np.sort(kept)].reset_index(drop=True)


def errors(table, known, maps, names):
    """Return the fractions of some named classes and of `other`, minus the true ones."""
    picks = one_row_a_pick(table, names, min_particle_distance({n: maps[n] for n in names}))
    counts, classes = judge_picks(picks)[1], picks["cryoetganClass"].to_numpy(str)
    found = count_class_fractions(classes, counts, [*sorted(names), OTHER])
    tree = cKDTree(known[["x_vox", "y_vox", "z_vox"]])
    distance, nearest = tree.query(picks[COORDINATES].to_numpy(float))
    true = np.where(distance < NEAR, known["class"].to_numpy(str)[nearest], OTHER)
    true = np.where(np.isin(true, names), true, OTHER)
    return [f - np.mean(true == n) for n, f in zip(found.names, found.fractions, strict=True)]


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--keep", type=Path, required=True)
    parser.add_argument("--tomogram", default="dev_set2_2")
    parser.add_argument("--variants", nargs="+", default=VARIANTS, choices=VARIANTS)
    given = parser.parse_args()
    data, classes = Path(os.environ["CRYOETGAN_TEST_DATA"]), list(FILES)
    known = pd.read_csv(data / "tomograms" / f"{given.tomogram}_truth.csv")
    maps = templates(data)
    triples = list(itertools.combinations(classes, 3))[::3]
    pairs = list(itertools.combinations(classes, 2))
    for variant in given.variants:
        table = pd.read_csv(given.keep / f"{given.tomogram}_{variant}.csv")
        named = [*((name,) for name in classes), *pairs, *triples, tuple(classes)]
        found = np.array([e for names in named for e in errors(table, known, maps, names)])
        print(
            f"{given.tomogram}, {variant}: {found.min():+.3f} to {found.max():+.3f}, rms "
            f"{np.sqrt((found**2).mean()):.3f}, {(abs(found) > 0.05).sum()} of {len(found)} beyond 0.05",
            flush=True,
        )


if __name__ == "__main__":
    main()
