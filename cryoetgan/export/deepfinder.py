"""The parameters of DeepFinder for exported tomograms: what its user would otherwise type."""

import json
import math
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np

from cryoetgan.export import run_deepfinder
from cryoetgan.export.export_folder import READMES, add_to_readme, member
from cryoetgan.export.runs import Run
from cryoetgan.export.splits import complete_splits, validation_split
from cryoetgan.io.files import write_text

FOLDER, SCRIPT = "deepfinder", "run_deepfinder.py"
PARAMETERS = f"{FOLDER}/train.xml", f"{FOLDER}/pick.json"
"""Files that users edit."""
PATCH, SHIFT, MULTIPLE = 56, 13, 4
"""Edge of a patch of the training and its largest random shift, voxels; DeepFinder halves patches twice."""
SEGMENTED_PATCHES, BORDER, OVERLAP = (56, 160), 25, 55
"""Edges of patches of the segmentation, the border that DeepFinder adds to a tomogram, and the overlap of
its patches, voxels; patches of 160 voxels need some 4 GB."""
TRAINING = {
    "batch_size": 25,
    "number_of_epochs": 100,
    "steps_per_epoch": 100,
    "steps_per_validation": 10,
}
"""DeepFinder's own values."""
SMALLEST_PART = 0.25
"""Smallest cluster, as a part of the labelled voxels of a particle."""


@dataclass
class DeepFinderData:
    """Splits, shapes (zyx) and labelled voxels of the tomograms of an export.

    `sizes` has the labelled voxels per particle of each class, a value a tomogram.
    """

    splits: list[tuple[str, str, bool]] = field(default_factory=list)
    shapes: dict[str, tuple[int, ...]] = field(default_factory=dict)
    sizes: dict[str, list[float]] = field(default_factory=dict)

    def add_run(self, run: Run) -> None:
        """Add a tomogram; without labels it can only be picked."""
        # without labels nothing can be learned from it, so it is picked
        split = run.split if run.labels is not None or run.split == "test" else ""
        self.splits.append((run.name, split, run.labels is not None))
        self.shapes[run.name] = run.data.shape
        counts = run.particles["cryoetganClass"].astype(str).value_counts()
        for number, name in run.label_names.items():
            if run.labels is not None and name in counts:
                size = np.count_nonzero(run.labels == number) / counts[name]
                self.sizes.setdefault(name, []).append(float(size))

    def complete(self) -> dict[str, str]:
        """Return the split of each tomogram by name."""
        return dict(complete_splits(self.splits))

    def learned(self) -> dict[str, list[str]]:
        """Return the labelled tomograms for training and for validation; empty if there are none."""
        labelled = {name for name, _, known in self.splits if known}
        splits = {name: split for name, split in self.complete().items() if name in labelled}
        names = "train", validation_split(list(splits.items()))
        found = [[name for name, split in splits.items() if split == wanted] for wanted in names]
        return dict(zip(("train", "valid"), found, strict=True)) if found[0] and self.sizes else {}

    def radii(self) -> dict[str, float]:
        """Return the radius of a ball with the labelled volume of a particle of each class, voxels."""
        return {n: math.cbrt(3 * np.mean(v) / (4 * math.pi)) for n, v in self.sizes.items()}


def write_deepfinder(
    folder: Path, data: DeepFinderData, classes: Sequence[str], objects: ElementTree.Element
) -> None:
    """Write the folder `deepfinder`, the script of its commands, and their part of the README.

    `objects` is the list of all particles, whose tomo_idx is the place in `data.splits`. Nothing is
    written if no tomogram for training has labels.
    """
    learned = data.learned()
    if not learned:
        return
    (folder / FOLDER).mkdir()
    order = list(dict.fromkeys(learned["train"] + learned["valid"]))
    places = {number: name for number, (name, *_) in enumerate(data.splits)}
    for part, names in learned.items():
        chosen = ElementTree.Element("objlist")
        for each in objects:
            name = places[int(each.get("tomo_idx", 0))]
            if name in names:
                # DeepFinder counts the tomograms of train.xml
                renumbered = {**each.attrib, "tomo_idx": str(order.index(name))}
                ElementTree.SubElement(chosen, "object", renumbered)
        _write_xml(folder / FOLDER / f"{part}_objects.xml", chosen)
    _write_xml(folder / PARAMETERS[0], _training_parameters(data, order, len(classes)))
    text = json.dumps(_picking_parameters(data, classes), indent=1)
    write_text(folder / PARAMETERS[1], text + "\n")
    shutil.copyfile(run_deepfinder.__file__, member(folder, SCRIPT))
    add_to_readme(folder, (READMES / "deepfinder.md").read_text(encoding="utf-8"))


def _training_parameters(
    data: DeepFinderData, names: Sequence[str], classes: int
) -> ElementTree.Element:
    """Return train.xml: DeepFinder's `paramsTrain`, with paths from the folder of the export."""
    patch = min(PATCH, _multiple(min(min(data.shapes[name]) for name in names)))
    # a particle must stay in its patch
    shift = max(0, min(SHIFT, patch // 2 - math.ceil(max(data.radii().values()))))
    root = ElementTree.Element("paramsTrain")
    ElementTree.SubElement(root, "path_out", path=f"{FOLDER}/")
    files = {"tomo": "tomograms/{}.mrc", "target": "labels/{}_labels.mrc"}
    for kind, file in files.items():
        paths = ElementTree.SubElement(root, f"path_{kind}")
        for number, name in enumerate(names):
            ElementTree.SubElement(paths, f"{kind}{number}", path=file.format(name))
    for part in ("train", "valid"):
        ElementTree.SubElement(root, f"path_objl_{part}", path=f"{FOLDER}/{part}_objects.xml")
    numbers = {"number_of_classes": classes + 1, "patch_size": patch, **TRAINING}
    for key, value in numbers.items():
        ElementTree.SubElement(root, key, n=str(value))
    ElementTree.SubElement(root, "flag_direct_read", flag="False")
    ElementTree.SubElement(root, "flag_bootstrap", flag="True")
    ElementTree.SubElement(root, "random_shift", shift=str(shift))
    return root


def _picking_parameters(data: DeepFinderData, classes: Sequence[str]) -> dict[str, Any]:
    """Return pick.json: edge and radius in voxels, classes by label, tomograms with their tomo_idx."""
    radii = data.radii()
    smallest = {n: max(1, round(SMALLEST_PART * np.mean(v))) for n, v in data.sizes.items()}
    picked = [name for name, split in data.complete().items() if split in ("pick", "test")]
    return {
        "patch_size": segmented_patch(list(data.shapes.values())),
        "cluster_radius": max(1, round(float(np.mean(list(radii.values()))))),
        "classes": [{"class": name, "smallest_cluster": smallest.get(name)} for name in classes],
        "tomograms": {name: number for number, (name, *_) in enumerate(data.splits)},
        "pick": picked,
    }


def segmented_patch(shapes: Sequence[tuple[int, ...]]) -> int:
    """Return the edge of the patches that segment tomograms of these shapes with the fewest voxels.

    DeepFinder segments each tomogram and a border in overlapping patches, which must be smaller.

    Examples
    --------
    >>> segmented_patch([(128, 256, 256)])
    140
    """
    low, high = SEGMENTED_PATCHES
    high = min(high, _multiple(min(min(shape) for shape in shapes) + 2 * BORDER - 1))

    def voxels(patch: int) -> int:
        step = patch + 1 - OVERLAP
        edges = [[edge + 2 * BORDER - patch for edge in shape] for shape in shapes]
        return sum(math.prod(-(-edge // step) + 1 for edge in one) for one in edges) * patch**3

    return min(range(min(low, high), high + 1, MULTIPLE), key=voxels)


def _multiple(edge: int) -> int:
    """Return the largest edge of a patch, voxels, that fits."""
    return edge // MULTIPLE * MULTIPLE


def _write_xml(path: Path, root: ElementTree.Element) -> None:
    ElementTree.indent(root)
    write_text(path, ElementTree.tostring(root, encoding="unicode") + "\n")
