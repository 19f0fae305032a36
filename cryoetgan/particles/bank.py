"""A template in Fourier space, turned to any orientation, seen through wedge and band."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

Floats = NDArray[np.floating]
OVERSAMPLING = 3
"""Zero padding of the template: linear interpolation between its Fourier voxels is then good."""


@dataclass(frozen=True)
class Band:
    """The Fourier voxels that count: `points` (P, 3) cycles a voxel xyz, `index` into rfftn."""

    points: torch.Tensor
    index: torch.Tensor
    weights: torch.Tensor
    box: int


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
        self.size, self.band = size, band
        # dividing by the transform of the linear kernel undoes its blur of the spectrum
        axis = (np.arange(box) - box // 2) / size
        kernel = np.sinc(axis) ** 2
        corrected = density / (kernel[:, None, None] * kernel[None, :, None] * kernel[None, None])
        padded = np.zeros((size, size, size), np.float32)
        start = size // 2 - box // 2
        padded[start : start + box, start : start + box, start : start + box] = corrected
        spectrum = np.fft.fftshift(np.fft.fftn(np.fft.ifftshift(padded)))
        device = band.points.device
        # only what the band can reach is kept: what is read at random stays in the cache
        reach = float(band.points.norm(dim=1).max()) * size if len(band.points) else 0.0
        half = min(int(np.ceil(reach)) + 1, size // 2 - 1)
        middle = slice(size // 2 - half, size // 2 + half + 1)
        spectrum = spectrum[middle, middle, middle]
        parts = np.stack([spectrum.real, spectrum.imag]).astype(np.float32)
        # grid_sample wants x, y, z in [-1, 1] from first to last voxel centre
        self.points = (band.points * (size / half)).T.contiguous()  # (3, P)
        self.grid = torch.as_tensor(parts, device=device)[None]
        self.weights = band.weights
        if transfer is not None:
            self.weights = band.weights * torch.as_tensor(transfer, dtype=torch.float32).to(device)

    def turned(self, rotations: Rotation) -> torch.Tensor:
        """Return `(R, 2 P)` unit vectors: the turned template's band, real then imaginary.

        A turned volume's transform at k is the template's at the back-turned k.
        """
        return self.turned_by(rotations.as_matrix().reshape(-1, 3, 3))

    def turned_by(self, matrices: Floats) -> torch.Tensor:
        """Return what `turned` does, of rotation matrices `(R, 3, 3)`."""
        # k turned back is the row vector k times the matrix
        forward = torch.as_tensor(matrices, dtype=torch.float32).to(self.band.points.device)
        count, points = len(forward), self.points.shape[1]
        where = forward.transpose(1, 2).reshape(3 * count, 3) @ self.points
        values = torch.nn.functional.grid_sample(
            self.grid, where.view(1, count, 3, points, 1).permute(0, 1, 3, 4, 2), align_corners=True
        )
        values = values[0, :, :, :, 0]  # (2, R, P)
        flat = (values * self.weights).permute(1, 0, 2).reshape(count, -1)
        return flat / flat.norm(dim=1, keepdim=True).clamp_min(1e-20)


def band_of_boxes(boxes: torch.Tensor, band: Band) -> torch.Tensor:
    """Return `(N, 2 P)` unit vectors of boxes `(N, z, y, x)`, centred at n // 2."""
    centred = torch.fft.ifftshift(boxes, dim=(1, 2, 3))
    spectrum = torch.fft.rfftn(centred, dim=(1, 2, 3)).flatten(1)[:, band.index]
    flat = torch.cat([spectrum.real * band.weights, spectrum.imag * band.weights], dim=1)
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
