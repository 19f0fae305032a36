"""A copick project: OME-Zarr tomograms, picks and label segmentations."""

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cryoetgan.errors import UserError
from cryoetgan.export.contrast import contrast_factor, exported_particles
from cryoetgan.export.folder import write_readme
from cryoetgan.io.files import read_json, sidecar, write_text
from cryoetgan.io.mrc import read_volume
from cryoetgan.io.star import ANGLES, COORDINATES, class_name, read_star
from cryoetgan.io.volume_set import read_volume_set
from cryoetgan.physics.acquisition import read_acquisition
from cryoetgan.physics.coordinates import centre_offset, compose_poses
from cryoetgan.physics.geometry import rotation_from_relion
from cryoetgan.progress import track

USER, SESSION, TOMOGRAM_TYPE = "cryoetgan", "1", "wbp"
# Okabe and Ito's colour-blind safe palette
COLOURS = (
    (230, 159, 0, 255),
    (86, 180, 233, 255),
    (0, 158, 115, 255),
    (240, 228, 66, 255),
    (0, 114, 178, 255),
    (213, 94, 0, 255),
    (204, 121, 167, 255),
)
Particles = Mapping[str, tuple[NDArray[np.float64], NDArray[np.float64]]]


@dataclass(frozen=True)
class Run:
    """One run of the project; `data` and `labels` are `(z, y, x)`, the voxel size in angstrom.

    The contrast of `data` is the exported one. `particles` maps a class to coordinates `(N, 3)`
    xyz in voxels and rotation matrices `(N, 3, 3)`, `label_names` a number in `labels` to a class.
    """

    name: str
    data: NDArray[np.float32]
    voxel_size: float
    particles: Particles
    labels: NDArray[Any] | None = None
    label_names: Mapping[int, str] = field(default_factory=dict)


def copick_names(names: Iterable[str]) -> dict[str, str]:
    """Return unique copick names of classes: letters, digits and hyphens.

    Classes that are added at the end do not change the names of earlier ones.

    Examples
    --------
    >>> copick_names(["a_b", "a-b"])
    {'a_b': 'a-b', 'a-b': 'a-b-2'}
    """
    found: dict[str, str] = {}
    for name in names:
        plain = re.sub(r"[^A-Za-z0-9-]+", "-", name).strip("-") or "particle"
        number, unique = 2, plain
        while unique in found.values():
            unique, number = f"{plain}-{number}", number + 1
        found[name] = unique
    return found


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
    columns = ["rlnTomoName", "cryoetganClass", *COORDINATES]
    tables = [compose_poses(read_star(path, columns).particles, path) for path in particles]
    labelled = {path.stem.removesuffix("_labels"): path for path in labels}
    names = [class_name(path) for path in tomograms]
    for name, path in labelled.items():
        if name not in names:
            raise UserError(
                f"{path}: its tomogram is not among the arguments; wanted <tomogram>_labels.mrc "
                f"with <tomogram> one of {', '.join(names)}"
            )
    for path, name in zip(track(tomograms, "exporting"), names, strict=True):
        volume = read_volume(path)
        sign = np.float32(contrast_factor(contrast, read_acquisition(path)))
        found = [table[table["rlnTomoName"].astype(str) == name] for table in tables]
        label, label_names = None, {}
        if name in labelled:
            label = read_volume(labelled[name]).data
            if label.shape != volume.data.shape:
                raise UserError(
                    f"{labelled[name]}: got shape {label.shape}, wanted {volume.data.shape} as in "
                    f"{path}"
                )
            label_names = _read_label_names(labelled[name], label)
        data = np.asarray(volume.data, np.float32) * sign
        yield Run(name, data, volume.voxel_size, _group_by_class(found), label, label_names)


def volume_runs(path: Path, contrast: str | None) -> Iterator[Run]:
    """Yield one run per volume of a set, with its particle as the only pick."""
    volumes = read_volume_set(path, ["cryoetganClass"])
    for number, row, _, data in exported_particles(volumes, contrast):
        kind = str(row["cryoetganClass"])
        centre = volumes.box // 2 + centre_offset(row, volumes.voxel_size)
        angles = [float(row.get(name, 0.0)) for name in ANGLES]
        rotation = rotation_from_relion(angles).as_matrix()
        name = f"{path.stem}_{number:06d}"
        yield Run(name, data, volumes.voxel_size, {kind: (centre[None], rotation[None])})


def _group_by_class(tables: Sequence[Any]) -> Particles:
    found: dict[str, list[tuple[Any, Any]]] = {}
    for table in tables:
        for name, part in table.groupby(table["cryoetganClass"].astype(str)):
            rotations = np.tile(np.eye(3), (len(part), 1, 1))
            if set(ANGLES) <= set(part.columns):
                rotations = rotation_from_relion(part[ANGLES].to_numpy(float)).as_matrix()
            found.setdefault(str(name), []).append((part[COORDINATES].to_numpy(float), rotations))
    return {
        name: (np.concatenate([xyz for xyz, _ in parts]), np.concatenate([r for _, r in parts]))
        for name, parts in found.items()
    }


def _read_label_names(path: Path, label: NDArray[Any]) -> dict[int, str]:
    """Return the class of each number of a label volume, from its side-car."""
    record = read_json(sidecar(path)) if sidecar(path).exists() else {}
    try:
        names = {int(number): str(name) for number, name in record.get("labels", {}).items()}
    except (AttributeError, ValueError) as error:
        raise UserError(
            f"{sidecar(path)}: its labels are not a mapping of numbers to classes; correct or delete it"
        ) from error
    unknown = [int(n) for n in np.unique(label) if n and int(n) not in names]
    # numbers without a class are kept under a generic name
    return names | {number: f"label-{number}" for number in unknown}


@dataclass
class PickableObjects:
    """The classes of a project, in the order of their first appearance.

    `radii` are in angstrom, if they are known; `numbers` are labels. Classes that are not `picked`,
    such as membranes, are only segmented.
    """

    radii: Mapping[str, float]
    numbers: dict[str, int] = field(default_factory=dict)
    picked: set[str] = field(default_factory=set)

    def add_run(self, run: Run) -> None:
        """Add the classes of a run; the numbers of earlier classes do not change."""
        for name in sorted({*run.label_names.values(), *run.particles}):
            self.numbers.setdefault(name, len(self.numbers) + 1)
        self.picked |= set(run.particles)

    def to_config(self) -> list[dict[str, Any]]:
        """Return `pickable_objects` of copick's configuration."""
        names = copick_names(self.numbers)
        return [
            {
                "name": names[name],
                "is_particle": name in self.picked,
                "label": number,
                "color": COLOURS[(number - 1) % len(COLOURS)],
                "radius": self.radii.get(name),
            }
            for name, number in self.numbers.items()
        ]

    def readme_table(self) -> str:
        """Return the rows of the README's table of classes."""
        sizes = {name: f"{radius:.0f}" for name, radius in self.radii.items()}
        return "\n".join(
            f"| {new} | {old} | {self.numbers[old]} | {sizes.get(old, '')} |"
            for old, new in copick_names(self.numbers).items()
        )


def export_copick(
    runs: Iterable[Run],
    folder: Path,
    final: Path,
    contrast: str | None,
    radii: Mapping[str, float] | None = None,
) -> int:
    """Write runs as a copick project and return the number of particles.

    Only one run is in memory at a time. `folder` is temporary; copick's configuration holds the
    full path of `final`. Radii are in angstrom.
    """
    import copick

    objects = PickableObjects(radii or {})
    count = 0
    config = folder / "config.json"
    for run in runs:
        objects.add_run(run)
        names = copick_names(objects.numbers)
        _write_config(config, folder, objects)
        opened = copick.from_file(str(config)).new_run(run.name)
        size = round(run.voxel_size, 3)
        opened.new_voxel_spacing(size).new_tomogram(TOMOGRAM_TYPE).from_numpy(run.data)
        for name, (coordinates, rotations) in run.particles.items():
            matrices = np.tile(np.eye(4), (len(coordinates), 1, 1))
            matrices[:, :3, :3] = rotations
            picks = opened.new_picks(names[name], SESSION, user_id=USER)
            picks.from_numpy(coordinates * run.voxel_size, matrices)
            picks.store()
            count += len(coordinates)
        if run.labels is not None:
            numbers = {old: objects.numbers[name] for old, name in run.label_names.items()}
            segmentation = opened.new_segmentation(size, "labels", SESSION, True, user_id=USER)
            segmentation.from_numpy(renumber_labels(run.labels, numbers))
    _write_config(config, final, objects)
    described = contrast or "as in your own files (dark by default)"
    fixed = {"kind": TOMOGRAM_TYPE, "user": USER, "session": SESSION}
    write_readme(folder, "copick", contrast=described, names=objects.readme_table(), **fixed)
    return count


def renumber_labels(labels: NDArray[Any], numbers: Mapping[int, int]) -> NDArray[np.uint8]:
    """Return labels `(z, y, x)` with the numbering of the project; `numbers` is old to new."""
    low, high = min(numbers, default=0), max(numbers.values(), default=0)
    if low < 0 or high > 255:
        raise UserError(
            f"labels: got {low} to {high}, wanted 0 (background) to 255: a copick segmentation "
            "holds bytes"
        )
    table = np.zeros(max(numbers, default=0) + 1, np.uint8)
    for old, new in numbers.items():
        table[old] = new
    return table[np.asarray(labels).astype(np.int64)]


def _write_config(path: Path, folder: Path, objects: PickableObjects) -> None:
    config = {
        "config_type": "filesystem",
        "name": "cryoetgan",
        "description": "Created by cryoetgan",
        "version": "1.0.0",
        "pickable_objects": objects.to_config(),
        "overlay_root": f"local://{(folder / 'data').resolve()}",
        "overlay_fs_args": {"auto_mkdir": True},
    }
    write_text(path, json.dumps(config, indent=1) + "\n")
