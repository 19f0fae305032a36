"""Whether the picks of each class look like the structure they are named after.

A sample may lack what an entry holds (antibodies, a cofactor's ring, half of an assembly), or
hold another form of it. Then the picks show less of the map than those of other classes do,
at every frequency: no network learns that, and no noise explains it.
"""

import logging
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cryoetgan.imaging.fit.inputs import Data, cut
from cryoetgan.imaging.fit.picks import PosedPicks
from cryoetgan.imaging.model import ImagingModel, crop
from cryoetgan.imaging.scenes import SCENE

log = logging.getLogger("cryoetgan")
LEAST_PICKS = 8
MOST_PICKS = 60
"""Of a class; more would not make its amplitude better by much."""
LOW = 0.7
"""Of the median over classes: below it the structure is not what the picks show."""


def class_amplitudes(
    data: Data, model: ImagingModel, chosen: NDArray[np.int_]
) -> dict[str, dict[str, float]]:
    """Return how much of each class's map its picks show.

    Parameters
    ----------
    data : Data
        Tomogram, aligned picks, maps.
    model : ImagingModel
        Fitted to them.
    chosen : ndarray of int
        Picks to use; whole boxes inside the tomogram.

    Returns
    -------
    dict
        Class to `amplitude`, the least-squares factor on the fitted signal of its maps at the
        picks' poses (1: as the mean over all classes), its standard `error`, and `picks`.
        Classes of fewer than `LEAST_PICKS` are left out.
    """
    found = {}
    for name in sorted(model.maps):
        mine = chosen[data.picks.names[chosen] == name][:MOST_PICKS]
        if len(mine) < LEAST_PICKS:
            continue
        pairs = np.array([_products(data, model, int(index)) for index in mine])
        products, squares = pairs.T
        amplitude = products.sum() / squares.sum()
        spread = products - amplitude * squares
        error = float(np.sqrt((spread**2).sum()) / squares.sum())
        found[name] = {
            "amplitude": round(float(amplitude), 3),
            "error": round(error, 3),
            "picks": len(mine),
        }
    return found


def _products(data: Data, model: ImagingModel, index: int) -> tuple[float, float]:
    """Return the inner products of a pick's signal with its box, and with itself."""
    alone = PosedPicks(data.picks.of(np.array([index])), data.maps)
    place = data.picks.places[index]
    signal = crop(model.signal(alone.scene_about(place, SCENE * data.box)), data.box)
    signal = signal - signal.mean()
    box = cut(data.volume, place, data.box)
    return float((signal * (box - box.mean())).sum()), float((signal**2).sum())


def doubts(amplitudes: dict[str, dict[str, Any]]) -> dict[str, str]:
    """Return class to what is to be said of it, where its picks do not look like its map."""
    if not amplitudes:
        return {}
    typical = float(np.median([found["amplitude"] for found in amplitudes.values()]))
    if typical < 0:
        said = (
            f"the picks show {typical:.2f} of their maps: protein is dark in this tomogram; import "
            "it again with the other contrast (tomograms import --contrast)"
        )
        return dict.fromkeys(amplitudes, said)
    return {
        name: f"the picks of {name} show {found['amplitude']:.2f} +- {found['error']:.2f} of its "
        f"map, those of other classes {typical:.2f}: the sample may lack parts of the structure "
        "(antibodies, partners), or these picks be something else; look at `particles average`, "
        "then name the chains to keep (column chains of the table of classes)"
        for name, found in amplitudes.items()
        if found["amplitude"] + 2 * found["error"] < LOW * typical
    }


def warned(data: Data, model: ImagingModel, chosen: NDArray[np.int_]) -> dict[str, Any]:
    """Return amplitudes and doubts, each doubt said once; nothing where picks are not aligned."""
    if not data.picks.aligned:
        return {"amplitudes": {}, "doubts": {}}
    amplitudes = class_amplitudes(data, model, chosen)
    said = doubts(amplitudes)
    for text in dict.fromkeys(said.values()):
        log.warning("%s: %s", data.path, text)
    return {"amplitudes": amplitudes, "doubts": said}
