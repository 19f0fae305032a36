"""Distances of texture and of power spectra between generated and real volumes.

Neither depends on positions, so neither rewards moving a particle; and neither has to be trained,
as a discriminator must be. Texture: sliced Wasserstein distances (`engine/losses.py`) of voxels, of
filter responses over 3 to 9 voxels, and of the local strength of responses.
"""

import functools

import torch
from torch import Tensor, nn
from torch.nn import functional

from cryoetgan.translation.engine import losses
from cryoetgan.translation.residual.layers import conv3d_from_one

VARIANCE_FLOOR = 1e-4
"""Added to the variance of a volume, as a fraction of the domain's; keeps empty volumes empty."""
MIN_RESPONSES = 100
"""Responses below which a dilation is omitted, unless it is the only one."""
MIN_REAL_VARIANCE = 1e-3
"""Lower bound of the variance that distances are divided by; standardised volumes have 1."""
RANDOM_FILTERS = 16
"""Random filters of each dilation, new at each step, beside the nine fixed ones."""
RANDOM_STRENGTH_FILTERS = 7
"""Random filters whose local strength is compared."""
SPARSE_FRACTION = 0.15
"""Fraction of the voxels that are not zero in every other random filter."""
STRENGTH_WINDOW, STRENGTH_STRIDE = 5, 3
"""Edge and stride in voxels of the windows that absolute responses are averaged over."""
MAX_STRENGTHS = 2048
"""Local strengths compared by each filter."""
ANGLE_BINS = 4
"""Bins of the angle to the beam, 0 to 90 degrees."""
POWER_FLOOR = 1e-6
"""Added to a power spectrum before its logarithm, as a fraction of the mean power."""
PRIOR_VOLUMES = 5
"""Weight of the median variance of all bins in the variance of one bin, as a number of volumes."""
SPECTRUM_DECAY = 0.9
"""Decay of the running mean of spectra; one batch has too few volumes."""


def standardise(volumes: Tensor) -> Tensor:
    """Return `(B, 1, z, y, x)`, each volume with mean 0 and standard deviation 1."""
    centred = volumes - volumes.mean(dim=(1, 2, 3, 4), keepdim=True)
    variance = centred.square().mean(dim=(1, 2, 3, 4), keepdim=True)
    return centred / (variance + VARIANCE_FLOOR).sqrt()


def texture_distance(
    generated: Tensor,
    real: Tensor,
    max_patches: int = losses.MAX_PATCHES,
    max_strengths: int = MAX_STRENGTHS,
) -> Tensor:
    """Return the distances of voxels, of filter responses, and of their local strength.

    Parameters
    ----------
    generated, real : Tensor
        `(B, 1, z, y, x)` each, standardised; B may differ. Only `generated` has a gradient.
    max_patches, max_strengths : int
        Responses and local strengths compared by each filter, drawn at random.

    Returns
    -------
    Tensor
        `(3,)`, each 0 if both batches have the same distribution, over the real variance.
    """
    real, device = real.detach(), generated.device
    pair = (generated, real)
    delta = torch.zeros(1, 1, 3, 3, 3)
    delta[0, 0, 1, 1, 1] = 1.0
    voxels = sorted_distance(
        *(losses.sample_responses(x, delta.to(device), 1, max_patches) for x in pair)
    )
    edge, count = min(*generated.shape[2:], *real.shape[2:]), min(len(generated), len(real))
    dilations = [d for d in losses.DILATIONS if count * (edge - 2 * d) ** 3 >= MIN_RESPONSES]
    parts = []
    for dilation in dilations or losses.DILATIONS[:1]:
        filters = torch.cat([derivative_filters(), random_filters(RANDOM_FILTERS)]).to(device)
        responses = (losses.sample_responses(x, filters, dilation, max_patches) for x in pair)
        parts.append(sorted_distance(*responses))
    filters = torch.cat([derivative_filters(), random_filters(RANDOM_STRENGTH_FILTERS)]).to(device)
    strengths = [local_strengths(x, filters) for x in pair]
    count = min(max_strengths, *(x.shape[1] for x in strengths))
    chosen = [x[:, torch.randperm(x.shape[1])[:count].to(device)] for x in strengths]
    mixture = torch.randn(len(filters), len(filters)).to(device) / len(filters) ** 0.5
    strength = sorted_distance(*(torch.cat([x, mixture @ x]) for x in chosen))
    return torch.stack([voxels, torch.stack(parts).mean(), strength])


def sorted_distance(generated: Tensor, real: Tensor) -> Tensor:
    """Return the mean squared difference of sorted rows `(F, N)`, over the real variance."""
    count = min(generated.shape[1], real.shape[1])
    a, b = (losses.sort_rows(x[:, :count]) for x in (generated, real))
    variance = b.var(dim=1, correction=0).clamp_min(MIN_REAL_VARIANCE)
    return ((a - b).square().mean(dim=1) / variance).mean()


def local_strengths(volumes: Tensor, filters: Tensor) -> Tensor:
    """Return `(F, N)` absolute responses to filters, averaged over windows."""
    window = min(STRENGTH_WINDOW, volumes.shape[-1] - filters.shape[-1] + 1)
    pooled = [
        functional.avg_pool3d(conv3d_from_one(one, filters).abs(), window, STRENGTH_STRIDE)
        for one in volumes.split(1)  # the responses to all would take most of the memory
    ]
    return torch.cat(pooled).transpose(0, 1).flatten(1)


def derivative_filters() -> Tensor:
    """Return nine filters `(9, 1, 3, 3, 3)` of norm 1: first, second and mixed differences."""
    names = ("100", "010", "001", "200", "020", "002", "0cc", "c0c", "cc0")  # along z, y and x
    lines = {"0": [0.0, 1, 0], "1": [0.0, -1, 1], "2": [1.0, -2, 1], "c": [-1.0, 0, 1]}
    axes = [[torch.tensor(lines[line]) for line in name] for name in names]
    filters = torch.stack([torch.einsum("i,j,k->ijk", *three) for three in axes])
    return losses.normalise_filters(filters[:, None])


def random_filters(count: int) -> Tensor:
    """Return `(count, 1, 3, 3, 3)` of norm 1: every other one sparse, one in four with a mean."""
    mask = torch.ones(count, 1, 3, 3, 3)
    mask[::2] = (torch.rand(len(mask[::2]), 1, 3, 3, 3) < SPARSE_FRACTION).float()
    out = torch.randn(count, 1, 3, 3, 3) * mask
    voxels = mask.sum(dim=(2, 3, 4), keepdim=True).clamp_min(1)
    mean = out.sum(dim=(2, 3, 4), keepdim=True) / voxels
    keep_mean = (torch.arange(count) % 4 == 3).float().reshape(-1, 1, 1, 1, 1)
    return losses.normalise_filters(out - (1 - keep_mean) * mean * mask)


class PowerSpectrum(nn.Module):
    """Distance from the mean log power spectrum of real volumes, by radius and angle to the beam.

    Parameters
    ----------
    real : Tensor
        `(N, 1, z, y, x)`, standardised, on the CPU. The bins are centred and scaled by these.
    """

    window: Tensor
    bins: Tensor
    centre: Tensor
    spread: Tensor
    seen: Tensor

    def __init__(self, real: Tensor) -> None:
        super().__init__()
        box = real.shape[-1]
        index, count = spectrum_bins(box)
        bins = torch.zeros(count, index.numel())
        bins[index[index >= 0], torch.nonzero(index.flatten() >= 0).flatten()] = 1.0
        used = bins.sum(dim=1) > 0
        line = torch.sin(torch.pi * (torch.arange(box) + 0.5) / box)
        # buffers that follow from the real volumes need not be in checkpoints
        keep = functools.partial(self.register_buffer, persistent=False)
        keep("window", line[:, None, None] * line[None, :, None] * line)
        keep("bins", bins[used] / bins[used].sum(dim=1, keepdim=True))
        with torch.no_grad():
            powers = torch.cat([self.log_power(part) for part in real.split(64)])
        keep("centre", powers.mean(dim=0))
        # the variance over few volumes is uncertain: shrink it to the median of all bins
        variance, n = powers.var(dim=0, correction=0), len(powers)
        prior = variance.median() if n > 1 else torch.ones(())
        keep("spread", ((n * variance + PRIOR_VOLUMES * prior) / (n + PRIOR_VOLUMES)).sqrt())
        # running mean of the generated volumes' deviations
        self.register_buffer("seen", torch.full_like(self.centre, torch.nan))

    def log_power(self, x: Tensor) -> Tensor:
        """Return `(B, bins)` of volumes `(B, 1, z, y, x)`."""
        volumes = x[:, 0].float()
        centred = volumes - volumes.mean(dim=(1, 2, 3), keepdim=True)
        power = torch.fft.rfftn(centred * self.window, dim=(1, 2, 3)).abs().square().flatten(1)
        binned = power @ self.bins.T
        return torch.log(binned + POWER_FLOOR * binned.detach().mean())

    def forward(self, generated: Tensor) -> tuple[Tensor, Tensor]:
        """Return the mean squared deviation of the mean spectrum, and the deviations `(bins,)`.

        Volumes are `(B, 1, z, y, x)`, standardised; deviations are over the real spectra's standard
        deviation. The mean is a running mean that includes this batch; the gradient is this
        batch's. `update` takes the deviations at the end of the step.
        """
        deviation = ((self.log_power(generated) - self.centre) / self.spread).mean(dim=0)
        mean = self._running_mean(deviation.detach())
        # value: mean^2; gradient: 2 mean d(deviation)
        distance = (mean * (2 * deviation - 2 * deviation.detach() + mean)).mean()
        return distance, deviation.detach()

    def update(self, deviation: Tensor) -> None:
        """Update the running mean by a step's deviations `(bins,)`."""
        self.seen.copy_(self._running_mean(deviation))

    def _running_mean(self, deviation: Tensor) -> Tensor:
        moved = SPECTRUM_DECAY * self.seen + (1 - SPECTRUM_DECAY) * deviation
        return torch.where(self.seen.isnan(), deviation, moved)


def spectrum_bins(box: int) -> tuple[Tensor, int]:
    """Return the bin of each Fourier voxel `(z, y, x // 2 + 1)`, -1 for none, and their number.

    Bins are shells of one Fourier voxel up to the highest frequency of an axis, each split into
    `ANGLE_BINS` by the angle to the beam (z).
    """
    kz = torch.fft.fftfreq(box)[:, None, None] * box
    ky = torch.fft.fftfreq(box)[None, :, None] * box
    kx = torch.fft.rfftfreq(box)[None, None, :] * box
    lateral = torch.sqrt(ky**2 + kx**2)
    radius = torch.sqrt(kz**2 + lateral**2)
    shell = torch.round(radius).long()
    angle = torch.atan2(lateral, kz.abs()) / (torch.pi / 2) * ANGLE_BINS
    part = angle.long().clamp(max=ANGLE_BINS - 1)
    inside = (shell > 0) & (shell <= box // 2)
    return torch.where(inside, (shell - 1) * ANGLE_BINS + part, -1), (box // 2) * ANGLE_BINS
