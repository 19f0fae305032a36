"""Loss terms of both models: sliced Wasserstein distance of patches, cosine with the signal.

The sliced Wasserstein distance (Rabin 2012, doi 10.1007/978-3-642-24785-9_37) compares the sorted
responses of small random filters to both batches. It depends on patches of the filters' size, not
on their position, so it cannot reward moving a particle. It needs no discriminator, so it has a
useful gradient from the first step on.
"""

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from cryoetgan.translation.engine.threads import in_threads

DILATIONS = (1, 2, 4)
"""Distances between the voxels of a 3^3 filter, voxels: filters see 3, 5 and 9 voxels."""
MAX_PATCHES = 8192
"""Patches compared by each filter."""
PATCH_FILTERS = 16
"""Random filters of each dilation, new at each step."""


def patch_distance(generated: Tensor, real: Tensor, max_patches: int = MAX_PATCHES) -> Tensor:
    """Return the sliced Wasserstein distance between the patches of two batches.

    It is the mean squared difference of sorted filter responses, over the real variance: 0 if both
    batches hold the same patches, in any order. Only `generated` has a gradient.

    Parameters
    ----------
    generated, real : Tensor
        `(B, 1, z, y, x)` each; B may differ.
    max_patches : int
        Patches compared by each filter, drawn at random.
    """
    total = generated.new_zeros(())
    edge = min(*generated.shape[2:], *real.shape[2:])
    dilations = [dilation for dilation in DILATIONS if 2 * dilation < edge]
    for dilation in dilations:
        filters = normalise_filters(torch.randn(PATCH_FILTERS, 1, 3, 3, 3).to(generated.device))
        count = min(max_patches, *(count_patches(x, dilation) for x in (generated, real)))
        pair = (sample_responses(x, filters, dilation, count) for x in (generated, real.detach()))
        a, b = map(sort_rows, pair)
        variance = b.var(dim=1, keepdim=True).clamp_min(1e-8)
        total = total + ((a - b).square() / variance).mean()
    return total / max(len(dilations), 1)


def normalise_filters(filters: Tensor) -> Tensor:
    """Return filters `(F, 1, 3, 3, 3)` divided by their norm."""
    norm = filters.flatten(1).norm(dim=1).reshape(-1, 1, 1, 1, 1)
    return filters / norm.clamp_min(1e-6)


def count_patches(volumes: Tensor, dilation: int) -> int:
    """Return the number of patches of a dilated 3^3 filter in a batch `(B, 1, z, y, x)`."""
    return volumes.shape[0] * int(np.prod([n - 2 * dilation for n in volumes.shape[2:]]))


def sample_responses(volumes: Tensor, filters: Tensor, dilation: int, count: int) -> Tensor:
    """Return the responses `(F, count)` of filters to patches drawn at random from a batch.

    Filters are `(F, 1, 3, 3, 3)`, volumes `(B, 1, z, y, x)`. If there are fewer patches, all are
    used. Computing these patches alone is faster than a convolution.
    """
    flat_shape = (volumes.shape[0], *volumes.shape[2:])
    shape = [volumes.shape[0], *(n - 2 * dilation for n in volumes.shape[2:])]
    drawn = torch.randperm(count_patches(volumes, dilation))[:count].numpy()
    corners = np.ravel_multi_index(np.unravel_index(drawn, shape), flat_shape)
    steps = np.stack(np.meshgrid(*[np.arange(3) * dilation] * 3, indexing="ij")).reshape(3, -1)
    offsets = np.ravel_multi_index(np.vstack([np.zeros_like(steps[:1]), steps]), flat_shape)
    voxels = torch.from_numpy(corners[:, None] + offsets).to(volumes.device)
    return filters.flatten(1) @ volumes.flatten()[voxels].T


def sort_rows(responses: Tensor) -> Tensor:
    """Return `(F, N)` with each row sorted; on CPUs numpy sorts several times faster."""
    if responses.device.type != "cpu":
        return torch.sort(responses, dim=1).values
    rows = responses.detach().numpy()
    if not responses.requires_grad:
        return torch.from_numpy(np.stack(in_threads(np.sort, rows)))
    order = np.stack(in_threads(np.argsort, rows))
    return responses.gather(1, torch.from_numpy(order))


def signal_cosine_distance(mean: Tensor, signal: Tensor) -> Tensor:
    """Return 1 minus the cosine between volumes and their signals, averaged over the batch.

    Both are `(B, 1, z, y, x)`, averaged over 2^3 voxels and freed of their mean first. `mean` is the
    mean output for noise of both signs, or for several noises: only the effect of the signal
    remains, which must keep its position.
    """
    a, b = (functional.avg_pool3d(volumes, 2).flatten(1) for volumes in (mean, signal))
    a, b = (flat - flat.mean(dim=1, keepdim=True) for flat in (a, b))
    return 1 - functional.cosine_similarity(a, b, dim=1, eps=1e-6).mean()
