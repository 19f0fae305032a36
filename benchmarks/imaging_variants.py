"""Harder variants of the shared tomograms, for which the model of the physics is wrong.

    python benchmarks/imaging_variants.py T.mrc VARIANT -o OUT.mrc

- `denoised`: roughly as a learned denoiser does: total variation denoising (Chambolle 2004,
  doi 10.1023/B:JMIV.0000011325.36760.1e), contrast that falls with depth, compressed grey values.
- `narrow`: tilts of +-45 degrees, to be used as if they were +-60.
- `snr0.1`, `snr0.05`: noise of the tomogram's own spectrum is added.
- `defocus`: the same volume; give a defocus that is 1 um wrong.
- `thickness`: noise rises along x to twice its amplitude.
- `tilt_resolution`: the resolution falls with the tilt.
- `dose_filter`: dose weighting.
- `denoised_1`, `denoised_2`: Gaussian filters of 1 and 2 voxels; `median_3`: a median filter.

T.mrc is an imported tomogram (protein bright, mean 0, standard deviation 1); its record is copied.
"""

import argparse
import shutil
from pathlib import Path

import numpy as np
from scipy import fft, ndimage

from cryoetgan.io.files import sidecar
from cryoetgan.io.mrc import read_volume, write_volume
from cryoetgan.physics.optics import missing_wedge, radius_grid, tilt_angle

WEIGHT = 0.35
"""Weight of the total variation, for unit variance."""
STEPS = 25
DEPTH = 0.35
"""Fraction of the contrast that is lost from the first slice to the last."""
SHARED_SNR = 0.3
"""Variance of the signal over the noise, of the shared tomograms."""
COMPRESSION = 0.6
"""Grey value at which the compression sets in, standard deviations of the denoised volume."""
DOSE = 3.0
"""Electrons per square angstrom and tilt, dose-symmetric, 3 degrees apart."""


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


def filtered(volume, factor):
    return np.fft.irfftn(np.fft.rfftn(volume) * factor, volume.shape, axes=(0, 1, 2))


def thickness(volume):
    """Noise rises along x to twice its amplitude, as in a wedge of ice."""
    ramp = np.linspace(0, np.sqrt(3), volume.shape[2])
    return volume + ramp * volume.std() * np.random.default_rng(0).standard_normal(volume.shape)


def tilt_resolution(volume):
    """The resolution falls from 20 A untilted to 60 A at 60 degrees (1 / e in amplitude)."""
    k, tilt = radius_grid(volume.shape, 10.0), np.abs(tilt_angle(volume.shape))
    return filtered(volume, np.exp(-((k * (20 + 40 * tilt / 60)) ** 2)))


def dose_filter(volume):
    """Dose weighting (Grant & Grigorieff 2015, doi 10.7554/eLife.06980) by tilt."""
    k, tilt = radius_grid(volume.shape, 10.0), np.abs(tilt_angle(volume.shape))
    critical = 0.245 * np.maximum(k, 1e-4) ** -1.665 + 2.81
    return filtered(volume, np.exp(-DOSE * (2 * tilt / 3) / (2 * critical)))


VARIANTS = {
    "plain": lambda volume: volume,
    "denoised": denoise,
    "narrow": narrow_tilt_range,
    "defocus": lambda volume: volume,
    "snr0.1": lambda volume: add_noise(volume, 0.1),
    "snr0.05": lambda volume: add_noise(volume, 0.05),
    "thickness": thickness,
    "tilt_resolution": tilt_resolution,
    "dose_filter": dose_filter,
    "denoised_1": lambda volume: ndimage.gaussian_filter(volume, 1.0),
    "denoised_2": lambda volume: ndimage.gaussian_filter(volume, 2.0),
    "median_3": lambda volume: ndimage.median_filter(volume, 3),
}


def change(volume, name):
    """Return one variant of a volume, mean 0 and standard deviation 1."""
    made = np.asarray(VARIANTS[name](np.asarray(volume, np.float32)), np.float32)
    return (made - made.mean()) / made.std()


def make(source, name, output):
    """Write one variant of an imported tomogram, mean 0 and standard deviation 1."""
    volume = read_volume(source)
    write_volume(output, change(volume.data, name), volume.voxel_size)
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
