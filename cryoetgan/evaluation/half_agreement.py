"""Agreement of the two halves of the data: the share of particles that both halves confirm.

The half tomograms of even and of odd tilts (or frames) show one specimen with independent noise. A
particle is aligned to the map of its class in one half, and the pose found is then scored in the
other half, without a new search. A pose that was fitted to noise scores there as at any other place;
the pose of a particle scores more. So a half confirms a pick if the score at its place is among the
best `CHANCE` of the scores of the same pose at places spread over the tomogram. No label is needed.

Both halves confirm a place of noise in `CHANCE` squared of the cases, and a pick of noise more often,
because picks have high scores on the whole tomogram: 2 % of the best 100 of 250 such picks. Picks of
other structures are confirmed more often, since structure is the same in both halves: the test does
not say that a particle is of its class, and the share of the picks without a particle stands beside
the result.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from cryoetgan.errors import UserError, format_shape
from cryoetgan.evaluation.statistics.intervals import wilson
from cryoetgan.io.exclusion import ExclusionMask, excluded_voxels
from cryoetgan.io.mrc import check_same_voxel_size
from cryoetgan.io.star import COORDINATES
from cryoetgan.particles.extraction import cut_seen_box
from cryoetgan.particles.matching.align import Aligner, needed_rotations
from cryoetgan.particles.matching.refine import Alignment, shift_each
from cryoetgan.particles.matching.score import box_centres, spread_corners, whitened_band
from cryoetgan.particles.matching.template import (
    FourierBand,
    SearchOptions,
    Template,
    band_vectors,
    template_box,
)
from cryoetgan.progress import track

if TYPE_CHECKING:
    import pandas as pd

    from cryoetgan.io.mrc import Volume

Floats = NDArray[np.floating]
CHANCE = 0.02
"""Share of the places of noise that one half confirms."""
LEAST_PLACES = round(1 / CHANCE) - 1
"""Fewest places over which a score is compared; of fewer, noise would confirm none."""
MOST_PICKS = 300
"""Particles that are judged at most, and picks without a particle; more do not narrow the interval."""
MOST_DOUBTFUL = 0.5
"""Share of confirmed particles below which there is a warning."""
MOST_LIKENESS = 0.98
"""Correlation of the two halves beyond which they are one file: independent noise lowers it."""


def compare_halves(
    halves: Mapping[str, "Volume"],
    particles: "pd.DataFrame",
    others: "pd.DataFrame",
    maps: Mapping[str, Floats],
    options: SearchOptions,
    rng: np.random.Generator,
) -> dict[str, Any]:
    """Return the shares of particles, and of picks without a particle, that both halves confirm.

    Parameters
    ----------
    halves : mapping
        `even` and `odd` to half tomograms on one grid, protein bright.
    particles, others : DataFrame
        Rows with coordinates (voxels); particles also have their class. Others may be empty; they
        are judged with the maps of the particles' classes, in the same proportions.
    maps : mapping
        Class to density `(z, y, x)`, cubes of one size.
    """
    particles, others = _draw(particles, rng), _draw(others, rng)
    if not len(particles):
        nothing = record(np.zeros((0, 2), bool))
        return {
            "chance": CHANCE**2,
            "all": nothing,
            "classes": {},
            "others": nothing,
            "warning": None,
        }
    names = particles["cryoetganClass"].to_numpy(str)
    classes = np.concatenate([names, rng.choice(names, len(others))])
    places = np.concatenate([table[COORDINATES].to_numpy(float) for table in (particles, others)])
    confirmed = confirm_in_halves(halves, places, classes, maps, options)
    is_particle = np.arange(len(places)) < len(particles)
    found: dict[str, Any] = {
        "chance": CHANCE**2,
        "all": record(confirmed[is_particle]),
        "classes": {
            name: record(confirmed[is_particle & (classes == name)]) for name in sorted(set(names))
        },
        "others": record(confirmed[~is_particle]),
    }
    return found | {"warning": warn_of_halves(found["all"], found["others"])}


def warn_of_halves(particles: Mapping[str, Any], others: Mapping[str, Any]) -> str | None:
    """Return the warning if most particles are not confirmed, or fewer than of other picks.

    Others may be confirmed as often: structure without a map is in both halves, too.
    """
    text = f"both halves of the data confirm {100 * particles['share']:.0f} % of {particles['n']} particles"
    advice = "check that even and odd are halves of this tomogram"
    if particles["interval"][1] < MOST_DOUBTFUL:
        return (
            f"{text}; those that are not may be noise, other structures, or too weak to be "
            f"found in one half: {advice}, and raise particles.threshold"
        )
    if others["n"] and particles["interval"][1] < others["interval"][0]:
        return (
            f"{text} and {100 * others['share']:.0f} % of {others['n']} picks without a particle, "
            "which is more; the selection may prefer noise, or structures without a map may be "
            f"stronger: {advice}"
        )
    return None


def _draw(table: "pd.DataFrame", rng: np.random.Generator) -> "pd.DataFrame":
    """Return at most `MOST_PICKS` rows, at random."""
    rows = rng.permutation(len(table))[:MOST_PICKS]
    return table.iloc[np.sort(rows)].reset_index(drop=True)


def record(confirmed: NDArray[np.bool_]) -> dict[str, Any]:
    """Return number, share confirmed by both halves with interval, and share of each half.

    `confirmed` is `(N, 2)`: by the even half and by the odd half.

    Examples
    --------
    >>> found = record(np.array([[True, True], [True, False], [False, False], [True, True]]))
    >>> found["share"], found["even"], found["odd"]
    (0.5, 0.75, 0.5)
    """
    count, both = len(confirmed), int(confirmed.all(axis=1).sum())
    even, odd = map(float, confirmed.mean(axis=0)) if count else (None, None)
    return {
        "n": count,
        "share": both / count if count else None,
        "interval": list(wilson(both, count)),
        "even": even,
        "odd": odd,
    }


def confirm_in_halves(
    halves: Mapping[str, "Volume"],
    places: Floats,
    classes: NDArray[np.str_],
    maps: Mapping[str, Floats],
    options: SearchOptions,
) -> NDArray[np.bool_]:
    """Return `(N, 2)`: whether the even and the odd half confirm the pose that the other one gives.

    `places` is `(N, 3)` x, y, z in voxels; `classes` names the map of each place.
    """
    even, odd = halves["even"], halves["odd"]
    box = template_box(maps)
    excluded = excluded_voxels(even)
    centres = box_centres(even, places, box)
    spread = grid_places(even, box, excluded)
    if len(spread) < LEAST_PLACES:
        raise UserError(
            f"the tomogram has {len(spread)} places of {box} voxels to compare with, fewer than "
            f"{LEAST_PLACES}; leave the columns even and odd empty"
        )
    bands = [whitened_band(half, box, options, excluded) for half in (even, odd)]
    boxes = [
        box_vectors(half, excluded, centres, band)
        for half, band in zip((even, odd), bands, strict=True)
    ]
    grid = [
        box_vectors(half, excluded, spread, band)
        for half, band in zip((even, odd), bands, strict=True)
    ]
    confirmed = np.zeros((len(places), 2), bool)
    for name in track(sorted(set(classes)), "comparing halves"):
        rows = np.flatnonzero(classes == name)
        templates = [Template(maps[name], band) for band in bands]
        rotations = options.rotations or needed_rotations(maps[name], bands[0])
        for judge in (0, 1):
            found = Aligner(templates[1 - judge], rotations).align_vectors(boxes[1 - judge][rows])
            own, elsewhere = score_pose(templates[judge], found, boxes[judge][rows], grid[judge])
            confirmed[rows, judge] = tail_probability(own, elsewhere) <= CHANCE
    return confirmed


def grid_places(volume: "Volume", box: int, excluded: ExclusionMask) -> Floats:
    """Return `(M, 3)` x, y, z of whole boxes on a grid over a tomogram, without excluded voxels."""
    corners = spread_corners(volume.data.shape, box)
    cuts = [tuple(slice(a, a + box) for a in corner) for corner in corners]
    whole = [not (excluded and excluded[cut].any()) for cut in cuts]
    return corners[np.array(whole, bool)][:, ::-1] + float(box // 2)


def box_vectors(
    volume: "Volume", excluded: ExclusionMask, centres: Floats, band: FourierBand
) -> torch.Tensor:
    """Return `(N, 2 P)` unit vectors of the boxes at whole voxels `(N, 3)` x, y, z."""
    boxes = [cut_seen_box(volume.data, excluded, centre, band.box)[0] for centre in centres]
    return band_vectors(torch.as_tensor(np.stack(boxes), device=band.points.device), band)


def score_pose(
    template: Template, poses: Alignment, boxes: torch.Tensor, elsewhere: torch.Tensor
) -> tuple[Floats, Floats]:
    """Return the scores of N poses in their own boxes `(N,)`, and in M other boxes `(N, M)`.

    `boxes` `(N, 2 P)` and `elsewhere` `(M, 2 P)` are unit vectors.
    """
    rotated = template.rotate(poses.rotations.as_matrix())
    # the template moves to the particle
    placed = shift_each(rotated, -poses.shifts, template.band)
    return (placed * boxes).sum(dim=1).cpu().numpy(), (placed @ elsewhere.T).cpu().numpy()


def tail_probability(own: Floats, elsewhere: Floats) -> Floats:
    """Return `(N,)`: the probability that noise scores as high, from `(N, M)` scores of others.

    Examples
    --------
    >>> tail_probability(np.array([0.5]), np.array([[0.1, 0.2, 0.6, 0.3]]))
    array([0.4])
    """
    return (1 + (elsewhere >= own[:, None]).sum(axis=1)) / (1 + elsewhere.shape[1])


def check_halves(
    tomogram: "Volume", halves: Mapping[str, "Volume"], names: Mapping[str, Path]
) -> None:
    """Raise `UserError` unless both halves lie on the tomogram's grid and differ from one another.

    `names` are the files of both halves, and of the `tomogram`.
    """
    for half, volume in halves.items():
        check_same_voxel_size(
            tomogram.voxel_size, volume.voxel_size, names["tomogram"], names[half]
        )
        if volume.data.shape != tomogram.data.shape:
            raise UserError(
                f"{names[half]}: has {format_shape(volume.data.shape)} voxels (x, y, z), its tomogram "
                f"{format_shape(tomogram.data.shape)}; give the half tomogram of the same "
                f"reconstruction (column {half} of the table of tomograms)"
            )
    middle = tomogram.data.shape[0] // 2
    even, odd = (np.asarray(volume.data[middle], float).ravel() for volume in halves.values())
    likeness = float(np.corrcoef(even, odd)[0, 1]) if even.std() and odd.std() else 1.0
    if likeness > MOST_LIKENESS:
        raise UserError(
            f"{names['even']} and {names['odd']} correlate by {likeness:.3f}, so their noise is not "
            "independent; give the half tomograms as they were reconstructed, without denoising"
        )
