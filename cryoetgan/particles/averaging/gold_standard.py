"""Iterated averaging of two halves that never see each other ("gold standard").

Each half is aligned to its own average, again and again; what both agree on, shell by shell, is
signal (Scheres & Chen 2012, doi 10.1038/nmeth.2115). The next alignment goes no finer than
that, so that noise is not aligned to noise.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from cryoetgan.devices import choose_device
from cryoetgan.particles.averaging.average import (
    Accumulator,
    Particle,
    average,
    ball_mask,
    fourier_shell_correlation,
    lowpassed,
    resolution,
    round_blob,
)
from cryoetgan.particles.matching.score import band_and_transfer
from cryoetgan.particles.matching.refine import batches
from cryoetgan.particles.matching.align import Scorer
from cryoetgan.particles.matching.template import Template
from cryoetgan.physics.geometry import rotate_volume
from cryoetgan.progress import track

log = logging.getLogger("cryoetgan")
Floats = NDArray[np.floating]
BATCH = 64
ALIKE = 0.5
"""FSC down to which maps are aligned to: half maps agree there beyond doubt."""
MASK = 0.42
"""Radius of the mask, of the box."""


@dataclass(frozen=True)
class Averaged:
    """The average of all, of both halves, their FSC by shell, and each particle's pose and score."""

    density: Floats
    halves: tuple[Floats, Floats]
    fsc: Floats
    particles: list[Particle]
    scores: Floats


def iterate(
    particles: Sequence[Particle],
    half: NDArray[np.int_],
    voxel_size: float,
    start: Floats | None,
    start_lowpass: float,
    iterations: int,
    rotations: int,
    highpass_shells: int,
    device: str,
) -> Averaged:
    """Align and average both halves `iterations` times.

    Parameters
    ----------
    particles : sequence of Particle
        Protein bright; their poses count where `iterations` is 0 or `start` is None.
    half : ndarray of int
        `(N,)` 0 or 1.
    voxel_size, start_lowpass : float
        Angstrom; the start and the first alignment hold nothing finer.
    start : ndarray, optional
        `(z, y, x)` a first reference for both halves; without it, each half's own average.
    iterations, rotations : int
        0: the poses are taken as they are.
    highpass_shells : int
        Lowest Fourier shells left out of the alignment.
    device : str
        auto, cpu or cuda.
    """
    box = particles[0].box.shape[0]
    now = list(particles)
    scores = np.zeros(len(now))
    members = [np.flatnonzero(half == which) for which in (0, 1)]
    references = [start, start] if start is not None else [None, None]
    limit = start_lowpass
    for number in range(iterations):
        for which, mine in enumerate(members):
            reference = references[which]
            if reference is None:
                reference = average([now[int(i)] for i in mine], box, voxel_size).average()
            masked = lowpassed(reference, voxel_size, limit) * ball_mask(box, MASK * box)
            found, fit = align(
                [particles[int(i)] for i in mine], masked, voxel_size, limit, rotations,
                highpass_shells, device, f"iteration {number + 1}, half {which + 1}",
            )  # fmt: skip
            scores[mine] = fit
            for index, particle in zip(mine, found, strict=True):
                now[index] = particle
        references = [None, None]
        _, maps, fsc = _joined(now, members, voxel_size, rotations, device, limit)
        # nothing finer than what is agreed on, and no coarser than the start
        limit = min(start_lowpass, max(resolution(fsc, box, voxel_size, ALIKE), 2 * voxel_size))
        seen = resolution(fsc, box, voxel_size)
        log.info("iteration %d: the halves agree to %.1f A (FSC 0.143)", number + 1, seen)
    sums, maps, fsc = _joined(
        now, members, voxel_size, rotations if iterations else 0, device, limit
    )
    return Averaged(sums.average(), maps, fsc, now, scores)


def start_without_poses(particles: Sequence[Particle], voxel_size: float) -> Floats:
    """Return a first reference of particles that nobody aligned: the round average of all."""
    box = particles[0].box.shape[0]
    return round_blob(average(particles, box, voxel_size).average())


def _joined(
    now: list[Particle],
    members: list[NDArray[np.int_]],
    voxel_size: float,
    rotations: int,
    device: str,
    limit: float,
) -> tuple[Accumulator, tuple[Floats, Floats], Floats]:
    """Return the sums of all, both half maps and their FSC; the second is laid on the first.

    Halves that were aligned independently may have turned away from each other as a whole.
    """
    box = now[0].box.shape[0]
    first = average([now[int(i)] for i in members[0]], box, voxel_size)
    second = average([now[int(i)] for i in members[1]], box, voxel_size)
    one, two = first.average(), second.average()
    mask = ball_mask(box, MASK * box)
    if rotations:
        everywhere = replace(now[0].record, tilt_low=-90.0, tilt_high=90.0, defocus=None)
        whole = Particle(two, now[0].rotation, np.zeros(3), everywhere)
        masked = lowpassed(one, voxel_size, limit) * mask
        [turn], _ = align([whole], masked, voxel_size, limit, rotations, 0, device, "")
        still = fourier_shell_correlation(one * mask, two * mask)
        moved = rotate_volume(two, turn.rotation.inv(), -turn.rotation.inv().apply(turn.shift))
        better = fourier_shell_correlation(one * mask, moved * mask)
        if better.sum() > still.sum():
            for index in members[1]:
                particle = now[index]
                # a reference vector r is R2 r of the second half's frame
                now[index] = replace(
                    particle,
                    rotation=particle.rotation * turn.rotation,
                    shift=particle.shift + particle.rotation.apply(turn.shift),
                )
            second = average([now[int(i)] for i in members[1]], box, voxel_size)
            two = second.average()
    fsc = fourier_shell_correlation(one * mask, two * mask)
    return first.merged(second), (one, two), fsc


def align(
    particles: Sequence[Particle],
    reference: Floats,
    voxel_size: float,
    lowpass: float,
    rotations: int,
    highpass_shells: int,
    device: str,
    what: str,
) -> tuple[list[Particle], Floats]:
    """Return the particles with the poses that fit a reference `(z, y, x)` best, and scores.

    All orientations are searched; one bank for each way of recording.
    """
    where = choose_device(device)
    found: list[Particle] = list(particles)
    scores = np.zeros(len(found))
    box = reference.shape[0]
    for record in dict.fromkeys(particle.record for particle in particles):
        mine = [i for i, particle in enumerate(particles) if particle.record == record]
        band, transfer = band_and_transfer(
            box, voxel_size, record.tilts, lowpass, highpass_shells, where, record
        )
        scorer = Scorer(Template(reference, band, transfer), rotations)
        parts = list(batches(len(mine), BATCH))
        for part in track(parts, what) if what else parts:
            rows = [mine[i] for i in part]
            boxes = np.stack([particles[i].box for i in rows]).astype(np.float32)
            fit = scorer.align(torch.as_tensor(boxes, device=where))
            for index, turn, shift, score in zip(
                rows, fit.rotations, fit.shifts, fit.scores, strict=True
            ):
                found[index] = replace(particles[index], rotation=turn, shift=shift)
                scores[index] = score
    return found, scores
