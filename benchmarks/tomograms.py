"""Tomograms: import, projection, reconstruction and simulation beside their peers.

    python benchmarks/tomograms.py [--size 256]

One core (`taskset -c 0`); each figure is the best of three. Peers: ASTRA's CPU projector (astra-toolbox),
scikit-image's iradon, scipy.ndimage and mrcfile on the whole array.
"""

import argparse
import tempfile
import time
from pathlib import Path

import mrcfile
import numpy as np
from memory import peak
from scipy import ndimage

from cryoetgan.io.mrc import open_volume
from cryoetgan.io.raw_mrc import open_raw_volume
from cryoetgan.physics.acquisition import Acquisition
from cryoetgan.tomograms.importing.convert import standardise_into
from cryoetgan.tomograms.importing.normalise import measure_grey_scale
from cryoetgan.tomograms.importing.resample import resampled_shape
from cryoetgan.tomograms.simulation.packing import empty_scene, pack
from cryoetgan.tomograms.simulation.reconstruction import (
    project_tilt_series,
    projection_matrix,
    weighted_back_projection,
)
from cryoetgan.tomograms.simulation.simulate_tomogram import simulate_tomogram
from cryoetgan.tomograms.simulation.tilt_series import TiltSeries

TILTS = np.arange(-60, 61, 3.0)


def best(function, repeats=3):
    """Seconds, and what it returned."""
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        found = function()
        times.append(time.perf_counter() - start)
    return min(times), found


def line(what, ours, peer, other, note=""):
    times = f"{other / ours:6.1f} x" if other else " " * 8
    shown = f"{other:8.2f} s {peer:24}" if other else " " * 35
    print(f"{what:34} {ours:8.2f} s {shown} {times}  {note}")


def importing(size):
    """A tomogram of int16 at 7 A to 13.68 A, standardised, on disk."""
    with tempfile.TemporaryDirectory() as folder:
        path, out = Path(folder) / "in.mrc", Path(folder) / "out.mrc"
        rng = np.random.default_rng(1)
        data = rng.normal(0, 500, (size // 2, size, size)).astype(np.int16)
        with mrcfile.new(path) as file:
            file.set_data(data)
            file.voxel_size = 7.0
        step = 13.68 / 7

        def ours():
            with open_raw_volume(path) as raw:
                scale = measure_grey_scale(raw.data, path)
                shape = resampled_shape(raw.data.shape, step)
                with open_volume(out, shape, 13.68) as made:
                    standardise_into(made, raw.data, step, scale.mean, -1 / scale.sd, path)

        def whole():
            """The usual script: all of it in memory, a Gaussian, a spline zoom."""
            with mrcfile.open(path) as file:
                values = file.data.astype(np.float32)
            values = ndimage.gaussian_filter(values, 0.5 * np.sqrt(step**2 - 1))
            values = -ndimage.zoom(values, 1 / step, order=3, mode="nearest", grid_mode=True)
            values = (values - values.mean()) / values.std()
            with mrcfile.new(out, overwrite=True) as file:
                file.set_data(values.astype(np.float32))

        mine, theirs = peak(ours), peak(whole)
        note = f"memory {mine:.0f} MB, peer {theirs:.0f} MB, file {data.nbytes / 1e6:.0f} MB"
        line("import, 7 to 13.68 A", best(ours)[0], "mrcfile + scipy", best(whole)[0], note)


def projecting(size):
    volume = ndimage.gaussian_filter(
        np.random.default_rng(1).standard_normal((size // 2, size, size)), 2
    ).astype(np.float32)
    ours, images = best(lambda: project_tilt_series(volume, TILTS))
    try:
        import astra
    except ImportError:
        line("41 projections", ours, "", 0, "astra-toolbox is not installed")
        astra = None
    if astra:
        # its y sections one by one, as its 2-D CPU projectors work
        vol = astra.create_vol_geom(size // 2, size)
        geometry = astra.create_proj_geom("parallel", 1.0, size, np.radians(TILTS))
        number = astra.create_projector("linear", geometry, vol)

        def theirs():
            return np.stack([astra.create_sino(volume[:, y], number)[1] for y in range(0, size, 8)])

        other, sinograms = best(theirs)
        # ASTRA counts from (n - 1) / 2 and turns the other way: half a pixel apart
        close = np.corrcoef(
            sinograms[:, ::-1].ravel(), images[:, :, ::8].transpose(2, 0, 1).ravel()
        )
        note = f"correlation {close[0, 1]:.4f} (centres half a pixel apart)"
        line("41 projections", ours, "ASTRA linear, CPU", other * 8, note)
    back, tomogram = best(lambda: weighted_back_projection(images, TILTS, size // 2))
    try:
        from skimage.transform import iradon
    except ImportError:
        line("weighted back-projection", back, "", 0, "scikit-image is not installed")
        return
    middle = slice(size // 4, size // 4 + size // 2)

    def radon():
        sections = range(0, size, 32)
        return [
            iradon(images[:, :, y].T, theta=-TILTS, filter_name="ramp", circle=True)
            for y in sections
        ]

    other, sections = best(radon, 1)
    close = np.corrcoef(tomogram[:, 0].ravel(), sections[0][middle].ravel())[0, 1]
    line(
        "weighted back-projection",
        back,
        "scikit-image iradon",
        other * 32 * 0.5,
        f"correlation {close:.3f}; iradon's square halved to our slab",
    )


def steep(size):
    """Error of one steep projection against fine numerical integration."""
    z, x = np.indices((size // 2, size)) - np.array([size // 4, size // 2])[:, None, None]
    worst = {}
    for tilt in (0.0, 30.0, 45.0, 60.0):
        section = np.exp(-((x - 9) ** 2 / 50 + (z + 7) ** 2 / 20))
        image = projection_matrix(size // 2, size, tilt) @ section.ravel()
        cos, sin = np.cos(np.radians(tilt)), np.sin(np.radians(tilt))
        u = np.arange(size) - size // 2
        # the Gaussian's projection in closed form
        variance = 25 * cos**2 + 10 * sin**2
        mean = 9 * cos - 7 * sin
        exact = np.exp(-((u - mean) ** 2) / 2 / variance) * np.sqrt(2 * np.pi * 250 / variance)
        worst[tilt] = np.abs(image - exact).max() / exact.max()
    shown = ", ".join(f"{tilt:g} deg {error:.1e}" for tilt, error in worst.items())
    print(f"projection of a Gaussian against its closed form, largest error: {shown}")


def simulating():
    """The embedded default's tomogram: 192 x 192 x 80, 4 classes, 40 copies."""
    z, y, x = np.indices((28, 28, 28)) - 14.0
    maps = {
        str(n): np.exp(-(x**2 / (8 + 4 * n) + y**2 / 18 + z**2 / 9)).astype(np.float32)
        for n in range(4)
    }

    def ours():
        scene = empty_scene((80, 192, 192), list(maps))
        pack(scene, maps, dict.fromkeys(maps, 40), "t", 0)
        series = TiltSeries(voxel_size=13.68, acquisition=Acquisition(), name="t", seed=0)
        return simulate_tomogram(scene.density, series, 0.3)

    line("simulate 192 x 192 x 80, 160", best(ours, 2)[0], "", 0, "packing, series, tomogram")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=256, help="x and y in voxels; z is half")
    size = parser.parse_args().size
    print(f"{size} x {size} x {size // 2} voxels, 41 tilts, one core")
    importing(size)
    projecting(size)
    steep(size)
    simulating()


if __name__ == "__main__":
    main()
