"""Measured transfer of electron detectors, by frequency in fractions of their Nyquist frequency."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cryoetgan.errors import UserError, suggest
from cryoetgan.io.star import read_star

Floats = NDArray[np.floating]
MTF_COLUMNS = ["rlnResolutionInversePixel", "rlnMtfValue"]
"""RELION's columns of a transfer function: cycles per pixel (0.5 is Nyquist), value."""
MEASURED_DQE = {
    # Gatan K2 Summit, counting, 300 kV, 2.5 electrons a pixel and second: Ruskin et al. 2013,
    # doi 10.1016/j.jsb.2013.10.016, as fitted in cisTEM's simulator (Himes and Grigorieff 2021,
    # doi 10.1107/S2052252521008538)
    "k2": (0.795, 0.733, 0.722, 0.706, 0.678, 0.638, 0.588, 0.532, 0.470, 0.409, 0.354),
}
"""Detective quantum efficiency (DQE) at every tenth of the Nyquist frequency, from zero."""
MEASURED_MTF = {
    # Gatan K3, 300 kV, standard counting: measured by Gatan (https://www.gatan.com/techniques/cryo-em#MTF),
    # file mtf_k3_standard_300kV_FL2.star as in ttsim3d (https://github.com/teamtomo/ttsim3d)
    "k3": (1.0, 0.985, 0.971, 0.951, 0.924, 0.889, 0.846, 0.797, 0.745, 0.690, 0.636),
}
"""Modulation transfer function (MTF) of counting detectors, at the same frequencies."""
MEASURED_AT_KV = 300.0
"""Kilovolts at which the curves were measured."""
KNOWN = (*MEASURED_DQE, *MEASURED_MTF)


def detector_transfer(name: str, frequency: Floats) -> Floats:
    """Return the transfer of the signal at `frequency`, fractions of the detector's Nyquist frequency.

    Shot noise is white, so the transfer is the one of the signal-to-noise ratio, sqrt(DQE / DQE(0));
    DQE(0) is part of the signal-to-noise ratio of the tomogram, which is given. Counting detectors
    have a flat noise spectrum, so that DQE = DQE(0) MTF^2. Beyond Nyquist the last value stays.

    Parameters
    ----------
    name : str
        A detector of `KNOWN`, or a STAR file of the transfer function (MTF) for RELION.
    frequency : ndarray
        Any shape.
    """
    if name.endswith(".star"):
        return np.interp(frequency, *read_mtf(Path(name)))
    if name in MEASURED_DQE:
        values = np.sqrt(np.array(MEASURED_DQE[name]) / MEASURED_DQE[name][0])
    elif name in MEASURED_MTF:
        values = np.array(MEASURED_MTF[name])
    else:
        raise UserError(
            f"--detector: got '{name}'{suggest(name, KNOWN)}, wanted "
            f"{', '.join(KNOWN)} or a STAR file with {' and '.join(MTF_COLUMNS)}"
        )
    return np.interp(frequency, np.linspace(0, 1, len(values)), values)


def read_mtf(path: Path) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return increasing fractions of the Nyquist frequency, and the MTF there, from a STAR file."""
    table = read_star(path, MTF_COLUMNS, any_names=True).particles
    try:
        at, values = table[MTF_COLUMNS].to_numpy(float).T
    except ValueError as error:
        raise UserError(f"{path}: has values that are not numbers ({error})") from None
    if len(at) < 2 or not np.isfinite([at, values]).all() or (values < 0).any() or values[0] == 0:
        raise UserError(f"{path}: wanted two values or more of an MTF, above zero at its first row")
    order = np.argsort(at)
    return 2 * at[order], values[order] / values[order[0]]
