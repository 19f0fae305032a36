"""All templates in all orientations as sums of a few kernels (low-rank bank).

A template turned through all orientations, seen through wedge and band, spans few dimensions:
K kernels, correlated with the tomogram once, give the score of any class and orientation
by a product of matrices.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from cryoetgan.particles.matching.template import Band, Template
from cryoetgan.physics.geometry import super_fibonacci

Floats = NDArray[np.floating]
COMPONENTS = 128
"""Kernels at most; 96 to 128 hold 99.7 % of the energy of one protein's bank."""
ENERGY = 0.997
COARSE = 550
"""Orientations tried at every voxel: some 30 degrees apart."""
FINE_A_COARSE = 8
"""More where the fine grid is very fine."""
CHUNK = 256
SAMPLE = 4096
"""Turned templates that the kernels are found from."""
POWER_STEPS = 3


@dataclass(frozen=True)
class LowRankBank:
    """The bank of C classes.

    Attributes
    ----------
    names : list of str
        Classes.
    templates : list of Template
        The same order.
    rotations : scipy.spatial.transform.Rotation
        The R fine orientations.
    coarse : torch.Tensor
        `(C, Rc, K)` coefficients of the coarse orientations.
    fine : torch.Tensor
        `(C, R, K)` coefficients of the fine ones.
    kernels : torch.Tensor
        `(K, z, y, x)`: the correlation of a box with kernel k is component k of the box.
    energy : float
        Share of the bank's energy that the kernels hold.
    """

    names: list[str]
    templates: list[Template]
    rotations: Rotation
    coarse: torch.Tensor
    fine: torch.Tensor
    kernels: torch.Tensor
    energy: float


def make_bank(
    maps: Mapping[str, Floats], band: Band, transfer: Floats | None, rotations: int
) -> LowRankBank:
    """Turn all templates and find the kernels they share.

    Parameters
    ----------
    maps : mapping
        Class to density `(z, y, x)`, cubes of the band's box.
    band : Band
        Wedge, low-pass, high-pass shells.
    transfer : ndarray, optional
        Contrast transfer in the band.
    rotations : int
        Fine orientations, uniform on SO(3).
    """
    templates = [Template(density, band, transfer) for density in maps.values()]
    fine = super_fibonacci(rotations)
    coarse = super_fibonacci(min(rotations, max(COARSE, rotations // FINE_A_COARSE)))
    vectors = [_turned(template, coarse) for template in templates]
    basis = leading_directions(torch.cat([v[:: _every(v, len(templates))] for v in vectors]))
    coefficients = torch.stack([v @ basis for v in vectors])
    parts = [
        torch.cat(
            [template.turned(fine[i : i + CHUNK]) @ basis for i in range(0, rotations, CHUNK)]
        )
        for template in templates
    ]
    return LowRankBank(
        list(maps),
        templates,
        fine,
        coefficients,
        torch.stack(parts),
        _kernels(basis, band),
        float((coefficients**2).sum(-1).mean()),
    )


def _every(vectors: torch.Tensor, classes: int) -> int:
    return max(1, len(vectors) * classes // SAMPLE)


def _turned(template: Template, rotations: Rotation) -> torch.Tensor:
    parts = [template.turned(rotations[i : i + CHUNK]) for i in range(0, len(rotations), CHUNK)]
    return torch.cat(parts)


def leading_directions(vectors: torch.Tensor, count: int = COMPONENTS) -> torch.Tensor:
    """Return `(2 P, K)`: orthonormal directions that hold most of the vectors' energy.

    Subspace iteration (Halko 2011, doi 10.1137/090771806): a few products instead of a
    decomposition of thousands by thousands. At most `count`, fewer where 99.7 % need fewer.
    """
    count = min(count, *vectors.shape)
    width = min(count + 16, *vectors.shape)
    start = np.random.default_rng(0).standard_normal((vectors.shape[1], width))
    found = torch.as_tensor(start, dtype=vectors.dtype).to(vectors.device)
    for _ in range(POWER_STEPS):
        found = torch.linalg.qr(vectors.T @ (vectors @ found))[0]
    small = vectors @ found
    values, directions = torch.linalg.eigh((small.T @ small).double())
    values, directions = values.flip(0), directions.flip(1)
    share = torch.cumsum(values, 0) / (vectors.double() ** 2).sum()
    enough = int((share < ENERGY).sum()) + 1
    return (found.double() @ directions[:, : min(count, enough)]).float()


def _kernels(basis: torch.Tensor, band: Band) -> torch.Tensor:
    """Return `(K, z, y, x)`, centre n // 2: what a box is multiplied with for its components."""
    box = band.box
    real, imag = (basis / torch.cat([band.weights, band.weights])[:, None]).T.chunk(2, dim=1)
    spectrum = torch.zeros(
        (basis.shape[1], box * box * (box // 2 + 1)), dtype=torch.complex64, device=basis.device
    )
    # the band's sum of weights * Re(conj(T) F), where a weight is 2 but on the plane kx = 0
    spectrum[:, band.index] = torch.complex(real, imag)
    shaped = spectrum.reshape(-1, box, box, box // 2 + 1)
    kernels = torch.fft.irfftn(shaped, s=(box, box, box), norm="forward")
    return torch.fft.fftshift(kernels, dim=(1, 2, 3))
