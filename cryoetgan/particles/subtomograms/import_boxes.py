"""Import subtomograms that others extracted as the domain S: one contrast, grid and grey scale."""

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cryoetgan.errors import UserError
from cryoetgan.io.files import relative_names
from cryoetgan.io.mrc import (
    MAX_VOXEL_SIZE_A,
    MIN_VOXEL_SIZE_A,
    VOXEL_SIZE_TOLERANCE,
    contrast_sign,
)
from cryoetgan.io.star import ANGLES, ORIGINS, VOXEL_ORIGINS, check_ids, particle_id
from cryoetgan.io.volume_set import VolumeSetWriter
from cryoetgan.particles.subtomograms.box_files import BoxFile, open_box_file
from cryoetgan.particles.subtomograms.listings import (
    FILE,
    NUMBER,
    TOMOGRAM,
    Listing,
)
from cryoetgan.physics.acquisition import Acquisition, mirror_tilts
from cryoetgan.physics.coordinates import ImportTransform
from cryoetgan.physics.geometry import centre_distance, relion_from_rotation, rotation_from_relion
from cryoetgan.progress import log, track
from cryoetgan.seeds import rng
from cryoetgan.tomograms.importing.resample import lanczos_weights

if TYPE_CHECKING:
    import pandas as pd

Floats = NDArray[np.floating]
LEAST_BOX = 8
"""Voxels."""
LEAST_BOXES, SURE, LEAST_DENSITY = 8, 5.0, 0.02
"""Boxes, standard errors, and standard deviations of grey values from which a contrast is seen."""
SAMPLED = 4000
"""Voxels of each box that measure the grey scale."""


def box_edge(axes: ImportTransform) -> int:
    """Return the voxels of a set's boxes: the largest even edge inside the files', or their own."""
    edge = axes.shape[0]
    if axes.step == 1:
        return edge
    middle = edge // 2
    return 2 * int(min(middle, edge - 1 - middle + axes.step) / axes.step + 1e-6)


@lru_cache(maxsize=1)
def _weights(axes: ImportTransform) -> Any:
    """Return the matrix that resamples one axis, voxel n // 2 onto voxel n // 2."""
    edge, box = axes.shape[0], box_edge(axes)
    return lanczos_weights(edge, box, axes.step, edge // 2 - box // 2 * axes.step).toarray()


def convert_box(box: NDArray[Any], axes: ImportTransform) -> NDArray[np.float32]:
    """Return a box `(z, y, x)` of a file on the grid of the set; voxel n // 2 stays the centre."""
    turned = np.asarray(axes.orient(box), np.float32)
    if axes.shape[0] % 2 == 0:
        # voxel n // 2 of an inverted axis became n // 2 - 1
        inverted = axes.matrix.sum(axis=1)[::-1] < 0
        turned = np.roll(turned, tuple(inverted.astype(int)), (0, 1, 2))
    if axes.step == 1:
        return np.ascontiguousarray(turned)
    for axis in range(3):
        turned = np.moveaxis(np.tensordot(_weights(axes), turned, (1, axis)), 0, axis)
    return np.asarray(turned, np.float32)


def choose_voxel_size(listing: Listing, file: BoxFile, given: float | None, wanted: float) -> float:
    """Return the voxel size of the files: the given one, the table's, the headers', or `wanted`.

    Many programs write 0 or 1 A if they do not know it: such a header counts for nothing.
    """
    stated = given or listing.voxel_size or 0.0
    first = str(listing.table[FILE].iloc[0])
    header = file.voxel_size
    if given is None and np.isnan(header):
        raise UserError(f"{first}: voxels are not cubes; give --input-voxel-size if this is wrong")
    is_known = header > 0 and abs(header - 1) > 1e-3 and not np.isnan(header)
    if given is None and stated and is_known and abs(stated / header - 1) > VOXEL_SIZE_TOLERANCE:
        raise UserError(
            f"{first}: its header says {header:.4g} A a voxel, its table {stated:.4g} A; give the "
            "right one with --input-voxel-size (column voxel_size of the table of subtomograms)"
        )
    if not stated and not is_known:
        log.info("%s: the header gives no voxel size; %.4g A is taken", first, wanted)
    size = stated or (header if is_known else wanted)
    if not MIN_VOXEL_SIZE_A <= size <= MAX_VOXEL_SIZE_A:
        raise UserError(f"{first}: a voxel size of {size:g} A; give --input-voxel-size in angstrom")
    return float(size)


def complete_acquisition(
    given: Acquisition, stated: Mapping[str, float], path: Path
) -> Acquisition:
    """Return the acquisition with the table's defocus if none is given; warn of contradictions."""
    if given.defocus is None and "defocus" in stated:
        log.info("%s: the median defocus of its rows is %.2f um", path, stated["defocus"])
        given = replace(given, defocus=stated["defocus"])
    for name, value in stated.items():
        own = getattr(given, name)
        if abs(own - value) > 0.1 * max(abs(value), 0.1):
            log.warning(
                "%s: says %s %.4g, but %.4g is taken; give --%s",
                path, name, value, own, name.replace("_", "-"),
            )  # fmt: skip
    return given


def import_boxes(
    listing: Listing,
    output: Path,
    axes: ImportTransform,
    acquisition: Acquisition,
    contrast: str,
    split: str | None,
) -> dict[str, Any]:
    """Write listed boxes as a volume set, protein bright, and return a record of the import.

    The grey values of each source tomogram, if known, get mean 0 and standard deviation 1 over its
    boxes: a box is never normalised alone. Boxes of one value, and copies of other boxes, are left out and
    counted. Rows are sorted by source tomogram, or shuffled if there is one or none: a split by
    blocks then separates tomograms, but not classes that follow each other in the files.
    """
    import pandas as pd

    if box_edge(axes) < LEAST_BOX:
        raise UserError(
            f"{listing.table[FILE].iloc[0]}: boxes of {axes.shape[0]} voxels of "
            f"{axes.voxel_size:.4g} A would have {box_edge(axes)} at {axes.tomogram_voxel_size:.4g} A; "
            f"{LEAST_BOX} is the smallest: lower --voxel-size, or extract larger boxes"
        )
    table = _with_ids(to_set_columns(listing.table, axes), output.stem)
    if TOMOGRAM in table and table[TOMOGRAM].nunique() > 1:
        table = table.sort_values(TOMOGRAM, kind="stable").reset_index(drop=True)
    else:
        order = rng(0, "particles", "subtomograms").permutation(len(table))
        table = table.iloc[order].reset_index(drop=True)
    sources = table[TOMOGRAM] if TOMOGRAM in table else pd.Series("", index=table.index)
    kept, scales, densities = _survey(table, sources, axes)
    rows = table.loc[kept].reset_index(drop=True)
    sign = contrast_sign(contrast)
    warn_of_contrast_in_boxes(densities, contrast, listing.table[FILE].iloc[0])
    if axes.flip_hand:
        low, high = mirror_tilts(*acquisition.tilts)
        acquisition = replace(acquisition, tilt_low=low, tilt_high=high)
    optics = pd.DataFrame([acquisition.to_optics(1, output.stem)])
    check_ids(rows, listing.table[FILE].iloc[0])
    with VolumeSetWriter(
        output, len(rows), box_edge(axes), axes.tomogram_voxel_size, optics
    ) as writer:
        sources = sources.loc[kept].reset_index(drop=True)
        for number, box in track(_read_boxes(rows, axes.shape[0]), "importing", len(rows)):
            mean, sd = scales[sources[number]]
            row = {str(key): value for key, value in rows.loc[number].items()}
            row = {key: value for key, value in row.items() if key not in (FILE, NUMBER)}
            row |= {"cryoetganSource": "real"} | ({"cryoetganSplit": split} if split else {})
            writer.add((convert_box(box, axes) - mean) * np.float32(sign / sd), row, number)
    return {"boxes": len(rows), "left_out": len(table) - len(rows), "input_box": axes.shape[0]}


def _with_ids(table: "pd.DataFrame", name: str) -> "pd.DataFrame":
    """Add cryoetganFile and cryoetganId, from names relative to the folder of all files.

    They survive another import, with more boxes of these folders, and of a copy of the folder.
    """
    paths = list(table[FILE].unique())
    names = dict(zip(paths, relative_names(paths), strict=True))
    pairs = list(zip(table[FILE].map(names), table[NUMBER], strict=True))
    return table.assign(
        cryoetganFile=[f"{number:06d}@{file}" for file, number in pairs],
        cryoetganId=[particle_id(f"{name}/{file}", number, 0, 0) for file, number in pairs],
    )


def warn_of_contrast_in_boxes(densities: Floats, contrast: str, path: Path) -> None:
    """Warn if the particles, in the middle of their boxes, have the other contrast.

    `densities`: particle less surroundings, in the files.
    """
    if len(densities) < LEAST_BOXES:
        return
    mean = float(densities.mean())
    error = float(densities.std(ddof=1)) / len(densities) ** 0.5
    seen = "bright" if mean > 0 else "dark"
    if seen != contrast and abs(mean) > SURE * error and abs(mean) > LEAST_DENSITY:
        log.warning(
            "%s: the middle of the boxes is %s, by %.2f +- %.2f standard deviations, but --contrast is "
            "%s; give --contrast %s unless you know better",
            path, seen, abs(mean), error, contrast, seen,
        )  # fmt: skip


def to_set_columns(table: "pd.DataFrame", axes: ImportTransform) -> "pd.DataFrame":
    """Return a listing with poses in the frame of the set: angles rotated, origins in angstrom."""
    table = table.copy()
    if set(VOXEL_ORIGINS) <= set(table):
        table[ORIGINS] = table[VOXEL_ORIGINS].to_numpy(float) * axes.voxel_size
        table = table.drop(columns=VOXEL_ORIGINS)
    if set(ORIGINS) <= set(table):
        table[ORIGINS] = table[ORIGINS].to_numpy(float) @ axes.matrix.T
        far = (
            np.abs(table[ORIGINS].to_numpy(float)).max(axis=1) > axes.shape[0] / 2 * axes.voxel_size
        )
        if far.any():
            raise UserError(
                f"{table[FILE].iloc[int(far.argmax())]}: its particle would lie outside its box "
                f"({int(far.sum())} such rows): the shifts of the table have another unit or binning"
            )
    if set(ANGLES) <= set(table):
        angles = np.array(table[ANGLES], float)
        known = np.isfinite(angles).all(axis=1)
        if not known.all():
            log.warning("%d of %d boxes have no angles", np.sum(~known), len(known))
        angles[~known] = np.nan
        if known.any():
            rotations = rotation_from_relion(angles[known])
            angles[known] = relion_from_rotation(axes.to_tomogram_poses(rotations))
        table[ANGLES] = angles
    if TOMOGRAM in table and not (table[TOMOGRAM].astype(str) != "").any():
        table = table.drop(columns=TOMOGRAM)
    return table


def _read_boxes(table: "pd.DataFrame", edge: int) -> Iterator[tuple[int, NDArray[Any]]]:
    """Yield each row's place from 0 and box `(z, y, x)`, file by file: each is opened once."""
    for file, places in table.groupby(FILE, sort=False).indices.items():
        boxes = open_box_file(file).boxes
        if boxes.shape[-1] != edge:
            raise UserError(
                f"{file}: has boxes of {boxes.shape[-1]} voxels, the first file of {edge}; import "
                "boxes of each size as a set of its own"
            )
        for place in places:
            number = table[NUMBER].iloc[place]
            if not 1 <= number <= len(boxes):
                raise UserError(f"{file}: has {len(boxes)} boxes, but box {number} is named")
            yield int(place), boxes[number - 1]


def _survey(
    table: "pd.DataFrame", sources: "pd.Series[str]", axes: ImportTransform
) -> tuple[NDArray[np.bool_], dict[str, tuple[float, float]], Floats]:
    """Return which boxes are kept, the grey scale of each source tomogram, and the density of particles.

    A scale is mean and standard deviation. The density of a particle is the mean inside half the
    radius of its box, less the mean outside, in standard deviations of the box.
    """
    inner = centre_distance(box_edge(axes)) <= box_edge(axes) / 4
    densities = []
    kept, seen, empty = np.ones(len(table), bool), set(), 0
    sample: dict[str, list[Floats]] = {}
    for index, box in track(_read_boxes(table, axes.shape[0]), "reading", len(table)):
        values = np.asarray(box, np.float32)
        if not np.isfinite(values).all():
            raise UserError(
                f"{table[FILE].iloc[index]}: box {table[NUMBER].iloc[index]} holds voxels that are not "
                "finite numbers; repair or remove it"
            )
        digest = hashlib.sha256(values.tobytes()).digest()
        if values.min() == values.max():
            empty += 1
            kept[index] = False
            continue
        if digest in seen:
            kept[index] = False
            continue
        seen.add(digest)
        ours = convert_box(box, axes)
        densities.append((ours[inner].mean() - ours[~inner].mean()) / ours.std())
        ours = ours.ravel()
        step = max(1, ours.size // SAMPLED)
        sample.setdefault(sources.iloc[index], []).append(ours[index % step :: step])
    if not kept.any():
        raise UserError(f"{table[FILE].iloc[0]}: all boxes have a single grey value")
    copies = int((~kept).sum()) - empty
    for count, what in ((empty, "of a single grey value"), (copies, "equal to another box")):
        if count:
            log.warning("%d of %d boxes are %s and left out", count, len(table), what)
    scales = {}
    for name, parts in sample.items():
        # no value is clipped: particles fill the boxes, and clean ones are outliers of nothing
        values = np.concatenate(parts)
        scales[name] = float(values.mean()), float(values.std()) or 1.0
    return kept, scales, np.array(densities)
