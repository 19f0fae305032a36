"""Poses that picks bring: test them on the boxes, and bring them into the frame of our map.

Poses of other programs refer to their own reference, whose orientation and centre differ from a
map's. The average of the boxes at these poses is that reference. Its alignment to the map gives one
rotation Q and one shift s for all particles of a class:

    R = R_given Q,    place = place_given + R_given s
"""

from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from cryoetgan.devices import choose_device
from cryoetgan.io.exclusion import ExclusionMask, excluded_voxels
from cryoetgan.io.mrc import Volume
from cryoetgan.particles.averaging.average import Accumulator
from cryoetgan.particles.averaging.posed_particles import Particle
from cryoetgan.particles.extraction import cut_seen_box
from cryoetgan.particles.matching.align import Aligner
from cryoetgan.particles.matching.score import box_centres, whitened_band
from cryoetgan.particles.matching.template import (
    FourierBand,
    SearchOptions,
    Template,
    band_vectors,
    search_band,
    shift_back,
)
from cryoetgan.physics.acquisition import Acquisition
from cryoetgan.physics.geometry import mirror

Floats = NDArray[np.floating]
LEAST_T = 3.0
"""Student's t beyond which a difference of correlations counts."""
LEAST_POSES = 8
MAX_COMPARED = 300
"""Picks that are averaged, and whose poses are exchanged."""
AVERAGE_ROTATIONS = 1856
"""Orientations in which an average is searched; there is only one, so a fine search costs little."""
SAME = 0.95
"""Correlation at the given poses, relative to poses in the frame of the map, of one frame."""


@dataclass(frozen=True)
class Poses:
    """Places `(N, 3)` xyz in voxels and N rotations, reference to particle."""

    places: Floats
    rotations: Rotation

    def __len__(self) -> int:
        return len(self.places)

    def subset(self, chosen: slice | NDArray[np.int_]) -> "Poses":
        """Return some of the poses."""
        return Poses(self.places[chosen], self.rotations[chosen])


@dataclass(frozen=True)
class Frame:
    """The frame of a map in the frame of given poses."""

    turn: Rotation
    """Q, from the map to the given reference."""
    shift: Floats
    """s, from the centre of the given reference to the centre of the map, xyz voxels."""

    def move(self, given: Poses) -> Poses:
        """Return given poses in the frame of the map."""
        places = given.places + given.rotations.apply(self.shift)
        return Poses(places, given.rotations * self.turn)


@dataclass(frozen=True)
class BoxSource:
    """A tomogram, or set, whose boxes are compared with maps."""

    tomogram: Volume
    excluded: ExclusionMask
    band: FourierBand
    """Of the correlations, whitened; its box is the box of the maps."""

    def cut(self, poses: Poses) -> tuple[NDArray[np.float32], Floats]:
        """Return the boxes `(N, z, y, x)` of poses, and the particles' places in them from n // 2."""
        volume, box = self.tomogram, self.band.box
        centres = box_centres(volume, poses.places, box)
        cut = [cut_seen_box(volume.data, self.excluded, c, box, volume.part)[0] for c in centres]
        return np.stack(cut), poses.places - centres


@dataclass(frozen=True)
class JudgedPoses:
    """The poses to keep, and how well they fit."""

    poses: Poses
    angle: float
    """Rotation from the map to the given reference, degrees; 0 if they are one."""
    correlation: float
    """Mean correlation of box and map at its own pose, of boxes that did not find the frame."""
    exchanged: float
    """The same at the poses of other boxes."""
    t: float
    """Student's t of their difference: whether the poses tell something of their boxes."""
    mirror_t: float
    """Student's t of the correlations with the mirror image less those with the map."""


def judge_poses(
    tomogram: Volume,
    given: Poses,
    density: Floats,
    options: SearchOptions,
    rotations: int = AVERAGE_ROTATIONS,
) -> JudgedPoses:
    """Bring given poses into the frame of a map, and test them on the boxes.

    Every second box finds the frame, among `rotations` orientations of the map. The others test it:
    a frame fitted to noise has no advantage there. If poses are meaningless, or the map is another
    particle, boxes correlate with the map alike at their own poses and at the poses of other boxes.
    """
    excluded = excluded_voxels(tomogram)
    source = BoxSource(tomogram, excluded, whitened_band(tomogram, len(density), options, excluded))
    learned, tested = given.subset(slice(0, None, 2)), given.subset(slice(1, None, 2))
    aligners = {
        name: aligner_of_averages(image, tomogram.voxel_size, options, rotations)
        for name, image in (("map", density), ("mirror", mirror(density)))
    }
    found = {
        name: align_average(source, learned, aligner, options) for name, aligner in aligners.items()
    }
    matrices = {
        "given": correlate(source, tested, density),
        "map": correlate(source, found["map"].move(tested), density),
        "mirror": correlate(source, found["mirror"].move(tested), mirror(density)),
    }
    own = {name: np.diag(matrix) for name, matrix in matrices.items()}
    # a map of the given reference needs no rotation, nor does a symmetric one
    is_same = own["given"].mean() > SAME * own["map"].mean()
    name = "given" if is_same else "map"
    count = len(tested)
    others = (matrices[name].sum(axis=1) - own[name]) / max(count - 1, 1)
    frame = align_average(source, given, aligners["map"], options)
    return JudgedPoses(
        given if is_same else frame.move(given),
        0.0 if is_same else float(np.degrees(frame.turn.magnitude())),
        float(own[name].mean()),
        float(others.mean()),
        student_t(own[name] - others),
        student_t(own["mirror"] - np.maximum(own["map"], own["given"])),
    )


def student_t(values: Floats) -> float:
    """Return mean over standard error; 0 of fewer than two values.

    Examples
    --------
    >>> round(student_t(np.array([1.0, 2.0, 3.0])), 3)
    3.464
    """
    if len(values) < 2:
        return 0.0
    return float(values.mean() / max(values.std(ddof=1) / np.sqrt(len(values)), 1e-12))


def correlate(source: BoxSource, poses: Poses, density: Floats) -> NDArray[np.float64]:
    """Return `(N, N)` correlations of box i, at its place, with the map in rotation j."""
    chosen = _sample(len(poses))
    band = source.band
    template = Template(density, band)
    boxes, shifts = source.cut(poses.subset(chosen))
    with torch.no_grad():
        device = band.points.device
        vectors = band_vectors(torch.as_tensor(boxes, device=device), band)
        moves = torch.as_tensor(shifts, dtype=torch.float32, device=device)
        pairs = zip(vectors, moves, strict=True)
        moved = torch.cat([shift_back(v[None], s[None], band)[0] for v, s in pairs])
        matrices = poses.rotations[chosen].as_matrix()
        images = torch.cat([template.rotate(matrix[None]) for matrix in matrices])
        return np.asarray((moved @ images.T).cpu().numpy(), float)


def align_average(
    source: BoxSource, given: Poses, aligner: Aligner, options: SearchOptions
) -> Frame:
    """Align a map to the average of the boxes at given poses; return the frame of the map."""
    part = given.subset(_sample(len(given)))
    boxes, shifts = source.cut(part)
    sums = Accumulator(source.band.box, source.tomogram.voxel_size)
    for box, shift, rotation in zip(boxes, shifts, part.rotations, strict=True):
        sums.add(Particle(box, rotation, shift, options.acquisition))
    with torch.no_grad():
        average = torch.as_tensor(sums.average()[None].astype(np.float32))
        found = aligner.align(average.to(aligner.band.points.device))
    return Frame(found.rotations[0], found.shifts[0])


def aligner_of_averages(
    density: Floats, voxel_size: float, options: SearchOptions, rotations: int
) -> Aligner:
    """Return an aligner of a map to averages, which have no wedge, and whose CTF is divided out."""
    record = Acquisition(tilt_low=-90, tilt_high=90, ctf="corrected")
    whole = replace(options, acquisition=record)
    band = search_band(len(density), voxel_size, whole, choose_device(options.device))
    return Aligner(Template(density, band), rotations)


def _sample(count: int) -> NDArray[np.int_]:
    return np.linspace(0, count - 1, min(count, MAX_COMPARED)).astype(int)
