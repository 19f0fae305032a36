"""Particles: picking, template matching and scoring beside their peers.

    OMP_NUM_THREADS=1 python benchmarks/particles.py [--quick] [dog large matching scoring]

CPU seconds of one thread, ours and the peer's by turns; medians of three, of one where a run takes
long. Peers: scipy.ndimage and dask-image (two Gaussians, their difference, its peaks), scikit-image
(blob_dog) and pytme (exhaustive matching, FLCSphericalMask). AITom cannot be installed beside our
versions: its 134 ms a box (fast rotational matching, L = 16) were measured on two Xeon cores.
"""

import argparse
import functools
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from memory import peak, resident
from scipy import ndimage

from cryoetgan.particles.matching.align import Aligner
from cryoetgan.particles.matching.low_rank import make_bank
from cryoetgan.particles.matching.search import search
from cryoetgan.particles.matching.template import SearchOptions, Template, search_band
from cryoetgan.particles.picking.pick import PickOptions, pick
from cryoetgan.physics.acquisition import Acquisition
from cryoetgan.physics.geometry import random_rotations, rotate_volume

K = 1.1
OPTIONS = SearchOptions(acquisition=Acquisition(), lowpass=30.0)  # tilts of -60 to 60 degrees
BOX = 28
AITOM = 134.0


def by_turns(functions, repeats=3):
    """Median CPU seconds of each function, run one after the other `repeats` times."""
    times = {name: [] for name in functions}
    for _ in range(repeats):
        for name, function in functions.items():
            start = time.process_time()
            function()
            times[name].append(time.process_time() - start)
    return {name: statistics.median(spent) for name, spent in times.items()}


def line(what, ours, peer, other, note=""):
    print(f"  {what:30} {ours:9.3f} s  {peer:14} {other:9.3f} s  {other / ours:7.1f} x  {note}")


def protein(numbers, box=BOX):
    """A map of twelve blobs, `(z, y, x)`."""
    z, y, x = np.indices((box,) * 3) - box // 2
    places = numbers.normal(0, 3.5, (12, 3))
    blobs = [np.exp(-((x - a) ** 2 + (y - b) ** 2 + (z - c) ** 2) / 4) for a, b, c in places]
    return np.sum(blobs, 0).astype(np.float32)


def measure_dog(quick):
    """Difference of Gaussians at sigma 7, 7.7."""
    shape = (96, 160, 160) if quick else (160, 256, 256)
    volume = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    sigma = 7.0

    def peaks(difference):
        width = 2 * int(sigma) + 1
        return np.argwhere(ndimage.maximum_filter(difference, width) == difference)

    def scipy_way():
        narrow, wide = (ndimage.gaussian_filter(volume, s) for s in (sigma, K * sigma))
        return peaks(narrow - wide)

    def dask_way():
        import dask
        import dask.array
        from dask_image.ndfilters import gaussian_filter

        blocks = dask.array.from_array(volume, chunks=128)
        lazy = gaussian_filter(blocks, sigma) - gaussian_filter(blocks, K * sigma)
        with dask.config.set(scheduler="synchronous"):
            return peaks(lazy.compute())

    def skimage_way():
        from skimage.feature import blob_dog

        return blob_dog(volume, min_sigma=sigma, max_sigma=K * sigma, sigma_ratio=K, threshold=0)

    ways = {
        "exact": lambda: pick(volume, [sigma], PickOptions(threshold=0)),
        "--fast": lambda: pick(volume, [sigma], PickOptions(threshold=0, fast=True)),
        "scipy": scipy_way,
        "dask-image": dask_way,
        "scikit-image": skimage_way,
    }
    times = by_turns(ways, 1 if quick else 3)
    print(f"Difference of Gaussians, {shape[::-1]} voxels; owed: --fast 15 times scipy, dask-image")
    for ours in ("exact", "--fast"):
        for peer in ("scipy", "dask-image", "scikit-image"):
            line(ours, times[ours], peer, times[peer])
    sizes = {
        name: peak(ways[name]) / (volume.nbytes / 1e6) for name in ("exact", "--fast", "scipy")
    }
    print("  peak memory over the input:", ", ".join(f"{n} {s:.2f}" for n, s in sizes.items()))


def large(quick):
    """A tomogram of 2 GB on disk, memory-mapped; owed: at most a tenth of it in memory."""
    shape, sigma = (64, 512, 512) if quick else (512, 1024, 1024), 7.0
    plane = np.random.default_rng(3).standard_normal((2, *shape[1:])).astype(np.float32)
    print(f"Difference of Gaussians, {shape[::-1]} voxels on disk, float32")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "tomogram"
        with open(path, "wb") as file:
            for z in range(shape[0]):  # other noise each time, and cheap
                np.roll(plane[0] + z % 7 * plane[1], 997 * z).tofile(file)
        size = path.stat().st_size
        volume = np.memmap(path, np.float32, "r", shape=shape)
        for name, fast in (("exact", False), ("--fast", True)):
            options = PickOptions(threshold=0, fast=fast)
            held, spent = resident(functools.partial(pick, volume, [sigma], options))
            print(
                f"  {name}: {spent:.1f} s, {held:.0f} MB resident, {held / (size / 1e6):.3f} of the "
                "input"
            )


def matching(quick):
    """Seconds of a tomogram; what pytme needs a rotation is measured on a few."""
    from tme.analyzer import MaxScoreOverRotations
    from tme.matching_data import MatchingData
    from tme.matching_exhaustive import match_exhaustive
    from tme.matching_scores import MATCHING_EXHAUSTIVE_REGISTER

    numbers = np.random.default_rng(1)
    shape = (64, 96, 96) if quick else (128, 256, 256)
    volume = numbers.standard_normal(shape).astype(np.float32)
    density = protein(numbers)
    z, y, x = np.indices(density.shape) - BOX // 2
    mask = (z**2 + y**2 + x**2 <= (BOX // 2 - 1) ** 2).astype(np.float32)
    setup, score = MATCHING_EXHAUSTIVE_REGISTER["FLCSphericalMask"]

    def pytme(count):
        data = MatchingData(
            target=volume.copy(),
            template=density,
            template_mask=mask,
            rotations=random_rotations(count, numbers).as_matrix().astype(np.float32),
        )
        start = time.process_time()
        match_exhaustive(
            matching_data=data,
            matching_setup=setup,
            matching_score=score,
            callback_class=MaxScoreOverRotations,
            callback_class_args={"score_threshold": 0},
            backend_name="numpyfftw",
        )
        return time.process_time() - start

    def ours(count):
        search(volume, make_bank({"a": density}, band, count), 1 / 3, OPTIONS)

    few, more = (4, 12) if quick else (4, 24)
    pytme(2)
    a_rotation = (pytme(more) - pytme(few)) / (more - few)
    print(
        f"Template matching, {shape[::-1]} voxels, one template of {BOX}; pytme's by its rotation"
    )
    band = search_band(BOX, 10.0, OPTIONS, torch.device("cpu"))
    for count, owed in ((1000, 4), (7000, 10)):
        held, spent = resident(lambda count=count: ours(count))
        line(f"{count} rotations", spent, "pytme", count * a_rotation, f"owed {owed}")
        print(f"    {held:.0f} MB resident")
    print(f"  pytme: {resident(lambda: pytme(4))[0]:.0f} MB resident")


def scoring(quick):
    """Milliseconds a box and class; AITom's are those of PERFORMANCE.md."""
    numbers = np.random.default_rng(2)
    density = protein(numbers)
    count = 32 if quick else 128
    turns = random_rotations(count, numbers)
    boxes = np.array([rotate_volume(density, turn) for turn in turns], np.float32)
    boxes += boxes.std() * numbers.standard_normal(boxes.shape).astype(np.float32)
    band = search_band(BOX, 10.0, OPTIONS, torch.device("cpu"))
    tensor = torch.as_tensor(boxes)
    print("Alignment and scoring of picked boxes; owed 15 times AITom")
    for rotations in (1100, 1856, 3000):
        start = time.process_time()
        aligner = Aligner(Template(density, band), rotations)
        made = time.process_time() - start
        [spent] = by_turns({"ours": lambda a=aligner: a.align(tensor)}).values()
        each = 1e3 * spent / count
        print(
            f"  {rotations:5} rotations: {each:6.1f} ms a box and class ({made:.1f} s a bank), AITom "
            f"{AITOM:.0f} ms, {AITOM / each:.1f} x"
        )


MEASURES = {"dog": measure_dog, "large": large, "matching": matching, "scoring": scoring}


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", nargs="*", help=", ".join(MEASURES))
    parser.add_argument("--quick", action="store_true", help="small sizes")
    options = parser.parse_args()
    torch.set_num_threads(1)
    for name in options.what or MEASURES:
        MEASURES[name](options.quick)


if __name__ == "__main__":
    main()
