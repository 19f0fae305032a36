"""Measure the tilt range from a tomogram's power spectrum, and compare it with the given one.

Directions outside the tilt range have no power, except for the power that a denoiser or the
faces of the volume put there. The power therefore drops at the edge of the sampled region.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import fft

from cryoetgan.imaging.fit.noise import sample_blocks
from cryoetgan.physics.geometry import block_slices
from cryoetgan.physics.optics import frequency_axes, hermitian_weights, tilt_angle

Floats = NDArray[np.floating]
BAND = (0.08, 0.35)
"""Range of distances from the tilt axis in Fourier space that is used, cycles per voxel."""
RINGS = 27
"""Rings around the tilt axis that divide the band."""
ANGLE_STEP_DEG, LOW_TILT_DEG = 2.0, 30.0
"""Width of a bin of tilt angle, and the tilts to which power is relative, degrees."""
EDGE_DEG = 8.0
"""Range of tilt angle over which the power drops at the edge of the sampled region, degrees."""
POWER_FLOOR = 0.01
"""Relative power below which directions count as empty."""
BLOCKS_READ, BOXES_READ = 6, 300


def power_by_tilt_angle(
    volume: NDArray[np.generic], seed: int, part: int | None = None
) -> tuple[Floats, Floats]:
    """Return tilt angles (degrees, centres of bins) and the relative power at each.

    In every ring around the tilt axis the power is divided by its mean at low tilts. The volume is
    `(z, y, x)`; the seed chooses the blocks to read. `part` is the edge of the boxes of a set.
    """
    count = int(180 / ANGLE_STEP_DEG)
    total, modes = np.zeros((2, RINGS, count))
    read = BLOCKS_READ if part is None else BOXES_READ
    for corner, shape in list(sample_blocks(volume.shape, seed, part))[:read]:
        block = np.asarray(volume[block_slices(corner, shape)], np.float32)
        block = block - block.mean()
        for axis, length in enumerate(shape):
            line = np.hanning(length + 2)[1:-1].astype(np.float32)
            block = block * line.reshape([-1 if a == axis else 1 for a in range(3)])
        # the sum over ky leaves a plane of (kz, kx)
        spectrum = fft.rfftn(block)
        power = (spectrum.real**2 + spectrum.imag**2).sum(axis=1)
        kz, _, kx = frequency_axes(shape, 1.0)
        q, angle = np.hypot(kz, kx)[:, 0], tilt_angle(shape)[:, 0]
        weight = np.broadcast_to(hermitian_weights(shape[2]), power.shape)
        used = (q > BAND[0]) & (q < BAND[1])
        ring = ((q - BAND[0]) / (BAND[1] - BAND[0]) * RINGS).astype(int)
        column = np.minimum(((angle + 90) / ANGLE_STEP_DEG).astype(int), count - 1)
        index = (ring * count + column)[used]
        total += np.bincount(index, (power * weight)[used], total.size).reshape(total.shape)
        modes += np.bincount(index, weight[used], total.size).reshape(total.shape)
    angles = -90 + ANGLE_STEP_DEG * (np.arange(count) + 0.5)
    low = np.abs(angles) < LOW_TILT_DEG
    level = total[:, low].sum(axis=1) / np.maximum(modes[:, low].sum(axis=1), 1e-12)
    relative, weights = (total / np.maximum(level, 1e-30)[:, None]).sum(axis=0), modes.sum(axis=0)
    # small boxes have no mode at some angles: interpolate between their neighbours
    known = weights > 0
    return angles, np.interp(angles, angles[known], relative[known] / weights[known], period=180)


def find_tilt_range(
    angles: Floats, power: Floats, least_drop: float = 2.5
) -> tuple[float, float] | None:
    """Return the lowest and highest angle with power, degrees; None if no edge is found.

    Thick and dose-filtered samples lose power smoothly towards high tilts, so no fixed level is
    the edge. The edge of each side is the steepest drop of the logarithm of the smoothed power over
    `EDGE_DEG`, if the power falls by a factor of `least_drop` there; it lies where the power falls
    to half of the largest power just inside.
    """
    smooth = np.convolve(np.r_[power[-1], power, power[0]], [0.25, 0.5, 0.25], mode="valid")
    level = np.log(np.maximum(smooth, POWER_FLOOR))
    reach = max(2, round(EDGE_DEG / float(angles[1] - angles[0])))
    edges = [-90.0, 90.0]
    for side in (0, 1):
        # from low to high tilt
        order = np.flatnonzero(angles > 0) if side else np.flatnonzero(angles < 0)[::-1]
        drop = level[order[:-reach]] - level[order[reach:]]
        start = int(drop.argmax())
        if drop[start] < np.log(least_drop):
            continue
        inside = order[max(start - reach + 1, 0) : start + 1]
        half = smooth[inside].max() / 2
        beyond = order[start + 1 :]
        fallen = start + 1 + int(np.flatnonzero(smooth[beyond] < half)[0])
        a, b = order[fallen - 1], order[fallen]
        fraction = (smooth[a] - half) / max(smooth[a] - smooth[b], 1e-12)
        edges[side] = float(angles[a] + fraction * (angles[b] - angles[a]))
    return None if edges == [-90.0, 90.0] else (edges[0], edges[1])


def check_tilt_range(
    volume: NDArray[np.generic],
    tilts: tuple[float, float],
    seed: int,
    tolerance: float = 5.0,
    part: int | None = None,
) -> dict[str, Any]:
    """Return the measured tilt range beside the given one, and a warning if they differ.

    A difference of `tolerance` degrees plus the resolution of the spectrum is accepted. The fit
    uses the given range in any case. Returns `given`, `seen`, `warning`, and the profile as
    `angles` and `power`.
    """
    angles, power = power_by_tilt_angle(volume, seed, part)
    found = find_tilt_range(angles, power)
    # one or two modes of blur, in the middle of the band
    accepted = tolerance + np.degrees(1 / (min(part or volume.shape[0], 128) * np.mean(BAND)))
    given = f"{tilts[0]:g} to {tilts[1]:g} degrees"
    warning = None
    if found is None:
        if tilts[1] - tilts[0] < 170:
            warning = (
                f"its spectrum shows no missing wedge, but its tilts are given as {given}, which is "
                "used; a denoiser may have filled it, or the tilt axis does not lie along y"
            )
    elif max(abs(a - b) for a, b in zip(found, tilts, strict=True)) > accepted:
        warning = (
            f"its spectrum shows power from {found[0]:.0f} to {found[1]:.0f} degrees, but its "
            f"tilts are given as {given}, which is used; check tilt_low and tilt_high in the table "
            "of tomograms (--tilts), and that the tilt axis lies along y"
        )
    return {
        "given": list(tilts),
        "seen": None if found is None else [round(v, 1) for v in found],
        "warning": warning,
        "angles": [float(a) for a in angles],
        "power": [round(float(p), 5) for p in power],
    }
