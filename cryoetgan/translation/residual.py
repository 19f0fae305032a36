"""Networks of preset `recommended`: what physics leaves out is added to it, y = u + n + r(u, n).

u is the signal of a scene through the fitted transfer, n the fitted noise. The last layer starts
at zero, so the untrained generator is the fitted physics itself; no layer normalises, so the
same network makes boxes and whole tomograms, tile by tile.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.parametrizations import spectral_norm

from cryoetgan.translation.networks import LEAK

ANGLES = 4
"""Bins of the angle to the beam, 0 to 90 degrees."""
HIDDEN = 64
FLOOR = 1e-6
"""Of a spectrum's mean: below it the logarithm is cut."""


class Change(nn.Module):
    """r: 3^3 convolutions, residual blocks without norm, last layer zero.

    Parameters
    ----------
    channels : int
        Of the input: two (u, n), or one for the way back.
    width, blocks : int
        Channels and residual blocks.
    """

    def __init__(self, channels: int, width: int, blocks: int) -> None:
        super().__init__()
        self.first = nn.Conv3d(channels, width, 3, padding=1)
        self.blocks = nn.ModuleList(
            nn.Sequential(
                nn.LeakyReLU(LEAK),
                nn.Conv3d(width, width, 3, padding=1),
                nn.LeakyReLU(LEAK),
                nn.Conv3d(width, width, 3, padding=1),
            )
            for _ in range(blocks)
        )
        self.last = nn.Conv3d(width, 1, 3, padding=1)
        for parameter in self.last.parameters():
            nn.init.zeros_(parameter)

    def radius(self) -> int:
        """Return how many voxels away an input voxel still counts."""
        return 2 + 2 * len(self.blocks)

    def forward(self, x: Tensor) -> Tensor:
        """Return `(B, 1, z, y, x)` of `(B, channels, z, y, x)`; beyond the edges lies zero."""
        features = self.first(x)
        for block in self.blocks:
            features = features + block(features)
        return self.last(functional.leaky_relu(features, LEAK))


class ResidualGenerator(nn.Module):
    """y = u + n + r(u, n), any size.

    Parameters
    ----------
    width, blocks : int
        Of r.
    """

    def __init__(self, width: int = 16, blocks: int = 4) -> None:
        super().__init__()
        self.change = Change(2, width, blocks)

    def radius(self) -> int:
        """Return the receptive radius in voxels."""
        return self.change.radius()

    def forward(self, signal: Tensor, noise: Tensor) -> Tensor:
        """Return y `(B, 1, z, y, x)` of signal and noise of that shape, grey values over SD."""
        return signal + noise + self.change(torch.cat([signal, noise], dim=1))


class TextureCritic(nn.Module):
    """Judges texture: so small a field that class, pose and place are hardly seen.

    3^3 kernels, the second one strided, no padding, no norm but the spectral one.

    Parameters
    ----------
    widths : sequence of int
        Channels; three give a field of 9 voxels, four one of 13.
    spectral : bool
        Spectral normalisation of every convolution.
    channels : int
        One: the volume; two: with the signal it should show.
    """

    def __init__(
        self, widths: Sequence[int] = (32, 64, 64), spectral: bool = True, channels: int = 1
    ) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for index, width in enumerate(widths):
            layers += [nn.Conv3d(channels, width, 3, 2 if index == 1 else 1), nn.LeakyReLU(LEAK)]
            channels = width
        layers.append(nn.Conv3d(channels, 1, 1))
        self.body = nn.Sequential(*layers)
        self.depth = len(widths)
        if spectral:
            for layer in self.body:
                if isinstance(layer, nn.Conv3d):
                    spectral_norm(layer)

    def receptive_field(self) -> int:
        """Return how many voxels an edge one score sees."""
        return 3 + 2 * min(self.depth - 1, 1) + 4 * max(self.depth - 2, 0)

    def smallest_box(self) -> int:
        """Return the smallest box for which a score is left."""
        return self.receptive_field()

    def forward(self, x: Tensor) -> Tensor:
        """Return scores `(B, 1, z', y', x')`; higher is more real."""
        return self.body(x)


class SpectrumCritic(nn.Module):
    """Judges the log power spectrum, binned by radius and angle to the beam.

    Parameters
    ----------
    box : int
        Voxels.
    real : Tensor
        `(N, 1, z, y, x)`: real volumes, by which the bins are centred and scaled.
    """

    def __init__(self, box: int, real: Tensor) -> None:
        super().__init__()
        index, count = spectrum_bins(box)
        share = torch.zeros(count, index.numel())
        share[index[index >= 0], torch.nonzero(index.flatten() >= 0).flatten()] = 1.0
        used = share.sum(dim=1) > 0
        share = share[used] / share[used].sum(dim=1, keepdim=True)
        axis = torch.arange(box) + 0.5
        line = torch.sin(torch.pi * axis / box)
        window = line[:, None, None] * line[None, :, None] * line
        self.window: Tensor
        self.share: Tensor
        self.centre: Tensor
        self.spread: Tensor
        self.register_buffer("window", window)
        self.register_buffer("share", share)
        with torch.no_grad():
            measured = torch.cat([self._log_power(part.cpu()) for part in real.split(64)])
        self.register_buffer("centre", measured.mean(dim=0))
        self.register_buffer("spread", measured.std(dim=0).clamp_min(1e-3))
        width = len(share)
        self.body = nn.Sequential(
            spectral_norm(nn.Linear(width, HIDDEN)),
            nn.LeakyReLU(LEAK),
            spectral_norm(nn.Linear(HIDDEN, HIDDEN)),
            nn.LeakyReLU(LEAK),
            spectral_norm(nn.Linear(HIDDEN, 1)),
        )

    def _log_power(self, x: Tensor) -> Tensor:
        volumes = x[:, 0].float()
        centred = volumes - volumes.mean(dim=(1, 2, 3), keepdim=True)
        power = torch.fft.rfftn(centred * self.window, dim=(1, 2, 3)).abs().square().flatten(1)
        binned = power @ self.share.T
        return torch.log(binned + FLOOR * binned.detach().mean())

    def forward(self, x: Tensor) -> Tensor:
        """Return scores `(B, 1)` of volumes `(B, 1, z, y, x)`."""
        with torch.autocast(x.device.type, enabled=False):  # powers span many decades
            return self.body((self._log_power(x) - self.centre) / self.spread)


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
