"""A template in Fourier space, in any orientation, seen through missing wedge and band-pass."""

from collections.abc import Iterator, Mapping
from copy import copy
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray

from cryoetgan.errors import UserError
from cryoetgan.physics.acquisition import Acquisition
from cryoetgan.physics.optics import frequency_axes, missing_wedge, radius_grid, recorded_ctf

Floats = NDArray[np.floating]
Complexes = NDArray[np.complex64]
OVERSAMPLING = 3
"""Zero padding of the template, so that linear interpolation of its transform is accurate."""


@dataclass(frozen=True, kw_only=True)
class SearchOptions:
    """Orientations and frequencies of a search with templates."""

    acquisition: Acquisition = field(default_factory=Acquisition)
    """Tilt range and, if the defocus is known, contrast transfer."""
    lowpass: float
    """Angstrom; the finest detail that is compared."""
    rotations: int | None = None
    """Orientations searched before the refinement, uniform on SO(3); None: 1,856, and for scores of
    large maps more (`align.needed_rotations`)."""
    highpass_shells: int = 3
    """Number of the lowest Fourier shells to exclude."""
    device: str = "auto"
    """auto, cpu or cuda."""

    @property
    def highpass_radius(self) -> float:
        """Radius up to which frequencies are excluded, Fourier voxels; zero always is."""
        return max(self.highpass_shells - 0.5, 0.0)

    def cutoff(self, voxel_size: float) -> float:
        """Return the low-pass in cycles per voxel, at most 0.5; `voxel_size` in angstrom."""
        return min(voxel_size / self.lowpass, 0.5)


@dataclass(frozen=True)
class FourierBand:
    """The Fourier voxels that are compared, P in number."""

    points: torch.Tensor
    """`(P, 3)` frequencies xyz in cycles per voxel."""
    index: torch.Tensor
    """`(P,)` indices into the flattened `rfftn` of a box."""
    weights: torch.Tensor
    """`(P,)` square roots of the number of Fourier modes that a voxel represents."""
    transfer: torch.Tensor
    """`(P,)` contrast transfer of a template."""
    box: int
    """Voxels."""

    def lowpass_indices(self, share: float, min_shells: float) -> torch.Tensor:
        """Return the indices up to a share of the highest frequency, but at least some shells."""
        radius = self.points.norm(dim=1)
        limit = max(share * float(radius.max()), min_shells / self.box)
        return torch.nonzero(radius <= limit)[:, 0]

    def subset(self, index: torch.Tensor) -> "FourierBand":
        """Return the band of some points, given by their indices."""
        values = self.points[index], self.index[index], self.weights[index], self.transfer[index]
        return FourierBand(*values, self.box)


def template_box(maps: Mapping[str, Floats]) -> int:
    """Return the edge of the templates in voxels; raise `UserError` if it is not one for all."""
    shapes = {density.shape for density in maps.values()}
    if len(shapes) != 1 or len(set(next(iter(shapes)))) != 1:
        raise UserError(
            f"templates must be cubes of one size, but their shapes are {sorted(shapes)}; "
            "use one densities.box"
        )
    return int(next(iter(shapes))[0])


def search_band(
    box: int, voxel_size: float, options: SearchOptions, device: torch.device
) -> FourierBand:
    """Return the frequencies inside tilt range, low-pass and high-pass, without zero.

    `box` is the edge of a box in voxels of `voxel_size` angstrom.
    """
    record = options.acquisition
    radius = radius_grid((box, box, box), 1.0)
    inside = missing_wedge((box, box, box), record.tilts) & (radius > 0)
    inside &= radius * box > options.highpass_radius
    inside &= radius <= options.cutoff(voxel_size)
    if not inside.any():
        raise UserError(
            f"no Fourier shell lies between highpass_shells ({options.highpass_shells}) and "
            f"lowpass ({options.lowpass:g} A) in a box of {box} voxels; lower one of them"
        )
    kz, ky, kx = np.broadcast_arrays(*frequency_axes((box, box, box), 1.0))
    points = torch.as_tensor(
        np.stack([kx, ky, kz], axis=-1)[inside], dtype=torch.float32, device=device
    )
    # a voxel with kx > 0 also represents its mirror image
    weights = np.sqrt(np.where(kx > 0, 2.0, 1.0)[inside])
    transfer = recorded_ctf(points.norm(dim=1).cpu().numpy() / voxel_size, record)
    return FourierBand(
        points,
        torch.as_tensor(np.flatnonzero(inside), device=device),
        torch.as_tensor(weights, dtype=torch.float32, device=device),
        torch.as_tensor(transfer, dtype=torch.float32, device=device),
        box,
    )


class Template:
    """The Fourier transform of a density map `(z, y, x)`, evaluated at rotated frequencies.

    The map is a cube with the particle's centre at n // 2. Its transform is multiplied with the
    contrast transfer of the band.
    """

    def __init__(self, density: Floats, band: FourierBand) -> None:
        box, size = band.box, band.box * OVERSAMPLING
        self.band, device = band, band.points.device
        # dividing by the transform of the linear kernel undoes the blur of the interpolation
        places = np.arange(box) - box // 2
        kernel = np.sinc(places / size) ** 2
        corrected = density / (kernel[:, None, None] * kernel[None, :, None] * kernel[None, None])
        # only frequencies that the band can reach are kept: random reads then stay in the cache
        reach = float(band.points.norm(dim=1).max()) * size
        half = int(np.ceil(reach)) + 1
        waves = np.exp(-2j * np.pi / size * np.outer(np.arange(-half, half + 1), places))
        z, y, x = np.meshgrid(*[-2j * np.pi * places] * 3, indexing="ij", sparse=True)
        self.edge, self.scale = len(waves), size / half
        values = torch.as_tensor(_transform(corrected, waves, waves), device=device)
        # (1, 2, z, y, x): real and imaginary part
        self.grid = torch.view_as_real(values).permute(3, 0, 1, 2)[None]
        # (z y x, 8): the value and its derivatives along kx, ky, kz, real and imaginary part.
        # Only kz >= 0 is stored: the value at -k is the conjugate of the value at k.
        slopes = [_transform(corrected * factor, waves[half:], waves) for factor in (x, y, z)]
        table = torch.stack([values[half:], *map(torch.as_tensor, slopes)], -1)
        self.table = torch.view_as_real(table).reshape(-1, 8).to(device)
        self.weights = band.weights * band.transfer

    def subset(self, index: torch.Tensor) -> "Template":
        """Return this template in the band of some points, given by their indices."""
        part = copy(self)
        part.band, part.weights = self.band.subset(index), self.weights[index]
        return part

    def rotate(self, matrices: Floats) -> torch.Tensor:
        """Return `(R, 2 P)` unit vectors: the rotated template in its band, real then imaginary.

        The transform of a volume rotated by a matrix is the template's at k rotated back.
        """
        where = self._grid_points(matrices)  # (R, 3, P)
        count, _, points = where.shape
        # grid_sample takes x, y, z in [-1, 1] from first to last voxel centre
        values = torch.nn.functional.grid_sample(
            self.grid, where.mT.reshape(1, count, points, 1, 3), align_corners=True
        )
        values = values[0, :, :, :, 0]  # (2, R, P)
        return normalise((values * self.weights).permute(1, 0, 2).reshape(count, -1))

    def rotate_with_derivatives(self, matrices: Floats) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the same and `(R, 3, 2 P)`: derivatives by rotations about x, y, z, per radian."""
        where = self._grid_points(matrices)
        count, _, points = where.shape
        side = torch.where(where[:, 2] < 0, -1.0, 1.0)  # (R, P)
        read = _interpolate(self.table, self.edge, where * side[:, None])  # (R, P, 8)
        parts = read.mT.reshape(count, 4, 2, points) * self.weights
        parts[:, 0, 1] *= side
        parts[:, 1:, 0] *= side[:, None]
        flat = parts[:, 0].reshape(count, -1)
        norm = flat.norm(dim=1, keepdim=True).clamp_min(1e-20)
        values = flat / norm
        # the gradient rotates with the template; a rotation w moves the value at k by w x k
        forward = torch.as_tensor(matrices, dtype=torch.float32).to(where.device)
        slope = (forward @ parts[:, 1:].reshape(count, 3, -1)).reshape(count, 3, 2, points)
        by_rotation = _cross(slope, self.band.points.T).reshape(count, 3, -1) / norm[:, None]
        along = torch.bmm(by_rotation, values[:, :, None])
        return values, by_rotation - along * values[:, None]

    def _grid_points(self, matrices: Floats) -> torch.Tensor:
        """Return `(R, 3, P)`: the band's points rotated back, in [-1, 1] of the grid."""
        rotations = torch.as_tensor(matrices, dtype=torch.float32).to(self.band.points.device)
        return rotations.mT @ (self.band.points * self.scale).T


def _transform(
    volume: Floats, waves_z: NDArray[np.complex128], waves: NDArray[np.complex128]
) -> Complexes:
    """Return the transform of a cube at the frequencies of `(F, n)` waves along z, y and x."""
    waves_z, waves = waves_z.astype(np.complex64), waves.astype(np.complex64)
    found = np.matmul(waves, volume.astype(np.complex64) @ waves.T)
    return (waves_z @ found.reshape(len(found), -1)).reshape(-1, *found.shape[1:])


def _interpolate(table: torch.Tensor, edge: int, where: torch.Tensor) -> torch.Tensor:
    """Return the rows of a table, interpolated linearly between its grid points: `(R, P, C)`.

    `grid_sample` gives the same but reads channels one by one; eight cost little more than two
    here. The table is `(z y x, C)` on a grid of `edge` (odd) points along x and y, and the upper
    half of z; `where` is `(R, 3, P)` xyz in [-1, 1], z from 0.
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


def _cross(vectors: torch.Tensor, points: torch.Tensor) -> torch.Tensor:
    """Return cross products of `(R, 3, 2, P)` and `(3, P)`; `linalg.cross` is 4 times slower."""
    (a, b, c), (x, y, z) = vectors.unbind(1), points.contiguous()
    found = torch.empty_like(vectors)
    terms = [(b, z, c, y), (c, x, a, z), (a, y, b, x)]
    for row, (first, second, third, fourth) in enumerate(terms):
        torch.mul(first, second, out=found[:, row])
        found[:, row].addcmul_(third, fourth, value=-1)
    return found


def normalise(vectors: torch.Tensor) -> torch.Tensor:
    """Return vectors `(N, 2 P)` divided by their lengths."""
    return vectors / vectors.norm(dim=1, keepdim=True).clamp_min(1e-20)


def band_vectors(boxes: torch.Tensor, band: FourierBand) -> torch.Tensor:
    """Return `(N, 2 P)` unit vectors of boxes `(N, z, y, x)`, centred at n // 2."""
    centred = torch.fft.ifftshift(boxes, dim=(1, 2, 3))
    spectrum = torch.fft.rfftn(centred, dim=(1, 2, 3)).flatten(1)[:, band.index]
    return normalise(torch.cat([spectrum.real * band.weights, spectrum.imag * band.weights], dim=1))


def subset_vectors(vectors: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
    """Return `(N, 2 I)` unit vectors: the part of vectors `(N, 2 P)` at some points of the band."""
    real, imag = vectors.chunk(2, dim=1)
    return normalise(torch.cat([real[:, index], imag[:, index]], dim=1))


def shift_back(vectors: torch.Tensor, shifts: torch.Tensor, band: FourierBand) -> torch.Tensor:
    """Return `(N, S, 2 P)`: band vectors of boxes after moving them by minus each shift.

    `shifts` is `(S, 3)` xyz voxels. A particle at n // 2 + shift comes to n // 2.
    """
    phase = 2 * torch.pi * shifts @ band.points.T  # (S, P)
    cos, sin = torch.cos(phase), torch.sin(phase)
    real, imag = vectors.chunk(2, dim=1)
    moved_real = real[:, None] * cos - imag[:, None] * sin
    moved_imag = real[:, None] * sin + imag[:, None] * cos
    return torch.cat([moved_real, moved_imag], dim=2)


def batches(count: int, size: int) -> Iterator[slice]:
    """Yield consecutive slices of at most `size` of `count` items."""
    for start in range(0, count, size):
        yield slice(start, min(start + size, count))
