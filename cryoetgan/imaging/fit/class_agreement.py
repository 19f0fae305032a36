"""Compare the picks of each class with its map: the amplitude of the map in its picks.

A sample may lack parts of the PDB entry (antibodies, a cofactor, half of an assembly) or hold
another conformation. Its map then has a smaller amplitude than the maps of other classes, at every
frequency. Neither noise nor a network can explain that difference.
"""

import logging
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cryoetgan.imaging.fit.fit_data import FitData, PosedPicks, cut_box
from cryoetgan.imaging.model import SCENE_BOXES, ImagingModel, crop_centre

log = logging.getLogger("cryoetgan")
MIN_PICKS, MAX_PICKS = 8, 60
"""Picks of a class for a reliable amplitude, and picks beyond which it improves little."""


def class_amplitudes(
    data: FitData, model: ImagingModel, chosen: NDArray[np.int_]
) -> dict[str, dict[str, float]]:
    """Return the amplitude of each class's map in its picks.

        a = sum of <s, b> / sum of <s, s>

    b are the boxes at the picks, s the simulated signals of their maps and poses, both with mean
    0. a is the least-squares factor on the signal: 1 for a class that shows its map as strongly
    as all classes do on average.

    The boxes of the chosen picks lie inside the tomogram. Returns class to `amplitude`, its
    standard `error`, and the number of `picks`, for classes with `MIN_PICKS` or more.
    """
    posed, found = PosedPicks(data.picks, data.maps), {}
    for name in sorted(model.maps):
        own = chosen[data.picks.names[chosen] == name][:MAX_PICKS]
        if len(own) < MIN_PICKS:
            continue
        pairs = np.array([_products(data, model, posed, int(index)) for index in own])
        products, squares = pairs.T
        amplitude = products.sum() / squares.sum()
        spread = products - amplitude * squares
        error = float(np.sqrt((spread**2).sum()) / squares.sum())
        amplitude = round(float(amplitude), 3)
        found[name] = {"amplitude": amplitude, "error": round(error, 3), "picks": len(own)}
    return found


def _products(
    data: FitData, model: ImagingModel, posed: PosedPicks, index: int
) -> tuple[float, float]:
    """Return the inner products of a pick's signal with its box, and with itself."""
    posed.active = np.arange(len(data.picks)) == index
    place = data.picks.places[index]
    scene = posed.density_around(place, SCENE_BOXES * data.box)
    signal = crop_centre(model.signal(scene), data.box)
    signal = signal - signal.mean()
    box = cut_box(data.volume, place, data.box)
    return float((signal * (box - box.mean())).sum()), float((signal**2).sum())


def agreement_warnings(
    amplitudes: dict[str, dict[str, Any]], least_ratio: float = 0.7
) -> dict[str, str]:
    """Return class to warning, for classes whose picks do not agree with their map.

    A class is reported if its amplitude is below `least_ratio` of the median over classes by
    more than two standard errors. If the median is negative, the contrast is inverted.
    """
    if not amplitudes:
        return {}
    typical = float(np.median([found["amplitude"] for found in amplitudes.values()]))
    if typical < 0:
        text = (
            f"the amplitude of the maps in their picks is {typical:.2f}: protein is dark in this "
            "tomogram; import it again with the other contrast (tomograms import --contrast)"
        )
        return dict.fromkeys(amplitudes, text)
    return {
        name: f"the amplitude of {name} in its picks is {found['amplitude']:.2f} +- "
        f"{found['error']:.2f}, the median of all classes {typical:.2f}. The sample may lack "
        "parts of the structure, or the picks may be other particles: inspect `particles "
        "average`, then name the chains to keep (column chains of the table of classes)"
        for name, found in amplitudes.items()
        if found["amplitude"] + 2 * found["error"] < least_ratio * typical
    }


def check_class_agreement(
    data: FitData, model: ImagingModel, chosen: NDArray[np.int_]
) -> dict[str, Any]:
    """Return `amplitudes` and `warnings`, and log each warning; both empty if not aligned."""
    if not data.picks.aligned:
        return {"amplitudes": {}, "warnings": {}}
    amplitudes = class_amplitudes(data, model, chosen)
    warnings = agreement_warnings(amplitudes)
    for text in dict.fromkeys(warnings.values()):
        log.warning("%s: %s", data.path, text)
    return {"amplitudes": amplitudes, "warnings": warnings}
