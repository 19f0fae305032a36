"""Numbers that watch for failures which losses do not show: labels that move, neighbours invented."""

import torch
from torch import Tensor

FAR = 0.4
"""Of the box: farther than this from its middle no particle of its own reaches."""


def centre_drift(made: Tensor, densities: Tensor) -> Tensor:
    """Return how many voxels off their densities volumes lie, whole voxels.

    The peak of the cross-correlation, added up over volumes: chance has no direction.

    Parameters
    ----------
    made, densities : Tensor
        `(N, 1, z, y, x)`.
    """
    shape, axes = made.shape[-3:], (-3, -2, -1)
    a, b = (torch.fft.rfftn(v.float() - v.float().mean(), dim=axes) for v in (made, densities))
    both = torch.fft.irfftn((a * b.conj()).sum(dim=(0, 1)), s=shape, dim=axes)
    peak = torch.stack(torch.unravel_index(both.argmax(), shape)).float()
    size = torch.tensor(shape, device=peak.device)
    peak = torch.where(peak > size // 2, peak - size, peak)
    return torch.linalg.vector_norm(peak)


def far_mean(volumes: Tensor) -> Tensor:
    """Return the mean grey value far from the middle of volumes `(N, 1, n, n, n)`."""
    n = volumes.shape[-1]
    axis = torch.arange(n, device=volumes.device) - n // 2
    square = axis[:, None, None] ** 2 + axis[None, :, None] ** 2 + axis[None, None] ** 2
    return volumes[..., square > (FAR * n) ** 2].mean()
