"""Template matching as a picker: from a tomogram and templates to places, classes and angles."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.spatial import cKDTree
from scipy.spatial.transform import Rotation

from cryoetgan.devices import choose_device
from cryoetgan.errors import UserError
from cryoetgan.io.exclusion import ExclusionMask
from cryoetgan.io.mrc import Volume
from cryoetgan.particles.extraction import extract_boxes
from cryoetgan.particles.matching import template as templates
from cryoetgan.particles.matching.align import REFINED_ORIENTATIONS, grid_spacing
from cryoetgan.particles.matching.low_rank import LowRankBank, make_bank
from cryoetgan.particles.matching.refine import refine
from cryoetgan.particles.matching.search import Matches, best_orientations, class_products, search
from cryoetgan.particles.picking.dog import non_maximum_suppression
from cryoetgan.physics.geometry import relion_from_rotation
from cryoetgan.progress import track

Floats = NDArray[np.floating]
BOXES_PER_BATCH = 256
ALIGNED_CLASSES = 3
"""Best classes of a place that are aligned exactly."""
MIN_PEAK_DISTANCE = 2.5
"""Voxels; closer peaks lead to the same pose."""
ALTERNATIVE_SCORE = 0.95
"""Score relative to the best of a place above which a peak is aligned, too."""
EXTRA_PLACES = 1.25
"""Places aligned for each one wanted; the exact scores change the order a little."""


@dataclass(frozen=True, kw_only=True)
class MatchOptions(templates.SearchOptions):
    """Options of the picker."""

    score_threshold_sd: float
    """Lowest score, in standard deviations above the mean over the tomogram."""
    min_distance: float
    """Smallest distance of two particles, angstrom."""
    top: int | None = None
    """Largest number of particles."""

    def __post_init__(self) -> None:
        if not np.isfinite(self.score_threshold_sd):
            raise UserError(
                f"--score-threshold-sd is {self.score_threshold_sd:g}; give a finite number"
            )


@dataclass(frozen=True)
class FoundParticles:
    """N particles, best first."""

    positions: Floats
    """`(N, 3)` x, y, z in voxels, subvoxel."""
    scores: Floats
    """`(N,)` correlations."""
    classes: NDArray[np.str_]
    angles: Floats
    """`(N, 3)` RELION angles, degrees."""


def match(
    tomogram: Volume,
    maps: Mapping[str, Floats],
    options: MatchOptions,
    name: object = "the tomogram",
    excluded: ExclusionMask | None = None,
) -> FoundParticles:
    """Return the particles that fit a template, over a whole tomogram.

    `maps` is class to density `(z, y, x)`, cubes of one size. `name` is the tomogram in messages.
    No particle is found at excluded voxels.
    """
    box, size = templates.template_box(maps), tomogram.voxel_size
    if min(tomogram.data.shape) < box:
        raise UserError(
            f"{name}: its thinnest edge is {min(tomogram.data.shape)} voxels, but the templates' "
            f"box is {box}; make the templates with a smaller --box (densities.box)"
        )
    band = templates.search_band(box, size, options, choose_device(options.device))
    bank = make_bank(maps, band, options.rotations)
    matches = search(tomogram.data, bank, options.cutoff(size), options, name)
    distance = options.min_distance / size
    kept = _peaks_to_align(matches, options, distance, excluded)
    if not len(kept):
        raise UserError(
            f"{name}: no score lies {options.score_threshold_sd:g} standard deviations above the "
            "mean. Lower --score-threshold-sd; check the mask and the contrast (protein must be "
            "bright)"
        )
    found = _align_peaks(tomogram.data, bank, matches, kept)
    order = non_maximum_suppression(found.positions, found.scores, np.full(len(kept), distance))
    if excluded:  # the alignment moves a place by a voxel or two
        order = order[~excluded.holds(found.positions[order][:, ::-1])]
    order = order[: options.top]
    return FoundParticles(
        found.positions[order], found.scores[order], found.classes[order], found.angles[order]
    )


def _peaks_to_align(
    matches: Matches, options: MatchOptions, distance: float, excluded: ExclusionMask | None
) -> NDArray[np.int_]:
    """Return the peaks above the threshold: the best of each place and its close alternatives.

    The search finds a place to 1.4 voxels and some 15 degrees. A wrong pose nearby can therefore
    have a slightly higher score, so all close ones are aligned; then one is kept.
    """
    limit = matches.mean + options.score_threshold_sd * matches.standard_deviation
    above = matches.scores > limit
    if excluded:
        above[above] = ~excluded.holds(matches.positions[above][:, ::-1])
    good = np.flatnonzero(above)
    where, scores = matches.positions[good], matches.scores[good]
    nearest = np.full(len(good), min(MIN_PEAK_DISTANCE, distance))
    distinct = non_maximum_suppression(where, scores, nearest)
    best = non_maximum_suppression(where, scores, np.full(len(good), distance))
    if options.top is not None:
        best = best[: int(np.ceil(EXTRA_PLACES * options.top))]
    if not len(best):
        return best
    to_best, owner = cKDTree(where[best]).query(where[distinct])
    alternative = scores[distinct] >= ALTERNATIVE_SCORE * scores[best[owner]]
    return good[distinct[(to_best < distance) & alternative]]


def _align_peaks(
    volume: NDArray[np.generic], bank: LowRankBank, matches: Matches, kept: NDArray[np.int_]
) -> FoundParticles:
    """Align the boxes around peaks to their best classes, exactly."""
    band = bank.templates[0].band
    positions, components = matches.positions[kept], matches.components[kept]
    whole = np.floor(positions + 0.5)
    by_class = class_products(bank, components).cpu().numpy().astype(float)
    ranked = np.argsort(-by_class, axis=1, kind="stable")[:, :ALIGNED_CLASSES]
    spacing, matrices = grid_spacing(len(bank.rotations)), bank.rotations.as_matrix()
    scores: Floats = np.full(by_class.shape, -np.inf)
    turns = np.zeros((*by_class.shape, 3, 3))
    shifts = np.zeros((*by_class.shape, 3))
    for part in track(list(templates.batches(len(kept), BOXES_PER_BATCH)), "aligning"):
        rows = np.arange(len(kept))[part]
        boxes = np.stack(list(extract_boxes(volume, whole[rows], bank.box)))
        vectors = templates.band_vectors(torch.as_tensor(boxes, device=band.points.device), band)
        for number, template in enumerate(bank.templates):
            mine = np.flatnonzero((ranked[rows] == number).any(axis=1))
            if not len(mine):
                continue
            best = best_orientations(bank, components[rows[mine]], number, REFINED_ORIENTATIONS)
            start = np.repeat((positions - whole)[rows[mine], None], best.shape[1], axis=1)
            fit = refine(template, vectors[mine], matrices[best], start, spacing)
            scores[rows[mine], number] = fit.scores
            turns[rows[mine], number] = fit.rotations.as_matrix()
            shifts[rows[mine], number] = fit.shifts
    best, rows = scores.argmax(axis=1), np.arange(len(kept))
    return FoundParticles(
        whole + shifts[rows, best],
        scores[rows, best],
        np.array(bank.names)[best],
        relion_from_rotation(Rotation.from_matrix(turns[rows, best])),
    )
