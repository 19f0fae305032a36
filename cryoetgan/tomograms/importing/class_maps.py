"""The user's own maps beside the particles of another simulator's scene: scale, poses, labels."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import ndimage

from cryoetgan.errors import UserError
from cryoetgan.io.mrc import read_map
from cryoetgan.io.star import ANGLES, COORDINATES
from cryoetgan.physics.geometry import clip_box, rotate_volume, rotation_from_relion
from cryoetgan.progress import log
from cryoetgan.tomograms.simulation.packing import MASK_LEVEL
from cryoetgan.tomograms.sources.scene_volumes import ForeignScene

Floats = NDArray[np.floating]
COMPARED = 30
"""Particles of a class that are compared with its map."""
MIN_LIKENESS = 0.9
"""Median correlation of a map with its particles below which a warning is logged."""

ERRORS = 3.0
"""Standard errors of a mean density below which its difference from the rest is noise."""


@dataclass(frozen=True)
class Match:
    """The map of a class beside its particles in the scene."""

    scale: float
    """Density of the map over the density of the scene."""
    likeness: float | None
    """Median correlation, on the voxels of the map's mask; None if no particle has angles."""


def read_class_maps(
    maps: Mapping[str, Path], step: float, voxel_size: float
) -> dict[str, NDArray[Any]]:
    """Return the map of each class; its voxels are the simulator's, `step` times smaller."""
    found = {}
    for name, path in maps.items():
        volume = read_map(path)
        if abs(volume.voxel_size * step - voxel_size) > 1e-3 * voxel_size:
            raise UserError(
                f"{path}: has voxels of {volume.voxel_size:g} A, the scene {voxel_size / step:g} "
                "A; make the map with the scene's voxel size"
            )
        found[name] = volume.data
    return found


def match_poses(
    density: NDArray[Any], scene: ForeignScene, maps: Mapping[str, NDArray[Any]], sign: float
) -> dict[str, Match]:
    """Return the scale and likeness of each class that has a map and poses.

    The scale is the slope of the map on the scene times `sign`, on the voxels of the map's mask.
    """
    matches = {}
    for name, data in maps.items():
        own = pd.DataFrame()
        if scene.rows is not None:
            own = scene.rows[scene.rows["cryoetganClass"] == name]
        if not set(ANGLES) <= set(own) or not own[ANGLES].notna().all(axis=1).any():
            continue
        own = own[own[ANGLES].notna().all(axis=1)].head(COMPARED)
        found = _compare(density, data, own)
        if not len(found):
            log.warning("--template %s: all particles of this class lie at faces", name)
            continue
        scale, likeness = sign * np.median(found, axis=0)
        matches[name] = Match(float(scale), float(likeness))
        said = log.warning if likeness < MIN_LIKENESS else log.info
        said(
            "--template %s: correlates %.3f with its particles; it is %.4g times as dense",
            name, likeness, scale,
        )  # fmt: skip
    return matches


def standard_errors(sd: float, count: int) -> float:
    """Return `ERRORS` standard errors of the mean of `count` particles in noise of `sd`."""
    return float(ERRORS * sd / np.sqrt(count))


def match_means(
    means: pd.DataFrame,
    names: Mapping[int, str],
    maps: Mapping[str, NDArray[Any]],
    matches: Mapping[str, Match],
    sign: float,
) -> dict[str, Match]:
    """Return the scale of classes with a map and without poses, from the means in mask and label.

    A class whose mean differs from the rest by noise alone has no scale, which is said.
    """
    found = {}
    by_name = {name: label for label, name in names.items()}
    for name, data in maps.items():
        if name in matches:
            continue
        if name not in by_name or by_name[name] not in means.index:
            log.warning("--template %s: no label has this name; the map is not used", name)
            continue
        base = float(means["mean"].get(0, 0.0))
        contrast = sign * (float(means.loc[by_name[name], "mean"]) - base)
        count = int(means.loc[by_name[name], "particles"])
        limit = standard_errors(float(means["sd"].get(0, 0.0)), count)
        if contrast <= limit:
            log.warning(
                "--template %s: its label differs from the rest by %.3g, wanted more than 3 standard errors "
                "(%.3g, %d particles), so the map gives no scale; name one with --density-scale",
                name, contrast, limit, count,
            )  # fmt: skip
            continue
        expected = float(data[data > MASK_LEVEL * data.max()].mean())
        found[name] = Match(expected / contrast, None)
        log.info(
            "--template %s: the particles have no angles, so it is not compared with them; it is "
            "some %.3g times as dense",
            name, expected / contrast,
        )  # fmt: skip
    return found


def _compare(density: NDArray[Any], data: Floats, rows: pd.DataFrame) -> Floats:
    """Return `(N, 2)` slope and correlation of a rotated map and the scene, for whole particles."""
    found = []
    for rotated, corner in _place_maps(data, rows):
        in_scene, in_box = clip_box(corner, data.shape, density.shape)
        mask = rotated > MASK_LEVEL * data.max()
        if not mask.any() or mask.sum() != mask[in_box].sum():
            continue
        expected, seen = (
            rotated[in_box][mask[in_box]],
            np.asarray(density[in_scene], float)[mask[in_box]],
        )
        if seen.std() > 0:
            slope = float((expected * seen).sum() / (seen**2).sum())
            found.append((slope, float(np.corrcoef(expected, seen)[0, 1])))
    return np.array(found).reshape(-1, 2)


def label_points(scene: ForeignScene, maps: Mapping[str, NDArray[Any]]) -> None:
    """Label the free voxels of listed particles whose class has no mask, in place, by its map.

    These are in the map's mask, or in a ball of its volume if a particle has no angles.
    Classes without a map are said.
    """
    if scene.rows is None or not scene.label_data.flags.writeable:
        return
    present = {int(n) for section in scene.label_data for n in np.unique(section)}
    for number, name in scene.names.items():
        own = scene.rows[scene.rows["cryoetganClass"] == name]
        if number in present or not len(own):
            continue
        if name not in maps:
            log.warning(
                "%s: the %d points of %s have no mask, so no voxel has their label; give "
                "--template %s.mrc to label the voxels of your map",
                scene.labels, len(own), name, name,
            )  # fmt: skip
            continue
        for density, corner in _place_maps(maps[name], own):
            in_scene, in_box = clip_box(corner, density.shape, scene.label_data.shape)
            part = scene.label_data[in_scene]
            inside = density[in_box] > MASK_LEVEL * maps[name].max()
            part[inside & (part == 0)] = number


def _place_maps(
    data: NDArray[Any], rows: pd.DataFrame
) -> Iterator[tuple[Floats, NDArray[np.int_]]]:
    """Yield the rotated map `(z, y, x)` of each row, and the voxel (zyx) of its first one.

    The map of a row without angles is a ball of the volume of the mask.
    """
    coefficients = ndimage.spline_filter(np.asarray(data, np.float64))
    level, half = MASK_LEVEL * data.max(), np.array(data.shape) // 2
    radius = (3 * np.count_nonzero(data > level) / (4 * np.pi)) ** (1 / 3)
    for _, row in rows.iterrows():
        place = row[COORDINATES].to_numpy(float)
        whole = np.rint(place).astype(int)
        angles = row.reindex(ANGLES).to_numpy(float)
        if np.isfinite(angles).all():
            rotation = rotation_from_relion(angles)
            turned = rotate_volume(coefficients, rotation, place - whole, prefilter=False)
        else:
            axes = (
                np.arange(n) - n // 2 - s
                for n, s in zip(data.shape, (place - whole)[::-1], strict=True)
            )
            far = np.sqrt(sum(axis**2 for axis in np.meshgrid(*axes, indexing="ij", sparse=True)))
            turned = data.max() * (far <= radius)
        yield turned, whole[::-1] - half
