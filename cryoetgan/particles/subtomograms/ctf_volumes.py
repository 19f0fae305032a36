"""CTF volumes of boxes that others extracted: compared with the given tilts, since none are read.

A CTF volume holds the missing wedge and CTF, or the weights, of each frequency. A set has one tilt
range and one defocus instead: the fit, the simulations and the networks take no weight for each
box.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cryoetgan.errors import UserError
from cryoetgan.io.mrc import open_mrc
from cryoetgan.physics.acquisition import Acquisition
from cryoetgan.physics.optics import radius_grid, tilt_angle
from cryoetgan.progress import log

MOST_COMPARED = 5
"""Volumes that are read, spread over all."""
SEEN = 0.05
"""Weight beyond which a frequency was seen, over the largest weight."""
INNER, OUTER = 0.2, 0.45
"""Frequencies at which tilts are measured, cycles per voxel."""
TOLERANCE = 4.0
"""Degrees between two ends of a tilt range, besides one voxel at `OUTER`."""


def seen_tilts(weights: NDArray[np.generic]) -> tuple[float, float] | None:
    """Return the lowest and highest tilt, degrees, whose frequencies have weight; None if all have.

    `weights` is a cube with the zero frequency at n // 2, as RELION 3 has it, or the half
    `(n, n, n // 2 + 1)` of a Fourier transform, as RELION 4 has it.
    """
    box = len(weights)
    values = np.abs(np.nan_to_num(np.asarray(weights, np.float32)))
    if weights.shape == (box, box, box):
        values = np.fft.ifftshift(values)[..., : box // 2 + 1]
    elif weights.shape != (box, box, box // 2 + 1):
        return None
    shape = (box, box, box)
    radius, angle = radius_grid(shape, 1.0)[:, 0], tilt_angle(shape)[:, 0]
    plane = values[:, 0]
    ring = (radius > INNER) & (radius < OUTER)
    seen = ring & (plane > SEEN * plane[ring].max(initial=0))
    if not seen.any() or seen[ring].all():
        return None
    return float(angle[seen].min()), float(angle[seen].max())


def compare_ctf_volumes(
    paths: Sequence[Path], acquisition: Acquisition, table: Path, is_turned: bool
) -> None:
    """Say that CTF volumes are not read, and warn if they contradict the acquisition of the set.

    If `is_turned`, tilt axis or beam axis of the files are not y and z, and tilts are not compared.
    """
    if not paths:
        return
    log.info(
        "%s: %d CTF volumes (rlnCtfImage) are not read: a set has one tilt range, %g to %g degrees, "
        "and one defocus", table, len(paths), *acquisition.tilts,
    )  # fmt: skip
    if acquisition.defocus is None and acquisition.ctf != "corrected":
        log.warning(
            "%s: the CTF is known from its CTF volumes only, which are not read; give --defocus "
            "(their mean), or --ctf corrected if the boxes were divided by it",
            table,
        )
    for number in np.linspace(0, len(paths) - 1, min(len(paths), MOST_COMPARED)).astype(int):
        try:
            weights = open_mrc(paths[number])[0]
        except UserError as error:
            log.warning("%s; the tilts of its boxes are not compared", error)
            return
        found = None if is_turned or weights.ndim != 3 else seen_tilts(weights)
        if found is None:
            continue
        tolerance = TOLERANCE + np.degrees(1 / (OUTER * len(weights)))
        if np.abs(np.subtract(found, acquisition.tilts)).max() > tolerance:
            log.warning(
                "%s: %s has weights for tilts of %.0f to %.0f degrees, but --tilts is %g to %g; give "
                "the tilts of the boxes, and import boxes of each range as a set of its own",
                table, paths[number].name, *found, *acquisition.tilts,
            )  # fmt: skip
            return
