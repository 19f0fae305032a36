"""Iterated averaging of two independent halves ("gold standard").

Each half is aligned to its own average, again and again. Frequencies at which both averages
agree hold signal (Scheres & Chen 2012, doi 10.1038/nmeth.2115). The next alignment uses only
those, so that noise is not aligned to noise.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from cryoetgan.devices import choose_device
from cryoetgan.particles.averaging.average import (
    Accumulator,
    accumulate,
    fourier_shell_correlation,
    lowpass,
    resolution,
    soft_sphere,
)
from cryoetgan.particles.averaging.posed_particles import Particle
from cryoetgan.particles.matching.align import Aligner
from cryoetgan.particles.matching.low_rank import LEAST_ROTATIONS
from cryoetgan.particles.matching.template import SearchOptions, Template, batches, search_band
from cryoetgan.physics.geometry import rotate_volume
from cryoetgan.progress import log, track

Floats = NDArray[np.floating]
BOXES_PER_BATCH = 64
ALIGNMENT_FSC = 0.5
"""Lowest FSC of the frequencies used for the next alignment."""
MASK_RADIUS = 0.42
"""Radius of the mask divided by the edge of the box."""


@dataclass(frozen=True)
class GoldStandardAverage:
    """Result of the iterated averaging."""

    density: Floats
    """`(z, y, x)`, the average of all particles."""
    fsc: Floats
    """`(n // 2 + 1,)`, Fourier shell correlation of the averages of both halves."""
    particles: list[Particle]
    """With their new poses."""
    scores: Floats
    """`(N,)` correlations with the reference; zeros without iterations."""


def align_and_average(
    particles: Sequence[Particle],
    half: NDArray[np.int_],
    voxel_size: float,
    start: Floats | None,
    options: SearchOptions,
    iterations: int,
) -> GoldStandardAverage:
    """Align and average both halves; `half` `(N,)` is 0 or 1, `voxel_size` in angstrom.

    `start` `(z, y, x)` is the first reference of both halves; default: each half's own average.
    The poses of the particles are used only without iterations or without a `start`. The low-pass
    of `options` is the finest detail of the first alignment.
    """
    box = particles[0].box.shape[0]
    current = list(particles)
    scores = np.zeros(len(current))
    members = [np.flatnonzero(half == number).tolist() for number in (0, 1)]
    references, search = [start, start], options
    for number in range(iterations):
        for which, mine in enumerate(members):
            reference = references[which]
            if reference is None:
                reference = accumulate([current[i] for i in mine], box, voxel_size).average()
            blurred = lowpass(reference, voxel_size, search.lowpass)
            masked = blurred * soft_sphere(box, MASK_RADIUS * box)
            members_of_half = [particles[i] for i in mine]
            label = f"iteration {number + 1}, half {which + 1}"
            found, scores[mine] = align_particles(
                members_of_half, masked, voxel_size, search, label
            )
            for index, particle in zip(mine, found, strict=True):
                current[index] = particle
        references = [None, None]
        _, fsc = join_halves(current, members, voxel_size, search)
        # no finer than the agreement of the halves, and no coarser than the start
        agreed = resolution(fsc, box, voxel_size, ALIGNMENT_FSC)
        limit = min(options.lowpass, max(agreed, 2 * voxel_size))
        search = replace(options, lowpass=limit)
        reached = resolution(fsc, box, voxel_size)
        log.info("iteration %d: the halves agree to %.1f A (FSC 0.143)", number + 1, reached)
    sums, fsc = join_halves(current, members, voxel_size, search if iterations else None)
    return GoldStandardAverage(sums.average(), fsc, current, scores)


def join_halves(
    particles: list[Particle],
    members: Sequence[Sequence[int]],
    voxel_size: float,
    options: SearchOptions | None,
) -> tuple[Accumulator, Floats]:
    """Return the sums over all particles, and the FSC of both half maps.

    Halves that were aligned independently may be rotated against each other. If `options` are
    given, the second half is therefore aligned to the first as a whole, and the poses in
    `particles` are updated. `members` are the indices of each half.
    """
    box = particles[0].box.shape[0]
    first, second = (accumulate([particles[i] for i in m], box, voxel_size) for m in members)
    one, two = first.average(), second.average()
    mask = soft_sphere(box, MASK_RADIUS * box)
    if options is not None:
        everywhere = replace(particles[0].record, tilt_low=-90.0, tilt_high=90.0, defocus=None)
        whole = Particle(two, particles[0].rotation, np.zeros(3), everywhere)
        masked = lowpass(one, voxel_size, options.lowpass) * mask
        options = replace(options, highpass_shells=0)
        [turn], _ = align_particles([whole], masked, voxel_size, options)
        still = fourier_shell_correlation(one * mask, two * mask)
        moved = rotate_volume(two, turn.rotation.inv(), -turn.rotation.inv().apply(turn.shift))
        better = fourier_shell_correlation(one * mask, moved * mask)
        if better.sum() > still.sum():
            for index in members[1]:
                particle = particles[index]
                # a reference vector r is R2 r in the frame of the second half
                particles[index] = replace(
                    particle,
                    rotation=particle.rotation * turn.rotation,
                    shift=particle.shift + particle.rotation.apply(turn.shift),
                )
            second = accumulate([particles[i] for i in members[1]], box, voxel_size)
            two = second.average()
    return first + second, fourier_shell_correlation(one * mask, two * mask)


def align_particles(
    particles: Sequence[Particle],
    reference: Floats,
    voxel_size: float,
    options: SearchOptions,
    label: str = "",
) -> tuple[list[Particle], Floats]:
    """Return particles with the poses that fit a reference `(z, y, x)` best, and their scores.

    The poses of the given particles are ignored; all orientations are searched. `voxel_size` is in
    angstrom. `label` is the text of the progress bar; there is none if it is empty.
    """
    device = choose_device(options.device)
    found: list[Particle] = list(particles)
    scores = np.zeros(len(found))
    box = reference.shape[0]
    # one template for each tilt range and contrast transfer
    for record in dict.fromkeys(particle.record for particle in particles):
        mine = [i for i, particle in enumerate(particles) if particle.record == record]
        band = search_band(box, voxel_size, replace(options, acquisition=record), device)
        aligner = Aligner(Template(reference, band), options.rotations or LEAST_ROTATIONS)
        parts = list(batches(len(mine), BOXES_PER_BATCH))
        for part in track(parts, label) if label else parts:
            rows = mine[part]
            boxes = np.stack([particles[i].box for i in rows]).astype(np.float32)
            fit = aligner.align(torch.as_tensor(boxes, device=device))
            scores[rows] = fit.scores
            for index, rotation, shift in zip(rows, fit.rotations, fit.shifts, strict=True):
                found[index] = replace(particles[index], rotation=rotation, shift=shift)
    return found, scores
