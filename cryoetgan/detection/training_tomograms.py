"""Open the tomograms, truth and labels that a detector learns from."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cryoetgan.detection.augment import TrainingTomogram
from cryoetgan.detection.grey import GreyValues
from cryoetgan.detection.train_detector import split_off
from cryoetgan.detection.truth import (
    Truth,
    ball_radii,
    choose_named,
    measure_radii,
    number_truth,
    paint_labels,
)
from cryoetgan.errors import UserError
from cryoetgan.io.files import LABELS, check_exists
from cryoetgan.io.mrc import Volume, check_same_voxel_size, read_volume
from cryoetgan.io.scene import beside, read_label_names, read_labels
from cryoetgan.io.star import COORDINATES, paths_by_class, read_star, select_tomogram
from cryoetgan.physics.acquisition import is_symmetric, read_acquisition
from cryoetgan.physics.coordinates import warn_of_picks_outside
from cryoetgan.physics.geometry import HALF_TURNS

if TYPE_CHECKING:
    import pandas as pd

log = logging.getLogger("cryoetgan")
Labels = tuple[NDArray[np.generic], Mapping[int, str]]
"""Labels `(z, y, x)`, and the name of each label number."""


@dataclass(frozen=True)
class TrainingInputs:
    """All that a detector learns from."""

    tomograms: list[TrainingTomogram]
    classes: list[str]
    radii: NDArray[np.float64]
    """`(C + 1,)` of the classes and of `other`, voxels."""
    voxel_size: float
    files: list[Path]
    """Files that were read."""


def open_inputs(
    tomograms: Sequence[Path],
    particles: Sequence[Path],
    labels: Sequence[Path],
    named: Sequence[str],
    radius: float | None,
) -> TrainingInputs:
    """Open tomograms with their truth and labels.

    Files that are not given are taken from beside the tomograms: `T.star`, and `T_labels.mrc` if it
    exists. `named` are the classes to learn, all of the truth if empty; `radius` in angstrom is of
    every class.
    """
    paths_by_class(tomograms)  # refuses two of one name, whose truth could not be distinguished
    volumes = [read_volume(path) for path in tomograms]
    for path, volume in zip(tomograms, volumes, strict=True):
        check_same_voxel_size(volumes[0].voxel_size, volume.voxel_size, tomograms[0], path)
    voxel_size = volumes[0].voxel_size
    tables = _truth_tables(tomograms, particles)
    stars = list(particles) or [path.with_suffix(".star") for path in tomograms]
    found = _open_labels(tomograms, labels, volumes)
    opened = [one and (one[1], one[2]) for one in found]
    classes = choose_named(tables, named)
    truths = [number_truth(table, classes) for table in tables]
    for path, truth, volume in zip(tomograms, truths, volumes, strict=True):
        star = particles[0] if particles else path.with_suffix(".star")
        warn_of_picks_outside(truth.places[:, ::-1], volume.data.shape, star, path)
    if radius is None:
        radii = measure_radii(truths, opened, classes)
    else:
        radii = np.full(len(classes), radius / voxel_size)
    radii = np.append(radii, np.median(radii))
    ready = [
        _training_tomogram(path, volume, truth, radii, labelled, classes)
        for path, volume, truth, labelled in zip(tomograms, volumes, truths, opened, strict=True)
    ]
    files = [*stars, *(one[0] for one in found if one)]
    return TrainingInputs(ready, classes, radii, voxel_size, files)


def _truth_tables(tomograms: Sequence[Path], stars: Sequence[Path]) -> "list[pd.DataFrame]":
    """Return the particles of each tomogram, of its own file beside it or of the given ones."""
    import pandas as pd

    columns = [*COORDINATES, "cryoetganClass"]
    if not stars:
        own = [(path, path.with_suffix(".star")) for path in tomograms]
        for path, star in own:
            check_exists(star, f"truth of {path}; give --particles")
        return [select_tomogram(read_star(s, columns).particles, p, s) for p, s in own]
    table = pd.concat([read_star(path, columns).particles for path in stars], ignore_index=True)
    if "rlnTomoName" not in table and len(tomograms) > 1:
        raise UserError(
            f"{stars[0]}: lacks the column rlnTomoName, and there are several tomograms"
        )
    names = Path(", ".join(map(str, stars)))
    # rows of the other tomograms are right here, of unknown ones are not
    known = (
        table[table["rlnTomoName"].isin(paths_by_class(tomograms))] if len(tomograms) > 1 else table
    )
    if len(known) < len(table):
        log.warning(
            "%s: %d particles lie in other tomograms and are ignored",
            names,
            len(table) - len(known),
        )
    return [
        select_tomogram(
            known[known["rlnTomoName"] == name] if len(tomograms) > 1 else table, path, names
        )
        for name, path in paths_by_class(tomograms).items()
    ]


def _open_labels(
    tomograms: Sequence[Path], labels: Sequence[Path], volumes: Sequence[Volume]
) -> list[tuple[Path, NDArray[np.generic], Mapping[int, str]] | None]:
    if labels and len(labels) != len(tomograms):
        raise UserError(
            f"--labels: got {len(labels)} files for {len(tomograms)} tomograms; give one for each, in "
            "their order"
        )
    found: list[Any] = []
    for index, (path, volume) in enumerate(zip(tomograms, volumes, strict=True)):
        file = labels[index] if labels else beside(path, LABELS)
        if not labels and not file.exists():
            found.append(None)
            continue
        data = read_labels(file, path, volume)
        names = read_label_names(file, path)
        if not names:
            log.warning("%s: no record names its labels, so they are not used", file)
        found.append((file, data, names) if names else None)
    return found


def _training_tomogram(
    path: Path,
    volume: Volume,
    truth: Truth,
    radii: NDArray[np.float64],
    labelled: Labels | None,
    classes: Sequence[str],
) -> TrainingTomogram:
    grey = GreyValues(volume, path)
    data, names = labelled or (None, {})
    others = [number for number, name in names.items() if name not in classes]
    record = read_acquisition(path)
    symmetric = record is None or is_symmetric(record.tilts)
    turns = HALF_TURNS if symmetric else HALF_TURNS[:2]
    end, _ = split_off(grey.shape)
    high = [n // 2 * 2 for n in end]
    return TrainingTomogram(
        grey,
        truth,
        paint_labels(grey.shape, truth, ball_radii(radii[:-1]), data, others),
        tuple(tuple(axis - 2 for axis in axes) for axes in turns),
        (high[0], high[1], high[2]),
    )
