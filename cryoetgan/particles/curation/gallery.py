"""The gallery: an HTML page on which a person accepts, rejects and names particles."""

import base64
import hashlib
import html
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from string import Template
from typing import Any

import numpy as np

from cryoetgan import __version__, images
from cryoetgan.errors import UserError
from cryoetgan.io.star import COORDINATES, particle_id
from cryoetgan.io.volume_set import VolumeSet
from cryoetgan.seeds import rng

THICKNESS = 3
"""Slices averaged about the middle, which lowers the noise."""
GREY_RANGE_BOXES = 60
"""Boxes from which the grey range is computed."""
KEEP = " Decisions stay in this browser until they are downloaded."
HELP = (
    "<b>a</b> accept, <b>r</b> reject, <b>u</b> undecided, <b>1</b> to <b>9</b> accept as that "
    "class, <b>z</b> undo, arrows move. Click: accept, reject, undecided in turn; shift-click: "
    "the same for all between."
)
HELP_BLIND = (
    "<b>1</b> to <b>9</b> name the particle that you see, <b>r</b> reject a box without a particle "
    "or with an unclear one, <b>u</b> undecided, <b>z</b> undo, arrows or a click move. Scores "
    "and classes are hidden."
)


@dataclass(frozen=True)
class GalleryBox:
    """One particle of the gallery: its row of the volume set, and values of the set's columns."""

    row: int
    id: str
    class_name: str
    score: float
    tomogram: str
    coordinate: tuple[float, ...]
    """x, y, z in voxels; empty if unknown."""
    weight: float = 1.0
    """Number of particles of the set that this one represents in a sample."""

    def record(self) -> dict[str, Any]:
        """Return the values that `particles purity` needs, for the record beside the page."""
        return {
            "id": self.id,
            "class": self.class_name,
            "score": self.score,
            "weight": self.weight,
            "tomogram": self.tomogram,
            "place": self.coordinate,
        }


def gallery_boxes(volumes: VolumeSet) -> list[GalleryBox]:
    """Return the particles of a set, best first, each once."""
    table = volumes.table
    found: dict[str, GalleryBox] = {}
    for row, record in enumerate(table.to_dict("records")):
        coordinate = tuple(float(record[name]) for name in COORDINATES if name in record)
        tomogram = str(record.get("rlnTomoName", ""))
        name = record.get("cryoetganId")
        if not isinstance(name, str):
            if len(coordinate) < 3:
                raise UserError(
                    f"{volumes.path}: has neither cryoetganId nor coordinates, so its particles "
                    "cannot be identified; make the set with `particles extract`"
                )
            name = particle_id(tomogram, *coordinate)
        score = float(record.get("cryoetganScore", 0.0))
        score = score if np.isfinite(score) else 0.0
        class_name = str(record.get("cryoetganClass", ""))
        if name not in found or score > found[name].score:
            found[name] = GalleryBox(row, name, class_name, score, tomogram, coordinate)
    return sorted(found.values(), key=lambda box: (-box.score, box.id))


def draw_sample(found: Sequence[GalleryBox], count: int, seed: int) -> list[GalleryBox]:
    """Return a sample for blind annotation, in random order, with the weight of each box.

    Every class gets the same number of boxes, or all of its boxes if it has fewer. Within a
    class the boxes are drawn at even steps along its scores from a random start. The sample thus
    covers all scores, and each box of a class has the same probability. `found` is best first.
    """
    generator = rng(seed, "gallery", "sample")
    names = sorted({box.class_name for box in found})
    classes = {name: [box for box in found if box.class_name == name] for name in names}
    counts = _equal_counts({name: len(members) for name, members in classes.items()}, count)
    chosen = []
    for name, members in classes.items():
        step = len(members) / max(counts[name], 1)
        start = generator.random()
        for index in range(counts[name]):
            box = members[min(int((index + start) * step), len(members) - 1)]
            chosen.append(replace(box, weight=step))
    return [chosen[i] for i in generator.permutation(len(chosen))]


def _equal_counts(sizes: Mapping[str, int], total: int) -> dict[str, int]:
    """Return how many of each class to draw: as equal as their sizes allow."""
    counts = dict.fromkeys(sizes, 0)
    left = min(total, sum(sizes.values()))
    while left:
        open_ = [name for name in sizes if counts[name] < sizes[name]]
        for name in sorted(open_, key=counts.__getitem__):
            if left:
                counts[name] += 1
                left -= 1
    return counts


def gallery_page(
    volumes: VolumeSet,
    shown: Sequence[GalleryBox],
    classes: Sequence[str],
    blind: bool,
    decisions: Mapping[str, Mapping[str, str]] | None = None,
    save: str | None = None,
    others: Mapping[str, Mapping[str, str]] | None = None,
) -> str:
    """Return the gallery's HTML, which needs no other file and no network.

    A person may give the names `classes`. A `blind` page lacks scores, classes and tomograms.
    `decisions` (id to `accepted`, yes or no, and `class`) are earlier ones. The page sends new
    ones to the address `save`; if None, they can only be downloaded. A download also holds the
    earlier decisions `others`, on boxes that the page does not show.
    """
    low, high = _grey_range(volumes, shown)
    items = []
    for box in shown:
        planes = images.central_planes(np.asarray(volumes.volumes[box.row], np.float32), THICKNESS)
        image = images.montage([[images.scale_grey(p, low, high) for p in planes]], gap=1)
        item: dict[str, Any] = {"id": box.id, "image": images.data_uri(images.encode_png(image))}
        known = {"class": box.class_name, "score": round(box.score, 4), "tomogram": box.tomogram}
        items.append(item if blind else item | known)
    name = volumes.path.stem
    key = hashlib.sha256(json.dumps([name, blind, [b.id for b in shown]]).encode()).hexdigest()[:16]
    data = {
        "key": key,
        "name": f"{name}_blind" if blind else name,
        "blind": blind,
        "classes": list(classes),
        "items": items,
        "decisions": dict(decisions or {}),
        "others": dict(others or {}),
        "save": save,
    }
    folder = Path(__file__).parent
    template, style, script = (
        (folder / f"gallery.{kind}").read_text(encoding="utf-8") for kind in ("html", "css", "js")
    )
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode("ascii")
    return Template(template).substitute(
        title=html.escape(f"{name}: {len(shown)} boxes" + (", blind" if blind else "")),
        style=style,
        script=script,
        hash=digest,
        # inside a script element only "<" could end the element
        data=json.dumps(data, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c"),
        help=(HELP_BLIND if blind else HELP) + KEEP,
        thickness=THICKNESS,
        box=f"{volumes.box * volumes.voxel_size / 10:.1f}",
        version=html.escape(__version__),
    )


def _grey_range(volumes: VolumeSet, shown: Sequence[GalleryBox]) -> tuple[float, float]:
    """Return the grey values of black and white, the same for all boxes to keep them comparable."""
    if not shown:
        return 0.0, 1.0
    sample = np.unique(np.linspace(0, len(shown) - 1, GREY_RANGE_BOXES).astype(int))
    boxes = [np.asarray(volumes.volumes[shown[index].row]) for index in sample]
    planes = [plane for box in boxes for plane in images.central_planes(box, THICKNESS)]
    return images.grey_range(np.nan_to_num(np.stack(planes)))
