"""Import subtomograms that others extracted as the domain S: one contrast, grid and grey scale."""

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

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
from cryoetgan.physics.coordinates import BEAM_AXES, TILT_AXES, orient_axes
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
MIRROR_Z = np.diag([1.0, 1.0, -1.0])
SAMPLED = 4000
"""Voxels of each box that measure the grey scale."""


@dataclass(frozen=True, kw_only=True)
class BoxGrid:
    """The grid of the boxes in the files, and of the set."""

    edge: int
    """Voxels in a file."""
    input_voxel_size: float
    """Angstrom, of the files."""
    voxel_size: float
    """Angstrom, of the set."""
    tilt_axis: str = "y"
    beam_axis: str = "z"
    """Axes of the file that become y and z."""
    flip_hand: bool = False
    """Whether boxes and poses are mirrored along z."""
    weights: Any = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "weights", self._weights())

    @property
    def step(self) -> float:
        """Voxels of a file in one voxel of the set; 1 if it is not resampled."""
        step = self.voxel_size / self.input_voxel_size
        return 1.0 if abs(step - 1) < VOXEL_SIZE_TOLERANCE else step

    @property
    def box(self) -> int:
        """Voxels of the set: the largest even edge inside the files' boxes, or the files' own."""
        if self.step == 1:
            return self.edge
        middle = self.edge // 2
        return 2 * int(min(middle, self.edge - 1 - middle + self.step) / self.step + 1e-6)

    @property
    def rotation(self) -> Rotation:
        """Rotation from the file to the set."""
        return Rotation.from_matrix(TILT_AXES[self.tilt_axis] @ BEAM_AXES[self.beam_axis])

    def _weights(self) -> Any:
        """Return the matrix that resamples one axis, voxel n // 2 onto voxel n // 2."""
        if self.step == 1 or self.box < LEAST_BOX:
            return None
        start = self.edge // 2 - self.box // 2 * self.step
        return lanczos_weights(self.edge, self.box, self.step, start).toarray()

    def rotate(self, rotations: Rotation) -> Rotation:
        """Return rotations, reference to particle, in the set; a mirror image turns the other way."""
        matrices = (self.rotation * rotations).as_matrix()
        return Rotation.from_matrix(MIRROR_Z @ matrices @ MIRROR_Z if self.flip_hand else matrices)

    def move(self, vectors: Floats) -> Floats:
        """Return vectors `(N, 3)` xyz of the files in the set."""
        moved = self.rotation.apply(np.array(vectors, float))  # pandas gives read-only arrays
        return np.asarray(moved @ MIRROR_Z if self.flip_hand else moved)

    def convert(self, box: NDArray[Any]) -> NDArray[np.float32]:
        """Return a box `(z, y, x)` of a file on the grid of the set."""
        turned = np.asarray(orient_axes(box, self.tilt_axis, self.beam_axis), np.float32)
        if self.edge % 2 == 0:
            # voxel n // 2 of an inverted axis became n // 2 - 1
            inverted = self.rotation.as_matrix().sum(axis=1)[::-1] < -0.5
            turned = np.roll(turned, tuple(inverted.astype(int)), (0, 1, 2))
        if self.flip_hand:
            turned = np.roll(turned[::-1], int(self.edge % 2 == 0), 0)
        if self.weights is None:
            return np.ascontiguousarray(turned)
        for axis in range(3):
            turned = np.moveaxis(np.tensordot(self.weights, turned, (1, axis)), 0, axis)
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
    grid: BoxGrid,
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

    if grid.box < LEAST_BOX:
        raise UserError(
            f"{listing.table[FILE].iloc[0]}: boxes of {grid.edge} voxels of "
            f"{grid.input_voxel_size:.4g} A would have {grid.box} at {grid.voxel_size:.4g} A; "
            f"{LEAST_BOX} is the smallest: lower --voxel-size, or extract larger boxes"
        )
    table = _with_ids(to_set_columns(listing.table, grid), output.stem)
    if TOMOGRAM in table and table[TOMOGRAM].nunique() > 1:
        table = table.sort_values(TOMOGRAM, kind="stable").reset_index(drop=True)
    else:
        order = rng(0, "particles", "subtomograms").permutation(len(table))
        table = table.iloc[order].reset_index(drop=True)
    sources = table[TOMOGRAM] if TOMOGRAM in table else pd.Series("", index=table.index)
    kept, scales, densities = _survey(table, sources, grid)
    rows = table.loc[kept].reset_index(drop=True)
    sign = contrast_sign(contrast)
    warn_of_contrast_in_boxes(densities, contrast, listing.table[FILE].iloc[0])
    if grid.flip_hand:
        low, high = mirror_tilts(*acquisition.tilts)
        acquisition = replace(acquisition, tilt_low=low, tilt_high=high)
    optics = pd.DataFrame([acquisition.to_optics(1, output.stem)])
    check_ids(rows, listing.table[FILE].iloc[0])
    with VolumeSetWriter(output, len(rows), grid.box, grid.voxel_size, optics) as writer:
        sources = sources.loc[kept].reset_index(drop=True)
        for number, box in track(_read_boxes(rows, grid.edge), "importing", len(rows)):
            mean, sd = scales[sources[number]]
            row = {str(key): value for key, value in rows.loc[number].items()}
            row = {key: value for key, value in row.items() if key not in (FILE, NUMBER)}
            row |= {"cryoetganSource": "real"} | ({"cryoetganSplit": split} if split else {})
            writer.add((grid.convert(box) - mean) * np.float32(sign / sd), row, number)
    return {"boxes": len(rows), "left_out": len(table) - len(rows), "input_box": grid.edge}


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


def to_set_columns(table: "pd.DataFrame", grid: BoxGrid) -> "pd.DataFrame":
    """Return a listing with poses in the frame of the set: angles rotated, origins in angstrom."""
    table = table.copy()
    if set(VOXEL_ORIGINS) <= set(table):
        table[ORIGINS] = table[VOXEL_ORIGINS].to_numpy(float) * grid.input_voxel_size
        table = table.drop(columns=VOXEL_ORIGINS)
    if set(ORIGINS) <= set(table):
        table[ORIGINS] = grid.move(table[ORIGINS].to_numpy(float))
        far = (
            np.abs(table[ORIGINS].to_numpy(float)).max(axis=1)
            > grid.edge / 2 * grid.input_voxel_size
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
            angles[known] = relion_from_rotation(grid.rotate(rotations))
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
    table: "pd.DataFrame", sources: "pd.Series[str]", grid: BoxGrid
) -> tuple[NDArray[np.bool_], dict[str, tuple[float, float]], Floats]:
    """Return which boxes are kept, the grey scale of each source tomogram, and the density of particles.

    A scale is mean and standard deviation. The density of a particle is the mean inside half the
    radius of its box, less the mean outside, in standard deviations of the box.
    """
    inner = centre_distance(grid.box) <= grid.box / 4
    densities = []
    kept, seen, empty = np.ones(len(table), bool), set(), 0
    sample: dict[str, list[Floats]] = {}
    for index, box in track(_read_boxes(table, grid.edge), "reading", len(table)):
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
        ours = grid.convert(box)
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
