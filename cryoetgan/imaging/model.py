"""The imaging model: the physics between a density and a tomogram, as spectra and parameters.

It is fitted without labels and holds no voxel of a tomogram. Signal and noise of an image are
simulated separately, so that a network can combine one signal with many noise volumes:
`model.signal(scene) + model.noise(scene.shape, rng)`.

Scenes and noise may have any shape, from a box to a whole tomogram. Both take one Fourier
transform of that shape, which needs four times its memory in single precision.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property, lru_cache, partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import fft

from cryoetgan.imaging.noise_spectrum import NoiseSpectrum
from cryoetgan.imaging.pair_correlation import PairCorrelation
from cryoetgan.imaging.scenes import SCENE_BOXES, NeighbourSampler, build_scene
from cryoetgan.imaging.transfer import EnvelopeGain, transfer_function
from cryoetgan.physics.acquisition import Acquisition

Floats = NDArray[np.floating]
Shape = tuple[int, int, int]
EMPTY_CLASS = "empty"
"""Class of picks without a particle."""
MAX_CACHED_SHAPES = 4
"""Shapes whose filters are kept in memory."""


@dataclass(frozen=True)
class ImagingModel:
    """Fitted physics of one tomogram."""

    voxel_size: float
    """Angstrom."""
    box: int
    """Edge of the maps, voxels."""
    acquisition: Acquisition
    """Tilts, optics, CTF state."""
    gain: EnvelopeGain
    """Grey value per unit of density."""
    noise_spectrum: NoiseSpectrum
    """Power spectral density of the noise."""
    pair_correlation: PairCorrelation
    """Number density and spacing of particles."""
    class_fractions: Mapping[str, float]
    """Class to its fraction of the picks; `empty` is the class of false picks."""
    maps: Mapping[str, NDArray[np.float32]]
    """Class to density `(z, y, x)`, for the neighbours."""
    offset: float = 0.0
    """Grey value added to the signal: tomograms have mean 0, particles are bright."""
    tomogram: str = ""
    """Name."""
    about: Mapping[str, Any] = field(default_factory=dict)
    """Diagnostics of the fit for people and the report; no simulation uses them."""

    @cached_property
    def neighbours(self) -> NeighbourSampler:
        """The particles around others."""
        return NeighbourSampler(self.maps, self.class_fractions)

    @cached_property
    def transfer(self) -> Callable[[Shape], NDArray[np.float32]]:
        """Function from a shape to the transfer function on its `rfftn` grid."""
        # without a reference to the model, which would keep both in memory for longer
        return lru_cache(MAX_CACHED_SHAPES)(
            partial(
                transfer_function,
                voxel_size=self.voxel_size,
                acquisition=self.acquisition,
                gain=self.gain,
            )
        )

    @cached_property
    def _noise_filter(self) -> Callable[[Shape], NDArray[np.float32]]:
        spectrum, voxel_size = self.noise_spectrum, self.voxel_size
        return lru_cache(MAX_CACHED_SHAPES)(
            lambda shape: np.asarray(spectrum.noise_filter(shape, voxel_size), np.float32)
        )

    def signal(self, scene: Floats) -> NDArray[np.float32]:
        """Return the noise-free image of a density scene `(z, y, x)`: IFFT(H FFT(scene)) + offset.

        H is `transfer_function`. The scene wraps around: give twice the size that is needed and
        crop (`crop_centre`).
        """
        spectrum = fft.rfftn(np.asarray(scene, np.float32))
        spectrum *= self.transfer(_shape(scene))
        return np.asarray(fft.irfftn(spectrum, scene.shape) + np.float32(self.offset), np.float32)

    def noise(self, shape: Shape, rng: np.random.Generator) -> NDArray[np.float32]:
        """Return Gaussian noise `(z, y, x)` of the fitted spectrum; it wraps around."""
        spectrum = fft.rfftn(rng.standard_normal(shape, np.float32))
        spectrum *= self._noise_filter(shape)
        return np.asarray(fft.irfftn(spectrum, shape), np.float32)

    def build_scene(
        self,
        target: Floats | None,
        centre: Floats,
        rng: np.random.Generator,
        neighbours: bool = True,
    ) -> NDArray[np.float32]:
        """Return a density scene of twice the box; parameters as of `scenes.build_scene`."""
        size = SCENE_BOXES * (self.box if target is None else target.shape[0])
        spacing = self.pair_correlation if neighbours else None
        return build_scene(target, centre, size, self.voxel_size, spacing, self.neighbours, rng)

    def signal_and_noise(
        self,
        target: Floats | None,
        centre: Floats,
        rng: np.random.Generator,
        neighbours: bool = True,
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return signal and noise of one subtomogram, each a box `(z, y, x)`.

        Parameters as of `scenes.build_scene`.
        """
        scene = self.build_scene(target, centre, rng, neighbours)
        box = scene.shape[0] // SCENE_BOXES
        noise = self.noise(_shape(scene), rng)
        return crop_centre(self.signal(scene), box), crop_centre(noise, box)


def crop_centre(scene: Floats, box: int) -> NDArray[np.float32]:
    """Return the central box of a scene; voxel n // 2 of the scene becomes n // 2 of the box."""
    inner = tuple(slice(n // 2 - box // 2, n // 2 - box // 2 + box) for n in scene.shape)
    return np.ascontiguousarray(scene[inner], np.float32)


def _shape(scene: Floats) -> Shape:
    z, y, x = scene.shape
    return z, y, x
