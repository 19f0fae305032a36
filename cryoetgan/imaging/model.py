"""The imaging model: everything between a density and a tomogram, as spectra and parameters.

It holds no voxel of a tomogram, and nothing in it needs a label. The two halves of an image
are drawn apart, so that a network can meet one with many of the other:

>>> u = model.signal(scene)                 # doctest: +SKIP
>>> n = model.noise(scene.shape, numbers)   # doctest: +SKIP

Scenes and noise may have any shape, a box or a whole tomogram: both take one Fourier
transform of that shape, so four times its memory in single precision.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import fft

from cryoetgan.imaging.noise_spectrum import Spectrum
from cryoetgan.imaging.pair_correlation import Crowding
from cryoetgan.imaging.scenes import SCENE, Neighbours, scene_around
from cryoetgan.imaging.transfer import Gain, transfer
from cryoetgan.physics.acquisition import Acquisition

Floats = NDArray[np.floating]
Shape = tuple[int, int, int]
EMPTY = "empty"
"""The class of picks without a particle."""
KEPT = 4
"""Shapes whose spectra are kept."""


@dataclass(frozen=True)
class ImagingModel:
    """Fitted physics of one tomogram.

    Attributes
    ----------
    voxel_size : float
        Angstrom.
    box : int
        Voxels; that of the maps.
    acquisition : Acquisition
        Tilts, optics, CTF state.
    gain : Gain
        Grey value per unit of density.
    noise_spectrum : Spectrum
        Power spectral density of the noise.
    crowding : Crowding
        How close particles lie.
    shares : mapping
        Class to share of the picks; `empty` among them.
    maps : mapping
        Class to density `(z, y, x)`: what neighbours are made of.
    offset : float
        Grey value added to the signal: tomograms have mean 0, particles are bright.
    tomogram : str
        Name.
    about : mapping
        What the fit found besides, for people: never read by the code.
    """

    voxel_size: float
    box: int
    acquisition: Acquisition
    gain: Gain
    noise_spectrum: Spectrum
    crowding: Crowding
    shares: Mapping[str, float]
    maps: Mapping[str, NDArray[np.float32]]
    offset: float = 0.0
    tomogram: str = ""
    about: Mapping[str, Any] = field(default_factory=dict)

    @cached_property
    def _transfers(self) -> dict[Shape, NDArray[np.float32]]:
        return {}

    @cached_property
    def _roots(self) -> dict[Shape, NDArray[np.float32]]:
        return {}

    @cached_property
    def neighbours(self) -> Neighbours:
        """The particles around others."""
        return Neighbours(self.maps, self.shares)

    def transfer(self, shape: Shape) -> NDArray[np.float32]:
        """Return grey value per unit of density, `rfftn` order `(z, y, x // 2 + 1)`."""
        return _kept(
            self._transfers,
            shape,
            lambda: transfer(shape, self.voxel_size, self.acquisition, self.gain),
        )

    def signal(self, scene: Floats) -> NDArray[np.float32]:
        """Return what the tomogram shows of a density scene `(z, y, x)`, without noise.

        The scene wraps around: give twice what is wanted and crop (`crop`).
        """
        spectrum = fft.rfftn(np.asarray(scene, np.float32))
        spectrum *= self.transfer(_shape(scene))
        return np.asarray(fft.irfftn(spectrum, scene.shape) + np.float32(self.offset), np.float32)

    def noise(self, shape: Shape, numbers: np.random.Generator) -> NDArray[np.float32]:
        """Return Gaussian noise `(z, y, x)` of the fitted spectrum.

        Parameters
        ----------
        shape : (int, int, int)
            zyx; the noise wraps around.
        numbers : numpy.random.Generator
            Source of chance.
        """
        spectrum = fft.rfftn(numbers.standard_normal(shape, np.float32))
        spectrum *= self._root(shape)
        return np.asarray(fft.irfftn(spectrum, shape), np.float32)

    def _root(self, shape: Shape) -> NDArray[np.float32]:
        def make() -> NDArray[np.float32]:
            power = self.noise_spectrum.on(shape, self.voxel_size) / self.voxel_size**3
            power[0, 0, 0] = 0
            return np.asarray(np.sqrt(power), np.float32)

        return _kept(self._roots, shape, make)

    def scene(
        self,
        target: Floats | None,
        centre: Floats,
        numbers: np.random.Generator,
        neighbours: bool = True,
    ) -> NDArray[np.float32]:
        """Return a density scene of twice the box; `scenes.scene_around` has the parameters."""
        size = SCENE * (self.box if target is None else target.shape[0])
        crowding = self.crowding if neighbours else None
        return scene_around(
            target, centre, size, self.voxel_size, crowding, self.neighbours, numbers
        )

    def save(self, path: Path) -> None:
        """Write `path` (JSON) and its arrays beside it (`.npz`)."""
        from cryoetgan.imaging.storage import save

        save(self, path)

    @classmethod
    def load(cls, path: Path) -> "ImagingModel":
        """Read what `save` or `cryoetgan imaging fit` wrote; it needs numpy and scipy alone."""
        from cryoetgan.imaging.storage import load

        return load(path)

    def halves(
        self,
        target: Floats | None,
        centre: Floats,
        numbers: np.random.Generator,
        neighbours: bool = True,
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return signal and noise of one subtomogram, each a box `(z, y, x)`."""
        scene = self.scene(target, centre, numbers, neighbours)
        box = scene.shape[0] // SCENE
        return crop(self.signal(scene), box), crop(self.noise(_shape(scene), numbers), box)


def crop(scene: Floats, box: int) -> NDArray[np.float32]:
    """Return the middle of a scene; its voxel n // 2 becomes the box's."""
    inner = tuple(slice(n // 2 - box // 2, n // 2 - box // 2 + box) for n in scene.shape)
    return np.ascontiguousarray(scene[inner], np.float32)


def _shape(scene: Floats) -> Shape:
    z, y, x = scene.shape
    return z, y, x


def _kept(store: dict[Shape, NDArray[np.float32]], shape: Shape, make: Any) -> Any:
    if shape not in store:
        while len(store) >= KEPT:
            store.pop(next(iter(store)))
        store[shape] = make()
    return store[shape]
