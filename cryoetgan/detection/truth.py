"""What a detector is taught: classes, their radii, and the label of each position."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from cryoetgan.errors import UserError, suggest
from cryoetgan.evaluation.detection_scores import is_background
from cryoetgan.io.star import COORDINATES
from cryoetgan.physics.geometry import clip_box

if TYPE_CHECKING:
    import pandas as pd

Floats = NDArray[np.floating]
BALL = 0.5
"""Radius of the ball about a particle that is taught, in radii of its class."""
SMALLEST_BALL = 3.5
"""Voxels: a smaller ball has too few positions at half resolution."""
NEAR_QUANTILE = 0.05
"""Quantile of the distances to the next particle that is twice the radius."""
MIN_RADIUS = 3.0
"""Voxels."""


@dataclass(frozen=True)
class Truth:
    """The particles of one tomogram."""

    places: Floats
    """`(N, 3)` zyx, voxels."""
    numbers: NDArray[np.int_]
    """`(N,)` number of the class, from 1; C + 1 is `other`."""


def choose_named(tables: Sequence["pd.DataFrame"], wanted: Sequence[str] | None) -> list[str]:
    """Return the named classes of the truth, sorted: the wanted ones, or all but background."""
    found = sorted({str(name) for table in tables for name in table["cryoetganClass"]})
    named = [name for name in found if not is_background(name)]
    if wanted:
        for name in wanted:
            if name not in found:
                raise UserError(
                    f"--class: no particle of class {name} in the truth{suggest(name, found)}; it "
                    f"has {', '.join(found)}"
                )
        return sorted(set(wanted))
    if not named:
        raise UserError(f"--particles: no particle has a named class, only {', '.join(found)}")
    return named


def number_truth(table: "pd.DataFrame", classes: Sequence[str]) -> Truth:
    """Return the particles of a table, with the numbers of their classes."""
    numbers = {name: number for number, name in enumerate(classes, start=1)}
    kinds = [numbers.get(str(name), len(classes) + 1) for name in table["cryoetganClass"]]
    return Truth(table[COORDINATES].to_numpy(float)[:, ::-1], np.array(kinds, int))


def measure_radii(
    truths: Sequence[Truth],
    labels: Sequence[tuple[NDArray[np.generic], Mapping[int, str]] | None],
    classes: Sequence[str],
) -> NDArray[np.float64]:
    """Return the radius of each class in voxels, `(C,)`.

    Labels give the volume of a particle, and the radius is a ball's of this volume. Without
    labels, it is half of the 5 % quantile of the distances to the next particle.
    """
    distances = []
    for truth in truths:
        if len(truth.places) > 1:
            distances.append(cKDTree(truth.places).query(truth.places, 2)[0][:, 1])
    near = np.quantile(np.concatenate(distances), NEAR_QUANTILE) / 2 if distances else MIN_RADIUS
    voxels, count = np.zeros((2, len(classes)))
    for truth, found in zip(truths, labels, strict=True):
        if found is None:
            continue
        data, names = found
        sizes = np.zeros(max(names) + 1)
        for section in data:
            labelled = np.asarray(section).ravel().astype(int)
            sizes += np.bincount(labelled[labelled > 0], minlength=len(sizes))[: len(sizes)]
        for index, name in enumerate(classes):
            own = [number for number, label in names.items() if label == name]
            voxels[index] += sizes[own].sum()
            count[index] += (truth.numbers == index + 1).sum() if own else 0
    measured = (voxels > 0) & (count > 0)
    balls = (3 * voxels / np.maximum(count, 1) / (4 * np.pi)) ** (1 / 3)
    radii = np.where(measured, balls, near)
    return np.maximum(radii, MIN_RADIUS)


def paint_labels(
    shape: Sequence[int],
    truth: Truth,
    radii: Floats,
    labels: NDArray[np.generic] | None,
    others: Sequence[int],
) -> NDArray[np.uint8]:
    """Return the class of each position at half resolution, `(z/2, y/2, x/2)`; 0 is background.

    Parameters
    ----------
    shape : sequence of int
        Of the tomogram, zyx; an odd side is rounded up.
    truth : Truth
        Particles; a ball about each is taught.
    radii : ndarray
        `(C + 1,)` of the balls in voxels; the last is of `other`.
    labels : ndarray, optional
        `(z, y, x)` labels of the tomogram.
    others : sequence of int
        Labels whose voxels are `other`.
    """
    half = [(n + 1) // 2 for n in shape]
    out = np.zeros(half, np.uint8)
    last = len(radii)
    if labels is not None and len(others):
        for index in range(half[0]):
            out[index][np.isin(np.asarray(labels[2 * index])[::2, ::2], others)] = last
    # named particles last: their balls hide others
    for number in (last, *range(1, last)):
        reach = int(np.ceil(radii[number - 1] / 2)) + 1
        edge = 2 * reach + 1
        for place in truth.places[truth.numbers == number]:
            at = (place - 0.5) / 2
            corner = np.floor(at + 0.5).astype(int) - reach
            inside, here = clip_box(corner, (edge,) * 3, half)
            grid = np.indices((edge,) * 3) + corner[:, None, None, None]
            far = np.sqrt(((grid - at[:, None, None, None]) ** 2).sum(axis=0))
            ball = 2 * far <= radii[number - 1]
            out[inside][ball[here]] = number
    return out


def ball_radii(radii: Floats) -> NDArray[np.float64]:
    """Return the radii of the taught balls `(C + 1,)`, voxels; `other` has the median."""
    balls = np.maximum(BALL * np.asarray(radii, float), SMALLEST_BALL)
    return np.append(balls, np.median(balls))
