"""How far the patches of two batches lie apart: torch and numpy, nothing else.

The sliced Wasserstein distance (Rabin 2012, doi 10.1007/978-3-642-24785-9_37): small random
filters see patches of both batches, and their answers, sorted, are compared one by one. It sees
no farther than the filters, so cannot reward moving a label; it needs no critic, so it pulls
from the first step on, where a critic would have to learn first what to look for.
"""

import numpy as np
import torch
from torch import Tensor

FILTERS = 16
"""Of each reach, drawn anew each step."""
DILATIONS = (1, 2, 4)
"""Between the voxels of a 3^3 filter: fields of 3, 5 and 9 voxels."""
PLACES = 8192
"""Patches compared a filter."""


def patch_distance(made: Tensor, real: Tensor) -> Tensor:
    """Return the mean squared distance of sorted filter answers, over their real variance.

    Parameters
    ----------
    made, real : Tensor
        `(B, 1, z, y, x)` each, B may differ.

    Returns
    -------
    Tensor
        A scalar; 0 where both hold the same patches, in any order.
    """
    total = made.new_zeros(())
    smallest = min(*made.shape[2:], *real.shape[2:])
    reaches = [dilation for dilation in DILATIONS if 2 * dilation < smallest]
    for dilation in reaches:
        filters = torch.randn(FILTERS, 1, 3, 3, 3).to(made.device)
        filters = filters / filters.flatten(1).norm(dim=1).reshape(-1, 1, 1, 1, 1)
        count = min(PLACES, *(_places(volumes, dilation) for volumes in (made, real)))
        a, b = (
            in_order(answers(volumes, filters, dilation, count))
            for volumes in (made, real.detach())
        )
        variance = b.var(dim=1, keepdim=True).clamp_min(1e-8)
        total = total + ((a - b).square() / variance).mean()
    return total / max(len(reaches), 1)


def _places(volumes: Tensor, dilation: int) -> int:
    """Return how many patches there are."""
    return volumes.shape[0] * int(np.prod([n - 2 * dilation for n in volumes.shape[2:]]))


def answers(volumes: Tensor, filters: Tensor, dilation: int, count: int) -> Tensor:
    """Return `(filters, count)` answers at places drawn by torch's generator, of all volumes.

    Fewer where there are not as many places.

    Only the patches drawn are looked at: a convolution of all, of one channel, is slower.
    """
    shape = [volumes.shape[0], *(n - 2 * dilation for n in volumes.shape[2:])]
    drawn = torch.randperm(_places(volumes, dilation))[:count].numpy()
    corner = np.ravel_multi_index(np.unravel_index(drawn, shape), _flat(volumes))
    steps = np.stack(np.meshgrid(*[np.arange(3) * dilation] * 3, indexing="ij")).reshape(3, -1)
    offset = np.ravel_multi_index(np.vstack([np.zeros_like(steps[:1]), steps]), _flat(volumes))
    at = torch.from_numpy(corner[:, None] + offset).to(volumes.device)
    return filters.flatten(1) @ volumes.flatten()[at].T


def _flat(volumes: Tensor) -> tuple[int, ...]:
    return (volumes.shape[0], *volumes.shape[2:])


def in_order(answers: Tensor) -> Tensor:
    """Return `(filters, N)` with each row sorted; numpy sorts several times quicker on CPUs."""
    if answers.device.type != "cpu":
        return torch.sort(answers, dim=1).values
    order = np.argsort(answers.detach().numpy(), axis=1)
    return answers.gather(1, torch.from_numpy(order))
