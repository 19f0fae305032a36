"""Draw docs/images/demo.png from the demo's results: `python docs/demo_picture.py results/demo`."""

import sys
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

from cryoetgan.io.volume_set import read_volume_set

ROWS = {
    "density": "densities/poses.star",
    "conventional simulation": "imaging/simulated.star",
    "fitted simulation": "imaging/fitted.star",
    "generated": "translation/recommended/generated.star",
    "real": "particles/annotated.star",
}
COLUMNS = 3


def main(folder: Path) -> None:
    """Draw central slices; in a column, the rows before the last show the same particle."""
    sets = {title: read_volume_set(folder / path) for title, path in ROWS.items()}
    classes = sets["density"].classes()
    figure, axes = plt.subplots(
        len(ROWS), COLUMNS * len(classes), figsize=(12, 5.1), gridspec_kw={"wspace": 0.06}
    )
    for axis, name in zip(axes[0, 1::COLUMNS], classes, strict=True):
        axis.set_title(name)
    for line, (title, volumes) in zip(axes, sets.items(), strict=True):
        names = volumes.table["cryoetganClass"].to_numpy()
        middle = volumes.volumes.shape[1] // 2
        for column, axis in enumerate(line):
            name = classes[column // COLUMNS]
            row = np.flatnonzero(names == name)[column % COLUMNS]
            image = np.asarray(volumes.volumes[row][middle], float)
            low, high = (0, None) if title == "density" else (-3, 4)
            axis.imshow(image, cmap="gray", vmin=low, vmax=high, origin="lower")
            axis.set(xticks=[], yticks=[])
        line[0].set_ylabel(title, rotation=0, ha="right", va="center")
    figure.savefig(Path(__file__).with_name("images") / "demo.png", dpi=100, bbox_inches="tight")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
