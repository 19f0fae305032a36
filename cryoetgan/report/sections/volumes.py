"""Section: central planes of real and synthetic volumes, and uncertainty maps."""

from collections.abc import Mapping
from typing import Any

from cryoetgan.progress import track
from cryoetgan.report.run import Run
from cryoetgan.report.section import Section
from cryoetgan.report.slices import Panel, draw_panels, draw_uncertainty

PANELS = {
    "real": ("real", "particles/subtomograms.star"),
    "conventional": ("conventional simulation", "imaging/simulated.star"),
    "fitted": ("fitted simulation", "imaging/fitted.star"),
    "density": ("density d", "densities/poses.star"),
    "generated": ("generated G_ds(d)", "generated.star"),
    "cycle": ("cycle G_sd(G_ds(d))", "cycled.star"),
}
"""Volume set to its label and its file."""
TEMPLATE = """
<p class="dim">Each column is one volume; the rows are its central planes xy, xz and yz. The first
axis points right, the second up. The beam is parallel to z, the tilt axis to y. Volumes are drawn
at random, and one voxel is one square. In one column, all panels but the real one show the same
particle in the same pose. Protein is bright. Each image has its own grey scale: mean &plusmn; 3
standard deviations, or zero to maximum for densities. The cycle G_sd(G_ds(d)) should reproduce the
density d.</p>
{% for name, panels in classes %}
<h3>{{ name }}</h3>
<div class="panels">
{% for label, panel in panels %}
{% if panel is string %}
<figure class="absent"><div>{{ panel }}</div><figcaption><b>{{ label }}</b></figcaption></figure>
{% else %}
<figure><img src="{{ panel.image }}" alt="{{ label }}: volumes of {{ name }}">
<figcaption><b>{{ label }}</b>, scale bar {{ panel.bar }}</figcaption></figure>
{% endif %}
{% endfor %}
</div>
{% endfor %}
{% if uncertainty %}
<h3 id="uncertainty">Uncertainty</h3>
<p class="dim">Slices of one generated volume of each class, from low to high z, with the standard
deviation of each voxel. Dropout SD: several passes with dropout and a fixed noise input. Noise SD:
several noise inputs without dropout. The maps are illustrative: they show how much the output
varies, not its error. On simulated data with known truth, they follow the error no better than the
density does.</p>
{% for name, strips in uncertainty %}
<h4>{{ name }}</h4>
{% for strip in strips %}
{% if strip.is_zero %}
<p class="dim"><b>{{ strip.name }}</b>: zero in all voxels; the generator was trained without it.</p>
{% else %}
<figure class="strip"><img src="{{ strip.image }}" alt="{{ strip.name }}: slices of {{ name }}">
<figcaption><b>{{ strip.name }}</b>, scale bar {{ strip.bar }}{% if strip.colour_bar %},
<span class="key">{{ strip.low|short }} <img class="ramp" src="{{ strip.colour_bar }}"
alt="colour bar"> {{ strip.high|short }}</span> grey values{% endif %}</figcaption></figure>
{% endif %}
{% endfor %}
{% endfor %}
{% else %}
<p class="dim" id="uncertainty">This run has no uncertainty maps: <code>translation.uncertainty</code>
is 0 in the configuration.</p>
{% endif %}
"""


def context(run: Run) -> Mapping[str, Any] | None:
    """Return panels and uncertainty maps of each class."""
    shown = {name: run.sets[name] for name in PANELS if name in run.sets}
    names = sorted({str(name) for volumes in shown.values() for name in volumes.classes()})
    if not names:
        return None
    maps = [(name, draw_uncertainty(run.sets, name)) for name in run.classes()]
    return {
        "classes": [(name, _panels(run, name)) for name in track(names, "drawing classes")],
        "uncertainty": [(name, strips) for name, strips in maps if strips],
    }


def _panels(run: Run, class_name: str) -> list[tuple[str, Panel | str]]:
    """Return each set's label and panel, or the reason why the panel is missing."""
    shown = {name: run.sets[name] for name in PANELS if name in run.sets}
    drawn = {panel.name: panel for panel in draw_panels(shown, class_name, run.sample)}
    return [
        (label, drawn.get(name) or (f"no {class_name}" if name in shown else f"{file}: missing"))
        for name, (label, file) in PANELS.items()
    ]


SECTION = Section(
    name="volumes", title="Real and synthetic volumes", template=TEMPLATE, context=context
)
