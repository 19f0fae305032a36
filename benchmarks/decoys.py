"""Decoys: estimated and true false discovery rates, on shared tomograms and harder variants.

    CRYOETGAN_TEST_DATA=... python benchmarks/decoys.py [--variants plain noisy ...] [--keep DIR]

Picks of seven templates are scored once for each variant of a tomogram (--keep resumes). Then each
class, each pair and every third triple is taken for the only named ones: the other species are
unnamed. `purity` and `recall` are those of `particles select --fdr 0.05`; `estimate` is the mean
and root mean square of estimated minus true rate, at the rates 1, 2, 5, 10, 15 and 20 %. The last
line is the real cell: particles at 5 %, and how many of the best picks prefer their own hand.
"""

import argparse
import itertools
import os
import warnings
from pathlib import Path

import mrcfile
import numpy as np
import pandas as pd
from imaging_variants import change
from particles_quality import BOX, FILES, RECORD, templates, tomogram
from scipy import ndimage
from scipy.spatial import cKDTree

from cryoetgan.io.mrc import Volume
from cryoetgan.io.star import COORDINATES
from cryoetgan.particles.curation.fdr import add_q_values
from cryoetgan.particles.curation.select import choose_classes, remove_duplicates
from cryoetgan.particles.matching.score import score_picks
from cryoetgan.particles.matching.template import SearchOptions
from cryoetgan.particles.picking.pick import pick, radius_of_map
from cryoetgan.physics.acquisition import Acquisition

RATES = (0.01, 0.02, 0.05, 0.1, 0.15, 0.2)
NEAR = 5.0
"""Voxels between a particle and its truth."""
VARIANTS = (
    "plain",
    "thickness",
    "tilt_resolution",
    "dose_filter",
    "denoised_1",
    "denoised_2",
    "median_3",
)
"""Variants that are measured (imaging_variants.py)."""


def score_table(volume, maps, record):
    sigmas = [
        radius_of_map(m, volume.voxel_size) / 3**0.5 / volume.voxel_size for m in maps.values()
    ]
    places, _ = pick(volume.data, sigmas)
    found = score_picks(
        volume, places[:, ::-1], maps, SearchOptions(acquisition=record, lowpass=30.0)
    )
    rows = []
    for name, fits in found.items():
        part = pd.DataFrame(fits.coordinates, columns=COORDINATES)
        part["cryoetganId"] = [f"p{i}" for i in range(len(part))]
        rows.append(
            part.assign(
                rlnTomoName="t",
                cryoetganClass=name,
                cryoetganScore=fits.scores,
                cryoetganDecoyScore=fits.decoy_scores,
                cryoetganDecoys=",".join(fits.decoys),
            )
        )
    return pd.concat(rows, ignore_index=True)


def winners(table, names):
    """One row a place, with q-values, if only some classes are named."""
    table = table[table["cryoetganClass"].isin(names)].reset_index(drop=True)
    table = remove_duplicates(choose_classes(table, {}), BOX / 4, {})
    table = add_q_values(table, np.array(["all"] * len(table)))
    return table.assign(won=table["cryoetganScore"] > table["cryoetganDecoyScore"])


def judge(table, known, names):
    """Yield class, purity and recall at 5 %, and estimated minus true rate at each rate."""
    chosen = winners(table, names)
    true = known[["x_vox", "y_vox", "z_vox"]].to_numpy(float)
    distance, index = cKDTree(true).query(chosen[COORDINATES].to_numpy(float))
    label = np.where(distance < NEAR, known["class"].to_numpy()[index], "")
    right = label == chosen["cryoetganClass"].to_numpy()
    for name in names:
        own = (chosen["cryoetganClass"] == name).to_numpy() & chosen["won"].to_numpy()
        errors = []
        for rate in RATES:
            kept = own & (chosen["cryoetganQValue"] <= rate).to_numpy()
            if kept.any():
                estimate = chosen["cryoetganQValue"][kept].max()
                errors.append(estimate - (~right[kept]).mean())
        kept = own & (chosen["cryoetganQValue"] <= 0.05).to_numpy()
        total = (known["class"] == name).sum()
        purity = right[kept].mean() if kept.any() else np.nan
        yield name, purity, len(set(index[kept & right])) / total, errors


def judge_sets(table, known):
    classes = list(FILES)
    sets = {
        "alone": [(name,) for name in classes],
        "pairs": list(itertools.combinations(classes, 2)),
        "triples": list(itertools.combinations(classes, 3))[::3],
        "all": [tuple(classes)],
    }
    for kind, groups in sets.items():
        found = [row for names in groups for row in judge(table, known, names)]
        errors = np.array([error for *_, part in found for error in part])
        purity = np.array([row[1] for row in found])
        recalls = {name: np.mean([r[2] for r in found if r[0] == name]) for name in classes}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            print(
                f"  {kind:8} purity {np.nanmean(purity):.3f} (least {np.nanmin(purity):.2f}), recall "
                + ", ".join(
                    f"{name.split('_')[0][:8]} {value:.2f}" for name, value in recalls.items()
                )
                + f"; estimate {errors.mean():+.3f}, rms {np.sqrt((errors**2).mean()):.3f}",
                flush=True,
            )


def judge_cell(data, keep):
    """The real cell, with the average of other ribosomes as template."""
    folder = data / "experimental"
    cell = mrcfile.read(folder / "mycoplasma_cell" / "tomogram_lower_10A_int8.mrc")
    volume = -cell.astype(np.float32)
    volume = (volume - volume.mean()) / volume.std()
    average = mrcfile.read(folder / "ribosome_insitu_12A" / "reference_reconstruct.mrc")
    density = np.zeros((40, 40, 40), np.float32)
    density[4:36, 4:36, 4:36] = average
    scale = np.eye(3) / 1.2  # from 12 A to 10 A about voxel 20
    density = ndimage.affine_transform(
        density, scale, offset=20 - scale @ np.full(3, 20.0), order=3
    )
    record = Acquisition(defocus=1.85, ctf="phase-flipped", amplitude_contrast=0.1)
    table = kept_table(
        keep, "cell", lambda: score_table(Volume(volume, 10.0), {"ribosome": density}, record)
    )
    chosen = winners(table, ["ribosome"])
    order = chosen[["cryoetganScore", "cryoetganDecoyScore"]].max(axis=1).sort_values().index[::-1]
    best = ", ".join(f"{n}: {chosen['won'][order[:n]].mean():.3f}" for n in (100, 150, 200))
    counts = [
        (chosen["won"] & (chosen["cryoetganQValue"] <= rate)).sum() for rate in (0.02, 0.05, 0.1)
    ]
    print(f"cell: {len(table)} picks; at 2, 5, 10 %: {counts}; own hand among the best {best}")


def kept_table(keep, name, make):
    path = keep / f"{name}.csv" if keep else None
    if path and path.exists():
        return pd.read_csv(path)
    table = make()
    if path:
        path.parent.mkdir(parents=True, exist_ok=True)
        table.to_csv(path, index=False)
    return table


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--variants", nargs="+", default=VARIANTS, choices=VARIANTS)
    parser.add_argument("--tomograms", nargs="+", default=["dev_set2_2"])
    parser.add_argument("--keep", type=Path, help="folder for scores, to resume")
    args = parser.parse_args()
    data = Path(os.environ["CRYOETGAN_TEST_DATA"])
    maps = templates(data)
    for name in args.tomograms:
        plain = tomogram(data, name)
        known = pd.read_csv(data / "tomograms" / f"{name}_truth.csv")
        for variant in args.variants:
            volume = Volume(change(plain.data, variant), plain.voxel_size)
            table = kept_table(
                args.keep, f"{name}_{variant}", lambda v=volume: score_table(v, maps, RECORD)
            )
            print(f"{name}, {variant}: {len(table) // len(maps)} picks of {len(known)} particles")
            judge_sets(table, known)
    judge_cell(data, args.keep)


if __name__ == "__main__":
    main()
