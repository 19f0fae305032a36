"""Section: central planes of real and synthetic volumes, and uncertainty maps."""

from collections.abc import Iterator

from markupsafe import Markup

from cryoetgan.progress import track
from cryoetgan.report.html import Section, macros
from cryoetgan.report.run import Run
from cryoetgan.report.slices import draw_panels, draw_uncertainty

PANELS = {
    "real": ("real", "particles/subtomograms.star"),
    "conventional": ("conventional simulation", "imaging/simulated.star"),
    "fitted": ("fitted simulation", "imaging/fitted.star"),
    "density": ("density d", "densities/poses.star"),
    "generated": ("generated G_ds(d)", "generated.star"),
    "cycle": ("cycle G_sd(G_ds(d))", "cycled.star"),
}
"""Volume set to its label and its file."""
CAPTION = (
    "Each column is one volume; the rows are its central planes xy, xz and yz. The first axis "
    "points right, the second up. The beam is parallel to z, the tilt axis to y. Volumes are drawn "
    "at random, and one voxel is one square. In one column, all panels but the real one show the "
    "same particle in the same pose. Protein is bright. Each image has its own grey scale: mean ± "
    "3 standard deviations, or zero to maximum for densities. The cycle G_sd(G_ds(d)) should "
    "reproduce the density d."
)
UNCERTAINTY_CAPTION = (
    "Slices of one generated volume of each class, from low to high z, with the standard deviation "
    "of each voxel. Dropout SD: several passes with dropout and a fixed noise input. Noise SD: "
    "several noise inputs without dropout. The maps are illustrative: they show how much the "
    "output varies, not its error. On simulated data with known truth, they follow the error no "
    "better than the density does."
)


def render(run: Run) -> Iterator[Markup]:
    """Yield the panels of each class, and the uncertainty maps of each class."""
    sets = {name: run.sets[name] for name in PANELS if name in run.sets}
    classes = sorted({str(name) for volumes in sets.values() for name in volumes.classes()})
    if not classes:
        return
    yield macros.note(CAPTION)
    for class_name in track(classes, "drawing classes"):
        drawn = {panel.name: panel for panel in draw_panels(sets, class_name, run.sample)}
        panels = [
            (label, drawn.get(name, f"no {class_name}" if name in sets else f"{file}: missing"))
            for name, (label, file) in PANELS.items()
        ]
        yield macros.heading(class_name)
        yield macros.group([macros.panel(*panel, class_name) for panel in panels], "panels")
    maps = {name: strips for name in run.classes() if (strips := draw_uncertainty(run.sets, name))}
    yield macros.heading("Uncertainty", "uncertainty")
    yield macros.note(
        UNCERTAINTY_CAPTION
        if maps
        else "Not computed: `translation.uncertainty` is 0 in the configuration."
    )
    for class_name, strips in maps.items():
        yield macros.heading(class_name, level=4)
        yield from (macros.strip(strip, class_name) for strip in strips)


SECTION = Section("volumes", "Real and synthetic volumes", render)
