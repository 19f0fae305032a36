"""Local refinement of rotation and shift, many boxes at once.

The box is modelled as `a * template` plus noise, with the template linear in a small rotation
and shift. Gauss-Newton steps change three angles and three shifts together; they are damped if
they fail (Levenberg 1944, Marquardt 1963, doi 10.1137/0111030).
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from cryoetgan.particles.matching.template import FourierBand, Template, batches

Floats = NDArray[np.floating]
CANDIDATES_PER_ROUND = (5, 3, 1, 1)
"""Candidates of each box that are refined in each round."""
MAX_ROTATION_STEP = 0.6
"""Largest rotation of one step, in units of the candidates' spacing."""
MAX_SHIFT_STEP = 1.5
"""Largest shift of one step, voxels."""
MAX_SHIFT = 5.0
"""Largest shift from the box's centre along an axis, voxels; a neighbour may lie farther away."""
INITIAL_DAMPING = 1e-2
ELEMENTS_PER_BATCH = 6_000_000
"""Template values held at once."""


@dataclass(frozen=True)
class Alignment:
    """Best fits of N boxes: `scores` (N,), N `rotations`, `shifts` (N, 3) xyz voxels."""

    scores: Floats
    rotations: Rotation
    shifts: Floats


def refine(
    template: Template, vectors: torch.Tensor, rotations: Floats, shifts: Floats, spacing: float
) -> Alignment:
    """Return the best fits of boxes, given as unit vectors `(N, 2 P)`, to a template.

    Each box has C candidates: rotation matrices `(N, C, 3, 3)` and shifts `(N, C, 3)`, xyz
    voxels. They were chosen from orientations that lie `spacing` degrees apart.
    """
    points = len(template.band.points)
    size = max(1, ELEMENTS_PER_BATCH // (points * 2 * rotations.shape[1] * 4))
    parts = [
        _refine(template, vectors[part], rotations[part], shifts[part], spacing)
        for part in batches(len(vectors), size)
    ]
    scores, matrices, places = (np.concatenate(part) for part in zip(*parts, strict=True))
    return Alignment(scores, Rotation.from_matrix(matrices), places)


def _refine(
    template: Template, vectors: torch.Tensor, matrices: Floats, shifts: Floats, spacing: float
) -> tuple[Floats, Floats, Floats]:
    """Refine all candidates of each box, fewer in each round, and return the best."""
    count = len(vectors)
    best = _Candidates(matrices, shifts)
    trial = matrices, shifts
    for candidates in CANDIDATES_PER_ROUND:
        kept = min(candidates, best.scores.shape[1])
        if kept < best.scores.shape[1]:
            trial = best.keep(kept, trial)
        boxes = vectors.repeat_interleave(kept, dim=0)
        flat = trial[0].reshape(-1, 3, 3), trial[1].reshape(-1, 3)
        scores, gradient, normal = _linearise(template, boxes, *flat)
        best.update(scores.reshape(count, kept), trial, gradient, normal)
        trial = best.step(np.radians(MAX_ROTATION_STEP * spacing))
    values = template.rotate(trial[0].reshape(-1, 3, 3))
    boxes = vectors.repeat_interleave(kept, dim=0)
    placed = shift_each(boxes, trial[1].reshape(-1, 3), template.band)
    scores = _to_numpy((placed * values).sum(dim=1))
    best.update(scores.reshape(count, kept), trial)
    best.keep(1, trial)
    return best.scores[:, 0], best.matrices[:, 0], best.shifts[:, 0]


class _Candidates:
    """The best pose found so far from each candidate: N boxes, C candidates."""

    def __init__(self, matrices: Floats, shifts: Floats) -> None:
        count = matrices.shape[:2]
        self.scores: Floats = np.full(count, -np.inf)
        self.matrices, self.shifts = matrices.copy(), shifts.copy()
        self.damping: Floats = np.full(count, INITIAL_DAMPING)
        self.gradient: Floats = np.zeros((*count, 6))
        self.normal: Floats = np.zeros((*count, 6, 6))

    def keep(self, number: int, trial: tuple[Floats, Floats]) -> tuple[Floats, Floats]:
        """Keep the best candidates of each box, and return their trial poses."""
        order = np.argsort(-self.scores, axis=1, kind="stable")[:, :number]
        rows = np.arange(len(order))[:, None]
        for name in ("scores", "matrices", "shifts", "damping", "gradient", "normal"):
            setattr(self, name, getattr(self, name)[rows, order])
        return trial[0][rows, order], trial[1][rows, order]

    def update(
        self,
        scores: Floats,
        trial: tuple[Floats, Floats],
        gradient: Floats | None = None,
        normal: Floats | None = None,
    ) -> None:
        """Accept the trial poses with higher scores, and increase the damping of the others."""
        better = scores > self.scores
        self.scores = np.where(better, scores, self.scores)
        self.matrices = np.where(better[..., None, None], trial[0], self.matrices)
        self.shifts = np.where(better[..., None], trial[1], self.shifts)
        self.damping = np.where(better, self.damping / 3, self.damping * 20)
        if gradient is not None and normal is not None:
            shape = scores.shape
            self.gradient = np.where(better[..., None], gradient.reshape(*shape, 6), self.gradient)
            self.normal = np.where(
                better[..., None, None], normal.reshape(*shape, 6, 6), self.normal
            )

    def step(self, max_rotation: float) -> tuple[Floats, Floats]:
        """Return rotation matrices and shifts after one damped step; `max_rotation` in radians."""
        diagonal = np.einsum("ncii->nci", self.normal) * self.damping[..., None] + 1e-12
        system = self.normal + diagonal[..., None] * np.eye(6)
        move = np.linalg.solve(system, self.gradient[..., None])[..., 0]
        turn = limit_length(move[..., :3], max_rotation)
        shift = limit_length(move[..., 3:], MAX_SHIFT_STEP)
        turns = Rotation.from_rotvec(turn.reshape(-1, 3)).as_matrix().reshape(self.matrices.shape)
        return turns @ self.matrices, np.clip(self.shifts + shift, -MAX_SHIFT, MAX_SHIFT)


def limit_length(move: Floats, length: float) -> Floats:
    """Return vectors `(..., 3)`, the longer ones shortened to a length."""
    size = np.linalg.norm(move, axis=-1, keepdims=True)
    return move * np.minimum(1, length / np.maximum(size, 1e-12))


def _linearise(
    template: Template, boxes: torch.Tensor, matrices: Floats, shifts: Floats
) -> tuple[Floats, Floats, Floats]:
    """Return scores, gradients `(M, 6)` and normal matrices `(M, 6, 6)` of M candidates.

    The box is `score * template + noise`. A step x solves `normal x = gradient` with J the
    template's derivatives, normal = J'J and gradient = J'box / score.
    """
    here, by_rotation = template.rotate_with_derivatives(matrices)
    # a template shifted by s is multiplied with exp(-2 pi i k s)
    real, imag = here.chunk(2, dim=1)
    waves = 2 * torch.pi * template.band.points.T  # (3, P)
    by_shift = torch.cat([waves * imag[:, None], -waves * real[:, None]], dim=2)
    slopes = torch.cat([by_rotation, by_shift], dim=1)  # (M, 6, 2 P)
    placed = shift_each(boxes, shifts, template.band)
    scores = (placed * here).sum(dim=1)
    gradient = torch.bmm(slopes, placed[:, :, None])[..., 0] / scores.clamp_min(0.02)[:, None]
    normal = torch.bmm(slopes, slopes.transpose(1, 2))
    return _to_numpy(scores), _to_numpy(gradient), _to_numpy(normal)


def _to_numpy(values: torch.Tensor) -> Floats:
    return values.cpu().numpy().astype(float)


def shift_each(vectors: torch.Tensor, shifts: Floats, band: FourierBand) -> torch.Tensor:
    """Return `(M, 2 P)`: each vector moved back by its own shift."""
    moves = torch.as_tensor(shifts, dtype=torch.float32).to(vectors.device)
    phase = 2 * torch.pi * moves @ band.points.T
    moved = torch.complex(*vectors.chunk(2, 1)) * torch.polar(torch.ones_like(phase), phase)
    return torch.cat([moved.real, moved.imag], dim=1)
