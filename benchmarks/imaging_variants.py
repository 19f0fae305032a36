"""Harder variants of the shared tomograms, for which the model of the physics is wrong.

    python benchmarks/imaging_variants.py T.mrc VARIANT -o OUT.mrc

- `denoised`: roughly as a learned denoiser does: total variation denoising (Chambolle 2004,
  doi 10.1023/B:JMIV.0000011325.36760.1e), contrast that falls with depth, compressed grey values.
- `narrow`: tilts of +-45 degrees, to be used as if they were +-60.
- `snr0.1`, `snr0.05`: noise of the tomogram's own spectrum is added.
- `defocus`: the same volume; give a defocus that is 1 um wrong.

T.mrc is an imported tomogram (protein bright, mean 0, standard deviation 1); its record is copied.
"""

import argparse
import shutil
from pathlib import Path

import numpy as np
from scipy import fft

from cryoetgan.io.files import sidecar
from cryoetgan.io.mrc import read_volume, write_volume
from cryoetgan.physics.optics import missing_wedge

WEIGHT = 0.35
"""Weight of the total variation, for unit variance."""
STEPS = 25
DEPTH = 0.35
"""Fraction of the contrast that is lost from the first slice to the last."""
SHARED_SNR = 0.3
"""Variance of the signal over the noise, of the shared tomograms."""
COMPRESSION = 0.6
"""Grey value at which the compression sets in, standard deviations of the denoised volume."""


def total_variation(volume, weight, steps):
    """Return the minimiser of |u - v|^2 / 2 + weight |grad u|, by Chambolle's projection."""
    dual = np.zeros((3, *volume.shape), np.float32)
    out = volume
    for _ in range(steps):
        spread = -dual.sum(axis=0)
        for axis in range(3):
            ahead = [slice(None)] * 3
            behind = [slice(None)] * 3
            ahead[axis], behind[axis] = slice(1, None), slice(None, -1)
            spread[tuple(ahead)] += dual[axis][tuple(behind)]
        out = volume + spread
        gradient = np.zeros_like(dual)
        for axis in range(3):
            ahead = [slice(None)] * 3
            behind = [slice(None)] * 3
            ahead[axis], behind[axis] = slice(1, None), slice(None, -1)
            gradient[axis][tuple(behind)] = np.diff(out, axis=axis)
        size = np.sqrt((gradient**2).sum(axis=0))
        step = 1 / 6
        dual = (dual - step * gradient) / (1 + step / weight * size)
    return out


def denoise(volume):
    """Return a volume after denoising, loss of contrast with depth, and compression."""
    smooth = total_variation(volume, WEIGHT, STEPS)
    smooth = smooth * np.linspace(1, 1 - DEPTH, len(volume), dtype=np.float32)[:, None, None]
    bend = COMPRESSION * 2 * smooth.std()
    return np.tanh(smooth / bend)


def narrow_tilt_range(volume):
    """Return a volume without the directions beyond 45 degrees of tilt."""
    mask = missing_wedge(volume.shape, (-45, 45))
    return fft.irfftn(fft.rfftn(volume) * mask, volume.shape)


def add_noise(volume, snr):
    """Return a volume with more noise, until its signal-to-noise ratio is `snr`.

    The shared tomograms have `SHARED_SNR`. The noise has their spectrum: its phases are random.
    """
    numbers = np.random.default_rng(int(abs(volume).sum()))
    amplitude = np.abs(fft.rfftn(volume - volume.mean()))
    white = fft.rfftn(numbers.standard_normal(volume.shape, np.float32))
    noise = fft.irfftn(white / np.maximum(np.abs(white), 1e-20) * amplitude, volume.shape)
    # of unit variance, s is SHARED_SNR / (1 + SHARED_SNR) and the noise the rest
    signal = SHARED_SNR / (1 + SHARED_SNR) * volume.var()
    more = signal / snr - signal / SHARED_SNR
    return volume + np.sqrt(more) / noise.std() * noise


VARIANTS = {
    "denoised": denoise,
    "narrow": narrow_tilt_range,
    "defocus": lambda volume: volume,
    "snr0.1": lambda volume: add_noise(volume, 0.1),
    "snr0.05": lambda volume: add_noise(volume, 0.05),
}


def make(source, name, output):
    """Write one variant of an imported tomogram, mean 0 and standard deviation 1."""
    volume = read_volume(source)
    made = np.asarray(VARIANTS[name](np.asarray(volume.data, np.float32)), np.float32)
    write_volume(output, (made - made.mean()) / made.std(), volume.voxel_size)
    if sidecar(source).exists():
        shutil.copy(sidecar(source), sidecar(output))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("tomogram", type=Path)
    parser.add_argument("variant", choices=sorted(VARIANTS))
    parser.add_argument("-o", "--output", type=Path, required=True)
    given = parser.parse_args()
    make(given.tomogram, given.variant, given.output)


if __name__ == "__main__":
    main()
