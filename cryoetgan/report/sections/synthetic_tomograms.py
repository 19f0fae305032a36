"""Section: slices of synthetic tomograms with their true particles."""

from collections.abc import Mapping
from typing import Any

from cryoetgan.io.star import COORDINATES
from cryoetgan.report.results import COMPANION_ENDINGS
from cryoetgan.report.run import Run
from cryoetgan.report.section import Section
from cryoetgan.report.slices import draw_tomogram

TEMPLATE = """
<p class="dim">Packed scenes with known particles, in the style of a training tomogram, rendered by
{{ method }}. Labels and true positions are in <code>{{ folder }}</code>.</p>
<div class="tomograms">
{% for slice in slices %}
{{ m.tomogram(slice, "Circles: true positions.") }}
{% endfor %}
</div>
{% if others %}<p class="dim">{{ others }} more are not shown.</p>{% endif %}
"""


def context(run: Run, max_tomograms: int = 2) -> Mapping[str, Any] | None:
    """Return the tomograms of the generator, or else of the fitted simulation."""
    results = run.results
    generated, simulated = f"translation/{run.preset}/tomograms", "imaging/tomograms"
    is_generated = any(results.folder.glob(f"{generated}/*.mrc"))
    folder = generated if is_generated else simulated
    paths = sorted(results.folder.glob(f"{folder}/*.mrc"))
    tomograms = [path for path in paths if not path.stem.endswith(COMPANION_ENDINGS)]
    slices = []
    for path in tomograms[:max_tomograms]:
        volume = results.tomogram(path)
        truth = results.table(f"{folder}/{path.stem}.star", [*COORDINATES, "cryoetganClass"])
        if volume is not None:
            slices.append(
                draw_tomogram(path.stem, volume.data, volume.voxel_size, truth, box=run.box)
            )
    if not slices:
        return None
    return {
        "slices": slices,
        "others": max(len(tomograms) - max_tomograms, 0),
        "folder": folder,
        "method": f"preset {run.preset}" if is_generated else "the fitted simulation alone",
    }


SECTION = Section(name="synthetic", title="Synthetic tomograms", template=TEMPLATE, context=context)
