"""Section: slices of synthetic tomograms with their true particles."""

from collections.abc import Iterator

from markupsafe import Markup

from cryoetgan.io.star import COORDINATES
from cryoetgan.report.html import Section, macros
from cryoetgan.report.results import COMPANION_ENDINGS
from cryoetgan.report.run import Run
from cryoetgan.report.slices import draw_tomogram


def render(run: Run, max_tomograms: int = 2) -> Iterator[Markup]:
    """Yield tomograms of the generator, or else of the fitted simulation."""
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
            shown = draw_tomogram(path.stem, volume.data, volume.voxel_size, truth, box=run.box)
            slices.append(macros.tomogram(shown, "Circles: true positions."))
    if not slices:
        return
    method = f"preset {run.preset}" if is_generated else "the fitted simulation alone"
    yield macros.note(
        "Packed scenes with known particles, in the style of a training tomogram, rendered by "
        f"{method}. Labels and true positions are in `{folder}`."
    )
    yield macros.group(slices, "tomograms")
    if len(tomograms) > max_tomograms:
        yield macros.note(f"{len(tomograms) - max_tomograms} more are not shown.")


SECTION = Section("synthetic", "Synthetic tomograms", render)
