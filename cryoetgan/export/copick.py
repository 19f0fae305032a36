"""A copick project: OME-Zarr tomograms, picks and label segmentations."""

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from cryoetgan.export.export_folder import write_csv, write_readme
from cryoetgan.export.portal_metadata import INSTANCE_MASK, MASK, Masks, write_portal_metadata
from cryoetgan.export.runs import Run, holds_angles, known_rotations, renumber_labels
from cryoetgan.export.splits import complete_splits, validation_split
from cryoetgan.io.files import write_text
from cryoetgan.io.star import ANGLES, COORDINATES
from cryoetgan.particles.list_formats import COPICK_USER
from cryoetgan.progress import log

SESSION, TOMOGRAM_TYPE, MULTILABEL = "1", "wbp", "labels"
TOPCUP_DEFAULTS = {"score_threshold": 0.15, "class_loss_weight": 256}
"""Settings of a class that TopCUP reads from copick's configuration, as in its example."""
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
        while unique == MULTILABEL or unique in found.values():
            unique, number = f"{plain}-{number}", number + 1
        found[name] = unique
    return found


@dataclass
class PickableObjects:
    """The classes of a project, in the order of their first appearance.

    `radii` are in angstrom; other classes have the radius of their labels. `numbers` are labels. Classes
    that are not `picked`, such as membranes, are only segmented.
    """

    radii: Mapping[str, float]
    numbers: dict[str, int] = field(default_factory=dict)
    picked: set[str] = field(default_factory=set)
    volumes: dict[str, list[float]] = field(default_factory=dict)
    """Labelled volume per particle of each run, cubic angstrom."""

    def add_run(self, run: Run) -> None:
        """Add the classes of a run; the numbers of earlier classes do not change."""
        counts = run.particles["cryoetganClass"].astype(str).value_counts()
        for name in sorted({*run.label_names.values(), *counts.index}):
            self.numbers.setdefault(name, len(self.numbers) + 1)
        self.picked |= set(counts.index)
        for number, name in run.label_names.items():
            if run.labels is not None and name in counts:
                labelled = np.count_nonzero(run.labels == number) * run.voxel_size**3
                self.volumes.setdefault(name, []).append(labelled / counts[name])

    def radius(self, name: str) -> float | None:
        """Return the radius of a picked class, angstrom: as given, or of a ball of its labels."""
        if name in self.radii or name not in self.volumes or name not in self.picked:
            return self.radii.get(name)
        return round(float((3 * np.mean(self.volumes[name]) / (4 * np.pi)) ** (1 / 3)), 1) or None

    def to_config(self) -> list[dict[str, Any]]:
        """Return `pickable_objects` of copick's configuration."""
        names = copick_names(self.numbers)
        return [
            {
                "name": names[name],
                "is_particle": name in self.picked,
                "label": number,
                "color": COLOURS[(number - 1) % len(COLOURS)],
                "radius": self.radius(name),
                "metadata": {
                    "cryoetgan_class": name,
                    **TOPCUP_DEFAULTS,
                    "score_weight": int(name in self.picked),
                },
            }
            for name, number in self.numbers.items()
        ]

    def readme_table(self) -> str:
        """Return the rows of the README's table of classes."""
        radii = {name: self.radius(name) for name in self.numbers}
        sizes = {name: f"{radius:.0f}" if radius else "" for name, radius in radii.items()}
        return "\n".join(
            f"| {new} | {old} | {self.numbers[old]} | {sizes[old]} |"
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
    count, sizes = 0, set()
    splits: list[tuple[str, str, bool]] = []
    config = folder / "config.json"
    for run in runs:
        objects.add_run(run)
        _write_config(config, folder, objects)
        size = round(run.voxel_size, 3)
        opened = copick.from_file(str(config)).new_run(run.name)
        tomogram = opened.new_voxel_spacing(size).new_tomogram(TOMOGRAM_TYPE)
        tomogram.from_numpy(run.data)
        picks = _write_picks(opened, run, copick_names(objects.numbers))
        masks = _write_segmentations(opened, run, size, objects)
        if run.made_by is not None:
            write_portal_metadata(folder, run, tomogram.overlay_path, picks, masks)
        # picks of a tomogram without labels are not the truth; a volume of a set has one class
        known = run.labels is not None or run.made_by is None
        splits.append((run.name, run.split, known))
        sizes.add(size)
        count += len(run.particles)
    _write_config(config, final, objects)
    completed = complete_splits(splits)
    write_csv(folder / "splits.csv", ["run", "split"], completed)
    unknown = [name for name in sorted(objects.picked) if not objects.radius(name)]
    if unknown:
        log.warning(
            "%s: no radius of %s, which octopi and TopCUP need; give --density NAME.mrc of each, "
            "labels, or edit config.json",
            final, ", ".join(unknown),
        )  # fmt: skip
    described = contrast or "as in your own files (dark by default)"
    fixed = {"kind": TOMOGRAM_TYPE, "user": COPICK_USER, "session": SESSION}
    written = {
        "names": objects.readme_table(),
        "size": f"{min(sizes):g}",
        "validation": validation_split(completed),
    }
    write_readme(folder, "copick", contrast=described, **written, **fixed)
    return count


def _write_picks(opened: Any, run: Run, names: Mapping[str, str]) -> dict[str, str]:
    """Write the picks of each class and return their files, by class.

    Orientations are trusted only if they are known.
    """
    files = {}
    for name, rows in run.particles.groupby(run.particles["cryoetganClass"].astype(str)):
        matrices = np.tile(np.eye(4), (len(rows), 1, 1))
        rotations = known_rotations(rows)
        if rotations is not None:
            matrices[:, :3, :3] = rotations.as_matrix()
        elif holds_angles(rows):
            log.warning(
                "%s: %d of %d particles of class %s have no angles, so copick's picks of this class "
                "are written without orientations",
                run.name, rows[ANGLES].isna().any(axis=1).sum(), len(rows), name,
            )  # fmt: skip
        picks = opened.new_picks(names[str(name)], SESSION, user_id=COPICK_USER)
        picks.meta.trust_orientation = rotations is not None
        places = rows[COORDINATES].to_numpy(float) * run.voxel_size
        numbers = {}
        if "cryoetganInstance" in rows and rows["cryoetganInstance"].notna().all():
            numbers["instance_ids"] = rows["cryoetganInstance"].to_numpy(int)
        picks.from_numpy(places, matrices, **numbers)
        picks.store()
        files[str(name)] = picks.path
    return files


def _write_segmentations(
    opened: Any, run: Run, size: float, objects: PickableObjects
) -> dict[str, Masks]:
    """Write all labels, and the mask of each class without particles under its own name.

    octopi and others look for a segmentation with the name of a class that is not picked. Known
    instances are the second channel of a panoptic segmentation beside the labels. Returns the masks
    of each class.
    """
    if run.labels is None:
        return {}
    numbers = {old: objects.numbers[name] for old, name in run.label_names.items()}
    labels = renumber_labels(run.labels, numbers)
    names = copick_names(objects.numbers)
    segmentation = opened.new_segmentation(size, MULTILABEL, SESSION, True, user_id=COPICK_USER)
    segmentation.from_numpy(labels)
    files: dict[str, Masks] = {
        name: {MASK: (segmentation.path, objects.numbers[name])}
        for name in run.label_names.values()
    }
    for name in sorted(set(run.label_names.values()) - objects.picked):
        mask = opened.new_segmentation(size, names[name], SESSION, False, user_id=COPICK_USER)
        mask.from_numpy((labels == objects.numbers[name]).astype(np.uint8))
        files[name] = {MASK: (mask.path, None)}
    if run.instances is None:
        return files
    ids = np.asarray(run.instances).astype(np.uint32)
    panoptic = opened.new_segmentation(
        size, MULTILABEL, SESSION, user_id=COPICK_USER, is_panoptic=True
    )
    panoptic.from_numpy(np.stack([labels.astype(np.uint32), ids]))
    for name, shapes in files.items():
        shapes[INSTANCE_MASK] = panoptic.path, objects.numbers[name]
    return files


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
