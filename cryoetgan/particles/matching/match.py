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
from cryoetgan.io.mrc import Volume
from cryoetgan.particles.extraction import boxes
from cryoetgan.particles.masks import outside
from cryoetgan.particles.matching.score import band_and_transfer, box_of
from cryoetgan.particles.matching.low_rank import LowRankBank, make_bank
from cryoetgan.particles.matching.search import Matches, candidates, scores_by_class, search
from cryoetgan.particles.matching.refine import batches, refine
from cryoetgan.particles.matching.align import CANDIDATES, spacing_of
from cryoetgan.particles.matching.template import band_of_boxes
from cryoetgan.particles.picking.dog import suppress
from cryoetgan.physics.acquisition import Acquisition
from cryoetgan.physics.geometry import relion_from_rotation
from cryoetgan.progress import track

Floats = NDArray[np.floating]
BATCH = 256
CLASSES = 3
"""Best classes of a place that are aligned exactly."""
APART = 2.5
"""Voxels: peaks closer than this lead to the same pose."""
RIVAL = 0.95
"""Of the best score of a place."""
SPARE = 1.25
"""Places aligned for each one wanted: the exact scores change the order a little."""


@dataclass(frozen=True)
class Found:
    """Particles, best first: `positions` and `angles` (N, 3), `scores` and `classes` (N,)."""

    positions: Floats
    scores: Floats
    classes: NDArray[np.str_]
    angles: Floats


def match(
    tomogram: Volume,
    maps: Mapping[str, Floats],
    tilts: tuple[float, float],
    rotations: int,
    lowpass: float,
    highpass_shells: int,
    threshold: float,
    min_distance: float,
    top: int | None,
    device: str,
    record: Acquisition | None = None,
    named: object = "the tomogram",
    mask: NDArray[np.generic] | None = None,
) -> Found:
    """Return where the templates fit a whole tomogram.

    Parameters
    ----------
    tomogram : Volume
        Protein bright.
    maps : mapping
        Class to density `(z, y, x)`, cubes of one size.
    tilts : (float, float)
        Degrees.
    rotations : int
        Orientations tried before refinement.
    lowpass : float
        Angstrom.
    highpass_shells : int
        Lowest Fourier shells left out.
    threshold : float
        Standard deviations that a score must lie above the mean over the tomogram.
    min_distance : float
        Angstrom between two particles.
    top : int, optional
        How many at most.
    device : str
        auto, cpu or cuda.
    record : Acquisition, optional
        How it was recorded, for its contrast transfer.
    named : object
        What messages call the tomogram.
    mask : ndarray, optional
        `(z, y, x)`; nothing is picked where it is not zero.

    Raises
    ------
    UserError
        Where the tomogram is thinner than the templates' box, or nothing is found.
    """
    box, size = box_of(maps), tomogram.voxel_size
    if min(tomogram.data.shape) < box:
        raise UserError(
            f"{named}: its thinnest edge is {min(tomogram.data.shape)} voxels, the templates' box "
            f"{box}; make the templates in a smaller --box (densities.box)"
        )
    where = choose_device(device)
    band, transfer = band_and_transfer(box, size, tilts, lowpass, highpass_shells, where, record)
    bank = make_bank(maps, band, transfer, rotations)
    cutoff = min(size / lowpass, 0.5)
    matches = search(tomogram.data, bank, tilts, highpass_shells, cutoff, named)
    distance = min_distance / size
    kept = _peaks(matches, threshold, distance, top, mask)
    if not len(kept):
        raise UserError(
            f"{named}: no particle is found: no score lies {threshold:g} standard deviations above "
            "the mean; lower --deviations, and check the contrast (protein must be bright) and mask"
        )
    found = _align(tomogram.data, bank, matches, kept)
    order = suppress(found.positions, found.scores, np.full(len(kept), distance))
    if mask is not None:  # the alignment moves a place by a voxel or two
        order = order[outside(mask, found.positions[order][:, ::-1])]
    order = order[:top]
    return Found(
        found.positions[order], found.scores[order], found.classes[order], found.angles[order]
    )


def _peaks(
    matches: Matches,
    threshold: float,
    distance: float,
    top: int | None,
    mask: NDArray[np.generic] | None,
) -> NDArray[np.int_]:
    """Return the local maxima to align: above the threshold, the best of each place and its rivals.

    The search sees a place at 1.4 voxels and some 15 degrees from the truth, where a wrong pose
    nearby can win by a hair: all that come close are aligned, and then one stays.
    """
    limit = matches.mean + threshold * matches.deviation
    above = matches.scores > limit
    if mask is not None:
        above &= outside(mask, matches.positions[:, ::-1])
    good = np.flatnonzero(above)
    where, scores = matches.positions[good], matches.scores[good]
    apart = suppress(where, scores, np.full(len(good), min(APART, distance)))
    best = suppress(where, scores, np.full(len(good), distance))
    if top is not None:
        best = best[: int(np.ceil(SPARE * top))]
    if not len(best):
        return best
    to_best, owner = cKDTree(where[best]).query(where[apart])
    rival = (to_best < distance) & (scores[apart] >= RIVAL * scores[best[owner]])
    return good[apart[rival]]


def _align(
    volume: NDArray[np.generic], bank: LowRankBank, matches: Matches, kept: NDArray[np.int_]
) -> Found:
    """Align the boxes around peaks to their best classes, exactly."""
    box, band = bank.kernels.shape[-1], bank.templates[0].band
    positions = matches.positions[kept]
    components = matches.components[kept]
    whole = np.floor(positions + 0.5)
    by_class = scores_by_class(bank, components)
    ranked = np.argsort(-by_class, axis=1, kind="stable")[:, :CLASSES]
    spacing, matrices = spacing_of(len(bank.rotations)), bank.rotations.as_matrix()
    scores: Floats = np.full(by_class.shape, -np.inf)
    turns = np.zeros((*by_class.shape, 3, 3))
    shifts = np.zeros((*by_class.shape, 3))
    for part in track(list(batches(len(kept), BATCH)), "aligning"):
        rows = np.arange(part.start, part.stop)
        cut = np.stack(list(boxes(volume, whole[rows], box)))
        vectors = band_of_boxes(torch.as_tensor(cut, device=band.points.device), band)
        for number, template in enumerate(bank.templates):
            mine = np.flatnonzero((ranked[rows] == number).any(axis=1))
            if not len(mine):
                continue
            best = candidates(bank, components[rows[mine]], number, CANDIDATES)
            start = np.repeat((positions - whole)[rows[mine], None], best.shape[1], axis=1)
            fit = refine(template, vectors[mine], matrices[best], start, spacing)
            scores[rows[mine], number] = fit[0]
            turns[rows[mine], number] = fit[1].as_matrix()
            shifts[rows[mine], number] = fit[2]
    best, rows = scores.argmax(axis=1), np.arange(len(kept))
    return Found(
        whole + shifts[rows, best],
        scores[rows, best],
        np.array(bank.names)[best],
        relion_from_rotation(Rotation.from_matrix(turns[rows, best])),
    )
