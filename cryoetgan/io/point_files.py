"""Points of the CryoET Data Portal (ndjson) and of copick (JSON)."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from cryoetgan.errors import UserError
from cryoetgan.io.files import read_json, read_text

Floats = NDArray[np.floating]
MATRIX_TOLERANCE = 0.02
"""Largest difference of a rotation matrix, times its transpose, from the identity."""

BROKEN = (
    ValueError, LookupError, TypeError, AttributeError, OverflowError, RecursionError,
)  # fmt: skip
"""Errors of values that are not points: the last two of long integers and of deep nesting."""


@dataclass(frozen=True)
class Points:
    """The points of one object."""

    places: Floats
    """`(N, 3)` x, y, z: voxels (ndjson) or angstrom (copick)."""
    rotations: Rotation | None = None
    """Of the reference to the particle; None if they are not known."""
    instances: NDArray[np.int_] | None = None
    """`(N,)`, number of the object that a point belongs to."""
    about: Any = None
    """The other entries of copick's file."""


def read_portal_points(path: Path) -> Points:
    """Return the points of a data portal's annotation: one JSON object in each line.

    `location` has x, y, z in voxels from 0; `xyz_rotation_matrix`, by rows, takes the reference
    (xyz) to the particle, as copick's matrices do; points of one `instance_id` are one object.
    """
    lines = [line for line in read_text(path).splitlines() if line.strip()]
    try:
        points = [json.loads(line) for line in lines]
        places = [[float(point["location"][axis]) for axis in "xyz"] for point in points]
        matrices = [point.get("xyz_rotation_matrix") for point in points]
        numbers = [point.get("instance_id") for point in points]
        known = None not in numbers and bool(numbers)
        instances = np.array(numbers, float).astype(int) if known else None
    except BROKEN as error:
        raise UserError(
            f"{path}: is not a file of points of the data portal ({error!r}); wanted lines "
            '{"type": "point", "location": {"x": 1, "y": 2, "z": 3}}'
        ) from error
    rotations = None
    if points and all(matrix is not None for matrix in matrices):
        rotations = to_rotations(_matrices(matrices, 3, path), path)
    return Points(np.reshape(places, (-1, 3)).astype(float), rotations, instances)


def read_copick_points(path: Path) -> Points:
    """Return the points of copick's picks, in angstrom; `about` has the file's entries."""
    try:
        content = read_json(path)
        points, name = content["points"], content["pickable_object_name"]
        if not isinstance(name, str):
            raise TypeError(f"pickable_object_name is {name}")
        found = [[float(point["location"][axis]) for axis in "xyz"] for point in points]
        matrices = [point.get("transformation_") for point in points]
        places = np.reshape(found, (-1, 3)).astype(float)
    except BROKEN as error:
        if isinstance(error, UserError):
            raise
        raise UserError(f"{path}: is not a copick picks file ({error!r})") from error
    rotations = None
    if points and all(matrix is not None for matrix in matrices):
        transforms = _matrices(matrices, 4, path)
        places = places + transforms[:, :3, 3]
        if content.get("trust_orientation") is not False:
            rotations = to_rotations(transforms[:, :3, :3], path)
    return Points(places, rotations, about=content)


def _matrices(matrices: Sequence[Any], size: int, path: Path) -> Floats:
    """Return matrices `(N, size, size)`; raise `UserError` if one has another shape."""
    try:
        return np.array(matrices, float).reshape(len(matrices), size, size)
    except BROKEN as error:
        key = "xyz_rotation_matrix" if size == 3 else "transformation_"
        raise UserError(f"{path}: a {key} is not a matrix of {size} x {size} numbers") from error


def to_rotations(matrices: Floats, path: Path) -> Rotation:
    """Return rotations from matrices `(N, 3, 3)`; raise `UserError` if one is none."""
    product = matrices @ matrices.transpose(0, 2, 1)
    off = np.abs(product - np.eye(3)).max(axis=(1, 2), initial=0)
    wrong = ~(off < MATRIX_TOLERANCE) | ~(np.linalg.det(matrices) > 0)
    if wrong.any():
        row = int(wrong.argmax())
        raise UserError(
            f"{path}: the matrix of particle {row + 1} is not a rotation (determinant "
            f"{np.linalg.det(matrices[row]):.3g}, wanted 1; {wrong.sum()} of {len(wrong)} are such): "
            "remove the mirror image or scale, or the matrices"
        )
    return Rotation.from_matrix(matrices)
