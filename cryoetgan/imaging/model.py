"""The imaging model: the physics between a density and a tomogram, as spectra and parameters.

It is fitted without labels and holds no voxel of a tomogram. Signal and noise of an image are
simulated separately, so that a network can combine one signal with many noise volumes:
`model.signal(scene) + model.noise(scene.shape, rng)`.

Scenes and noise may have any shape, from a box to a whole tomogram. Both take one Fourier
transform of that shape, which needs four times its memory in single precision.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import fft

from cryoetgan.imaging.neighbours import NeighbourSampler, PairCorrelation
from cryoetgan.imaging.noise_spectrum import NoiseSpectrum
from cryoetgan.imaging.transfer import EnvelopeGain, transfer_function
from cryoetgan.physics.acquisition import Acquisition
from cryoetgan.physics.geometry import clip_box

Floats = NDArray[np.floating]
Shape = tuple[int, ...]
EMPTY_CLASS = "empty"
"""Class of picks without a particle."""
SCENE_BOXES = 2
"""Edge of a scene, in boxes: the transfer carries density from outside the box into it."""
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
            lambda shape: transfer_function(shape, self.voxel_size, self.acquisition, self.gain)
        )

    @cached_property
    def _noise_filter(self) -> Callable[[Shape], NDArray[np.float32]]:
        return lru_cache(MAX_CACHED_SHAPES)(
            lambda shape: self.noise_spectrum.noise_filter(shape, self.voxel_size).astype(
                np.float32
            )
        )

    def signal(self, scene: Floats) -> NDArray[np.float32]:
        """Return the noise-free image of a density scene `(z, y, x)`: IFFT(H FFT(scene)) + offset.

        H is `transfer_function`. The scene wraps around: give twice the size that is needed and
        crop (`crop_centre`).
        """
        spectrum = fft.rfftn(np.asarray(scene, np.float32))
        spectrum *= self.transfer(scene.shape)
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
        """Return a density scene of twice the box: a target in its centre, neighbours around it.

        The target is a density box `(z, y, x)`; `centre` is its particle's, relative to voxel
        n // 2 of the box, xyz in voxels. Without a target the neighbours keep the same distances
        from the centre: false picks show such scenes.
        """
        size = SCENE_BOXES * (self.box if target is None else target.shape[0])
        scene = np.zeros((size,) * 3, np.float32)
        middle = np.full(3, size // 2)
        if target is not None:
            add_box(scene, target, middle)
        if neighbours and self.neighbours.names:
            for place in self.pair_correlation.draw_neighbours(size * self.voxel_size, rng):
                add_box(scene, self.neighbours.draw(rng), middle + centre + place / self.voxel_size)
        return scene

    def signal_and_noise(
        self,
        target: Floats | None,
        centre: Floats,
        rng: np.random.Generator,
        neighbours: bool = True,
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return signal and noise of the central box of `build_scene`, each `(z, y, x)`."""
        scene = self.build_scene(target, centre, rng, neighbours)
        box, noise = scene.shape[0] // SCENE_BOXES, self.noise(scene.shape, rng)
        return crop_centre(self.signal(scene), box), crop_centre(noise, box)


def add_box(scene: Floats, box: Floats, centre: Sequence[float] | Floats) -> None:
    """Add a box to a scene, its voxel n // 2 at the voxel nearest to `centre` (xyz)."""
    nearest = np.rint(np.asarray(centre, float)[::-1]).astype(int)
    in_scene, in_box = clip_box(nearest - np.array(box.shape) // 2, box.shape, scene.shape)
    scene[in_scene] += box[in_box]


def crop_centre(scene: Floats, box: int) -> NDArray[np.float32]:
    """Return the central box of a scene; voxel n // 2 of the scene becomes n // 2 of the box."""
    inner = tuple(slice(n // 2 - box // 2, n // 2 - box // 2 + box) for n in scene.shape)
    return np.ascontiguousarray(scene[inner], np.float32)
