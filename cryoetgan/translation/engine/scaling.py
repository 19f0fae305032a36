"""Grey values to the networks' range and back, one scale a domain."""

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

DENSITY_QUANTILE = 0.999
SAMPLE = 4_000_000


@dataclass(frozen=True)
class Scaler:
    """Maps values to about [-1, 1]: (v - offset) / scale, cut at the ends unless unbounded.

    One scale for a whole domain: the contrast between light and heavy particles is
    information. Only `own` brings each volume to the domain's mean and spread first.
    """

    offset: float
    scale: float
    bounded: bool = True
    own: bool = False
    spread: float = 1.0

    def forward(self, volumes: Tensor) -> Tensor:
        """Scale."""
        if self.own:
            mean = volumes.mean(dim=(-3, -2, -1), keepdim=True)
            sd = volumes.std(dim=(-3, -2, -1), keepdim=True).clamp_min(1e-12)
            volumes = (volumes - mean) / sd * self.spread + self.offset
        scaled = (volumes - self.offset) / self.scale
        return scaled.clamp(-1, 1) if self.bounded else scaled

    def backward(self, volumes: Tensor) -> Tensor:
        """Undo the scaling."""
        return volumes * self.scale + self.offset


def fit_density(volumes: Tensor) -> Scaler:
    """Return the scaler of densities: empty is 0, the densest thousandth 1."""
    values = _sample(volumes)
    high = torch.quantile(values[values > 0], DENSITY_QUANTILE) if (values > 0).any() else None
    return Scaler(0.0, float(high) if high is not None else 1.0)


def fit_subtomogram(volumes: Tensor, clip: float) -> Scaler:
    """Return the scaler of subtomograms: mean to 0, `clip` standard deviations to 1."""
    values = _sample(volumes)
    return Scaler(float(values.mean()), clip * max(float(values.std()), 1e-12))


def fit_scalers(
    densities: Tensor, subtomograms: Tensor, scaling: str, clip: float
) -> tuple[Scaler, Scaler]:
    """Return the scalers of both domains.

    Parameters
    ----------
    densities, subtomograms : Tensor
        What is trained on.
    scaling : {'domain', 'volume', 'zscore'}
        One scale a domain; subtomograms each by its own; or z-scores of both domains that
        reach beyond -1 and 1, as the authors' code has it.
    clip : float
        Standard deviations of subtomograms that become 1; not for zscore.
    """
    if scaling == "zscore":
        pair = [_sample(volumes) for volumes in (densities, subtomograms)]
        d, s = (Scaler(float(v.mean()), max(float(v.std()), 1e-12), False) for v in pair)
        return d, s
    found = fit_subtomogram(subtomograms, clip)
    if scaling == "volume":
        found = replace(found, own=True, spread=found.scale / clip)
    return fit_density(densities), found


def fit_plain(volumes: Tensor) -> Scaler:
    """Return the scaler that divides by the standard deviation and cuts nothing."""
    return Scaler(0.0, max(float(_sample(volumes).std()), 1e-12), bounded=False)


def _sample(volumes: Tensor) -> Tensor:
    """Return some four million voxels, or all: evenly spaced, every second plane at least.

    A step that shares more with the edge of the boxes would see a few of their planes only,
    the outermost alone where it is the edge itself.
    """
    flat = volumes.flatten()
    step = max(1, flat.numel() // SAMPLE)
    while math.gcd(step, volumes.shape[-1]) > 2:
        step += 1
    return flat[::step].float()
