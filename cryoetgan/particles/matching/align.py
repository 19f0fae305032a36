"""Align boxes to templates: wedge-constrained correlation over rotations and shifts.

Box and template are normalised inside wedge and band, so that the score is the correlation
coefficient of the measured frequencies. The lowest shells are excluded; otherwise the mass
alone would decide the class (Foerster 2008, doi 10.1016/j.jsb.2007.07.006).
"""

import itertools

import numpy as np
import torch
from numpy.typing import NDArray

from cryoetgan.particles.matching import template as templates
from cryoetgan.particles.matching.low_rank import (
    LEAST_ROTATIONS,
    leading_directions,
    rotate_in_chunks,
)
from cryoetgan.particles.matching.refine import Alignment, refine
from cryoetgan.particles.matching.template import FourierBand, Template, batches
from cryoetgan.particles.picking.pick import radius_of_map
from cryoetgan.physics.geometry import super_fibonacci

Floats = NDArray[np.floating]
SEARCH_FREQUENCY_SHARE = 0.8
"""Highest frequency of the search, relative to the band's. Finer detail hardly distinguishes
orientations as far apart as those searched; the refinement uses the whole band."""
MIN_SEARCH_SHELLS = 6
"""Fewest shells of the search, for bands with a low cut-off."""
MAX_SEARCH_SHIFT = 4.0
"""Largest distance between a pick and its particle, voxels."""
SHIFT_STEP = 1.8
"""Cell edge of the grid of shifts, voxels."""
REFINED_ORIENTATIONS = 5
"""Best orientations that are refined, each from its best shift; they lie apart by the spacing of the
grid, so that one peak does not take all places."""
BEST_ORIENTATIONS = 100
"""Orientations from which they are chosen."""
MOST_ROTATIONS = 12_000
"""Orientations searched at most, some 11 degrees apart."""
MAX_BANK_BYTES = 1_000_000_000
"""Memory of all rotated templates, for which fewer orientations are searched; some twice as much is
used for a moment."""
MAX_DIRECTIONS = 512
"""Directions of the search; of a ribosome at 30 A they hold 92 % of the energy, 128 hold 55 %."""
BOXES_PER_SEARCH = 16


class Aligner:
    """Align boxes to one template; `rotations` orientations are searched, then refined."""

    def __init__(self, template: Template, rotations: int) -> None:
        self.template, self.band = template, template.band
        self.searched = self.band.lowpass_indices(SEARCH_FREQUENCY_SHARE, MIN_SEARCH_SHELLS)
        coarse = template.subset(self.searched)
        self.coarse = coarse.band
        self.rotations = super_fibonacci(rotations)
        self.spacing = grid_spacing(rotations)
        bank = rotate_in_chunks(coarse, self.rotations)
        self.basis = leading_directions(bank, MAX_DIRECTIONS)
        self.bank = bank @ self.basis  # (R, K)
        self.shifts = shift_grid(MAX_SEARCH_SHIFT, SHIFT_STEP).to(bank.device)

    def align(self, boxes: torch.Tensor) -> Alignment:
        """Return the best fit of each box `(N, z, y, x)`."""
        return self.align_vectors(templates.band_vectors(boxes, self.band))

    def align_vectors(self, vectors: torch.Tensor) -> Alignment:
        """Return the best fit of each box, given as unit vectors `(N, 2 P)`."""
        coarse = templates.subset_vectors(vectors, self.searched)
        matrices, quaternions = self.rotations.as_matrix(), self.rotations.as_quat()
        turns, places = [], []
        for part in batches(len(vectors), BOXES_PER_SEARCH):
            moved = templates.shift_back(coarse[part], self.shifts, self.coarse)
            for box in moved @ self.basis:  # (S, K)
                by_shift = box @ self.bank.T  # (S, R): the maximum of a column is fast
                count = min(BEST_ORIENTATIONS, len(matrices))
                first = torch.topk(by_shift.amax(dim=0), count).indices
                apart = choose_apart(quaternions[first.cpu().numpy()], self.spacing)
                best = first[torch.as_tensor(apart, device=first.device)]
                turns.append(matrices[best.cpu().numpy()])
                places.append(self.shifts[by_shift[:, best].argmax(dim=0)].cpu().numpy())
        return refine(self.template, vectors, np.array(turns), np.array(places), self.spacing)


def choose_apart(quaternions: Floats, spacing: float) -> list[int]:
    """Return indices of the first orientations that lie `spacing` degrees from all before them.

    `quaternions` `(N, 4)` of length 1 are sorted, best first. The result has
    `REFINED_ORIENTATIONS` indices, or N; if too few lie apart, the best others complete it.
    """
    count = min(REFINED_ORIENTATIONS, len(quaternions))
    near = np.abs(quaternions @ quaternions.T) > np.cos(np.radians(spacing) / 2)
    chosen: list[int] = []
    for index in range(len(quaternions)):
        if len(chosen) < count and not near[index, chosen].any():
            chosen.append(index)
    others = (index for index in range(len(quaternions)) if index not in chosen)
    return sorted([*chosen, *itertools.islice(others, count - len(chosen))])


def needed_rotations(density: Floats, band: FourierBand) -> int:
    """Return the number of orientations to search for a map `(z, y, x)` in a band.

    The finest detail d turns away on the surface of a particle of diameter D by an angle of d / D
    (Crowther 1970, doi 10.1098/rspa.1970.0119). The refinement converges from twice this angle:
    with 20 degrees between orientations, a quarter of the ribosomes of a simulated cell was not
    found at 30 angstrom, with 13 degrees a twentieth.
    """
    detail = 1 / float(band.points.norm(dim=1).max())
    spacing = 2 * detail / (2 * radius_of_map(density, 1.0))
    searched = len(band.lowpass_indices(SEARCH_FREQUENCY_SHARE, MIN_SEARCH_SHELLS))
    most = min(MOST_ROTATIONS, MAX_BANK_BYTES // (8 * searched))
    return int(np.clip(8 * np.pi**2 / spacing**3, LEAST_ROTATIONS, max(most, LEAST_ROTATIONS)))


def grid_spacing(rotations: int) -> float:
    """Return the mean distance in degrees between neighbours of a uniform grid of rotations."""
    return float(np.degrees((8 * np.pi**2 / rotations) ** (1 / 3)))


def shift_grid(radius: float, step: float) -> torch.Tensor:
    """Return `(S, 3)` shifts inside a ball, voxels, on a body-centred cubic grid of cells `step`.

    The nearest grid point of any shift is at most 0.56 steps away. A simple cubic grid needs
    twice as many points (Conway & Sloane, Sphere Packings, Lattices and Groups, chapter 2).
    """
    half = np.arange(-int(2 * radius / step), int(2 * radius / step) + 1)
    shifts = [
        s
        for s in itertools.product(half, repeat=3)
        if len({v % 2 for v in s}) == 1 and sum(v * v for v in s) <= (2 * radius / step) ** 2
    ]
    return torch.tensor(step / 2 * np.array(shifts), dtype=torch.float32)
