"""Networks of preset `recommended`: the fitted simulation first, then a correction of its texture.

u is the signal of a scene after the fitted transfer, n is the fitted noise. The network sees only
their sum c u + n, so it cannot move a particle away from its label. Untrained it returns u + n.
No layer normalises, so the same network generates boxes and whole tomograms, tile by tile.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from cryoetgan.translation.engine.losses import normalise_filters
from cryoetgan.translation.residual import layers

TONE_CURVE_LR_SCALE = 8.0
"""Ratio of the learning rates of tone curve and filters; the curve has farther to move."""


class DiffusionStep(nn.Module):
    """One step of learned reaction diffusion: x - sum over filters k of k^T * f(k * x).

    Chen & Pock 2017, doi 10.1109/TPAMI.2016.2596743. Each filter's influence function is
    f(z) = a z + b tanh(s z) + c z exp(-t z^2 / 2): a smooths or sharpens, b flattens (as total
    variation does), c removes small responses and keeps large ones. The 3^3 filters start without a
    mean.
    """

    def __init__(self, filters: int) -> None:
        super().__init__()
        kernels = torch.randn(filters, 1, 3, 3, 3)
        kernels = kernels - kernels.mean(dim=(2, 3, 4), keepdim=True)
        self.kernels = nn.Parameter(normalise_filters(kernels))
        shape = (1, filters, 1, 1, 1)
        # a, b and c
        self.linear, self.bounded, self.falling = (
            nn.Parameter(torch.zeros(shape)) for _ in range(3)
        )
        # s = exp(-log_bound), t = exp(-2 log_reach)
        self.log_bound, self.log_reach = (nn.Parameter(torch.full(shape, -1.0)) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        """Return `(B, 1, z, y, x)` of the same shape; edge values continue beyond the edges."""
        padded = functional.pad(x, (2,) * 6, mode="replicate")
        s, t = torch.exp(-self.log_bound), torch.exp(-2 * self.log_reach)
        parameters = self.linear, self.bounded, self.falling, s, t
        return x - layers.diffuse(padded, self.kernels, *parameters)


class ResidualGenerator(nn.Module):
    """G_ds: y = x + r(x), x = c u + n. Learned reaction diffusion, then a tone curve.

    Boxes may have any size. The contrast c compensates for the flattening of r. It has no
    gradient: training keeps the slope of y on u at 1 (`trainer.py`). c also scales the mean of u;
    the tone curve corrects that.
    """

    def __init__(self, diffusion_steps: int = 5, filters: int = 16) -> None:
        super().__init__()
        self.log_contrast = nn.Parameter(torch.zeros(()), requires_grad=False)
        self.stages = nn.ModuleList(DiffusionStep(filters) for _ in range(diffusion_steps))
        # tone curve: exp(scale) x + (odd + even x) tanh(x) + level
        self.log_scale = nn.Parameter(torch.zeros(()))
        self.bend = nn.Parameter(torch.zeros(3))

    def radius(self) -> int:
        """Return the receptive radius in voxels."""
        return 2 * len(self.stages)

    def mix(self, signal: Tensor, noise: Tensor) -> Tensor:
        """Return x = c u + n, the input of the first step."""
        return torch.exp(self.log_contrast) * signal + noise

    def forward(self, signal: Tensor, noise: Tensor) -> Tensor:
        """Return y `(B, 1, z, y, x)` of u and n of that shape, in standard deviations."""
        x = self.mix(signal, noise)
        for step in self.stages:
            x = step(x)
        odd, even, level = TONE_CURVE_LR_SCALE * self.bend
        scale = torch.exp(TONE_CURVE_LR_SCALE * self.log_scale)
        return x * scale + (odd + even * x) * torch.tanh(x) + level
