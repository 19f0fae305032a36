"""Conventional simulation of subtomograms, with user-specified parameters: the paper's baseline.

After Pei 2016; Paper, section 3.3.5 compares with it. Contrast transfer, missing wedge, half of the noise before the
transfer and half after it as detector noise, a low-pass filter.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import fft

from cryoetgan import seeds
from cryoetgan.errors import UserError
from cryoetgan.imaging.scenes import SCENE_BOXES
from cryoetgan.imaging.transfer import recorded_ctf
from cryoetgan.physics.acquisition import Acquisition
from cryoetgan.physics.optics import missing_wedge, radius_grid

Floats = NDArray[np.floating]


@dataclass(frozen=True, kw_only=True)
class ConventionalParameters:
    """User-specified parameters.

    Raises
    ------
    UserError
        If a number is not above zero.
    """

    snr: float
    """Variance of the signal over variance of the noise, in each volume, after the transfer."""
    acquisition: Acquisition
    """Tilts, optics, CTF state."""
    lowpass: float = 40.0
    """Resolution limit, angstrom."""
    envelope: float | None = None
    """Width E of the CTF envelope exp(-(k / E)^2), as a fraction of the Nyquist frequency. AITom,
    the code behind the paper's baseline, uses 0.4. None: no envelope."""
    mtf_width: float = 0.4
    """Standard deviation of the detector noise's spectrum, fraction of the Nyquist frequency."""
    lowpass_edge: float = 2.0
    """Width of the low-pass filter's edge, Fourier voxels."""

    def __post_init__(self) -> None:
        for name, unit in (("snr", ""), ("lowpass", " A"), ("envelope", "")):
            value = getattr(self, name)
            if value is not None and not 0 < value < np.inf:
                raise UserError(f"{name} is {value:g}{unit}, wanted a number above zero")

    def to_json(self) -> dict[str, Any]:
        """Return the parameters by the names of the command's options."""
        a = self.acquisition
        names = ("defocus", "voltage", "cs", "amplitude_contrast", "ctf")
        own = {"snr": self.snr, "lowpass": self.lowpass, "envelope": self.envelope}
        return own | {"tilts": list(a.tilts)} | {name: getattr(a, name) for name in names}


class ConventionalSimulator:
    """Turns density boxes into subtomograms.

    On a scene of twice the box, so that the filters do not wrap around, with k in units of the
    Nyquist frequency:

        signal = IFFT(H FFT(density)),  H = W * CTF * L * exp(-(k / E)^2)
        noise = n1 / sd(n1) + n2 / sd(n2), scaled to variance 1
        n1 = IFFT(H FFT(white)),  n2 = IFFT(W * L * exp(-(k / mtf_width)^2 / 2) FFT(white))
        subtomogram = signal + noise * sqrt(var(signal) / SNR)

    W is the missing wedge, L the low-pass filter with a Gaussian edge, E the envelope's width.

    Parameters
    ----------
    parameters : ConventionalParameters
        Physics.
    box : int
        Voxels.
    voxel_size : float
        Angstrom.

    Raises
    ------
    UserError
        If the low-pass is finer than the Nyquist limit of the voxels.
    """

    def __init__(self, parameters: ConventionalParameters, box: int, voxel_size: float) -> None:
        p = parameters
        if p.lowpass < 2 * voxel_size:
            raise UserError(
                f"imaging.lowpass is {p.lowpass:g} A, finer than the Nyquist limit of voxels of "
                f"{voxel_size:g} A; give {2 * voxel_size:g} or more"
            )
        self.parameters, self.box = p, box
        self.scene = SCENE_BOXES * box
        start = self.scene // 2 - box // 2
        self._inner = (slice(start, start + box),) * 3
        shape = (self.scene,) * 3
        k = radius_grid(shape, voxel_size)
        beyond = np.clip(
            (k - 1 / p.lowpass) / (p.lowpass_edge / (self.scene * voxel_size)), 0, None
        )
        limit = missing_wedge(shape, p.acquisition.tilts) * np.exp(-(beyond**2) / 2)
        self.detector = (limit * np.exp(-((k * voxel_size * 2 / p.mtf_width) ** 2) / 2)).astype(
            np.float32
        )
        envelope = np.exp(-((k * voxel_size * 2 / (p.envelope or np.inf)) ** 2))
        self.transfer = (limit * recorded_ctf(k, p.acquisition) * envelope).astype(np.float32)

    def signal(self, density: Floats) -> Floats:
        """Return the noise-free image of a density `(z, y, x)`."""
        scene = np.zeros((self.scene,) * 3, np.float32)
        scene[self._inner] = density
        return self._filter(scene, self.transfer)[self._inner]

    def noise(self, rng: np.random.Generator) -> Floats:
        """Return noise of variance 1: half through the transfer, half from the detector."""
        halves = []
        for transfer in (self.transfer, self.detector):
            white = rng.standard_normal((self.scene,) * 3, dtype=np.float32)
            half = self._filter(white, transfer)[self._inner]
            halves.append(half / half.std())
        both = halves[0] + halves[1]
        return both / both.std()

    @staticmethod
    def _filter(volume: Floats, transfer: Floats) -> Floats:
        return fft.irfftn(fft.rfftn(volume) * transfer, s=volume.shape)

    def simulate(self, density: Floats, rng: np.random.Generator) -> Floats:
        """Return signal plus noise at the requested signal-to-noise ratio."""
        signal, noise = self.signal(density), self.noise(rng)
        return signal + noise * np.sqrt(signal.var() / self.parameters.snr)


def simulate_conventional(
    volumes: Iterable[Floats], simulator: ConventionalSimulator, seed: int, names: Iterable[str]
) -> Iterator[Floats]:
    """Yield the simulated subtomogram of each density; its noise is seeded by its name."""
    for density, name in zip(volumes, names, strict=True):
        yield simulator.simulate(np.asarray(density), seeds.rng(seed, "imaging", name))
