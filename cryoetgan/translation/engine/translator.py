"""A trained generator applied to volume sets: the base class of both models' translators."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from cryoetgan.devices import multiplies_bfloat16
from cryoetgan.errors import UserError
from cryoetgan.io.memmap import release_pages
from cryoetgan.io.volume_set import VolumeSet
from cryoetgan.translation.engine.settings import TrainingSettings

Volumes = NDArray[np.float32]
BATCH, BATCH_VOXELS = 8, 8 * 40**3
"""Largest number of volumes in a batch, and of their voxels."""


class Translator(ABC):
    """A generator with the scales of its domains.

    Parameters
    ----------
    content : mapping
        Content of a checkpoint.
    settings : TrainingSettings
        Its settings.
    direction : {'ds', 'sd'}
        Densities to subtomograms, or back.
    device : torch.device
        Device of the generator.
    path : Path
        File name of the checkpoint, for messages.
    """

    box_multiple, smallest_box = 1, 1
    """Voxels: boxes must be a multiple of the first, and not smaller than the second."""
    generator: nn.Module

    def __init__(
        self,
        content: Mapping[str, Any],
        settings: TrainingSettings,
        direction: str,
        device: torch.device,
        path: Path,
    ) -> None:
        self.content, self.direction, self.path = content, direction, path
        self.device = device
        self.half = settings.precision == "bf16" and multiplies_bfloat16(device)

    @property
    def voxel_size(self) -> float:
        """Voxel size of the training volumes, angstrom."""
        return float(self.content["voxel_size"])

    @abstractmethod
    def optics(self) -> list[dict[str, Any]]:
        """Return the optics groups of generated subtomograms."""

    @abstractmethod
    def optics_index(self, name: str, seed: int) -> int:
        """Return the index of the optics group of the item `name`."""

    @abstractmethod
    def translate_batch(
        self, source: VolumeSet, items: Sequence[tuple[int, str, int]], seed: int
    ) -> tuple[list[int], Volumes]:
        """Translate a batch.

        Parameters
        ----------
        source : VolumeSet
            Volumes of the source domain.
        items : sequence of (int, str, int)
            Row, name of the item, and number of the noise draw.
        seed : int
            Seed of the noise, which also depends on name and draw.

        Returns
        -------
        groups : list of int
            Index of each volume's optics group.
        volumes : ndarray
            `(N, z, y, x)` grey values of the target domain.
        """

    @abstractmethod
    def sample_batch(
        self, source: VolumeSet, row: int, name: str, draws: Sequence[int], seed: int
    ) -> Volumes:
        """Return translations `(N, z, y, x)` of one row that differ in their noise alone.

        Parameters
        ----------
        source, row, name, seed
            As in `translate_batch`.
        draws : sequence of int
            Number of each volume's noise draw.
        """

    def translate_set(
        self, source: VolumeSet, names: Sequence[str], draws: int, seed: int
    ) -> Iterator[tuple[int, int, Volumes]]:
        """Yield row, index of the optics group and volume, for all draws of each row in turn."""
        items = [(row, name, draw) for row, name in enumerate(names) for draw in range(draws)]
        size = batch_size(source.box)
        for start in range(0, len(items), size):
            part = items[start : start + size]
            groups, volumes = self.translate_batch(source, part, seed)
            release_pages(source.volumes)
            for (row, _, _), group, volume in zip(part, groups, volumes, strict=True):
                yield row, group, volume

    def sample_row(
        self, source: VolumeSet, row: int, name: str, seed: int, count: int, fixed_noise: bool
    ) -> Iterator[Volumes]:
        """Yield batches `(N, z, y, x)` of `count` translations of one row.

        With `fixed_noise` all have the same noise; without, each has its own.
        """
        size = batch_size(source.box)
        for start in range(0, count, size):
            draws = range(start, min(start + size, count))
            yield self.sample_batch(
                source, row, name, [0 if fixed_noise else draw for draw in draws], seed
            )

    def check_box(self, source: VolumeSet) -> None:
        """Raise a `UserError` if the generator cannot take boxes of this size."""
        if source.box % self.box_multiple or source.box < self.smallest_box:
            raise UserError(
                f"{source.path}: boxes of {source.box} voxels, wanted a multiple of "
                f"{self.box_multiple}, {self.smallest_box} or more (densities.box)"
            )

    def autocast(self) -> torch.autocast:
        """Return the context in which convolutions run in bfloat16, if the settings want it."""
        return torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.half)


def batch_size(box: int) -> int:
    """Return the number of boxes of this edge (voxels) in a batch."""
    return max(1, min(BATCH, BATCH_VOXELS // box**3))
