"""The tilt range that a tomogram's own spectrum shows, beside the one that was typed.

Where no tilt looked there is no power, but for what a denoiser or a box's edge puts there.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import fft

from cryoetgan.imaging.fit.noise import blocks
from cryoetgan.imaging.noise_spectrum import both_halves, tilt_angle
from cryoetgan.physics.optics import frequency_axes

Floats = NDArray[np.floating]
BAND = (0.08, 0.35)
"""Cycles per voxel, distance from the tilt axis, that is looked at."""
RINGS = 27
STEP = 2.0
"""Degrees; width of a bin of tilt angle."""
FLAT = 30.0
"""Degrees: power at smaller tilts is what the others are compared with."""
EMPTY_BELOW = 0.5
"""Share of the power at small tilts below which a direction counts as unseen."""
CLOSE = 5.0
"""Degrees; a difference below it is no disagreement."""
MOST_BLOCKS = 6


def profile(volume: NDArray[np.generic], seed: int) -> tuple[Floats, Floats]:
    """Return tilt angles (degrees, bin centres) and the power seen at each.

    The power is relative: 1 on average within `FLAT` degrees, in every ring about the tilt
    axis.

    Parameters
    ----------
    volume : ndarray
        `(z, y, x)`.
    seed : int
        Of the choice of blocks.
    """
    count = int(180 / STEP)
    total = np.zeros((RINGS, count))
    modes = np.zeros((RINGS, count))
    for corner, shape in list(blocks(volume.shape, seed))[:MOST_BLOCKS]:
        part = np.asarray(
            volume[tuple(slice(c, c + s) for c, s in zip(corner, shape, strict=True))], np.float32
        )
        part = part - part.mean()
        for axis, length in enumerate(shape):
            line = np.hanning(length + 2)[1:-1].astype(np.float32)
            part = part * line.reshape([-1 if a == axis else 1 for a in range(3)])
        # the sum over ky: a plane of (kz, kx)
        spectrum = fft.rfftn(part)
        power = (spectrum.real**2 + spectrum.imag**2).sum(axis=1)
        kz, _, kx = frequency_axes(shape, 1.0)
        q = np.broadcast_to(np.hypot(kz, kx)[:, 0], power.shape)
        angle = np.broadcast_to(tilt_angle(shape)[:, 0], power.shape)
        weight = np.broadcast_to(both_halves(shape[2]), power.shape)
        used = (q > BAND[0]) & (q < BAND[1])
        ring = ((q - BAND[0]) / (BAND[1] - BAND[0]) * RINGS).astype(int)
        column = np.minimum(((angle + 90) / STEP).astype(int), count - 1)
        index = (ring * count + column)[used]
        total += np.bincount(index, (power * weight)[used], total.size).reshape(total.shape)
        modes += np.bincount(index, weight[used], total.size).reshape(total.shape)
    angles = -90 + STEP * (np.arange(count) + 0.5)
    flat = np.abs(angles) < FLAT
    level = total[:, flat].sum(axis=1) / np.maximum(modes[:, flat].sum(axis=1), 1e-12)
    relative = (total / np.maximum(level, 1e-30)[:, None]).sum(axis=0)
    known = modes.sum(axis=0) > 0
    # small boxes have no mode at some angles: their neighbours' power stands for them
    relative = np.interp(
        angles, angles[known], (relative[known] / modes.sum(axis=0)[known]), period=180
    )
    return angles, relative


def seen_range(angles: Floats, power: Floats) -> tuple[float, float] | None:
    """Return lowest and highest angle with power, degrees; None where every angle has it."""
    smooth = np.convolve(np.r_[power[-1], power, power[0]], [0.25, 0.5, 0.25], mode="valid")
    empty = smooth < EMPTY_BELOW
    if not empty.any():
        return None
    edges = []
    for side in (-1, 1):
        # from flat to steep: where the power first falls below the level, between two bins
        order = np.flatnonzero(np.sign(angles) == side)
        order = order if side > 0 else order[::-1]
        fallen = np.flatnonzero(empty[order])
        if not len(fallen):
            edges.append(90.0 * side)
            continue
        first = int(fallen[0])
        if first == 0:
            edges.append(0.0)
            continue
        a, b = order[first - 1], order[first]
        share = (smooth[a] - EMPTY_BELOW) / max(smooth[a] - smooth[b], 1e-12)
        edges.append(float(angles[a] + share * (angles[b] - angles[a])))
    return edges[0], edges[1]


def checked(volume: NDArray[np.generic], tilts: tuple[float, float], seed: int) -> dict[str, Any]:
    """Return what the spectrum shows beside what was typed: `typed`, `seen`, `warning`, profile.

    The typed range is what is used, whatever is found.
    """
    angles, power = profile(volume, seed)
    found = seen_range(angles, power)
    # a mode or two of blur, at the middle of the band
    close = CLOSE + np.degrees(1 / (min(volume.shape[0], 128) * np.mean(BAND)))
    typed = f"{tilts[0]:g} to {tilts[1]:g} degrees"
    warning = None
    if found is None:
        if tilts[1] - tilts[0] < 170:
            warning = (
                f"its spectrum shows no missing wedge, but its tilts are typed as {typed}: it may "
                "have been filled in by a denoiser; the typed range is used"
            )
    elif max(abs(a - b) for a, b in zip(found, tilts, strict=True)) > close:
        warning = (
            f"its spectrum shows power from {found[0]:.0f} to {found[1]:.0f} degrees, but its tilts "
            f"are typed as {typed}, which is used; check tilt_low and tilt_high in the table of "
            "tomograms (--tilts), and that the tilt axis lies along y"
        )
    return {
        "typed": list(tilts),
        "seen": None if found is None else [round(v, 1) for v in found],
        "warning": warning,
        "angles": [float(a) for a in angles],
        "power": [round(float(p), 5) for p in power],
    }
