"""Draw docs/images/cell_scene.png: a slice of a scene, its labels, and its tomogram.

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
    middle = read_volume(scene).data.shape[0] // 2
    density, grey = (
        np.asarray(read_volume(path).data[middle - THICK // 2 :][:THICK]).mean(axis=0)
        for path in (scene, tomogram)
    )
    labels = read_volume(beside(scene, LABELS)).data[middle]
    figure = Figure(figsize=(15, 5), layout="constrained")
    FigureCanvasAgg(figure)
    left, centre, right = figure.subplots(1, 3)
    left.imshow(density, cmap="gray_r", vmax=np.percentile(density, 99.7))
    centre.imshow(np.ma.masked_equal(labels, 0), cmap="tab10", interpolation="nearest")
    low, high = np.percentile(grey, [1, 99.8])
    right.imshow(grey, cmap="gray_r", vmin=low, vmax=high)
    for axes in (left, centre, right):
        axes.set_axis_off()
    figure.savefig(Path(__file__).parent / "images" / "cell_scene.png", dpi=72)


if __name__ == "__main__":
    main()
