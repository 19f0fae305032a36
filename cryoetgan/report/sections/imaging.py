"""Section: power spectra of all sets, and the imaging model fitted to each tomogram."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from cryoetgan.evaluation.metrics.spectra import shell_powers
from cryoetgan.images import data_uri
from cryoetgan.imaging import GOOD_POWER_RATIO
from cryoetgan.report.evaluation_json import INVALID
from cryoetgan.report.plots import Plot, plot_power_spectra
from cryoetgan.report.results import Results
from cryoetgan.report.run import TITLES, Run

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
POWER = "the power of the fitted simulation"
HEADING = ["tomogram", "simulated / real power", "tilt range", "class fractions of the picks"]


@dataclass(frozen=True)
class Fit:
    """Summary of an imaging model as text; `image` is a `data:` URI, or "" if it is missing."""

    tomogram: str
    image: str
    power: str
    tilts: str
    class_fractions: str
    warnings: list[str]


def list_fits(run: Run) -> dict[str, Any]:
    """Return the power spectra and the fitted models."""
    spectra, fits = draw_power_spectra(run), read_fits(run.results)
    rows = [[fit.tomogram, fit.power, fit.tilts, fit.class_fractions] for fit in fits]
    return {"spectra": spectra, "fits": fits, "rows": [HEADING, *rows]} if spectra or fits else {}


def warnings(run: Run) -> list[str]:
    """Return the warnings of all fits."""
    return [f"{fit.tomogram}: {text}" for fit in read_fits(run.results) for text in fit.warnings]


def draw_power_spectra(run: Run, sample: int = 150) -> Plot | None:
    """Return the power spectra of sets with equal boxes, from up to `sample` volumes each."""
    power, first = {}, None
    for name in ("real", "generated", "conventional", "fitted"):
        if name not in run.sets or (first is not None and run.sets[name].box != first.box):
            continue
        volumes = run.sets[name]
        first = first or volumes
        chosen = np.unique(np.linspace(0, len(volumes) - 1, sample).astype(int))
        data = np.nan_to_num(np.asarray(volumes.volumes[chosen], np.float32))
        power[TITLES[name]] = shell_powers(data).mean(axis=0)
    return plot_power_spectra(power, first.voxel_size, first.box) if first else None


def read_fits(results: Results) -> list[Fit]:
    """Return the imaging models of the run, by tomogram."""
    found = []
    for path in sorted(results.folder.glob("imaging/*.json")):
        if path.with_suffix("").exists():
            continue  # the side-car of a volume set
        name = f"imaging/{path.name}"
        content = results.json(name)
        if "class_fractions" not in content:
            continue
        try:
            found.append(_read_fit(results, path.stem, content))
        except INVALID as error:
            results.add_invalid(name, error)
    return found


def _read_fit(results: Results, name: str, content: Mapping[str, Any]) -> Fit:
    about = content.get("about") or {}
    warnings = []
    power, tilts = "not recorded", "not recorded"
    spectra = about.get("power") or {}
    if {"real", "simulated"} <= set(spectra):
        pairs = zip(spectra["simulated"], spectra["real"], strict=True)
        ratios = [float(a) / float(b) for a, b in pairs if b]
        if ratios and all(map(math.isfinite, ratios)):
            power = f"{min(ratios):.2f} to {max(ratios):.2f}"
            if min(ratios) < GOOD_POWER_RATIO[0] or max(ratios) > GOOD_POWER_RATIO[1]:
                warnings.append(
                    f"{POWER} is {power} times that in real crops, by "
                    f"shell; a good fit has {GOOD_POWER_RATIO[0]:g} to {GOOD_POWER_RATIO[1]:g}. Inspect "
                    f"imaging/{name}.png, the picks and the acquisition of the tomogram"
                )
    wedge = about.get("wedge") or {}
    if "given" in wedge:
        seen = wedge.get("seen")
        measured = f"{_degrees(seen)} measured" if seen else "not measured"
        tilts = f"{_degrees(wedge['given'])} specified, {measured}"
        if wedge.get("warning"):
            warnings.append(str(wedge["warning"]))
    agreement = about.get("agreement") or {}
    messages = [*(agreement.get("warnings") or {}).values(), agreement.get("warning")]
    warnings += dict.fromkeys(str(message) for message in messages if message)
    fractions = ", ".join(
        f"{kind} {100 * float(value):.0f} %" for kind, value in content["class_fractions"].items()
    )
    path = results.folder / f"imaging/{name}.png"
    figure = path.read_bytes() if path.exists() else b""
    image = data_uri(figure) if figure.startswith(PNG_SIGNATURE) else ""
    return Fit(name, image, power, tilts, fractions, warnings)


def _degrees(values: Any) -> str:
    low, high = (float(value) for value in values)
    return f"{low:g}° to {high:g}°"
