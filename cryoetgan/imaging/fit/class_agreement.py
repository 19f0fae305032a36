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
GOOD_AMPLITUDE = 0.95, 1.05
"""Regression of picks on their fitted signal, of a good fit."""
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
    pairs = products_by_class(data, model, chosen)
    return {name: regress(found) for name, found in pairs.items() if len(found) >= MIN_PICKS}


def regress(pairs: NDArray[np.float64]) -> dict[str, Any]:
    """Return amplitude, standard error and number of `(N, 2)` products <s, b> and <s, s>."""
    products, squares = pairs.T
    amplitude = products.sum() / squares.sum()
    spread = products - amplitude * squares
    error = float(np.sqrt((spread**2).sum()) / squares.sum())
    amplitude = round(float(amplitude), 3)
    return {"amplitude": amplitude, "error": round(error, 3), "picks": len(pairs)}


def products_by_class(
    data: FitData, model: ImagingModel, chosen: NDArray[np.int_]
) -> dict[str, NDArray[np.float64]]:
    """Return class to the `(N, 2)` products <s, b> and <s, s> of up to `MAX_PICKS` picks."""
    posed, found = PosedPicks(data.picks, data.maps, data.part), {}
    for name in sorted(model.maps):
        own = chosen[data.picks.names[chosen] == name]
        # picks are sorted by score: the best alone would have too large an amplitude
        own = own[np.linspace(0, len(own) - 1, min(len(own), MAX_PICKS)).astype(int)]
        if len(own):
            found[name] = np.array([_products(data, model, posed, int(i)) for i in own])
    return found


def _products(
    data: FitData, model: ImagingModel, posed: PosedPicks, index: int
) -> tuple[float, float]:
    """Return the inner products of a pick's signal with its box, and with itself."""
    posed.active = np.arange(len(data.picks)) == index
    place = data.centres[index]
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
    """Return `amplitudes` and `warnings` by class, and the `overall` amplitude and its `warning`.

    Each warning is logged. All are empty if the picks are not aligned.
    """
    if not data.picks.aligned:
        return {"amplitudes": {}, "warnings": {}, "overall": {}, "warning": None}
    pairs = products_by_class(data, model, chosen)
    amplitudes = {name: regress(p) for name, p in pairs.items() if len(p) >= MIN_PICKS}
    warnings = agreement_warnings(amplitudes)
    overall = regress(np.concatenate(list(pairs.values())))
    warning = None if warnings else amplitude_warning(overall)
    for text in dict.fromkeys([*warnings.values(), *([warning] if warning else [])]):
        log.warning("%s: %s", data.path, text)
    return {
        "amplitudes": amplitudes, "warnings": warnings, "overall": overall, "warning": warning,
    }  # fmt: skip


def amplitude_warning(overall: dict[str, Any]) -> str | None:
    """Return a warning if the particles are simulated too strong or too weak.

    The amplitude must be outside `GOOD_AMPLITUDE` and differ from 1 by two standard errors.
    """
    value, error = overall["amplitude"], overall["error"]
    if GOOD_AMPLITUDE[0] <= value <= GOOD_AMPLITUDE[1] or abs(value - 1) < 2 * error:
        return None
    return (
        f"the regression of the picks on their fitted signal is {value:.2f} +- {error:.2f}, wanted "
        f"{GOOD_AMPLITUDE[0]:g} to {GOOD_AMPLITUDE[1]:g}: simulated particles are "
        f"{1 / value if value > 0 else np.inf:.2f} times as strong as the real ones. The picks may "
        "hold false ones: fit to scores with decoys (particles score --decoys mirror)"
    )
