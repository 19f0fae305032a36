"""Score boxes against templates: wedge-constrained correlation over rotations and shifts.

Both sides are normalised inside wedge and band, so that the score is a correlation
coefficient of what was measured; the lowest shells are left out, so that mass alone does not
decide the class (constrained correlation: Foerster 2008, doi 10.1016/j.jsb.2007.07.006).
"""

import itertools
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from cryoetgan.particles.matching.low_rank import leading_directions
from cryoetgan.particles.matching.refine import batches, refine
from cryoetgan.particles.matching.template import Template, band_of_boxes, part_of, shifted
from cryoetgan.physics.geometry import super_fibonacci

Floats = NDArray[np.floating]
COMPONENTS = 128
"""Of the bank that is searched."""
CHUNK = 256
SEARCH = 0.8
"""Of the highest frequency: finer detail than this hardly tells orientations apart that are as
far as those searched; the refinement uses all."""
SEARCH_SHELLS = 6
"""Searched at least, where the band is low."""
SHIFT_RADIUS = 4.0
"""Voxels: how far from a pick the particle may lie."""
SHIFT_STEP = 1.8
CANDIDATES = 5
"""Orientations refined, each from its best shift."""
BATCH = 16


@dataclass(frozen=True)
class Alignment:
    """Best fits of N boxes: `scores` (N,), `rotations` of N, `shifts` (N, 3) xyz voxels."""

    scores: Floats
    rotations: Rotation
    shifts: Floats


class Scorer:
    """Aligns boxes to one template.

    Parameters
    ----------
    template : Template
        In its band.
    rotations : int
        Orientations searched before the refinement, uniform on SO(3).
    """

    def __init__(self, template: Template, rotations: int) -> None:
        self.template, self.band = template, template.band
        self.searched = self.band.coarser(SEARCH, SEARCH_SHELLS)
        coarse = template.of(self.searched)
        self.coarse = coarse.band
        self.grid = super_fibonacci(rotations)
        self.spacing = spacing_of(rotations)
        bank = torch.cat(
            [coarse.turned(self.grid[i : i + CHUNK]) for i in range(0, rotations, CHUNK)]
        )
        self.basis = leading_directions(bank, COMPONENTS)
        self.bank = bank @ self.basis  # (R, K)
        self.shifts = shift_grid(SHIFT_RADIUS, SHIFT_STEP).to(bank.device)

    def align(self, boxes: torch.Tensor) -> Alignment:
        """Return the best fit of each box `(N, z, y, x)`."""
        vectors = band_of_boxes(boxes, self.band)
        coarse, matrices = part_of(vectors, self.searched), self.grid.as_matrix()
        turns, places = [], []
        for part in batches(len(vectors), BATCH):
            moved = shifted(coarse[part.start : part.stop], self.shifts, self.coarse) @ self.basis
            for box in moved:  # (S, K)
                by_shift = box @ self.bank.T  # (S, R): the largest of columns is found quickly
                best = torch.topk(by_shift.amax(dim=0), min(CANDIDATES, len(matrices))).indices
                turns.append(matrices[best.cpu().numpy()])
                places.append(self.shifts[by_shift[:, best].argmax(dim=0)].cpu().numpy())
        found = refine(self.template, vectors, np.array(turns), np.array(places), self.spacing)
        return Alignment(*found)


def spacing_of(rotations: int) -> float:
    """Return the mean distance of neighbours among so many rotations, degrees."""
    return float(np.degrees((8 * np.pi**2 / rotations) ** (1 / 3)))


def shift_grid(radius: float, step: float) -> torch.Tensor:
    """Return `(S, 3)` shifts inside a ball, voxels, on a body-centred cubic grid of cells `step`.

    No shift lies farther than 0.56 steps from one of them: half as many as a simple cubic grid
    needs (Conway & Sloane, Sphere Packings, Lattices and Groups, chapter 2).
    """
    half = np.arange(-int(2 * radius / step), int(2 * radius / step) + 1)
    shifts = [
        s
        for s in itertools.product(half, repeat=3)
        if len({v % 2 for v in s}) == 1 and sum(v * v for v in s) <= (2 * radius / step) ** 2
    ]
    return torch.tensor(step / 2 * np.array(shifts), dtype=torch.float32)
