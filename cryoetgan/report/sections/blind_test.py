"""Section: a quiz in which the reader separates real from synthetic volumes."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from markupsafe import Markup

from cryoetgan.images import grey_range
from cryoetgan.io.volume_set import VolumeSet
from cryoetgan.report.html import Section, macros
from cryoetgan.report.run import TITLES, Run
from cryoetgan.report.slices import draw_planes
from cryoetgan.seeds import rng


def render(run: Run) -> Iterator[Markup]:
    """Yield a quiz with real volumes and volumes of the exported set."""
    name = run.exported if run.exported in run.sets else "generated"
    if "real" not in run.sets or name not in run.sets:
        return
    items = blind_items(run.sets["real"], run.sets[name])
    yield macros.note(
        "Each image shows the three central planes of one volume, real or synthetic "
        f"({TITLES[name]}). Classify all {len(items)}; the score follows at the end."
    )
    yield macros.quiz(items)


def blind_items(
    real: VolumeSet, synthetic: VolumeSet, count: int = 20, seed: int = 0
) -> list[dict[str, Any]]:
    """Return `count` images, half of each set, in random order; `real` is the answer."""
    generator = rng(seed, "report", "blind")
    each = min(count // 2, len(real), len(synthetic))
    items = []
    for volumes in (real, synthetic):
        chosen = np.sort(generator.permutation(len(volumes))[:each])
        data = np.asarray(volumes.volumes[chosen], np.float32)
        low, high = grey_range(data)  # by set, so that brightness does not reveal the answer
        items += [
            {"image": draw_planes(volume, low, high), "real": volumes is real} for volume in data
        ]
    return [items[i] for i in generator.permutation(len(items))]


SECTION = Section("blind", "Blind test", render)
