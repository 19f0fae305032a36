"""Scale grey values to the range of the networks and back, one scale a domain."""

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

DENSITY_QUANTILE = 0.999
"""Quantile of the densities above zero that becomes 1."""
SAMPLE_VOXELS = 4_000_000
"""Voxels from which a scale is estimated."""


@dataclass(frozen=True)
class Scaler:
    """Linear map of grey values, (v - offset) / scale, to about [-1, 1] if the limit is 1.

    All volumes of a domain share one scale: the difference between light and heavy particles is
    information.

    Attributes
    ----------
    offset, scale : float
        Grey value that becomes 0, and difference of grey values that becomes 1.
    limit : float
        Cut scaled values beyond it, on both sides; infinity: none.
    per_volume : bool
        Bring every volume to mean `offset` and standard deviation `sd` first.
    sd : float
        Standard deviation of the domain, grey values.
    """

    offset: float
    scale: float
    limit: float = 1.0
    per_volume: bool = False
    sd: float = 1.0

    def forward(self, volumes: Tensor) -> Tensor:
        """Return volumes `(..., z, y, x)` scaled."""
        if self.per_volume:
            mean = volumes.mean(dim=(-3, -2, -1), keepdim=True)
            sd = volumes.std(dim=(-3, -2, -1), keepdim=True).clamp_min(1e-12)
            volumes = (volumes - mean) / sd * self.sd + self.offset
        scaled = (volumes - self.offset) / self.scale
        return scaled if math.isinf(self.limit) else scaled.clamp(-self.limit, self.limit)

    def backward(self, volumes: Tensor) -> Tensor:
        """Return scaled volumes `(..., z, y, x)` in grey values again."""
        return volumes * self.scale + self.offset


def fit_density_scaler(volumes: Tensor, max_voxels: int = SAMPLE_VOXELS) -> Scaler:
    """Return the scaler of densities: empty space becomes 0, the densest thousandth 1."""
    values = sample_voxels(volumes, max_voxels)
    dense = values[values > 0]
    scale = float(torch.quantile(dense, DENSITY_QUANTILE)) if len(dense) else 1.0
    return Scaler(0.0, scale, sd=float(values.std()))


def fit_subtomogram_scaler(volumes: Tensor, clip: float, max_voxels: int = SAMPLE_VOXELS) -> Scaler:
    """Return the scaler of subtomograms: their mean becomes 0, `clip` standard deviations 1."""
    values = sample_voxels(volumes, max_voxels)
    return Scaler(float(values.mean()), clip * max(float(values.std()), 1e-12))


def fit_sd_scaler(volumes: Tensor, max_voxels: int = SAMPLE_VOXELS) -> Scaler:
    """Return the scaler that divides by the standard deviation and cuts no value."""
    sd = max(float(sample_voxels(volumes, max_voxels).std()), 1e-12)
    return Scaler(0.0, sd, limit=math.inf, sd=sd)


def fit_z_scaler(volumes: Tensor) -> Scaler:
    """Return the scaler to z-scores over all volumes, which cuts no value."""
    values = sample_voxels(volumes)
    sd = max(float(values.std()), 1e-12)
    return Scaler(float(values.mean()), sd, limit=math.inf, sd=sd)


def fit_scalers(
    densities: Tensor, subtomograms: Tensor, scaling: str, clip: float
) -> tuple[Scaler, Scaler]:
    """Return the scalers of both domains, from training volumes `(N, 1, z, y, x)`.

    `scaling` is domain, one scale a domain; volume, one a subtomogram; zscore, z-scores without
    cuts (the published code); or sd, such z-scores of subtomograms and densities of the same
    standard deviation, cut at their densest thousandth; empty space stays 0. `clip` standard
    deviations of subtomograms become 1 with domain and volume.
    """
    if scaling == "zscore":
        return fit_z_scaler(densities), fit_z_scaler(subtomograms)
    if scaling == "sd":
        d, dense = fit_sd_scaler(densities), fit_density_scaler(densities)
        return replace(d, limit=dense.scale / d.scale), fit_z_scaler(subtomograms)
    scaler = fit_subtomogram_scaler(subtomograms, clip)
    if scaling == "volume":
        scaler = replace(scaler, per_volume=True, sd=scaler.scale / clip)
    return fit_density_scaler(densities), scaler


def sample_voxels(volumes: Tensor, max_voxels: int = SAMPLE_VOXELS) -> Tensor:
    """Return about `max_voxels` evenly spaced voxels `(N,)`, or all if there are fewer.

    A step that shares a large factor with the edge of the boxes would sample a few planes only.
    If it were a multiple of the edge, it would sample the outermost plane alone.
    """
    flat = volumes.flatten()
    step = max(1, flat.numel() // max_voxels)
    while math.gcd(step, volumes.shape[-1]) > 2:
        step += 1
    return flat[::step].float()
