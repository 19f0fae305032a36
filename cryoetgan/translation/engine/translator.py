"""A trained generator applied to volume sets: the base class of both models' translators."""

import functools
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from cryoetgan import __version__
from cryoetgan.devices import multiplies_bfloat16
from cryoetgan.errors import UserError
from cryoetgan.io.memmap import release_pages
from cryoetgan.io.volume_set import VolumeSet
from cryoetgan.io.weights import find_difference
from cryoetgan.translation.engine.scaling import Scaler

Volumes = NDArray[np.float32]
BATCH, BATCH_VOXELS = 8, 8 * 40**3
"""Largest number of volumes in a batch, and of their voxels."""


class Item(NamedTuple):
    """A translation: row of the source, its name, and the numbers of its random draws.

    `draw` selects scene and noise; `noise_draw`, if not 0, another noise for the same scene.
    """

    row: int
    name: str
    draw: int
    noise_draw: int = 0


class Translator(ABC):
    """A generator with the scales of its domains, from the content of a checkpoint `path`.

    Direction ds translates densities to subtomograms, sd back. `untrained` loads the generator as
    it was before training.
    """

    box_multiple, smallest_box = 1, 1
    """Voxels: boxes must be a multiple of the first, and not smaller than the second."""

    def __init__(
        self,
        content: Mapping[str, Any],
        settings: Any,
        direction: str,
        device: torch.device,
        path: Path,
        untrained: bool = False,
    ) -> None:
        self.content, self.settings, self.path = content, settings, path
        self.direction, self.device = direction, device
        half = settings.precision == "bf16" and multiplies_bfloat16(device)
        self.autocast = functools.partial(torch.autocast, device.type, torch.bfloat16, half)
        """The context in which convolutions run in bfloat16, if the settings want it."""
        weights, name = content["initial" if untrained else "average"].items(), f"G_{direction}."
        state = {k.removeprefix(name): v for k, v in weights if k.startswith(name)}
        if difference := find_difference(self.build_generator, state):
            raise UserError(
                f"{path}: was written by cryoetgan {content['version']} (this is {__version__}), "
                f"whose networks differ: {difference}; train again"
            )
        generator = self.build_generator()
        generator.load_state_dict(state)
        self.generator: Any = generator.to(device).eval()

    def scaler(self, domain: str) -> Scaler:
        """Return the scaler of domain `density` or `subtomogram`."""
        return Scaler(**self.content["scalers"][domain])

    @abstractmethod
    def build_generator(self) -> nn.Module:
        """Return the network of the direction, without its weights."""

    @abstractmethod
    def optics(self) -> list[dict[str, Any]]:
        """Return the optics groups of generated subtomograms."""

    def optics_index(self, name: str, seed: int) -> int:
        """Return the index of the optics group of the item `name`."""
        return 0

    @abstractmethod
    def translate_batch(
        self, source: VolumeSet, items: Sequence[Item], seed: int
    ) -> tuple[list[int], Volumes]:
        """Return the indices of optics groups, and translations `(N, z, y, x)` in grey values.

        Noise depends on the seed, and on the name and draws of an item.
        """

    def translate_items(
        self, source: VolumeSet, items: Sequence[Item], seed: int
    ) -> Iterator[tuple[Item, int, Volumes]]:
        """Yield each item, the index of its optics group, and its translation `(z, y, x)`."""
        size = batch_size(source.box)
        for start in range(0, len(items), size):
            part = items[start : start + size]
            groups, volumes = self.translate_batch(source, part, seed)
            release_pages(source.volumes)
            yield from zip(part, groups, volumes, strict=True)


def batch_size(box: int) -> int:
    """Return the number of boxes of this edge (voxels) in a batch."""
    return max(1, min(BATCH, BATCH_VOXELS // box**3))
