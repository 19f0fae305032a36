"""Local refinement of rotation and shift, many boxes at once.

Gauss-Newton steps, damped where they fail (Levenberg 1944, Marquardt 1963, doi
10.1137/0111030): the box is `a * template` plus noise, the template is linear in a small turn
and shift. Three angles and three shifts move together, which a search axis by axis does not.
"""

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from cryoetgan.particles.matching.template import Band, Template

Floats = NDArray[np.floating]
SURVIVORS = (5, 3, 1, 1)
"""Candidates a box that each round works on."""
LARGEST_TURN = 0.6
"""Of the candidates' spacing, in one step."""
LARGEST_SHIFT = 1.5
"""Voxels in one step."""
REACH = 5.0
"""Voxels an axis from the box's centre: farther lies another particle."""
DAMPING = 1e-2
ELEMENTS = 6_000_000
"""Template values held at once."""


def refine(
    template: Template,
    vectors: torch.Tensor,
    rotations: Floats,
    shifts: Floats,
    spacing: float,
) -> tuple[Floats, Rotation, Floats]:
    """Return scores `(N,)`, rotations of N and shifts `(N, 3)` of the best fits.

    Parameters
    ----------
    template : Template
        In its band.
    vectors : torch.Tensor
        `(N, 2 P)` unit vectors of boxes.
    rotations : ndarray
        `(N, C, 3, 3)`: matrices of the candidates.
    shifts : ndarray
        `(N, C, 3)` xyz voxels, where the candidates lie.
    spacing : float
        Degrees between the orientations that the candidates come from.
    """
    points = len(template.band.points)
    many = max(1, ELEMENTS // (points * 2 * rotations.shape[1] * 4))
    parts = [
        _refine(template, vectors[i : i + many], rotations[i : i + many], shifts[i : i + many], spacing)
        for i in range(0, len(vectors), many)
    ]  # fmt: skip
    scores, turns, places = (np.concatenate(part) for part in zip(*parts, strict=True))
    return scores, Rotation.from_matrix(turns), places


def _refine(
    template: Template, vectors: torch.Tensor, turns: Floats, shifts: Floats, spacing: float
) -> tuple[Floats, Floats, Floats]:
    """Improve all candidates of each box, fewer and fewer, and keep the best."""
    count = len(vectors)
    best = _Best(turns, shifts)
    trial = turns, shifts
    for survivors in SURVIVORS:
        kept = min(survivors, best.scores.shape[1])
        if kept < best.scores.shape[1]:
            trial = best.keep(kept, trial)
        boxes = vectors.repeat_interleave(kept, dim=0)
        flat = trial[0].reshape(-1, 3, 3), trial[1].reshape(-1, 3)
        scores, gradient, normal = _linearise(template, boxes, *flat)
        best.update(scores.reshape(count, kept), trial, gradient, normal)
        trial = best.step(np.radians(LARGEST_TURN * spacing))
    scores = _scores(template, vectors.repeat_interleave(kept, dim=0), *trial)
    best.update(scores.reshape(count, kept), trial)
    best.keep(1, trial)
    return best.scores[:, 0], best.turns[:, 0], best.shifts[:, 0]


class _Best:
    """The best place found from each candidate: N boxes, C candidates."""

    def __init__(self, turns: Floats, shifts: Floats) -> None:
        count = turns.shape[:2]
        self.scores: Floats = np.full(count, -np.inf)
        self.turns, self.shifts = turns.copy(), shifts.copy()
        self.damping: Floats = np.full(count, DAMPING)
        self.gradient: Floats = np.zeros((*count, 6))
        self.normal: Floats = np.zeros((*count, 6, 6))

    def keep(self, number: int, trial: tuple[Floats, Floats]) -> tuple[Floats, Floats]:
        """Keep the best candidates of each box, and their trials, which are returned."""
        order = np.argsort(-self.scores, axis=1, kind="stable")[:, :number]
        rows = np.arange(len(order))[:, None]
        for name in ("scores", "turns", "shifts", "damping", "gradient", "normal"):
            setattr(self, name, getattr(self, name)[rows, order])
        return trial[0][rows, order], trial[1][rows, order]

    def update(
        self,
        scores: Floats,
        trial: tuple[Floats, Floats],
        gradient: Floats | None = None,
        normal: Floats | None = None,
    ) -> None:
        """Take what became better; damp the rest."""
        better = scores > self.scores
        self.scores = np.where(better, scores, self.scores)
        self.turns = np.where(better[..., None, None], trial[0], self.turns)
        self.shifts = np.where(better[..., None], trial[1], self.shifts)
        self.damping = np.where(better, self.damping / 3, self.damping * 20)
        if gradient is not None and normal is not None:
            shape = scores.shape
            self.gradient = np.where(better[..., None], gradient.reshape(*shape, 6), self.gradient)
            self.normal = np.where(
                better[..., None, None], normal.reshape(*shape, 6, 6), self.normal
            )

    def step(self, largest_turn: float) -> tuple[Floats, Floats]:
        """Return rotations and shifts one damped step on."""
        diagonal = np.einsum("ncii->nci", self.normal) * self.damping[..., None] + 1e-12
        system = self.normal + diagonal[..., None] * np.eye(6)
        move = np.linalg.solve(system, self.gradient[..., None])[..., 0]
        turn, shift = _limited(move[..., :3], largest_turn), _limited(move[..., 3:], LARGEST_SHIFT)
        turns = Rotation.from_rotvec(turn.reshape(-1, 3)).as_matrix().reshape(self.turns.shape)
        return turns @ self.turns, np.clip(self.shifts + shift, -REACH, REACH)


def _limited(move: Floats, length: float) -> Floats:
    size = np.linalg.norm(move, axis=-1, keepdims=True)
    return move * np.minimum(1, length / np.maximum(size, 1e-12))


def _linearise(
    template: Template, boxes: torch.Tensor, turns: Floats, shifts: Floats
) -> tuple[Floats, Floats, Floats]:
    """Return of M candidates the scores, and gradient `(M, 6)` and matrix `(M, 6, 6)` of a step.

    The box is `score * template + noise`: the step x solves `normal x = gradient` with J the
    template's derivatives, normal = J'J, gradient = J'box / score.
    """
    here, by_turn = template.slopes(turns)
    # a template moved by s is multiplied with exp(-2 pi i k s)
    real, imag = here.chunk(2, dim=1)
    waves = 2 * torch.pi * template.band.points.T  # (3, P)
    by_shift = torch.cat([waves * imag[:, None], -waves * real[:, None]], dim=2)
    slopes = torch.cat([by_turn, by_shift], dim=1)  # (M, 6, 2 P)
    placed = _placed(boxes, shifts, template.band)
    scores = (placed * here).sum(dim=1)
    gradient = torch.bmm(slopes, placed[:, :, None])[..., 0] / scores.clamp_min(0.02)[:, None]
    normal = torch.bmm(slopes, slopes.transpose(1, 2))
    return _numbers(scores), _numbers(gradient), _numbers(normal)


def _scores(template: Template, boxes: torch.Tensor, turns: Floats, shifts: Floats) -> Floats:
    values = template.turned_by(turns.reshape(-1, 3, 3))
    return _numbers((_placed(boxes, shifts.reshape(-1, 3), template.band) * values).sum(dim=1))


def _numbers(values: torch.Tensor) -> Floats:
    return values.cpu().numpy().astype(float)


def _placed(vectors: torch.Tensor, shifts: Floats, band: Band) -> torch.Tensor:
    """Return `(M, 2 P)`: each vector moved back by its own shift."""
    moves = torch.as_tensor(shifts, dtype=torch.float32).to(vectors.device)
    phase = 2 * torch.pi * moves @ band.points.T
    moved = torch.complex(*vectors.chunk(2, 1)) * torch.polar(torch.ones_like(phase), phase)
    return torch.cat([moved.real, moved.imag], dim=1)


def batches(count: int, size: int) -> Iterator[range]:
    """Yield ranges of at most `size` indices."""
    for start in range(0, count, size):
        yield range(start, min(start + size, count))
