"""All templates in all orientations as sums of a few kernels (low-rank bank).

A template in all orientations, seen through wedge and band, spans few dimensions. K kernels are
correlated with the tomogram once, and a product of matrices then gives the score of any class
in any orientation.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from cryoetgan.particles.matching.template import FourierBand, Template, batches
from cryoetgan.physics.geometry import super_fibonacci

Floats = NDArray[np.floating]
MAX_KERNELS = 128
"""Largest number of kernels; 96 to 128 hold 99.7 % of the energy of one protein's bank, but only
55 % of a ribosome's at 30 angstrom. Each costs a Fourier transform of the tomogram."""
KERNEL_ENERGY = 0.997
"""Share of the bank's energy that the kernels hold, if `MAX_KERNELS` allows."""
LEAST_ROTATIONS = 1856
"""Orientations searched by default, some 20 degrees apart."""
COARSE_ROTATIONS = 550
"""Fewest orientations tried at every voxel, some 30 degrees apart."""
FINE_PER_COARSE = 8
"""Largest number of fine orientations for each coarse one."""
ROTATIONS_PER_CHUNK = 256
SAMPLED_TEMPLATES = 4096
"""Rotated templates from which the kernels are computed."""
POWER_ITERATIONS = 3


@dataclass(frozen=True)
class LowRankBank:
    """The bank of C classes, with R fine orientations (`rotations`)."""

    names: list[str]
    templates: list[Template]
    rotations: Rotation
    coarse: torch.Tensor
    """`(C, Rc, K)` coefficients of the coarse orientations."""
    fine: torch.Tensor
    """`(C, R, K)` coefficients of the fine orientations."""
    kernels: torch.Tensor
    """`(K, z, y, x)`: the correlation of a box with kernel k is component k of the box."""

    @property
    def box(self) -> int:
        """Edge of a template in voxels."""
        return int(self.kernels.shape[-1])


def make_bank(maps: Mapping[str, Floats], band: FourierBand, rotations: int | None) -> LowRankBank:
    """Rotate all templates and compute the kernels that they share.

    `maps` is class to density `(z, y, x)`; `rotations` is the number of fine orientations.
    """
    rotations = rotations or LEAST_ROTATIONS
    templates = [Template(density, band) for density in maps.values()]
    fine = super_fibonacci(rotations)
    coarse = super_fibonacci(min(rotations, max(COARSE_ROTATIONS, rotations // FINE_PER_COARSE)))
    vectors = [rotate_in_chunks(template, coarse) for template in templates]
    step = max(1, len(vectors[0]) * len(templates) // SAMPLED_TEMPLATES)
    basis = leading_directions(torch.cat([v[::step] for v in vectors]))
    return LowRankBank(
        list(maps),
        templates,
        fine,
        torch.stack([v @ basis for v in vectors]),
        torch.stack([rotate_in_chunks(template, fine, basis) for template in templates]),
        _kernels(basis, band),
    )


def rotate_in_chunks(
    template: Template, rotations: Rotation, basis: torch.Tensor | None = None
) -> torch.Tensor:
    """Return `(R, 2 P)`: a template in many orientations; or `(R, K)`: its components in a basis."""
    parts, matrices = [], rotations.as_matrix()
    for chunk in batches(len(matrices), ROTATIONS_PER_CHUNK):
        part = template.rotate(matrices[chunk])
        parts.append(part if basis is None else part @ basis)
    return torch.cat(parts)


def leading_directions(vectors: torch.Tensor, count: int = MAX_KERNELS) -> torch.Tensor:
    """Return `(2 P, K)`: orthonormal directions that hold most of the energy of vectors.

    Subspace iteration (Halko 2011, doi 10.1137/090771806) needs a few matrix products instead of
    a large decomposition. K is at most `count`, and smaller if fewer directions hold 99.7 %.
    """
    count = min(count, *vectors.shape)
    width = min(count + 16, *vectors.shape)
    start = np.random.default_rng(0).standard_normal((vectors.shape[1], width))
    found = torch.as_tensor(start, dtype=vectors.dtype).to(vectors.device)
    for _ in range(POWER_ITERATIONS):
        found = torch.linalg.qr(vectors.T @ (vectors @ found))[0]
    small = vectors @ found
    values, directions = torch.linalg.eigh((small.T @ small).double())
    values, directions = values.flip(0), directions.flip(1)
    # no copy of all vectors: they are the largest array of a search
    share = torch.cumsum(values, 0) / vectors.norm(dim=1).double().square().sum()
    enough = int((share < KERNEL_ENERGY).sum()) + 1
    return (found.double() @ directions[:, : min(count, enough)]).float()


def _kernels(basis: torch.Tensor, band: FourierBand) -> torch.Tensor:
    """Return `(K, z, y, x)`, centre n // 2: kernels whose products with a box are its components."""
    box = band.box
    real, imag = (basis / torch.cat([band.weights, band.weights])[:, None]).T.chunk(2, dim=1)
    spectrum = torch.zeros(
        (basis.shape[1], box * box * (box // 2 + 1)), dtype=torch.complex64, device=basis.device
    )
    # the band's sum of weights * Re(conj(T) F), with weight 1 on the plane kx = 0, else 2
    spectrum[:, band.index] = torch.complex(real, imag)
    shaped = spectrum.reshape(-1, box, box, box // 2 + 1)
    kernels = torch.fft.irfftn(shaped, s=(box, box, box), norm="forward")
    return torch.fft.fftshift(kernels, dim=(1, 2, 3))
