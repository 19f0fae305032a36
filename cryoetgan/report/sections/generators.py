"""Section: the same particles in the same poses, by every generator of the run, beside real crops."""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from cryoetgan.io.star import ANGLES
from cryoetgan.io.volume_set import VolumeSet
from cryoetgan.physics.geometry import rotation_from_relion
from cryoetgan.report.run import TITLES, Run
from cryoetgan.report.slices import draw_slice_grid, poses_of, rows_of_class
from cryoetgan.seeds import rng

PARTICLES = 8
"""Particles on the picture."""
CANDIDATES = 500
"""Largest number of volumes of a class among which equal poses are sought."""
ORDER = ("density", "real", "conventional", "fitted")
"""Upper rows of the picture; the networks follow."""


class Pair(NamedTuple):
    """A density's row, the row of a real crop of its class, and the angle between them (degrees)."""

    class_name: str
    density: int
    real: int
    angle: float


def compare_generators(run: Run) -> dict[str, Any]:
    """Return a picture with a row for each set of volumes and a column for each particle."""
    if not {"density", "real"} <= set(run.sets):
        return {}
    densities, real = run.sets["density"], run.sets["real"]
    pairs = pair_poses(densities, real, PARTICLES)
    poses = poses_of(densities)
    if not pairs or poses is None:
        return {}
    wanted = [poses[pair.density] for pair in pairs]
    sets = {name: run.sets[name] for name in ORDER if name in run.sets} | _networks(run)
    chosen = {"real": [pair.real for pair in pairs]}
    for name in set(sets) - {"real"}:
        row_of = {pose: row for row, pose in reversed(list(enumerate(poses_of(sets[name]) or ())))}
        if set(wanted) <= set(row_of) and sets[name].box == real.box:
            chosen[name] = [row_of[pose] for pose in wanted]
    names = [name for name in sets if name in chosen]
    volumes = {
        name: np.asarray(sets[name].volumes[np.array(chosen[name])], np.float32) for name in names
    }
    image, bar = draw_slice_grid(volumes, real.voxel_size)
    angles = [pair.angle for pair in pairs]
    return {
        "image": image,
        "bar": bar,
        "rows": [TITLES.get(name, name) for name in names],
        "columns": [pair.class_name for pair in pairs],
        "angle": max(angles) if np.isfinite(angles).all() else None,
        "label_source": run.label_source,
        "others": [name for name in sets if name not in chosen],
    }


def _networks(run: Run) -> dict[str, VolumeSet]:
    """Return the generated sets of all trained presets, by `preset NAME`; the run's comes last."""
    found: dict[str, VolumeSet] = {}
    for preset in sorted(run.presets, key=lambda name: name == run.preset):
        star = f"translation/{preset}/generated.star"
        volumes = run.results.volume_set(star, optional=True)
        if volumes is not None:
            found[f"preset {preset}"] = volumes
    return found


def pair_poses(densities: VolumeSet, real: VolumeSet, count: int) -> list[Pair]:
    """Return `count` densities and real crops of the same classes in the most similar poses.

    The classes, sorted, take turns. Symmetry is not used, so an angle can be larger than it
    looks. Crops of a class without angles are drawn at random; the angle is then NaN.
    """
    classes = sorted(set(densities.classes()) & set(real.classes()))
    turns = [classes[index % len(classes)] for index in range(count)] if classes else []
    found = []
    for name in dict.fromkeys(turns):
        generator = rng(0, "report", "generators", name)
        rows, have_angles = [], True
        for volumes in (densities, real):
            own = np.asarray(rows_of_class(volumes, name))
            posed = own[_have_angles(volumes)[own]]
            have_angles &= len(posed) > 0
            own = posed if len(posed) else own
            rows.append(np.sort(generator.permutation(own)[:CANDIDATES]))
        apart = np.zeros((len(rows[0]), len(rows[1])))
        if have_angles:
            apart = _angles_apart(densities, real, *rows)
        for _ in range(turns.count(name)):
            best = np.unravel_index(np.argmin(apart), apart.shape)
            angle = float(apart[best])
            if not np.isfinite(angle):
                break  # fewer volumes than turns
            first, second = (int(of[index]) for of, index in zip(rows, best, strict=True))
            found.append(Pair(name, first, second, angle if have_angles else np.nan))
            apart[best[0]], apart[:, best[1]] = np.inf, np.inf
    return found


def _have_angles(volumes: VolumeSet) -> NDArray[np.bool_]:
    """Return which rows of a set have angles."""
    if not set(ANGLES) <= set(volumes.table):
        return np.zeros(len(volumes.table), bool)
    return np.isfinite(volumes.table[ANGLES].to_numpy(float)).all(axis=1)


def _angles_apart(
    first: VolumeSet, second: VolumeSet, rows: NDArray[np.intp], others: NDArray[np.intp]
) -> NDArray[np.float64]:
    """Return the angles between the poses of rows of two sets, degrees."""
    pair = [
        rotation_from_relion(volumes.table[ANGLES].to_numpy(float)[chosen]).as_matrix()
        for volumes, chosen in ((first, rows), (second, others))
    ]
    trace = np.einsum("aij,bij->ab", *pair)
    return np.degrees(np.arccos(np.clip((trace - 1) / 2, -1, 1)))
