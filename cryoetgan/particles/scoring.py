"""Score boxes against templates: wedge-constrained correlation over rotations and shifts.

Both sides are normalised inside wedge and band, so that the score is a correlation
coefficient of what was measured; the lowest shells are left out, so that mass alone does not
decide the class (constrained correlation: Foerster 2008, doi 10.1016/j.jsb.2007.07.006).
"""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from cryoetgan.geometry import super_fibonacci
from cryoetgan.particles.bank import Template, band_of_boxes, shifted

Floats = NDArray[np.floating]
ENERGY = 0.997
"""Share of the bank's energy that its leading components must hold."""
CHUNK = 256
SHIFT_RADIUS = 4.0
"""Voxels: how far from a pick the particle may lie."""
CANDIDATES = 3
ROUNDS = 4
NEARBY = 16


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
        self.grid = super_fibonacci(rotations)
        # mean distance of neighbours on SO(3), degrees
        self.spacing = float(np.degrees((8 * np.pi**2 / rotations) ** (1 / 3)))
        bank = torch.cat(
            [template.turned(self.grid[i : i + CHUNK]) for i in range(0, rotations, CHUNK)]
        )
        self.basis = _basis(bank)
        self.bank = bank @ self.basis  # (R, K)
        self.shifts = _shift_grid(SHIFT_RADIUS).to(bank.device)

    def align(self, boxes: torch.Tensor) -> Alignment:
        """Return the best fit of each box `(N, z, y, x)`."""
        vectors = band_of_boxes(boxes, self.band)
        scores, turns, shifts = [], [], []
        for vector in vectors:
            moved = shifted(vector[None], self.shifts, self.band)[0] @ self.basis  # (S, K)
            table = moved @ self.bank.T  # (S, R)
            best_shift = table.max(dim=0)
            best = torch.topk(best_shift.values, min(CANDIDATES, table.shape[1])).indices
            fit = max(
                (
                    self._refine(vector, self.grid[int(r)], self.shifts[best_shift.indices[r]])
                    for r in best
                ),
                key=lambda found: found[0],
            )
            scores.append(fit[0])
            turns.append(fit[1])
            shifts.append(fit[2].cpu().numpy())
        return Alignment(np.array(scores), Rotation.concatenate(turns), np.array(shifts))

    def _refine(
        self, vector: torch.Tensor, rotation: Rotation, shift: torch.Tensor
    ) -> tuple[float, Rotation, torch.Tensor]:
        """Try nearby rotations, then nearby shifts, in ever smaller steps; exact bands."""
        best = -np.inf
        step, stride = self.spacing / 2, 0.5
        for _ in range(ROUNDS):
            turns = Rotation.concatenate([rotation, _nearby(step) * rotation])
            turned = self.template.turned(turns)
            values = turned @ shifted(vector[None], shift[None], self.band)[0, 0]
            index = int(values.argmax())
            rotation = turns[index]
            shifts = shift + stride * self._directions(shift.device)
            moved = shifted(vector[None], shifts, self.band)[0] @ turned[index]
            where = int(moved.argmax())
            shift, best = shifts[where], max(best, float(moved[where]))
            step, stride = step / 2, stride / 2
        return best, rotation, shift

    @staticmethod
    def _directions(device: torch.device) -> torch.Tensor:
        steps = [s for s in itertools.product((-1.0, 0.0, 1.0), repeat=3) if sum(map(abs, s)) <= 2]
        return torch.tensor(steps, device=device)


def _nearby(angle: float) -> Rotation:
    """Return rotations by `angle` degrees about axes spread over the sphere."""
    index = np.arange(NEARBY) + 0.5
    polar, azimuth = np.arccos(1 - 2 * index / NEARBY), np.pi * (1 + 5**0.5) * index
    axes = np.stack(
        [np.sin(polar) * np.cos(azimuth), np.sin(polar) * np.sin(azimuth), np.cos(polar)], axis=1
    )
    return Rotation.from_rotvec(np.radians(angle) * axes)


def _shift_grid(radius: float) -> torch.Tensor:
    reach = range(-int(radius), int(radius) + 1)
    shifts = [s for s in itertools.product(reach, repeat=3) if sum(v * v for v in s) <= radius**2]
    return torch.tensor(shifts, dtype=torch.float32)


def _basis(bank: torch.Tensor) -> torch.Tensor:
    """Return `(2 P, K)`: the directions that hold nearly all of the bank's energy.

    A template turned through all orientations spans few dimensions (low-rank bank): the
    search runs in those, the refinement in all.
    """
    gram = (bank.T @ bank).double() if bank.shape[0] > bank.shape[1] else None
    if gram is not None:
        values, directions = torch.linalg.eigh(gram)
        values, directions = values.flip(0), directions.flip(1)
    else:
        small = (bank @ bank.T).double()
        values, left = torch.linalg.eigh(small)
        values, left = values.flip(0).clamp_min(1e-12), left.flip(1)
        directions = (bank.T.double() @ left) / values.sqrt()
    share = torch.cumsum(values.clamp_min(0), 0) / values.clamp_min(0).sum()
    rank = int((share < ENERGY).sum()) + 1
    return directions[:, :rank].float()


def batches(count: int, size: int) -> Iterator[range]:
    """Yield ranges of at most `size` indices."""
    for start in range(0, count, size):
        yield range(start, min(start + size, count))
