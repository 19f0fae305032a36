"""Sections: central planes of real and synthetic volumes, uncertainty maps, the blind test."""

from typing import Any

import numpy as np

from cryoetgan.images import grey_range
from cryoetgan.progress import track
from cryoetgan.report.run import TITLES, Run
from cryoetgan.report.slices import draw_panels, draw_planes, draw_uncertainty
from cryoetgan.seeds import rng

PANELS = {
    "real": ("real", "particles/subtomograms.star"),
    "conventional": ("conventional simulation", "imaging/simulated.star"),
    "fitted": ("fitted simulation", "imaging/fitted.star"),
    "density": ("density d", "densities/poses.star"),
    "generated": ("generated G_ds(d)", "generated.star"),
    "cycle": ("cycle G_sd(G_ds(d))", "cycled.star"),
}
"""Volume set to its label and its file."""


def draw_volumes(run: Run) -> dict[str, Any]:
    """Return the panels and the uncertainty maps of each class."""
    sets = {name: run.sets[name] for name in PANELS if name in run.sets}
    shown = []
    classes = sorted({str(name) for volumes in sets.values() for name in volumes.classes()})
    for class_name in track(classes, "drawing classes"):
        drawn = {panel.name: panel for panel in draw_panels(sets, class_name, run.sample)}
        panels = [
            (label, drawn.get(name, f"no {class_name}" if name in sets else f"{file}: missing"))
            for name, (label, file) in PANELS.items()
        ]
        shown.append((class_name, panels))
    maps = {name: strips for name in run.classes() if (strips := draw_uncertainty(run.sets, name))}
    return {"classes": shown, "maps": maps} if shown else {}


def draw_blind_test(run: Run, count: int = 20, seed: int = 0) -> dict[str, Any]:
    """Return `count` images, half real and half of the exported set, in random order."""
    name = run.exported if run.exported in run.sets else "generated"
    if "real" not in run.sets or name not in run.sets:
        return {}
    generator = rng(seed, "report", "blind")
    each = min(count // 2, len(run.sets["real"]), len(run.sets[name]))
    items = []
    for source in ("real", name):
        volumes = run.sets[source]
        chosen = np.sort(generator.permutation(len(volumes))[:each])
        data = np.asarray(volumes.volumes[chosen], np.float32)
        low, high = grey_range(data)  # by set, so that brightness does not reveal the answer
        items += [{"image": draw_planes(v, low, high), "real": source == "real"} for v in data]
    mixed = [items[i] for i in generator.permutation(len(items))]
    return {"items": mixed, "synthetic": TITLES[name]}
