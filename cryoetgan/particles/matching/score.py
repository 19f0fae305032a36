"""Score picks: align each to every class's map and to the decoys of the map."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage

from cryoetgan.devices import choose_device
from cryoetgan.io.exclusion import ExclusionMask, excluded_voxels
from cryoetgan.io.memmap import release_pages
from cryoetgan.io.mrc import Volume
from cryoetgan.particles.extraction import cut_seen_box
from cryoetgan.particles.matching.align import MAX_SEARCH_SHIFT, Aligner, needed_rotations
from cryoetgan.particles.matching.decoys import make_decoys
from cryoetgan.particles.matching.template import (
    FourierBand,
    SearchOptions,
    Template,
    band_vectors,
    batches,
    search_band,
    template_box,
)
from cryoetgan.particles.picking.pick import radius_of_map
from cryoetgan.physics.geometry import centre_distance, centres_inside, relion_from_rotation
from cryoetgan.progress import log, track

Floats = NDArray[np.floating]
DecoyMaker = Callable[[Floats, Aligner], Mapping[str, Floats]]
PICKS_PER_BATCH = 64
WHITENING_BOXES = 400
"""Largest number of boxes whose median power is the background of a score."""
LEAST_POWER = 0.1
"""Power added to each shell before the division, relative to the highest: shells that a denoiser
emptied hold what leaks into them from others, and must not be amplified."""
BEST_PICKS = 10
"""Picks with the highest scores, which show the density of particles. There may be few particles
among many picks, and few dense bodies among the best."""
SMOOTHING = 5
"""Edge in voxels of the cubes whose mean is the density of a place."""
TESTED_PICKS = 128
"""First picks that are aligned in the other contrast, too."""
WRONG_CONTRAST = 1.15
"""Mean of the `BEST_PICKS` best scores in the other contrast over that in the given one, from which
the contrast counts as wrong: five standard errors of picks of nothing."""
DENSE = 3.0
"""Density of a body, relative to the best picks, beyond which its score falls. Three bodies in a
real cell have 10, and particles of seven species 0.8 to 1.5."""


@dataclass(frozen=True)
class PickScores:
    """The fits of N picks to one class."""

    decoys: tuple[str, ...]
    """Names of the decoys."""
    scores: Floats
    """`(N,)` correlations in [-1, 1]."""
    coordinates: Floats
    """`(N, 3)` refined x, y, z in voxels."""
    angles: Floats
    """`(N, 3)` RELION's, degrees."""
    decoy_scores: Floats
    """`(N,)` correlations with the best decoy; NaN without decoys."""
    opposite: Floats
    """`(N,)` correlations with the map in the other contrast; NaN beyond the first `TESTED_PICKS`."""


def score_picks(
    tomogram: Volume,
    coordinates: Floats,
    maps: Mapping[str, Floats],
    options: SearchOptions,
    decoys: DecoyMaker | None = make_decoys,
) -> dict[str, PickScores]:
    """Align picks to every class, and to the decoys of each.

    The score is the correlation of box and template inside wedge and band, after division by the
    amplitude of the tomogram in each Fourier shell (`whiten`): crowded and ice-thick tomograms have
    more power in some shells than in others. Where a box reaches over a face or into padding, its
    unseen part has the mean grey value, and the score is multiplied with the square root of the
    seen fraction: the score of a whole box whose unseen part resembles nothing. Dense bodies
    (gold, contamination) resemble every compact map a little, and no noise lowers their scores. The
    score of a pick with more than `DENSE` times the density of the best picks is divided by the
    excess.

    Parameters
    ----------
    tomogram : Volume
        Protein bright.
    coordinates : ndarray
        `(N, 3)` x, y, z in voxels.
    maps : mapping
        Class to density `(z, y, x)`, cubes of one size.
    options : SearchOptions
        Orientations and frequencies.
    decoys : callable, optional
        Returns the decoys of a map and its aligner by name.
    """
    volume, box = tomogram.data, template_box(maps)
    excluded = excluded_voxels(tomogram)
    band = whitened_band(tomogram, box, options, excluded)
    device = band.points.device
    aligners: dict[str, dict[str, Aligner]] = {}
    for name, density in track(maps.items(), "rotating templates", len(maps)):
        own = Aligner(Template(density, band), options.rotations or needed_rotations(density, band))
        log.info("%s: %d orientations are searched", name, len(own.rotations))
        found = decoys(density, own) if decoys else {}
        if found:
            log.info("%s: decoys: %s", name, ", ".join(found))
        aligners[name] = {"": own} | {
            decoy: Aligner(Template(image, band), len(own.rotations))
            for decoy, image in found.items()
        }
    parts: dict[str, list[tuple[Floats, ...]]] = {name: [] for name in maps}
    balls = {
        name: centre_distance(box) <= radius_of_map(density, 1.0) for name, density in maps.items()
    }
    # boxes at whole voxels need no interpolation; the shifts found are subvoxel
    centres = box_centres(tomogram, coordinates, box)
    for part in track(list(batches(len(centres), PICKS_PER_BATCH)), "scoring"):
        here = centres[part]
        cut = [cut_seen_box(volume, excluded, centre, box, tomogram.part) for centre in here]
        boxes = torch.as_tensor(np.stack([values for values, _ in cut]), device=device)
        smooth = [ndimage.uniform_filter(values, SMOOTHING) for values, _ in cut]
        vectors, factor = band_vectors(boxes, band), np.sqrt([seen for _, seen in cut])
        for name, all_of_class in aligners.items():
            fits = {kind: aligner.align_vectors(vectors) for kind, aligner in all_of_class.items()}
            best = fits.pop("")
            angles = relion_from_rotation(best.rotations)
            rival = np.max([fit.scores for fit in fits.values()], axis=0) if fits else np.nan
            opposite = np.full(len(here), np.nan)
            tested = max(0, min(len(here), TESTED_PICKS - part.start))
            if tested:
                other = all_of_class[""].align_vectors(-vectors[:tested])
                opposite[:tested] = other.scores * factor[:tested]
            scores, rival = best.scores * factor, rival * factor
            grey = np.array([values[balls[name]].max() for values in smooth])
            parts[name].append((scores, here + best.shifts, angles, rival, grey, opposite))
        release_pages(volume)
    scored = {}
    for name, batch in parts.items():
        columns = [np.concatenate(column) for column in zip(*batch, strict=True)]
        scores, places, turns, rivals, greys, opposite = columns
        dense = discount_dense(scores, greys)
        kinds = tuple(aligners[name])[1:]
        scored[name] = PickScores(kinds, scores * dense, places, turns, rivals * dense, opposite)
    return scored


def contrast_warning(found: Mapping[str, PickScores], of_boxes: bool = False) -> str | None:
    """Return a warning if picks, or the boxes of a set, resemble the maps in the other contrast.

    In a wrong contrast, few picks lie at particles; the best scores, not their mean, show it.
    """
    best = []
    tested = np.isfinite(next(iter(found.values())).opposite)
    for scores in ([fits.scores for fits in found.values()], [f.opposite for f in found.values()]):
        of_best_class = np.max(scores, axis=0)[tested]
        best.append(float(np.sort(of_best_class)[-BEST_PICKS:].mean()))
    if tested.sum() < 2 * BEST_PICKS or best[1] < WRONG_CONTRAST * max(best[0], 0.0):
        return None
    picks, here, verb = ("boxes", "these boxes: import them", "particles import-subtomograms")
    if not of_boxes:
        picks, here, verb = ("picks", "this tomogram: import it", "tomograms import")
    return (
        f"wrong contrast? The best {picks} have scores of {best[1]:.2f} with the maps in the other "
        f"contrast, {best[0]:.2f} in the given one. Protein is dark in {here} again with the other "
        f"contrast ({verb} --contrast; column contrast of the table)"
    )


def box_centres(tomogram: Volume, coordinates: Floats, box: int) -> Floats:
    """Return the voxels `(N, 3)` xyz at which boxes are cut, whole numbers.

    They are nearest to the coordinates. Of a set, a box is moved inside its part if the search
    still reaches the particle.
    """
    places = np.asarray(coordinates, float)
    nearest = np.floor(places + 0.5)
    if tomogram.part is None or tomogram.part < box:
        return nearest
    inside = centres_inside(places, tomogram.data.shape, box, tomogram.part)
    near = np.linalg.norm(places - inside, axis=1) <= MAX_SEARCH_SHIFT
    return np.where(near[:, None], inside, nearest)


def whitened_band(
    tomogram: Volume, box: int, options: SearchOptions, excluded: ExclusionMask
) -> FourierBand:
    """Return the band of the scores of boxes in a tomogram (`search_band`, `whiten`)."""
    device = choose_device(options.device)
    band = search_band(box, tomogram.voxel_size, options, device)
    return whiten(band, tomogram.data, excluded, tomogram.part)


def discount_dense(scores: Floats, greys: Floats) -> Floats:
    """Return `(N,)` factors of scores, 1 but for picks far denser than the best ones.

    `greys` is `(N,)`: the highest grey value, smoothed, inside the radius of the map.
    """
    best = np.argsort(-scores)[:BEST_PICKS]
    limit = DENSE * float(np.median(greys[best]))
    if limit <= 0:
        return np.ones(len(greys))
    return np.minimum(1.0, limit / np.maximum(greys, 1e-20))


def whiten(
    band: FourierBand,
    volume: NDArray[np.generic],
    excluded: ExclusionMask,
    part: int | None = None,
) -> FourierBand:
    """Return a band whose weights divide each Fourier shell by its amplitude in a tomogram.

        weight(k) ~ 1 / sqrt(P(k) + 0.1 max P)

    P is the median power over whole boxes on a regular grid, so that gold does not count; without
    any box, the band is returned as it is.
    """
    box, index = band.box, band.index.cpu().numpy()
    shells = (band.points.norm(dim=1) * box).round().long().cpu().numpy()
    counts = np.maximum(np.bincount(shells), 1)
    powers = []
    for number, corner in enumerate(spread_corners(volume.shape, box, part), start=1):
        cut = tuple(slice(a, a + box) for a in corner)
        if not (excluded and excluded[cut].any()):
            spectrum = np.fft.rfftn(np.asarray(volume[cut], np.float32)).ravel()[index]
            powers.append(np.bincount(shells, np.abs(spectrum) ** 2, len(counts)) / counts)
        if number % PICKS_PER_BATCH == 0:
            release_pages(volume)
    power = np.median(powers, axis=0)[shells] if powers else np.zeros(1)
    power += LEAST_POWER * power.max()
    if not power.all():
        return band
    factor = torch.as_tensor(np.sqrt(power.mean() / power), dtype=torch.float32)
    return replace(band, weights=band.weights * factor.to(band.weights.device))


def spread_corners(shape: tuple[int, ...], box: int, part: int | None = None) -> NDArray[np.int_]:
    """Return `(N, 3)` corners zyx of at most `WHITENING_BOXES` boxes, spread evenly over a volume."""
    edges = shape if part is None else (part, *shape[1:])
    lines = [np.arange(0, max(n - box, -1) + 1, box) for n in edges]
    if part is not None:
        lines[0] = np.concatenate([first + lines[0] for first in range(0, shape[0], part)])
    corners = np.stack(np.meshgrid(*lines, indexing="ij"), axis=-1).reshape(-1, 3)
    count = min(len(corners), WHITENING_BOXES)
    return corners[np.linspace(0, len(corners) - 1, count).astype(int)]
