"""The gallery: a page of boxes on which a person accepts, rejects and names particles."""

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
"""Slices averaged about the middle: noise goes down, particles stay."""
RANGE_SAMPLE = 60
PAGE = Template("""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; \
style-src 'unsafe-inline'; script-src 'sha256-$hash'; connect-src 'self'">
<title>$title</title>
<style>$style</style>
</head>
<body>
<header>
<div class="row"><h1>$title</h1><span id="counts" role="status"></span><span id="saved" role="status">\
</span><button type="button" id="download">Download CSV</button></div>
<div class="row" id="tools"></div>
<progress id="progress" max="1" value="0"></progress>
</header>
<main id="grid"></main>
<footer>$help<br>Three middle planes of each box: xy, xz, yz; $thickness slices averaged; protein \
bright; one grey scale for all; box $box nm wide. cryoetgan $version</footer>
<noscript>This page needs its own script (it loads nothing).</noscript>
<script type="application/json" id="data">$data</script>
<script>$script</script>
</body>
</html>
""")
KEEP = " Decisions stay in this browser until they are downloaded."
HELP = (
    "<b>a</b> accept, <b>r</b> reject, <b>u</b> undecided, <b>1</b> to <b>9</b> accept as that "
    "class, <b>z</b> undo, arrows move. Click: accept, reject, undecided in turn; shift-click: "
    "the same for all between."
)
HELP_BLIND = (
    "<b>1</b> to <b>9</b> name the box by what you see, <b>r</b> reject what is no particle or "
    "cannot be told, <b>u</b> undecided, <b>z</b> undo, arrows or a click move. Scores and "
    "classes are hidden."
)


@dataclass(frozen=True)
class Box:
    """One particle of the gallery; row is its place in the volume set."""

    row: int
    id: str
    kind: str
    score: float
    tomogram: str
    place: tuple[float, ...]
    weight: float = 1.0


def boxes(volumes: VolumeSet) -> list[Box]:
    """Return the particles of a set, best first, each once.

    Raises
    ------
    UserError
        Where a particle has neither an id nor a place to make one from.
    """
    table = volumes.table
    found: dict[str, Box] = {}
    for row, record in enumerate(table.to_dict("records")):
        place = tuple(float(record[name]) for name in COORDINATES if name in record)
        tomogram = str(record.get("rlnTomoName", ""))
        name = record.get("cryoetganId")
        if not isinstance(name, str):
            if len(place) < 3:
                raise UserError(
                    f"{volumes.path}: has neither cryoetganId nor coordinates, so decisions could "
                    "not be given back to its particles; make the set with `particles extract`"
                )
            name = particle_id(tomogram, *place)
        score = float(record.get("cryoetganScore", 0.0))
        score = score if np.isfinite(score) else 0.0  # joined with a set that has none
        kind = str(record.get("cryoetganClass", ""))
        if name not in found or score > found[name].score:
            found[name] = Box(row, name, kind, score, tomogram, place)
    return sorted(found.values(), key=lambda box: (-box.score, box.id))


def draw(found: Sequence[Box], count: int, seed: int) -> list[Box]:
    """Return a sample for blind marking, in random order, with the weight of each box.

    Every class gets the same share (all of it where it is small); within a class the boxes
    are drawn at even steps along its scores from a random start, so that high and low scores
    are there as in the whole, and each box of a class is as likely as any other. The weight
    is how many boxes of the whole one drawn box stands for.
    """
    numbers = rng(seed, "gallery", "sample")
    classes = {
        kind: [b for b in found if b.kind == kind] for kind in sorted({b.kind for b in found})
    }
    shares = _shares({kind: len(members) for kind, members in classes.items()}, count)
    chosen = []
    for kind, members in classes.items():
        step = len(members) / max(shares[kind], 1)
        start = numbers.random()
        for index in range(shares[kind]):
            box = members[min(int((index + start) * step), len(members) - 1)]
            chosen.append(replace(box, weight=step))
    return [chosen[i] for i in numbers.permutation(len(chosen))]


def _shares(sizes: Mapping[str, int], count: int) -> dict[str, int]:
    shares = dict.fromkeys(sizes, 0)
    left = min(count, sum(sizes.values()))
    while left:
        open_ = [kind for kind in sizes if shares[kind] < sizes[kind]]
        for kind in sorted(open_, key=lambda kind: shares[kind]):
            if left:
                shares[kind] += 1
                left -= 1
    return shares


def page(
    volumes: VolumeSet,
    shown: Sequence[Box],
    classes: Sequence[str],
    blind: bool,
    decisions: Mapping[str, Mapping[str, str]] | None = None,
    save: str | None = None,
) -> str:
    """Return the gallery's HTML: it needs no other file and no network.

    Parameters
    ----------
    volumes : VolumeSet
        Whose volumes are shown.
    shown : sequence of Box
        In the order of the page.
    classes : sequence of str
        Names a person may give.
    blind : bool
        Leave scores, classes and tomograms out of the page altogether.
    decisions : mapping, optional
        Id to `accepted` (yes or no) and `class`, as decided before.
    save : str, optional
        Where the page sends decisions; downloaded only where None.
    """
    low, high = _grey_range(volumes, shown)
    items = []
    for box in shown:
        planes = images.central_planes(np.asarray(volumes.volumes[box.row], np.float32), THICKNESS)
        image = images.montage([[images.scale_grey(p, low, high) for p in planes]], gap=1)
        item: dict[str, Any] = {"id": box.id, "image": images.data_uri(images.encode_png(image))}
        if not blind:
            item |= {"class": box.kind, "score": round(box.score, 4), "tomogram": box.tomogram}
        items.append(item)
    name = volumes.path.stem
    key = hashlib.sha256(json.dumps([name, blind, [b.id for b in shown]]).encode()).hexdigest()[:16]
    data = {
        "key": key,
        "name": f"{name}_blind" if blind else name,
        "blind": blind,
        "classes": list(classes),
        "items": items,
        "decisions": dict(decisions or {}),
        "save": save,
    }
    folder = Path(__file__).parent
    script = (folder / "gallery.js").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode("ascii")
    return PAGE.substitute(
        title=html.escape(f"{name}: {len(shown)} boxes" + (", blind" if blind else "")),
        style=(folder / "gallery.css").read_text(encoding="utf-8"),
        script=script,
        hash=digest,
        # inside a script element only "<" could end it
        data=json.dumps(data, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c"),
        help=(HELP_BLIND if blind else HELP) + KEEP,
        thickness=THICKNESS,
        box=f"{volumes.box * volumes.voxel_size / 10:.1f}",
        version=html.escape(__version__),
    )


def _grey_range(volumes: VolumeSet, shown: Sequence[Box]) -> tuple[float, float]:
    """Return black and white for all boxes: contrast between them is information."""
    rows = [box.row for box in shown]
    some = np.unique(np.linspace(0, len(rows) - 1, RANGE_SAMPLE).astype(int))
    planes = [
        plane
        for index in some
        for plane in images.central_planes(np.asarray(volumes.volumes[rows[index]]), THICKNESS)
    ]
    return images.grey_range(np.nan_to_num(np.stack(planes)))
