"""How far the texture of two batches lies apart, without a critic: torch and numpy, nothing else.

Sliced Wasserstein distances (Rabin 2012, doi 10.1007/978-3-642-24785-9_37) of voxels, of what
filters of 3 to 9 voxels answer, and of where these answers are strong; and the power spectrum.
The distances see no farther than that, and none sees where in its box anything lies, so nothing
rewards moving a label; and nothing must be learnt first, nor can be upset, as a critic can.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from cryoetgan.translation.engine.patches import DILATIONS, answers, in_order
from cryoetgan.translation.residual.filters import answered

FLAT = 1e-4
"""Added to a volume's variance, over that of all: an empty one is not blown up."""
PLACES = 8192
"""Answers compared a filter."""
FEW = 100
"""Answers below which a reach is left out, so long as another has more."""
LEAST = 1e-3
"""Variance over which distances are taken, at least: standardised volumes have 1."""
RANDOM = 16
"""Filters drawn anew each step, beside the nine that are always asked."""
SPARSE = 0.15
"""Share of the voxels that every other random filter sees: derivatives of all kinds."""
REACH, APART = 5, 3
"""Voxels an edge over which strong answers are averaged, and from one average to the next."""
STRENGTHS = 2048
"""Strengths compared a filter."""
ANGLES = 4
"""Bins of the angle to the beam, 0 to 90 degrees."""
FLOOR = 1e-6
"""Of a spectrum's mean: below it the logarithm is cut."""
PRIOR = 5
"""Volumes that the median spread of all bins counts for in that of each."""
MEMORY = 0.9
"""Of the running mean of spectra: a batch alone is too few."""


def standardised(volumes: Tensor) -> Tensor:
    """Return `(B, 1, z, y, x)` each with mean 0 and standard deviation 1."""
    centred = volumes - volumes.mean(dim=(1, 2, 3, 4), keepdim=True)
    return centred / (centred.square().mean(dim=(1, 2, 3, 4), keepdim=True) + FLAT).sqrt()


def texture_distance(made: Tensor, real: Tensor) -> Tensor:
    """Return three distances: of voxels, of filters' answers, and of where answers are strong.

    Parameters
    ----------
    made, real : Tensor
        `(B, 1, z, y, x)` each, standardised; B may differ.

    Returns
    -------
    Tensor
        `(3,)`, each 0 where both batches are alike, over the variance of the real ones.
    """
    real, device = real.detach(), made.device
    one = torch.zeros(1, 1, 3, 3, 3)
    one[0, 0, 1, 1, 1] = 1.0
    voxels = _gap(*(answers(x, one.to(device), 1, PLACES) for x in (made, real)))
    edge = min(*made.shape[2:], *real.shape[2:])
    reaches = [d for d in DILATIONS if min(len(made), len(real)) * (edge - 2 * d) ** 3 >= FEW]
    parts = []
    for dilation in reaches or DILATIONS[:1]:
        filters = torch.cat([_always(), _random(RANDOM)]).to(device)
        parts.append(_gap(*(answers(x, filters, dilation, PLACES) for x in (made, real))))
    filters = torch.cat([_always(), _random(7)]).to(device)
    both = [_strengths(x, filters) for x in (made, real)]
    count = min(STRENGTHS, *(x.shape[1] for x in both))
    chosen = [x[:, torch.randperm(x.shape[1])[:count].to(device)] for x in both]
    mixed = torch.randn(len(filters), len(filters)).to(device) / len(filters) ** 0.5
    strengths = _gap(*(torch.cat([x, mixed @ x]) for x in chosen))
    return torch.stack([voxels, torch.stack(parts).mean(), strengths])


def _gap(made: Tensor, real: Tensor) -> Tensor:
    """Return the mean squared distance of `(filters, N)` answers, sorted, over the variance."""
    count = min(made.shape[1], real.shape[1])
    a, b = (in_order(x[:, :count]) for x in (made, real))
    return ((a - b).square().mean(dim=1) / b.var(dim=1, correction=0).clamp_min(LEAST)).mean()


def _strengths(volumes: Tensor, filters: Tensor) -> Tensor:
    """Return `(filters, N)` mean absolute answers."""
    strong = answered(volumes, filters).abs()
    edge = min(REACH, strong.shape[-1])
    return functional.avg_pool3d(strong, edge, APART).transpose(0, 1).flatten(1)


def _always() -> Tensor:
    """Return nine filters `(9, 1, 3, 3, 3)` of norm 1: first, second and mixed differences."""
    out = torch.zeros(9, 3, 3, 3)
    middle = (1, 1, 1)
    for axis in range(3):
        before, after = (tuple(c if i == axis else 1 for i in range(3)) for c in (0, 2))
        out[axis][middle], out[axis][after] = -1.0, 1.0
        out[3 + axis][before] = out[3 + axis][after] = 1.0
        out[3 + axis][middle] = -2.0
        one, other = [i for i in range(3) if i != axis]
        for a in (0, 2):
            for b in (0, 2):
                corner = [1, 1, 1]
                corner[one], corner[other] = a, b
                out[6 + axis][tuple(corner)] = 1.0 if a == b else -1.0
    return _normal(out[:, None])


def _random(count: int) -> Tensor:
    """Return `(count, 1, 3, 3, 3)` of norm 1; every other one sparse, one in four with a mean."""
    seen = torch.ones(count, 1, 3, 3, 3)
    seen[::2] = (torch.rand(len(seen[::2]), 1, 3, 3, 3) < SPARSE).float()
    out = torch.randn(count, 1, 3, 3, 3) * seen
    mean = out.sum(dim=(2, 3, 4), keepdim=True) / seen.sum(dim=(2, 3, 4), keepdim=True).clamp_min(1)
    keep = (torch.arange(count) % 4 == 3).float().reshape(-1, 1, 1, 1, 1)
    return _normal(out - (1 - keep) * mean * seen)


def _normal(filters: Tensor) -> Tensor:
    size = filters.flatten(1).norm(dim=1).reshape(-1, 1, 1, 1, 1)
    return filters / size.clamp_min(1e-6)


class Spectrum(nn.Module):
    """The mean log power spectrum of real volumes, by radius and angle to the beam.

    Parameters
    ----------
    real : Tensor
        `(N, 1, z, y, x)`, standardised, on the CPU: the bins are centred and scaled by these.
    """

    def __init__(self, real: Tensor) -> None:
        super().__init__()
        box = real.shape[-1]
        index, count = spectrum_bins(box)
        share = torch.zeros(count, index.numel())
        share[index[index >= 0], torch.nonzero(index.flatten() >= 0).flatten()] = 1.0
        used = share.sum(dim=1) > 0
        axis = torch.arange(box) + 0.5
        line = torch.sin(torch.pi * axis / box)
        self.window: Tensor
        self.share: Tensor
        self.centre: Tensor
        self.spread: Tensor
        self.seen: Tensor
        # all but what was seen follows from the real volumes: it need not be in checkpoints
        self._keep("window", line[:, None, None] * line[None, :, None] * line)
        self._keep("share", share[used] / share[used].sum(dim=1, keepdim=True))
        with torch.no_grad():
            measured = torch.cat([self.log_power(part) for part in real.split(64)])
        self._keep("centre", measured.mean(dim=0))
        # the variance of a few is itself uncertain: that of all bins stands in for it
        variance, n = measured.var(dim=0, correction=0), len(measured)
        common = variance.median() if n > 1 else torch.ones(())
        self._keep("spread", ((n * variance + PRIOR * common) / (n + PRIOR)).sqrt())
        self.register_buffer("seen", torch.full_like(self.centre, torch.nan))

    def _keep(self, name: str, value: Tensor) -> None:
        self.register_buffer(name, value, persistent=False)

    def log_power(self, x: Tensor) -> Tensor:
        """Return `(B, bins)` of `(B, 1, z, y, x)`."""
        volumes = x[:, 0].float()
        centred = volumes - volumes.mean(dim=(1, 2, 3), keepdim=True)
        power = torch.fft.rfftn(centred * self.window, dim=(1, 2, 3)).abs().square().flatten(1)
        binned = power @ self.share.T
        return torch.log(binned + FLOOR * binned.detach().mean())

    def forward(self, made: Tensor) -> tuple[Tensor, Tensor]:
        """Return the squared distance of the mean spectrum, in the real ones' spread, and the bins'.

        The mean is a running one, with this batch; only this batch's share has a gradient. The
        second, `(bins,)`, is what `remember` wants once the step is done.
        """
        away = ((self.log_power(made) - self.centre) / self.spread).mean(dim=0)
        mean = self._moved(away.detach())
        # the value is the running mean's, the gradient that of this batch towards it
        return (mean * (2 * away - 2 * away.detach() + mean)).mean(), away.detach()

    def remember(self, away: Tensor) -> None:
        """Move the running mean by what `forward` returned."""
        self.seen.copy_(self._moved(away))

    def _moved(self, away: Tensor) -> Tensor:
        return torch.where(self.seen.isnan(), away, MEMORY * self.seen + (1 - MEMORY) * away)


def spectrum_bins(box: int) -> tuple[Tensor, int]:
    """Return the bin of each Fourier voxel `(z, y, x // 2 + 1)`, -1 for none, and their number.

    Bins are shells of one Fourier voxel up to the highest frequency of an axis, each cut in
    `ANGLES` by the angle to the beam (z).
    """
    kz = torch.fft.fftfreq(box)[:, None, None] * box
    ky = torch.fft.fftfreq(box)[None, :, None] * box
    kx = torch.fft.rfftfreq(box)[None, None, :] * box
    across = torch.sqrt(ky**2 + kx**2)
    radius = torch.sqrt(kz**2 + across**2)
    shell = torch.round(radius).long()
    angle = torch.atan2(across, kz.abs()) / (torch.pi / 2) * ANGLES
    part = angle.long().clamp(max=ANGLES - 1)
    index = torch.where((shell > 0) & (shell <= box // 2), (shell - 1) * ANGLES + part, -1)
    return index, (box // 2) * ANGLES
