"""Diagnostics of failures that losses do not show: moved particles, invented neighbours."""

import torch
from torch import Tensor

BACKGROUND_RADIUS = 0.4
"""Distance from the centre, as a fraction of the box, beyond which no particle reaches."""


def centre_shift(generated: Tensor, densities: Tensor) -> Tensor:
    """Return the distance in whole voxels between generated particles and their densities.

    It is the position of the peak of the cross-correlation, summed over the batch; random
    differences have no direction and cancel.

    Parameters
    ----------
    generated, densities : Tensor
        `(N, 1, z, y, x)`.
    """
    shape, axes = generated.shape[-3:], (-3, -2, -1)
    a, b = (torch.fft.rfftn(v.float() - v.float().mean(), dim=axes) for v in (generated, densities))
    correlation = torch.fft.irfftn((a * b.conj()).sum(dim=(0, 1)), s=shape, dim=axes)
    peak = torch.stack(torch.unravel_index(correlation.argmax(), shape)).float()
    size = torch.tensor(shape, device=peak.device)
    peak = torch.where(peak > size // 2, peak - size, peak)
    return torch.linalg.vector_norm(peak)


def background_mean(volumes: Tensor) -> Tensor:
    """Return the mean grey value of the background of volumes `(N, 1, n, n, n)`."""
    n = volumes.shape[-1]
    axis = torch.arange(n, device=volumes.device) - n // 2
    square = axis[:, None, None] ** 2 + axis[None, :, None] ** 2 + axis[None, None] ** 2
    return volumes[..., square > (BACKGROUND_RADIUS * n) ** 2].mean()
