"""A density scene: the sum of all placed objects, with labels and a table of particles."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from cryoetgan.io.memmap import release_pages
from cryoetgan.physics.geometry import clip_box

Floats = NDArray[np.floating]
Mask = NDArray[np.bool_]


@dataclass
class Scene:
    """A packed volume; its arrays may be memory-mapped files."""

    density: NDArray[np.float32]
    """`(z, y, x)` float32, the sum of all objects except gold."""
    labels: NDArray[np.int16]
    """`(z, y, x)` int16: 0, or the number of a name in `names`."""
    occupied: Mask
    """`(z, y, x)` bool, True if a voxel and its neighbours are not free for another object."""
    names: dict[str, int] = field(default_factory=dict)
    """Name to its number in `labels`."""
    rows: list[dict[str, Any]] = field(default_factory=list)
    """One row per particle, in the order of placing."""
    missing: dict[str, int] = field(default_factory=dict)
    """Name to the number of copies that did not fit."""
    beads: NDArray[np.float32] | None = None
    """`(z, y, x)`, density of gold in the units of the maps; may be `density`."""

    def label(self, name: str) -> int:
        """Return the label number of a name; a new name gets the next number."""
        return self.names.setdefault(name, len(self.names) + 1)

    def label_names(self) -> dict[str, str]:
        """Return the name of each label number, for the record beside the labels."""
        return {str(number): name for name, number in self.names.items()}

    def add(self, density: Floats, mask: Mask, centre: NDArray[np.int_], name: str) -> None:
        """Add an object in a box `(z, y, x)`, with its voxel n // 2 at `centre` (zyx)."""
        corner = centre - np.array(mask.shape) // 2
        in_scene, in_box = clip_box(corner, mask.shape, self.labels.shape)
        self.density[in_scene] += density[in_box]
        self.labels[in_scene][mask[in_box]] = self.label(name)
        self.occupied[in_scene] |= ndimage.binary_dilation(mask)[in_box]
        for array in (self.density, self.labels, self.occupied):
            release_pages(array)


def empty_scene(shape: tuple[int, int, int], names: Sequence[str] = ()) -> Scene:
    """Return a scene without objects; `names` are numbered from 1 in their order."""
    scene = Scene(np.zeros(shape, np.float32), np.zeros(shape, np.int16), np.zeros(shape, bool))
    for name in names:
        scene.label(name)
    return scene
