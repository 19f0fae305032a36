"""What `imaging fit` left of each tomogram, and whether it is to be trusted."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cryoetgan.images import data_uri
from cryoetgan.imaging import GOOD_POWER_RATIO
from cryoetgan.report.results import Results

SIGNATURE = b"\x89PNG\r\n\x1a\n"


@dataclass(frozen=True)
class Fit:
    """What the model of one tomogram says of itself.

    Attributes
    ----------
    tomogram : str
        Its name.
    image : str
        The picture of fit and data, as a `data:` address; empty where it is not there.
    power : str
        Simulated over real power, lowest to highest shell.
    wedge : str
        Tilts typed, and what the spectrum shows.
    shares : str
        Class and share of the picks.
    """

    tomogram: str
    image: str
    power: str
    wedge: str
    shares: str


def fits(results: Results) -> tuple[list[Fit], list[str]]:
    """Return the models that are there, and what in them must not be missed."""
    found, warnings = [], []
    for path in sorted(results.folder.glob("imaging/*.json")):
        if path.with_suffix("").exists():
            continue  # the record beside a volume set
        name = f"imaging/{path.name}"
        content = results.json(name)
        if "class_fractions" not in content:
            continue
        try:
            fit, said = _fit(results, path.stem, content)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            results.gaps.append(f"{name}: is not as it should be ({type(error).__name__}: {error})")
            continue
        found.append(fit)
        warnings += [f"{path.stem}: {text}" for text in said]
    return found, warnings


def _fit(results: Results, name: str, content: Mapping[str, Any]) -> tuple[Fit, list[str]]:
    about = content.get("about") or {}
    said = []
    power, wedge = "not recorded", "not recorded"
    compared = about.get("power") or {}
    if {"real", "simulated"} <= set(compared):
        pairs = zip(compared["simulated"], compared["real"], strict=True)
        ratios = [float(a) / float(b) for a, b in pairs if b]
        if ratios and all(map(math.isfinite, ratios)):
            power = f"{min(ratios):.2f} to {max(ratios):.2f}"
            if min(ratios) < GOOD_POWER_RATIO[0] or max(ratios) > GOOD_POWER_RATIO[1]:
                said.append(
                    f"fitted physics has {power} times the power of the real crops by shell, "
                    f"where {GOOD_POWER_RATIO[0]:g} to {GOOD_POWER_RATIO[1]:g} is a good fit"
                )
    tilts = about.get("wedge") or {}
    if "typed" in tilts:
        seen = tilts.get("seen")
        wedge = f"{_range(tilts['typed'])} typed, {_range(seen) if seen else 'none'} seen"
        if tilts.get("warning"):
            said.append(str(tilts["warning"]))
    doubts = ((about.get("agreement") or {}).get("doubts") or {}).values()
    said += dict.fromkeys(map(str, doubts))
    shares = ", ".join(
        f"{kind} {100 * float(share):.0f} %" for kind, share in content["class_fractions"].items()
    )
    return Fit(name, _picture(results, name), power, wedge, shares), said


def _range(values: Any) -> str:
    low, high = (float(value) for value in values)
    return f"{low:g}° to {high:g}°"


def _picture(results: Results, name: str) -> str:
    path = results.folder / f"imaging/{name}.png"
    content = path.read_bytes() if path.exists() else b""
    return data_uri(content) if content.startswith(SIGNATURE) else ""
