"""Tell a tilt series from a tomogram, by its header, its name and its sections."""

import logging

import numpy as np
from numpy.typing import NDArray

from cryoetgan.errors import UserError
from cryoetgan.io.raw_mrc import RawVolume

log = logging.getLogger("cryoetgan")
PATCH, BINNING = 256, 4
"""Edge of the central patch whose sections are compared, voxels, and the edge of its averages."""
MAX_SECTIONS, MIN_SECTIONS = 128, 16
FINE, COARSE = (0.3, 0.5), (0.03, 0.12)
"""Frequencies along z, cycles per section, above and below the limit that a tilt range sets for
details of four voxels: |kz| <= tan(60 degrees) |kx|, with |kx| up to 1/8."""
INDEPENDENT = 0.15
"""Power of the fine frequencies over the power of the coarse ones, from which sections are independent:
tomograms have up to 0.04, white noise 1, and images of signal-to-noise ratio 0.1 have 0.3."""
WIDE = 3
"""Width over number of sections from which sections are compared: tilt series have 4 or more."""


def check_is_tomogram(found: RawVolume, name: str) -> None:
    """Raise `UserError` if a file is a tilt series or image stack by two signs; warn if by one."""
    signs = list(found.stack_signs)
    depth, height, width = found.data.shape
    if min(height, width) > WIDE * depth:
        ratio = section_independence(found.data)
        if ratio > INDEPENDENT:
            signs.append(f"neighbouring sections are independent ({ratio:.2f} of the power)")
    if not signs:
        return
    listed = "; ".join(signs)
    if len(signs) > 1:
        raise UserError(
            f"{name}: is a tilt series or another image stack, not a tomogram: {listed}. Name the "
            "reconstructed tomogram; if this file is one, correct its header or its name"
        )
    log.warning("%s: may be a tilt series or image stack, not a tomogram: %s", name, listed)


def section_independence(data: NDArray[np.generic]) -> float:
    """Return the power that changes from section to section over the power that changes slowly.

    `data` is `(z, y, x)`. Both powers are of details of four voxels and more, in a patch. A tilt
    range bounds the frequencies along z of such details; the noise of images is white. 0 if the
    volume is too small.
    """
    shape = [
        min(n, limit) for n, limit in zip(data.shape, (MAX_SECTIONS, PATCH, PATCH), strict=True)
    ]
    depth, height, width = shape[0], *(n // BINNING * BINNING for n in shape[1:])
    if depth < MIN_SECTIONS or min(height, width) < 2 * BINNING:
        return 0.0
    z, y, x = ((n - part) // 2 for n, part in zip(data.shape, (depth, height, width), strict=True))
    patch = np.asarray(data[z : z + depth, y : y + height, x : x + width], np.float32)
    cells = (depth, height // BINNING, BINNING, width // BINNING, BINNING)
    patch = np.nan_to_num(patch).reshape(cells).mean(axis=(2, 4))
    patch = patch - patch.mean(axis=0)
    patch = patch - patch.mean(axis=(1, 2), keepdims=True)
    window = np.hanning(depth + 2)[1:-1, None, None]
    power = (np.abs(np.fft.rfft(patch * window, axis=0)) ** 2).mean(axis=(1, 2))
    k = np.fft.rfftfreq(depth)
    fine, coarse = (power[(k >= low) & (k <= high)].mean() for low, high in (FINE, COARSE))
    return float(fine / coarse) if coarse > 0 else 0.0
