"""Grey values to the networks' range and back, one scale a domain."""

from dataclasses import dataclass

import torch
from torch import Tensor

DENSITY_QUANTILE = 0.999
SAMPLE = 4_000_000


@dataclass(frozen=True)
class Scaler:
    """Maps values to about [-1, 1]: (v - offset) / scale, cut at the ends.

    One scale for a whole domain, never one a volume: the contrast between light and
    heavy particles is information.
    """

    offset: float
    scale: float

    def forward(self, volumes: Tensor) -> Tensor:
        """Scale."""
        return ((volumes - self.offset) / self.scale).clamp(-1, 1)

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


def _sample(volumes: Tensor) -> Tensor:
    flat = volumes.flatten()
    step = max(1, flat.numel() // SAMPLE)
    return flat[::step].float()
