"""How far the patches of two batches lie apart: torch and nothing else.

The sliced Wasserstein distance (Rabin 2012, doi 10.1007/978-3-642-24785-9_37): small random
filters see patches of both batches, and their answers, sorted, are compared one by one. It sees
no farther than the filters, so cannot reward moving a label; it needs no critic, so it pulls
from the first step on, where a critic would have to learn first what to look for.
"""

import torch
from torch import Tensor
from torch.nn import functional

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
        answers = [_answers(volumes, filters, dilation) for volumes in (made, real.detach())]
        count = min(PLACES, *(found.shape[1] for found in answers))
        a, b = (torch.sort(_drawn(found, count), dim=1).values for found in answers)
        variance = b.var(dim=1, keepdim=True).clamp_min(1e-8)
        total = total + ((a - b).square() / variance).mean()
    return total / max(len(reaches), 1)


def _answers(volumes: Tensor, filters: Tensor, dilation: int) -> Tensor:
    """Return `(filters, patches)`."""
    found = functional.conv3d(volumes, filters, dilation=dilation)
    return found.transpose(0, 1).flatten(1)


def _drawn(answers: Tensor, count: int) -> Tensor:
    """Return as many answers of each filter, at places drawn by torch's generator."""
    if answers.shape[1] == count:
        return answers
    return answers[:, torch.randperm(answers.shape[1])[:count].to(answers.device)]
