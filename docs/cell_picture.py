"""Draw docs/images/cell_scene.png: two slices of a scene, its labels, and its tomogram.

python docs/cell_picture.py SCENE.mrc TOMOGRAM.mrc
"""

import sys
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from cryoetgan.io.files import LABELS
from cryoetgan.io.mrc import read_volume
from cryoetgan.io.scene import beside

THICK = 5
"""Sections that are averaged."""


def main() -> None:
    """Draw the slices of the files that the command line names."""
    scene, tomogram = map(Path, sys.argv[1:3])
    volumes = [read_volume(path).data for path in (scene, tomogram, beside(scene, LABELS))]
    depth, height, width = volumes[0].shape
    figure = Figure(figsize=(15, 5.2 * (depth + height) / width), layout="constrained")
    FigureCanvasAgg(figure)
    rows = figure.subplots(2, 3, height_ratios=[height, depth])
    named = np.unique(volumes[2])[-1]
    # sections across the beam and along it
    for axis, (left, centre, right) in enumerate(rows):
        middle = volumes[0].shape[axis] // 2
        taken = range(middle - THICK // 2, middle + THICK // 2 + 1)
        density, grey = (np.take(v, taken, axis).mean(axis=axis) for v in volumes[:2])
        labels = np.ma.masked_equal(np.take(volumes[2], middle, axis), 0)
        left.imshow(density, cmap="gray_r", vmax=np.percentile(density, 99.7))
        centre.imshow(labels, cmap="tab20", vmin=1, vmax=named, interpolation="nearest")
        low, high = np.percentile(grey, [1, 99.8])
        right.imshow(grey, cmap="gray_r", vmin=low, vmax=high)
    for axes in rows.ravel():
        axes.set_axis_off()
    figure.savefig(Path(__file__).parent / "images" / "cell_scene.png", dpi=72)


if __name__ == "__main__":
    main()
