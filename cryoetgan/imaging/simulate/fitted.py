"""Simulate a set with fitted physics: each volume with one of the tomograms' models."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cryoetgan.errors import UserError
from cryoetgan.imaging.model import ImagingModel
from cryoetgan.io.memmap import iterate_sections
from cryoetgan.io.mrc import check_same_voxel_size
from cryoetgan.io.volume_set import VolumeSet
from cryoetgan.physics.coordinates import centre_offset
from cryoetgan.seeds import rng

Floats = NDArray[np.floating]


def check(source: VolumeSet, models: Mapping[Path, ImagingModel]) -> None:
    """Refuse models of another voxel size, or that know no map of the set's box."""
    for path, model in models.items():
        check_same_voxel_size(source.voxel_size, model.voxel_size, source.path, path)
        if model.box != source.box:
            raise UserError(
                f"{source.path} has boxes of {source.box} voxels, {path} was fitted with maps of "
                f"{model.box}; make both with one densities.box"
            )


def by_group(models: Sequence[ImagingModel], apart: bool) -> list[list[int]]:
    """Return the numbers of the models that each of the sets is made with.

    Parameters
    ----------
    models : sequence of ImagingModel
        Of all tomograms.
    apart : bool
        Whether each group of tomograms has a set; else one set is made with all of them.
    """
    groups: dict[str, list[int]] = {}
    for number, model in enumerate(models):
        groups.setdefault(model.acquisition.group if apart else "", []).append(number)
    return list(groups.values())


def simulated(
    source: VolumeSet,
    models: Sequence[ImagingModel],
    names: Sequence[str],
    seed: int,
    neighbours: bool = True,
) -> Iterator[tuple[NDArray[np.float32], int]]:
    """Yield each density's subtomogram and the number of its model.

    Parameters
    ----------
    source : VolumeSet
        Densities; rlnOriginX/Y/ZAngst say where in the box the particle lies.
    models : sequence of ImagingModel
        One is drawn for each volume.
    names : sequence of str
        What chance is drawn for: a volume keeps its noise when others are added.
    seed : int
        The run's seed.
    neighbours : bool
        Whether other particles lie around.
    """
    rows = source.table.to_dict("records")
    # in each group a density has the neighbours and the seed of its noise that it has in others
    for density, row, name in zip(iterate_sections(source.volumes), rows, names, strict=True):
        numbers = rng(seed, "imaging", name)
        index = int(numbers.integers(len(models)))
        centre = centre_offset(row, source.voxel_size)
        signal, noise = models[index].halves(np.asarray(density), centre, numbers, neighbours)
        yield signal + noise, index
