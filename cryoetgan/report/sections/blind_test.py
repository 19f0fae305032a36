"""Section: a quiz in which the reader separates real from synthetic volumes."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from cryoetgan.images import grey_range
from cryoetgan.io.volume_set import VolumeSet
from cryoetgan.report.run import TITLES, Run
from cryoetgan.report.section import Section
from cryoetgan.report.slices import draw_planes
from cryoetgan.seeds import rng

TEMPLATE = """
<p class="dim">Each image shows the three central planes of one volume, real or synthetic
({{ synthetic }}). Classify all {{ items|length }}; the score follows at the end.</p>
<div class="quiz"><img id="blind-image" alt="Three planes of one volume">
<p><button type="button" id="blind-real">real</button>
<button type="button" id="blind-synthetic">synthetic</button>
<span id="blind-count" class="dim"></span></p><p id="blind-score"></p></div>
<script type="application/json" id="blind-data">{{ items|tojson }}</script>
"""


def context(run: Run) -> Mapping[str, Any] | None:
    """Return real volumes and volumes of the exported set in random order."""
    synthetic = run.exported if run.exported in run.sets else "generated"
    if "real" not in run.sets or synthetic not in run.sets:
        return None
    items = blind_items(run.sets["real"], run.sets[synthetic])
    return {"items": items, "synthetic": TITLES[synthetic]}


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


SECTION = Section(name="blind", title="Blind test", template=TEMPLATE, context=context)
