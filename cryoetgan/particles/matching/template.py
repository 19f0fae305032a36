"""A template in Fourier space, turned to any orientation, seen through wedge and band."""

from copy import copy
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

Floats = NDArray[np.floating]
Complexes = NDArray[np.complex64]
OVERSAMPLING = 3
"""Zero padding of the template: linear interpolation between its Fourier voxels is then good."""


@dataclass(frozen=True)
class Band:
    """The Fourier voxels that count: `points` (P, 3) cycles a voxel xyz, `index` into rfftn."""

    points: torch.Tensor
    index: torch.Tensor
    weights: torch.Tensor
    box: int

    def coarser(self, share: float, fewest: float) -> torch.Tensor:
        """Return the indices of the points up to a share of the highest frequency.

        At least `fewest` shells are kept, where there are so many.
        """
        radius = self.points.norm(dim=1)
        limit = max(share * float(radius.max()), fewest / self.box)
        return torch.nonzero(radius <= limit)[:, 0]


def make_band(
    box: int,
    wedge: NDArray[np.bool_],
    low_shell: int,
    high_frequency: float,
    device: torch.device,
) -> Band:
    """Return the band of a box.

    Parameters
    ----------
    box : int
        Voxels.
    wedge : ndarray of bool
        `(z, y, x // 2 + 1)`, True where data exist.
    low_shell : int
        Shells below it are left out, the zero frequency always.
    high_frequency : float
        Cycles a voxel; finer detail is left out.
    device : torch.device
        Where it is kept.
    """
    kz = np.fft.fftfreq(box)[:, None, None]
    ky = np.fft.fftfreq(box)[None, :, None]
    kx = np.fft.rfftfreq(box)[None, None, :]
    radius = np.sqrt(kz**2 + ky**2 + kx**2)
    inside = wedge & (radius * box > max(low_shell, 0.5) - 0.5) & (radius <= high_frequency)
    inside &= radius > 0
    points = np.stack(np.broadcast_arrays(kx, ky, kz), axis=-1)[inside]
    # a voxel with kx > 0 stands for its mirror image too
    weights = np.broadcast_to(np.where(kx > 0, 2.0, 1.0), inside.shape)[inside]
    index = np.flatnonzero(inside)
    return Band(
        torch.as_tensor(points, dtype=torch.float32, device=device),
        torch.as_tensor(index, device=device),
        torch.as_tensor(np.sqrt(weights), dtype=torch.float32, device=device),
        box,
    )


class Template:
    """The Fourier transform of one density map, to be read at turned frequencies.

    Parameters
    ----------
    density : ndarray
        `(z, y, x)`, a cube; the particle's centre at n // 2.
    transfer : ndarray, optional
        Contrast transfer by frequency, applied in the band: `(P,)`.
    band : Band
        Where it is read.
    """

    def __init__(self, density: Floats, band: Band, transfer: Floats | None = None) -> None:
        box, size = band.box, band.box * OVERSAMPLING
        self.band, device = band, band.points.device
        # dividing by the transform of the linear kernel undoes its blur of the spectrum
        places = np.arange(box) - box // 2
        kernel = np.sinc(places / size) ** 2
        corrected = density / (kernel[:, None, None] * kernel[None, :, None] * kernel[None, None])
        # only what the band can reach is kept: what is read at random stays in the cache
        reach = float(band.points.norm(dim=1).max()) * size if len(band.points) else 0.0
        half = int(np.ceil(reach)) + 1
        waves = np.exp(-2j * np.pi / size * np.outer(np.arange(-half, half + 1), places))
        z, y, x = np.meshgrid(*[-2j * np.pi * places] * 3, indexing="ij", sparse=True)
        self.edge, self.scale = len(waves), size / half
        values = torch.as_tensor(_transform(corrected, waves, waves), device=device)
        # (1, 2, z, y, x), both parts of a number side by side
        self.grid = torch.view_as_real(values).permute(3, 0, 1, 2)[None]
        # (z y x, 8): the value, its slopes along kx, ky, kz; real and imaginary parts; of
        # kz >= 0, since what lies at -k is the conjugate of what lies at k
        slopes = [_transform(corrected * factor, waves[half:], waves) for factor in (x, y, z)]
        table = torch.stack([values[half:], *map(torch.as_tensor, slopes)], -1)
        self.table = torch.view_as_real(table).reshape(-1, 8).to(device)
        self.weights = band.weights
        if transfer is not None:
            self.weights = band.weights * torch.as_tensor(transfer, dtype=torch.float32).to(device)

    def of(self, index: torch.Tensor) -> "Template":
        """Return this template in a part of its band, given by the points' indices."""
        part, band = copy(self), self.band
        part.band = Band(band.points[index], band.index[index], band.weights[index], band.box)
        part.weights = self.weights[index]
        return part

    def turned(self, rotations: Rotation) -> torch.Tensor:
        """Return `(R, 2 P)` unit vectors: the turned template's band, real then imaginary.

        A turned volume's transform at k is the template's at the back-turned k.
        """
        return self.turned_by(rotations.as_matrix().reshape(-1, 3, 3))

    def turned_by(self, matrices: Floats) -> torch.Tensor:
        """Return what `turned` does, of rotation matrices `(R, 3, 3)`."""
        where = self._turned_back(matrices)  # (R, 3, P)
        count, _, points = where.shape
        # grid_sample wants x, y, z in [-1, 1] from first to last voxel centre
        values = torch.nn.functional.grid_sample(
            self.grid, where.mT.reshape(1, count, points, 1, 3), align_corners=True
        )
        values = values[0, :, :, :, 0]  # (2, R, P)
        flat = (values * self.weights).permute(1, 0, 2).reshape(count, -1)
        return flat / flat.norm(dim=1, keepdim=True).clamp_min(1e-20)

    def slopes(self, matrices: Floats) -> tuple[torch.Tensor, torch.Tensor]:
        """Return what `turned_by` does, and how it changes with a further small turn.

        Parameters
        ----------
        matrices : ndarray
            `(R, 3, 3)` rotations.

        Returns
        -------
        values : torch.Tensor
            `(R, 2 P)` unit vectors.
        by_turn : torch.Tensor
            `(R, 3, 2 P)`: their derivatives by turns about x, y, z, per radian.
        """
        where = self._turned_back(matrices)
        count, _, points = where.shape
        side = torch.where(where[:, 2] < 0, -1.0, 1.0)  # (R, P)
        read = _interpolated(self.table, self.edge, where * side[:, None])  # (R, P, 8)
        parts = read.mT.reshape(count, 4, 2, points) * self.weights
        parts[:, 0, 1] *= side
        parts[:, 1:, 0] *= side[:, None]
        flat = parts[:, 0].reshape(count, -1)
        norm = flat.norm(dim=1, keepdim=True).clamp_min(1e-20)
        values = flat / norm
        # the slopes turn with the template; a turn w moves what lies at k by w x k
        forward = torch.as_tensor(matrices, dtype=torch.float32).to(where.device)
        slope = (forward @ parts[:, 1:].reshape(count, 3, -1)).reshape(count, 3, 2, points)
        by_turn = _crossed(slope, self.band.points.T).reshape(count, 3, -1) / norm[:, None]
        along = torch.bmm(by_turn, values[:, :, None])
        return values, by_turn - along * values[:, None]

    def _turned_back(self, matrices: Floats) -> torch.Tensor:
        """Return `(R, 3, P)`: the band's points turned back, in [-1, 1] of the grid."""
        turns = torch.as_tensor(matrices, dtype=torch.float32).to(self.band.points.device)
        return turns.mT @ (self.band.points * self.scale).T


def _transform(
    volume: Floats, waves_z: NDArray[np.complex128], waves: NDArray[np.complex128]
) -> Complexes:
    """Return the transform of a cube at the frequencies of `(F, n)` waves along z, y and x."""
    waves_z, waves = waves_z.astype(np.complex64), waves.astype(np.complex64)
    found = np.matmul(waves, volume.astype(np.complex64) @ waves.T)
    return (waves_z @ found.reshape(len(found), -1)).reshape(-1, *found.shape[1:])


def _interpolated(table: torch.Tensor, edge: int, where: torch.Tensor) -> torch.Tensor:
    """Return rows of a table between its places: `(R, P, C)`.

    Linear, as grid_sample, whose channels lie apart: a row is read at once here, so that
    eight numbers cost little more than two.

    Parameters
    ----------
    table : torch.Tensor
        `(z y x, C)`; of `edge` places in x and y, and of the upper half of as many in z.
    edge : int
        Odd.
    where : torch.Tensor
        `(R, 3, P)` xyz in [-1, 1], z from 0.
    """
    middle = edge // 2
    at = where * middle
    corner = at.floor()
    far = at - corner
    x, y, z = corner.to(torch.int32).unbind(1)
    first = (x + edge * (y + edge * z)).reshape(-1, 1) + (edge + 1) * (edge // 2)
    steps = [i + edge * (j + edge * k) for k in (0, 1) for j in (0, 1) for i in (0, 1)]
    x, y, z = torch.stack([1 - far, far]).unbind(2)  # (2, R, P) each
    shares = z[:, None, None] * y[:, None] * x
    rows = torch.nn.functional.embedding_bag(
        first + torch.tensor(steps, dtype=torch.int32, device=where.device),
        table,
        mode="sum",
        per_sample_weights=shares.reshape(8, -1).T.contiguous(),
    )
    return rows.reshape(len(where), -1, table.shape[1])


def _crossed(vectors: torch.Tensor, points: torch.Tensor) -> torch.Tensor:
    """Return vector products of `(R, 3, 2, P)` with `(3, P)`; linalg.cross takes four times as long."""
    (a, b, c), (x, y, z) = vectors.unbind(1), points.contiguous()
    found = torch.empty_like(vectors)
    for row, (first, second, third, fourth) in enumerate(
        [(b, z, c, y), (c, x, a, z), (a, y, b, x)]
    ):
        torch.mul(first, second, out=found[:, row])
        found[:, row].addcmul_(third, fourth, value=-1)
    return found


def band_of_boxes(boxes: torch.Tensor, band: Band) -> torch.Tensor:
    """Return `(N, 2 P)` unit vectors of boxes `(N, z, y, x)`, centred at n // 2."""
    centred = torch.fft.ifftshift(boxes, dim=(1, 2, 3))
    spectrum = torch.fft.rfftn(centred, dim=(1, 2, 3)).flatten(1)[:, band.index]
    flat = torch.cat([spectrum.real * band.weights, spectrum.imag * band.weights], dim=1)
    return flat / flat.norm(dim=1, keepdim=True).clamp_min(1e-20)


def part_of(vectors: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
    """Return `(N, 2 I)` unit vectors: what vectors `(N, 2 P)` hold in a part of the band."""
    real, imag = vectors.chunk(2, dim=1)
    flat = torch.cat([real[:, index], imag[:, index]], dim=1)
    return flat / flat.norm(dim=1, keepdim=True).clamp_min(1e-20)


def shifted(vectors: torch.Tensor, shifts: torch.Tensor, band: Band) -> torch.Tensor:
    """Return `(N, S, 2 P)`: band vectors of boxes moved back by shifts `(S, 3)` xyz voxels.

    A particle at n // 2 + shift comes to n // 2.
    """
    phase = 2 * torch.pi * shifts @ band.points.T  # (S, P)
    cos, sin = torch.cos(phase), torch.sin(phase)
    real, imag = vectors.chunk(2, dim=1)
    moved_real = real[:, None] * cos - imag[:, None] * sin
    moved_imag = real[:, None] * sin + imag[:, None] * cos
    return torch.cat([moved_real, moved_imag], dim=2)
