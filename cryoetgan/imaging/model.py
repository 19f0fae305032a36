"""The imaging model: the physics between a density and a tomogram, as spectra and parameters.

It is fitted without labels and holds no voxel of a tomogram. Signal and noise of an image are
simulated separately, so that a network can combine one signal with many noise volumes:
`model.signal(scene) + model.noise(scene.shape, rng)`.

Scenes and noise may have any shape, from a box to a whole tomogram. Both take one Fourier
transform of that shape, which needs four times its memory in single precision.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import fft

from cryoetgan.imaging.noise_spectrum import NoiseSpectrum
from cryoetgan.imaging.pair_correlation import NeighbourSampler, PairCorrelation
from cryoetgan.physics.acquisition import Acquisition
from cryoetgan.physics.geometry import clip_box
from cryoetgan.physics.optics import missing_wedge, radius_grid, recorded_ctf, tilt_angle

Floats = NDArray[np.floating]
Shape = tuple[int, ...]
UNNAMED_ORIENTATIONS = 4
"""Orientations of each unnamed protein in the bank of neighbours; there are many such proteins."""
SCENE_BOXES = 2
"""Edge of a scene, in boxes: the transfer carries density from outside the box into it."""
MAX_CACHED_SHAPES = 4
"""Shapes whose filters are kept in memory."""


@dataclass(frozen=True)
class EnvelopeGain:
    """Grey value per unit of density, by frequency and absolute tilt angle.

    It combines the density scale with the envelope: radiation damage, drift and the
    reconstruction filter, which affect high tilts more than low ones.
    """

    values: NDArray[np.float64]
    """`(angle, k)`, zero or more."""
    step: float
    """Cycles per angstrom between entries of k; the first is 0."""
    max_tilt: float
    """Degrees; the rows divide 0 to it evenly, each at the centre of its interval."""

    def interpolate(self, k: Floats, angle: Floats) -> NDArray[np.float64]:
        """Return the gain at frequencies (cycles per angstrom) and tilt angles (degrees).

        Bilinear; constant beyond the first and last entries.
        """
        rows, columns = self.values.shape
        a = np.clip(np.abs(angle) / self.max_tilt * rows - 0.5, 0, rows - 1)
        c = np.clip(k / self.step, 0, columns - 1)
        a, c = np.broadcast_arrays(a, c)
        i, j = np.minimum(a.astype(int), max(rows - 2, 0)), np.minimum(c.astype(int), columns - 2)
        s, t = a - i, c - j
        up = np.minimum(i + 1, rows - 1)
        low = self.values[i, j] * (1 - t) + self.values[i, j + 1] * t
        high = self.values[up, j] * (1 - t) + self.values[up, j + 1] * t
        return low * (1 - s) + high * s


def transfer_function(
    shape: tuple[int, int, int], voxel_size: float, acquisition: Acquisition, gain: EnvelopeGain
) -> NDArray[np.float32]:
    """Return grey value per unit of density, `(z, y, x // 2 + 1)` in `rfftn` order.

    H(k) = W(k) * CTF(|k|) * g(|k|, |t(k)|)

    W is 1 inside the tilt range and 0 in the missing wedge, CTF the contrast transfer in the
    tomogram's CTF state (`recorded_ctf`), g the fitted gain, and t the tilt angle of direction k.
    """
    k = radius_grid(shape, voxel_size)
    wedge = missing_wedge(shape, acquisition.tilts).astype(float)
    whole = wedge * recorded_ctf(k, acquisition) * gain.interpolate(k, tilt_angle(shape))
    return np.asarray(whole, np.float32)


def surroundings_filter(
    shape: tuple[int, int, int], voxel_size: float, gain: EnvelopeGain, tilts: tuple[float, float]
) -> NDArray[np.float64]:
    """Return the filter from white noise to the surroundings of particles, in `rfftn` order.

    W(k) * g(|k|, |t(k)|), with the missing wedge W and mean 0.
    """
    found = missing_wedge(shape, tilts) * gain.interpolate(
        radius_grid(shape, voxel_size), tilt_angle(shape)
    )
    found[0, 0, 0] = 0
    return found


@dataclass(frozen=True)
class UnnamedNeighbours:
    """Particles of species that have no map: generic proteins in their place."""

    maps: Mapping[str, Floats]
    """Name to density, cubes `(z, y, x)` of any size; each is as frequent as the others."""
    per_particle: float
    """Number for each named neighbour."""
    pair_correlation: PairCorrelation
    """Number density and spacing of all neighbours, named and unnamed."""
    replaced: EnvelopeGain | None = None
    """Surroundings of a model without unnamed neighbours; whole scenes without crowders use them."""


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
    """Class to its fraction of the picks; `other` is neither of the classes."""
    maps: Mapping[str, NDArray[np.float32]]
    """Class to density `(z, y, x)`, for the neighbours."""
    surroundings: EnvelopeGain | None = None
    """Filter that turns white noise into the density around particles that no map explains:
    cytoplasm and unnamed species, in grey values. None: there is none."""
    unnamed: UnnamedNeighbours | None = None
    """Particles around others that have no map; the surroundings are the rest of the density."""
    offset: float = 0.0
    """Grey value added to the signal: tomograms have mean 0, particles are bright."""
    tomogram: str = ""
    """Name."""
    about: Mapping[str, Any] = field(default_factory=dict)
    """Diagnostics of the fit for people and the report; no simulation uses them."""

    def for_scene(self, has_crowders: bool) -> "ImagingModel":
        """Return the model for a scene: without surroundings if the scene has crowders of its own.

        Without crowders, the surroundings stand for unnamed particles, too.
        """
        if has_crowders:
            return replace(self, surroundings=None, unnamed=None)
        if self.unnamed is None:
            return self
        return replace(self, surroundings=self.unnamed.replaced, unnamed=None)

    @cached_property
    def neighbours(self) -> NeighbourSampler:
        """The named particles around others."""
        return NeighbourSampler(self.maps, self.class_fractions)

    @cached_property
    def crowd(self) -> tuple[NeighbourSampler, PairCorrelation]:
        """All particles around others, unnamed ones included, and their distances."""
        named, unnamed = self.neighbours, self.unnamed
        if unnamed is None:
            return named, self.pair_correlation
        # a class name holds no slash
        maps = {f"unnamed/{name}": density for name, density in unnamed.maps.items()}
        each = unnamed.per_particle / len(maps)
        shares = dict(zip(named.names, named.weights.tolist(), strict=True))
        shares |= dict.fromkeys(maps, each)
        few = dict.fromkeys(maps, UNNAMED_ORIENTATIONS)
        return NeighbourSampler({**self.maps, **maps}, shares, few), unnamed.pair_correlation

    @cached_property
    def transfer(self) -> Callable[[Shape], NDArray[np.float32]]:
        """Function from a shape to the transfer function on its `rfftn` grid."""
        # no reference to the model: a cycle would keep it and its filters until garbage collection
        size, acquisition, gain = self.voxel_size, self.acquisition, self.gain
        return lru_cache(MAX_CACHED_SHAPES)(
            lambda shape: transfer_function(shape, size, acquisition, gain)
        )

    @cached_property
    def noise_filter(self) -> Callable[[Shape], NDArray[np.float32]]:
        """Function from a shape to the filter that turns white noise into the tomogram's.

        sqrt(S_noise(k) + S_surroundings(k)) on an `rfftn` grid: the two are independent.
        """
        spectrum, size = self.noise_spectrum, self.voxel_size
        around, tilts = self.surroundings, self.acquisition.tilts

        def make(shape: Shape) -> NDArray[np.float32]:
            z, y, x = shape
            found = spectrum.noise_filter((z, y, x), size)
            if around is not None:
                found = np.hypot(found, surroundings_filter((z, y, x), size, around, tilts))
            return found.astype(np.float32)

        return lru_cache(MAX_CACHED_SHAPES)(make)

    def signal(self, scene: Floats) -> NDArray[np.float32]:
        """Return the noise-free image of a density scene `(z, y, x)`: IFFT(H FFT(scene)) + offset.

        H is `transfer_function`. The scene wraps around: give twice the size that is needed and
        crop (`crop_centre`).
        """
        spectrum = fft.rfftn(np.asarray(scene, np.float32))
        spectrum *= self.transfer(scene.shape)
        return np.asarray(fft.irfftn(spectrum, scene.shape) + np.float32(self.offset), np.float32)

    def noise(self, shape: Shape, rng: np.random.Generator) -> NDArray[np.float32]:
        """Return Gaussian noise `(z, y, x)`, surroundings included; it wraps around."""
        spectrum = fft.rfftn(rng.standard_normal(shape, np.float32))
        spectrum *= self.noise_filter(shape)
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
        crowd, distances = self.crowd
        if neighbours and crowd.names:
            for place in distances.draw_neighbours(size * self.voxel_size, rng):
                add_box(scene, crowd.draw(rng), middle + centre + place / self.voxel_size)
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
