"""Particles: what is found, named and turned right on tomograms with truth, and on real ribosomes.

    CRYOETGAN_TEST_DATA=... python benchmarks/particles_quality.py [picking scoring matching peer real]

Numbers against the truth; `peer` sets pytme beside, whose matching of one template takes minutes. Matches are one to one within 8 voxels among the top N,
N the number of true large particles; rotation errors are the smallest over the particle's own
symmetry, which is taken from its atoms (chains laid on each other).
"""

import argparse
import os
import time
from dataclasses import replace
from pathlib import Path

import mrcfile
import numpy as np
import pandas as pd
from scipy import ndimage
from scipy.optimize import linear_sum_assignment
from scipy.spatial import cKDTree
from scipy.spatial.transform import Rotation
from set2 import CHAINS

from cryoetgan.densities.assemblies import build_assembly, choose_models
from cryoetgan.densities.atoms import Part, read_atoms
from cryoetgan.densities.density_from_atoms import simulate
from cryoetgan.io.mrc import Volume
from cryoetgan.particles.matching.match import MatchOptions, match
from cryoetgan.particles.matching.score import score_picks
from cryoetgan.particles.matching.template import SearchOptions
from cryoetgan.particles.picking.dog import non_maximum_suppression
from cryoetgan.particles.picking.pick import PickOptions, pick, radius_of_map
from cryoetgan.physics.acquisition import Acquisition
from cryoetgan.physics.geometry import rotate_volume, rotation_from_relion
from cryoetgan.structures.read_structure import read_structure

SETS = {
    "dev_set1_1": 6.0,
    "dev_set1_2": 6.0,
    "dev_set2_1": 4.0,
    "dev_set2_2": 4.0,
    "dev_set2_3": 4.0,
}
FILES = {
    "T20S_1pma": "T20S_1pma.pdb.gz",
    "apoferritin_6z6u": "apoferritin_6z6u.pdb.gz",
    "hemagglutinin_4o5n": "hemagglutinin_4o5n.pdb.gz",
    "hsp90_2cg9": "hsp90_2cg9.pdb.gz",
    "insulinreceptor_4zxb": "insulinreceptor_4zxb.cif.gz",
    "p97hexamer_3cf3": "p97_3cf3.pdb.gz",
    "rubisco_1bxn": "rubisco_1bxn.pdb.gz",
}
TILTS = (-60.0, 60.0)
RECORD = Acquisition(defocus=3.5, ctf="phase-flipped")
NEAR = 8.0
BOX = 28


def tomogram(data, name):
    """Protein bright, standardised as the import does."""
    with mrcfile.open(data / "tomograms" / f"{name}.mrc", permissive=True) as file:
        values = -np.asarray(file.data, np.float32)
    return Volume((values - values.mean()) / values.std(), 10.0)


def truth(data, name):
    """Large particles: place xyz, class, rotation, radius in voxels."""
    table = pd.read_csv(data / "tomograms" / f"{name}_truth.csv")
    table = table[~table["class"].str.startswith("crowder_")].reset_index(drop=True)
    where = table[["x_vox", "y_vox", "z_vox"]].to_numpy(float)
    turns = table[[f"r{i}{j}" for i in (1, 2, 3) for j in (1, 2, 3)]].to_numpy(float)
    return where, table["class"].to_numpy(), turns.reshape(-1, 3, 3), table["max_radius_A"] / 10


def pairs(found, true, reach):
    """Indices of one-to-one matches no farther than `reach` (a number, or one a true particle)."""
    near = cKDTree(true).sparse_distance_matrix(cKDTree(found), float(np.max(reach))).tocoo()
    good = near.data <= np.broadcast_to(reach, len(true))[near.row]
    cost = np.full((len(true), len(found)), 1e6)
    cost[near.row[good], near.col[good]] = near.data[good]
    rows, columns = linear_sum_assignment(cost)
    real = cost[rows, columns] < 1e6
    return columns[real], rows[real]


def symmetry(path):
    """The rotations that lay a structure's assembly on itself, from its chains' CA atoms."""
    structure = read_structure(path)
    structure.setup_entities()
    choose_models(structure, "auto", path)
    build_assembly(structure, "1", path)
    chains = {}
    for chain in structure[0]:
        atoms = {r.seqid.num: r["CA"][0].pos.tolist() for r in chain.get_polymer() if "CA" in r}
        if len(atoms) > 30:
            chains[chain.name] = atoms
    points = np.concatenate([list(c.values()) for c in chains.values()])
    centre = points.mean(0)
    tree = cKDTree(points - centre)
    first = next(iter(chains.values()))
    group = []
    for other in chains.values():
        shared = sorted(set(first) & set(other))
        if len(shared) < 0.8 * len(first):
            continue
        a = np.array([first[k] for k in shared]) - centre
        b = np.array([other[k] for k in shared]) - centre
        turn, _ = Rotation.align_vectors(b - b.mean(0), a - a.mean(0))
        if np.median(tree.query(turn.apply(points - centre))[0]) < 2.0:
            group.append(turn.as_matrix())
    return np.array(group)


def rotation_errors(found, true, group):
    """Degrees, the smallest over the symmetry group: found, true `(N, 3, 3)`."""
    equal = np.einsum("nij,gjk->ngik", true, group)
    cosine = (np.einsum("nij,ngij->ng", found, equal) - 1) / 2
    return np.degrees(np.arccos(np.clip(cosine, -1, 1))).min(1)


def templates(data, names=FILES, box=BOX, voxel_size=10.0, resolution=30.0):
    maps = {}
    for name in names:
        part = Part(chains=CHAINS.get(name, "").split())
        atoms = read_atoms(data / "structures" / FILES[name], part=part)
        atoms = atoms.centre()
        maps[name] = simulate(atoms.positions, atoms.atomic_numbers, voxel_size, resolution, box)
    return maps


def measure_picking(data):
    print("Difference of Gaussians, top N = number of true large particles")
    for name, sigma in SETS.items():
        volume = tomogram(data, name)
        where, _, _, radius = truth(data, name)
        for fast in (False, True):
            options = PickOptions(threshold=0, top=len(where), fast=fast)
            found, _ = pick(volume.data, [sigma], options)
            hits = len(pairs(found[:, ::-1], where, NEAR)[0])
            close = len(pairs(found[:, ::-1], where, radius.to_numpy() / 2)[0])
            print(
                f"  {name}, sigma {sigma:g}{', --fast' if fast else ''}: recall {hits / len(where):.3f},"
                f" precision {hits / len(found):.3f}; within half the radius {close / len(where):.3f}"
            )


def report(found, scores, classes, turns, data, name, groups):
    """Classes, class-wise precision and rotation errors of places with one class each."""
    where, names, true_turns, _ = truth(data, name)
    mine, theirs = pairs(found, where, NEAR)
    right = classes[mine] == names[theirs]
    print(
        f"  {name}: recall {len(mine) / len(where):.3f}, precision {len(mine) / len(found):.3f}; the best "
        f"class is the true one for {right.mean():.3f} of {len(mine)} hits"
    )
    told = np.full(len(found), "", object)
    told[mine] = names[theirs]
    places = np.median(np.linalg.norm(found[mine] - where[theirs], axis=1))
    print(f"    median distance {places:.2f} voxels")
    for kind, group in groups.items():
        rows = np.flatnonzero(classes == kind)
        best = rows[np.argsort(-scores[rows])][: int((names == kind).sum())]
        precision = (told[best] == kind).mean() if len(best) else 0.0
        both = right & (names[theirs] == kind)
        errors = rotation_errors(turns[mine[both]], true_turns[theirs[both]], group)
        print(
            f"    {kind:22} top-{int((names == kind).sum()):<3} precision {precision:.3f}, rotation error "
            f"median {np.median(errors) if len(errors) else np.nan:5.1f} degrees "
            f"({np.mean(errors < 10) if len(errors) else 0:.2f} under 10; {len(group)}-fold)"
        )


def measure_scoring(data, name="dev_set2_1"):
    print("Picks (DoG, sigma 4) aligned to seven templates")
    volume, maps = tomogram(data, name), templates(data)
    groups = {kind: symmetry(data / "structures" / file) for kind, file in FILES.items()}
    count = len(truth(data, name)[0])
    places, _ = pick(volume.data, [SETS[name]], PickOptions(threshold=0, top=count))
    start = time.process_time()
    found = score_picks(
        volume, places[:, ::-1], maps, SearchOptions(acquisition=RECORD, lowpass=30.0)
    )
    spent = time.process_time() - start
    print(f"  {spent:.0f} s of CPU time, {1e3 * spent / count / len(maps):.1f} ms a box and class")
    kinds = np.array(list(maps))
    scores = np.stack([found[kind].scores for kind in kinds])
    best, rows = scores.argmax(0), np.arange(count)
    true, names, _, _ = truth(data, name)
    mine, theirs = pairs(places[:, ::-1], true, NEAR)
    told = np.full(count, "", object)
    told[mine] = names[theirs]
    print("  one class's score alone, its particles before other picks (area under the curve):")
    for kind, values in zip(kinds, scores, strict=True):
        ahead = (values[told == kind][:, None] > values[told != kind][None]).mean()
        print(f"    {kind:22} {ahead:.3f}")
    where = np.stack([found[kind].coordinates for kind in kinds])[best, rows]
    angles = np.stack([found[kind].angles for kind in kinds])[best, rows]
    turns = rotation_from_relion(angles).as_matrix()
    report(where, scores.max(0), kinds[best], turns, data, name, groups)


def measure_matching(data, name="dev_set2_1"):
    print("Template matching over the whole tomogram, seven templates")
    volume, maps = tomogram(data, name), templates(data)
    groups = {kind: symmetry(data / "structures" / file) for kind, file in FILES.items()}
    count = len(truth(data, name)[0])
    apart = 2 * min(radius_of_map(m, 10.0) for m in maps.values()) / 3**0.5
    start = time.process_time()
    options = MatchOptions(
        acquisition=RECORD, lowpass=30.0, score_threshold_sd=0.0, min_distance=apart, top=count
    )
    found = match(volume, maps, options, name)
    print(f"  {time.process_time() - start:.0f} s of CPU time")
    turns = rotation_from_relion(found.angles).as_matrix()
    report(found.positions, found.scores, found.classes, turns, data, name, groups)


def measure_peer(data, name="dev_set2_1", kind="T20S_1pma", count=1000):
    """One template's places, top N = its particles: ours and pytme's, the same rotations and wedge."""
    from tme.analyzer import MaxScoreOverRotations
    from tme.filters import Compose, WedgeReconstructed
    from tme.matching_data import MatchingData
    from tme.matching_exhaustive import match_exhaustive
    from tme.matching_scores import MATCHING_EXHAUSTIVE_REGISTER

    from cryoetgan.physics.geometry import random_rotations

    volume, maps = tomogram(data, name), templates(data, [kind])
    where, names, _, _ = truth(data, name)
    where = where[names == kind]
    apart = 2 * radius_of_map(maps[kind], 10.0) / 10.0 / 3**0.5
    options = MatchOptions(
        acquisition=RECORD,
        lowpass=30.0,
        rotations=count,
        score_threshold_sd=0.0,
        min_distance=10 * apart,
        top=len(where),
    )
    ours = match(volume, maps, options, name)
    z, y, x = np.indices((BOX,) * 3) - BOX // 2
    mask = (z**2 + y**2 + x**2 <= (BOX // 2 - 1) ** 2).astype(np.float32)
    turns = random_rotations(count, np.random.default_rng(0)).as_matrix().astype(np.float32)
    pair = MatchingData(volume.data.copy(), maps[kind], template_mask=mask, rotations=turns)
    wedge = WedgeReconstructed(
        angles=(-TILTS[0], TILTS[1]), tilt_axis=1, opening_axis=0, create_continuous_wedge=True
    )
    pair.template_filter = Compose([wedge])
    setup, score = MATCHING_EXHAUSTIVE_REGISTER["FLCSphericalMask"]
    found = match_exhaustive(
        matching_data=pair,
        matching_setup=setup,
        matching_score=score,
        callback_class=MaxScoreOverRotations,
        callback_class_args={"score_threshold": -1},
        backend_name="numpyfftw",
    )
    values = np.asarray(found[0], np.float32)
    tops = np.argwhere(ndimage.maximum_filter(values, 3) == values)
    heights = values[tuple(tops.T)]
    best = np.argsort(-heights)[: 100 * len(where)]
    tops, heights = tops[best].astype(float), heights[best]
    kept = non_maximum_suppression(tops, heights, np.full(len(tops), apart))[: len(where)]
    theirs = tops[kept][:, ::-1]
    print(f"Matching of {kind} alone over {name}, {count} rotations, top {len(where)}: F1")
    for program, places in (("ours", ours.positions), ("pytme", theirs)):
        print(f"  {program} {len(pairs(places, where, NEAR)[0]) / len(where):.3f}")


def measure_real(data):
    """40 in-situ ribosomes aligned to 4v6x at 40 A, never to their published average."""
    from cryoetgan.particles.averaging.average import accumulate
    from cryoetgan.particles.averaging.gold_standard import align_particles
    from cryoetgan.particles.averaging.posed_particles import Particle

    folder = data / "experimental" / "ribosome_insitu_12A"
    table = pd.read_csv(folder / "particles.csv")
    boxes = np.stack([-read(folder / Path(file).name) for file in table["file"]])
    published = read(folder / "reference_reconstruct.mrc")
    atoms = read_atoms(data / "structures" / "ribosome_4v6x.cif.gz").centre()
    reference = simulate(atoms.positions, atoms.atomic_numbers, 12.0, 40.0, 32)
    record = Acquisition(tilt_low=-72.0, tilt_high=60.0)  # seen in the boxes' own transforms

    def aligned_average(images):
        members = [Particle(b, Rotation.identity(), np.zeros(3), record) for b in images]
        options = SearchOptions(lowpass=40.0, highpass_shells=2)
        found, scores = align_particles(members, reference, 12.0, options)
        made = accumulate(found, 32, 12.0).average()
        # the structure's frame is not that of the published average
        whole = replace(record, tilt_low=-90.0, tilt_high=90.0)
        one = Particle(made, Rotation.identity(), np.zeros(3), whole)
        options = replace(options, highpass_shells=0)
        [turn], _ = align_particles([one], published, 12.0, options)
        back = turn.rotation.inv()
        made = rotate_volume(made, back, -back.apply(turn.shift))
        return np.corrcoef(made.ravel(), published.ravel())[0, 1], scores.mean()

    angles = rotation_from_relion(table[["rot", "tilt", "psi"]].to_numpy())
    plain = [
        np.mean([rotate_volume(b, turn) for b, turn in zip(boxes, turns, strict=True)], axis=0)
        for turns in (angles, angles.inv())
    ]
    theirs = max(np.corrcoef(mean.ravel(), published.ravel())[0, 1] for mean in plain)
    amplitude = np.sqrt((np.abs(np.fft.rfftn(boxes, axes=(1, 2, 3))) ** 2).mean(0))
    numbers = np.random.default_rng(0).standard_normal(boxes.shape)
    noise = np.fft.irfftn(
        np.fft.rfftn(numbers, axes=(1, 2, 3)) * amplitude, s=(32, 32, 32), axes=(1, 2, 3)
    )
    print("40 in-situ ribosomes aligned to 4v6x at 40 A: correlation with the published average")
    print(f"  at the published angles {theirs:.3f}")
    for name, images in (("aligned", boxes), ("noise of the same spectrum, aligned", noise)):
        correlation, score = aligned_average(images)
        print(f"  {name} {correlation:.3f} (mean score {score:.3f})")


def read(path):
    with mrcfile.open(path, permissive=True) as file:
        return np.array(file.data, np.float32)


MEASURES = {
    "picking": measure_picking,
    "scoring": measure_scoring,
    "matching": measure_matching,
    "peer": measure_peer,
    "real": measure_real,
}


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", nargs="*", help=", ".join(MEASURES))
    chosen = parser.parse_args().what or list(MEASURES)
    folder = os.environ.get("CRYOETGAN_TEST_DATA")
    if not folder:
        print("CRYOETGAN_TEST_DATA names no folder: nothing is measured")
        return
    for name in chosen:
        MEASURES[name](Path(folder))


if __name__ == "__main__":
    main()
