"""The traditional simulation of subtomograms: physics with typed-in parameters.

After the recipe the paper compares with (its section 3; Pei 2016): contrast transfer, missing
wedge, half of the noise before the transfer and half after it as detector noise, a low-pass.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import fft

from cryoetgan.errors import UserError
from cryoetgan.physics.optics import ctf, missing_wedge, radius_grid
from cryoetgan.seeds import rng

Floats = NDArray[np.floating]
PADDING = 2
"""The transfer acts on a scene this many times the box: on the bare box it would wrap around."""
MTF_WIDTH = 0.4
"""Width of the detector noise's Gaussian spectrum, share of the Nyquist frequency."""
LOWPASS_EDGE = 2.0
"""Fourier voxels over which the low-pass falls off."""


@dataclass(frozen=True, kw_only=True)
class Physics:
    """Typed parameters.

    Attributes
    ----------
    snr : float
        Variance of signal over variance of noise in each volume, after transfer.
    tilts : (float, float)
        Degrees.
    defocus, voltage, cs, amplitude_contrast : float
        Micrometres, kilovolts, millimetres, fraction.
    ctf : str
        raw, phase-flipped or corrected.
    lowpass : float
        Angstrom.
    envelope : float, optional
        Of the contrast transfer, exp(-(k / E)^2), E as a share of the Nyquist frequency;
        the published code that the paper's baseline stands on (AITom) has 0.4. None: none.
    """

    snr: float
    tilts: tuple[float, float]
    defocus: float = 4.0
    voltage: float = 300.0
    cs: float = 2.7
    amplitude_contrast: float = 0.07
    ctf: str = "raw"
    lowpass: float = 40.0
    envelope: float | None = None


class Simulator:
    """Turns density boxes into subtomograms.

    Parameters
    ----------
    physics : Physics
        Parameters.
    box : int
        Voxels.
    voxel_size : float
        Angstrom.

    Raises
    ------
    UserError
        Where the low-pass is finer than the voxels allow.
    """

    def __init__(self, physics: Physics, box: int, voxel_size: float) -> None:
        if physics.lowpass < 2 * voxel_size:
            raise UserError(
                f"imaging.lowpass is {physics.lowpass:g} A, finer than voxels of {voxel_size:g} A "
                f"can show; give {2 * voxel_size:g} or more"
            )
        self.physics, self.box = physics, box
        self.scene = PADDING * box
        shape = (self.scene,) * 3
        k = radius_grid(shape, voxel_size)
        width = LOWPASS_EDGE / (self.scene * voxel_size)
        over = np.clip((k - 1 / physics.lowpass) / width, 0, None)
        limit = missing_wedge(shape, physics.tilts) * np.exp(-(over**2) / 2)
        self.detector = (limit * np.exp(-((k * voxel_size * 2 / MTF_WIDTH) ** 2) / 2)).astype(
            np.float32
        )
        fall = np.exp(-((k * voxel_size * 2 / (physics.envelope or np.inf)) ** 2))
        self.transfer = (limit * self._contrast(k) * fall).astype(np.float32)

    def _contrast(self, k: Floats) -> Floats:
        p = self.physics
        values = ctf(k, p.defocus, p.voltage, p.cs, p.amplitude_contrast)
        return {"raw": values, "phase-flipped": np.abs(values)}.get(p.ctf, np.ones_like(k))

    def signal(self, density: Floats) -> Floats:
        """Return what the microscope shows of a density `(z, y, x)`, without noise."""
        start = self.scene // 2 - self.box // 2
        scene = np.zeros((self.scene,) * 3, np.float32)
        inner = (slice(start, start + self.box),) * 3
        scene[inner] = density
        return self._filter(scene, self.transfer)[inner]

    def noise(self, numbers: np.random.Generator) -> Floats:
        """Return noise of variance 1: half through the transfer, half from the detector."""
        shape = (self.scene,) * 3
        start = self.scene // 2 - self.box // 2
        inner = (slice(start, start + self.box),) * 3
        halves = []
        for transfer in (self.transfer, self.detector):
            white = numbers.standard_normal(shape, dtype=np.float32)
            half = self._filter(white, transfer)[inner]
            halves.append(half / half.std())
        both = halves[0] + halves[1]
        return both / both.std()

    @staticmethod
    def _filter(volume: Floats, transfer: Floats) -> Floats:
        return fft.irfftn(fft.rfftn(volume) * transfer, s=volume.shape)

    def simulate(self, density: Floats, numbers: np.random.Generator) -> Floats:
        """Return signal plus noise at the typed ratio of variances."""
        signal, noise = self.signal(density), self.noise(numbers)
        return signal + noise * np.sqrt(signal.var() / self.physics.snr)


def simulated(
    volumes: Iterable[Floats], simulator: Simulator, seed: int, names: Iterable[str]
) -> Iterator[Floats]:
    """Yield the simulated subtomogram of each density; its noise belongs to its name."""
    for density, name in zip(volumes, names, strict=True):
        yield simulator.simulate(np.asarray(density), rng(seed, "imaging", name))
