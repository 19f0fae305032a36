"""Simulate subtomograms with fitted physics: each volume with the model of one tomogram."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cryoetgan import seeds
from cryoetgan.errors import UserError
from cryoetgan.imaging.model import ImagingModel
from cryoetgan.imaging.simulate.ablated import BackgroundPatches, flatten_transfer
from cryoetgan.io.memmap import iterate_sections
from cryoetgan.io.mrc import check_same_voxel_size
from cryoetgan.io.volume_set import VolumeSet
from cryoetgan.physics.coordinates import centre_offset


@dataclass(frozen=True, kw_only=True)
class SimulatedParts:
    """Parts of the physics that a simulation uses; all by default."""

    neighbours: bool = True
    """Whether other particles surround each one."""
    transfer: bool = True
    """Whether to use the fitted transfer function; otherwise `flatten_transfer`."""
    backgrounds: Sequence[BackgroundPatches] = ()
    """One a model, used in place of the fitted noise."""


def check_models(densities: VolumeSet, models: Mapping[Path, ImagingModel]) -> None:
    """Raise `UserError` if a model's voxel size or box differs from the densities'."""
    for path, model in models.items():
        check_same_voxel_size(densities.voxel_size, model.voxel_size, densities.path, path)
        if model.box != densities.box:
            raise UserError(
                f"{densities.path} has boxes of {densities.box} voxels, {path} was fitted with "
                f"maps of {model.box}; make both with one densities.box"
            )


def simulate_fitted(
    densities: VolumeSet,
    models: Sequence[ImagingModel],
    names: Sequence[str],
    seed: int,
    parts: SimulatedParts,
) -> Iterator[tuple[NDArray[np.float32], int]]:
    """Yield the simulated subtomogram of each density, and the index of its randomly drawn model.

    rlnOriginX/Y/ZAngst of the densities give the particle's centre in the box. `names` seed the
    random numbers: a volume keeps its model and noise if others are added.
    """
    used = models if parts.transfer else [flatten_transfer(model) for model in models]
    rows = densities.table.to_dict("records")
    # a density has the same neighbours and noise seed in every group of tomograms
    for density, row, name in zip(iterate_sections(densities.volumes), rows, names, strict=True):
        rng = seeds.rng(seed, "imaging", name)
        index = int(rng.integers(len(models)))
        centre = centre_offset(row, densities.voxel_size)
        signal, noise = used[index].signal_and_noise(
            np.asarray(density), centre, rng, parts.neighbours
        )
        if parts.backgrounds:
            noise = parts.backgrounds[index].draw(rng)
        yield signal + noise, index
