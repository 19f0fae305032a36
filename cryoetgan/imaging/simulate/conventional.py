"""Conventional simulation of subtomograms, with user-specified parameters: the paper's baseline.

After Pei 2016; Paper, section 3.3.5 compares with it. Contrast transfer, missing wedge, half of
the noise before the transfer and half after it as detector noise, a low-pass filter.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import fft

from cryoetgan import seeds
from cryoetgan.errors import UserError
from cryoetgan.imaging.model import SCENE_BOXES
from cryoetgan.io.memmap import iterate_sections
from cryoetgan.io.star import OTHER, item_names
from cryoetgan.io.volume_set import VolumeSet, VolumeSetWriter
from cryoetgan.physics.acquisition import Acquisition
from cryoetgan.physics.optics import missing_wedge, radius_grid, recorded_ctf
from cryoetgan.progress import track

Floats = NDArray[np.floating]


@dataclass(frozen=True, kw_only=True)
class ConventionalParameters:
    """User-specified parameters."""

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
    """Turns density boxes of `box` voxels into subtomograms.

    On a scene of twice the box, so that the filters do not wrap around, with k in units of the
    Nyquist frequency:

        signal = IFFT(H FFT(density)),  H = W * CTF * L * exp(-(k / E)^2)
        noise = n1 / sd(n1) + n2 / sd(n2), scaled to variance 1
        n1 = IFFT(H FFT(white)),  n2 = IFFT(W * L * exp(-(k / mtf_width)^2 / 2) FFT(white))
        subtomogram = signal + noise * sqrt(var(signal) / SNR)

    W is the missing wedge, L the low-pass filter with a Gaussian edge, E the envelope's width.
    """

    def __init__(self, parameters: ConventionalParameters, box: int, voxel_size: float) -> None:
        p = parameters
        if p.lowpass < 2 * voxel_size:
            raise UserError(
                f"imaging.lowpass is {p.lowpass:g} A, finer than the Nyquist limit of voxels of "
                f"{voxel_size:g} A; give {2 * voxel_size:g} or more"
            )
        self.snr, self.scene = p.snr, SCENE_BOXES * box
        start = self.scene // 2 - box // 2
        self._inner = (slice(start, start + box),) * 3
        shape = (self.scene,) * 3
        k = radius_grid(shape, voxel_size)
        edge = p.lowpass_edge / (self.scene * voxel_size)
        beyond = np.clip((k - 1 / p.lowpass) / edge, 0, None)
        limit = missing_wedge(shape, p.acquisition.tilts) * np.exp(-(beyond**2) / 2)
        mtf = np.exp(-((k * voxel_size * 2 / p.mtf_width) ** 2) / 2)
        self.detector = (limit * mtf).astype(np.float32)
        envelope = np.exp(-((k * voxel_size * 2 / (p.envelope or np.inf)) ** 2))
        self.transfer = (limit * recorded_ctf(k, p.acquisition) * envelope).astype(np.float32)

    def signal(self, density: Floats) -> Floats:
        """Return the noise-free image of a density `(z, y, x)`."""
        scene = np.zeros((self.scene,) * 3, np.float32)
        scene[self._inner] = density
        return self._filter(scene, self.transfer)

    def noise(self, rng: np.random.Generator) -> Floats:
        """Return noise of variance 1: half through the transfer, half from the detector."""
        halves = []
        for transfer in (self.transfer, self.detector):
            half = self._filter(rng.standard_normal((self.scene,) * 3, dtype=np.float32), transfer)
            halves.append(half / half.std())
        both = halves[0] + halves[1]
        return both / both.std()

    def _filter(self, scene: Floats, transfer: Floats) -> Floats:
        return fft.irfftn(fft.rfftn(scene) * transfer, s=scene.shape)[self._inner]

    def noise_level(self, signal: Floats) -> float:
        """Return the standard deviation of noise at the requested signal-to-noise ratio."""
        return float(np.sqrt(signal.var() / self.snr))

    def simulate(
        self, density: Floats, rng: np.random.Generator, level: float | None = None
    ) -> Floats:
        """Return signal plus noise of a standard deviation, by default the `noise_level`.

        An empty box gives noise of variance 1 by default.
        """
        signal, noise = self.signal(density), self.noise(rng)
        if level is None:
            level = self.noise_level(signal) or 1.0
        return signal + noise * level


def write_conventional(
    densities: VolumeSet, output: Path, parameters: ConventionalParameters, seed: int
) -> None:
    """Write the conventional simulation of a set of densities, with mean 0 and SD 1.

    The noise of a volume is seeded by its name, so that it stays if others are added.
    """
    simulator = ConventionalSimulator(parameters, densities.box, densities.voxel_size)
    rows = densities.table.drop(columns="rlnOpticsGroup", errors="ignore")
    rows = rows.assign(cryoetganSource="simulated").to_dict("records")
    names = item_names(densities.table["cryoetganClass"])
    optics = pd.DataFrame([parameters.acquisition.to_optics(1, "simulated")])
    count, size = len(densities), densities.voxel_size
    others = _noise_of_others(simulator, densities)
    total = square = 0.0
    with VolumeSetWriter(output, count, densities.box, size, optics) as writer:
        items = zip(iterate_sections(densities.volumes), rows, names, strict=True)
        for density, row, name in track(items, "simulating", count):
            if row["cryoetganClass"] != OTHER and not np.ptp(density):
                raise UserError(
                    f"{densities.path}: volume {name} is constant everywhere, so it gives no "
                    "signal; name a set with particles in it"
                )
            own = others if row["cryoetganClass"] == OTHER else None
            rng = seeds.rng(seed, "imaging", name)
            volume = simulator.simulate(np.asarray(density), rng, own)
            writer.add(volume, row)
            total += float(volume.sum(dtype=np.float64))
            square += float((volume.astype(np.float64) ** 2).sum())
        # one grey scale for the set: contrast between light and heavy particles is information
        mean = total / writer.data.size
        sd = np.sqrt(max(square / writer.data.size - mean**2, 0.0))
        for volume in iterate_sections(writer.data):
            volume[:] = (volume - mean) / sd


def _noise_of_others(simulator: ConventionalSimulator, densities: VolumeSet) -> float:
    """Return the noise level of all boxes of class `other`: the median of those that hold a density.

    Noise of each box's own level would tell empty boxes from others.
    """
    rows = np.flatnonzero(densities.table["cryoetganClass"] == OTHER)
    boxes = (np.asarray(densities.volumes[int(row)]) for row in rows)
    levels = [simulator.noise_level(simulator.signal(box)) for box in boxes if np.ptp(box)]
    return float(np.median(levels)) if levels else 1.0
