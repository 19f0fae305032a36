"""Tomograms, or single volumes, with the particles and labels that belong to them."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from cryoetgan.errors import UserError
from cryoetgan.export.grey_scale import contrast_factor, exported_particles
from cryoetgan.io.files import INSTANCES, LABELS, read_record, sidecar
from cryoetgan.io.mrc import read_volume
from cryoetgan.io.scene import read_label_names
from cryoetgan.io.star import ANGLES, COORDINATES, class_name, read_star
from cryoetgan.io.volume_set import read_volume_set
from cryoetgan.physics.acquisition import Acquisition, read_acquisition
from cryoetgan.physics.coordinates import centre_offset, centre_offsets, compose_poses
from cryoetgan.physics.geometry import rotation_from_relion
from cryoetgan.progress import track

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Run:
    """A tomogram or volume; `data` and `labels` are `(z, y, x)`, the voxel size in angstrom.

    The contrast of `data` is the exported one. `particles` has a row for each particle, whose
    coordinates are the particle's own: x, y, z in voxels from 0, with rlnOriginX/Y/ZAngst applied.
    `label_names` maps a number in `labels` to a class; `instances` has the number of each object.
    """

    name: str
    data: NDArray[np.float32]
    voxel_size: float
    particles: "pd.DataFrame"
    acquisition: Acquisition
    labels: NDArray[Any] | None = None
    label_names: Mapping[int, str] = field(default_factory=dict)
    instances: NDArray[Any] | None = None
    is_recorded: bool = True
    """Whether the acquisition is known; otherwise it is the default one."""
    made_by: str | None = None
    """Command that made the tomogram (empty: unknown); None if this is a volume of a set."""

    @property
    def split(self) -> str:
        """The split of all particles; empty if they have none, or several."""
        column = self.particles.get("cryoetganSplit")
        found = set() if column is None else set(column.dropna().astype(str))
        return found.pop() if len(found) == 1 else ""


def companions(tomograms: Sequence[Path], suffix: str) -> list[Path]:
    """Return the files beside simulated tomograms: truth `T.star`, or labels `T_labels.mrc`."""
    beside = [path.with_name(path.stem + suffix) for path in tomograms]
    return [path for path in beside if path.is_file()]


def tomogram_runs(
    tomograms: Sequence[Path],
    particles: Sequence[Path],
    labels: Sequence[Path],
    contrast: str | None,
) -> Iterator[Run]:
    """Yield one run per tomogram, with its particles and labels.

    Tomograms have bright protein. Labels are files `<tomogram>_labels.mrc`; the class of each
    number is in the side-car.
    """
    import pandas as pd

    columns = ["rlnTomoName", "cryoetganClass", *COORDINATES]
    tables = [compose_poses(read_star(path, columns).particles, path) for path in particles]
    table = pd.concat(tables, ignore_index=True) if tables else pd.DataFrame(columns=columns)
    labelled = {path.stem.removesuffix(LABELS): path for path in labels}
    names = [class_name(path) for path in tomograms]
    for name, path in zip(names, tomograms, strict=True):
        if names.count(name) > 1:
            raise UserError(f"{path}: tomogram '{name}' is given twice; rename one of the files")
    for name, path in labelled.items():
        if name not in names:
            raise UserError(
                f"{path}: its tomogram is not among the arguments; wanted <tomogram>_labels.mrc "
                f"with <tomogram> one of {', '.join(names)}"
            )
    for path, name in zip(track(tomograms, "exporting"), names, strict=True):
        volume = read_volume(path)
        known = read_acquisition(path)
        rows = table[table["rlnTomoName"].astype(str) == name].reset_index(drop=True)
        rows[COORDINATES] = rows[COORDINATES].to_numpy(float) + centre_offsets(
            rows, volume.voxel_size
        )
        if set(ANGLES) <= set(rows):
            for _, part in rows.groupby("cryoetganClass"):
                angles = known_angles(part) if holds_angles(part) else np.nan
                rows.loc[part.index, ANGLES] = angles
        label, label_names, instances = None, dict[int, str](), None
        if name in labelled:
            label, label_names = _read_labels(labelled[name], volume.data.shape, path)
            for beside in instance_files([labelled[name]]):
                instances = read_same_shape(beside, volume.data.shape, path)
        data = np.asarray(volume.data, np.float32) * np.float32(contrast_factor(contrast, known))
        yield Run(
            name=name,
            data=data,
            voxel_size=volume.voxel_size,
            particles=rows,
            acquisition=known or Acquisition(),
            labels=label,
            label_names=label_names,
            instances=instances,
            is_recorded=known is not None,
            made_by=_read_command(path),
        )


def _read_command(tomogram: Path) -> str:
    """Return the command that made a tomogram, from the record beside it; empty if unknown."""
    record = sidecar(tomogram)
    made = read_record(record).get("provenance") if record.exists() else None
    return str(made.get("command", "")) if isinstance(made, dict) else ""


def volume_runs(path: Path, contrast: str | None) -> Iterator[Run]:
    """Yield one run per volume of a set, with its particle as the only pick."""
    import pandas as pd

    volumes = read_volume_set(path, ["cryoetganClass"])
    for number, row, acquisition, data in exported_particles(volumes, contrast):
        centre = volumes.box // 2 + centre_offset(row, volumes.voxel_size)
        rows = pd.DataFrame([row | dict(zip(COORDINATES, centre, strict=True))])
        name = f"{path.stem}_{number:06d}"
        yield Run(name, data, volumes.voxel_size, rows, acquisition)


def has_angles(row: Mapping[Any, Any]) -> bool:
    """Return whether the orientation of a particle is known."""
    return set(ANGLES) <= set(row) and bool(
        np.isfinite([float(row[name]) for name in ANGLES]).all()
    )


def holds_angles(table: "pd.DataFrame") -> bool:
    """Return whether at least one particle has an orientation, and not all angles are zero.

    Programs that find positions alone leave the angles empty, or write zeros.
    """
    return set(ANGLES) <= set(table) and bool(np.nan_to_num(known_angles(table)).any())


def known_angles(table: "pd.DataFrame") -> NDArray[np.float64]:
    """Return RELION's angles `(N, 3)`, degrees; a row that lacks one has none."""
    angles = table[ANGLES].to_numpy(float)
    return np.where(np.isfinite(angles).all(axis=1, keepdims=True), angles, np.nan)


def known_rotations(table: "pd.DataFrame") -> Rotation | None:
    """Return the orientations of the particles; None if one lacks them, or all angles are zero."""
    if not holds_angles(table):
        return None
    angles = table[ANGLES].to_numpy(float)
    return rotation_from_relion(angles) if np.isfinite(angles).all() else None


def _read_labels(
    path: Path, shape: tuple[int, ...], tomogram: Path
) -> tuple[NDArray[Any], dict[int, str]]:
    """Return a label volume, and the class of each of its numbers from its side-car."""
    label = read_same_shape(path, shape, tomogram)
    names = read_label_names(path)
    unknown = [int(n) for n in np.unique(label) if n and int(n) not in names]
    # numbers without a class are kept under a generic name
    return label, names | {number: f"label-{number}" for number in unknown}


def instance_files(labels: Sequence[Path]) -> list[Path]:
    """Return the files `T_instances.mrc` beside label volumes `T_labels.mrc`."""
    named = (path.stem.removesuffix(LABELS) for path in labels)
    beside = [path.with_name(f"{n}{INSTANCES}.mrc") for path, n in zip(labels, named, strict=True)]
    return [path for path in beside if path.is_file()]


def read_same_shape(path: Path, shape: tuple[int, ...], tomogram: Path) -> NDArray[Any]:
    """Return the values of a volume that must cover a tomogram of this shape (zyx)."""
    data = read_volume(path).data
    if data.shape != shape:
        raise UserError(f"{path}: got shape {data.shape}, wanted {shape} as in {tomogram}")
    return data


def renumber_labels(labels: NDArray[Any], numbers: Mapping[int, int]) -> NDArray[np.uint8]:
    """Return labels `(z, y, x)` with the numbering of the project; `numbers` is old to new."""
    low, high = min(numbers, default=0), max(numbers.values(), default=0)
    if low < 0 or high > 255:
        raise UserError(
            f"labels: got {low} to {high}, wanted 0 (background) to 255: exported labels are bytes"
        )
    table = np.zeros(max(numbers, default=0) + 1, np.uint8)
    for old, new in numbers.items():
        table[old] = new
    return table[np.asarray(labels).astype(np.int64)]
