"""Orientations and voxel grids: RELION angles, sets of rotations, rotated volumes, boxes, tiles.

Vectors are xyz and arrays are zyx. The centre of a box of n voxels is voxel n // 2.
"""

from collections.abc import Iterator, Sequence
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage
from scipy.spatial.transform import Rotation

Floats = NDArray[np.floating]
Corner = tuple[int, int, int]
"""z, y, x in voxels: the first voxel of a block, or the shape of a block."""
Slices = tuple[slice, ...]
HALF_TURNS: tuple[tuple[int, ...], ...] = ((), (2, 4), (2, 3), (3, 4))
"""Axes of `(N, C, z, y, x)` to flip for a half turn: none, about y, about x, about z.

With the tilt axis along y, the first two map every missing wedge onto itself; the last two do so
if the tilt range is symmetric.
"""


def rotation_from_relion(angles: ArrayLike) -> Rotation:
    """Return the rotation that takes the reference (xyz) to the particle.

    `angles` are `(..., 3)` rlnAngleRot, rlnAngleTilt, rlnAnglePsi in degrees. The matrix that
    RELION builds from them takes the particle to the reference, hence the inverse here.
    """
    return Rotation.from_euler("ZYZ", np.asarray(angles, float), degrees=True).inv()


def relion_from_rotation(rotation: Rotation) -> Floats:
    """Return `(..., 3)` rot, tilt, psi in degrees; the inverse of `rotation_from_relion`."""
    import warnings

    with warnings.catch_warnings():
        # at tilt 0 only rot + psi is defined; scipy then sets the third angle to zero
        warnings.filterwarnings("ignore", message="Gimbal lock")
        return rotation.inv().as_euler("ZYZ", degrees=True)


def random_rotations(count: int, rng: np.random.Generator) -> Rotation:
    """Return `count` rotations, uniform on SO(3) (Haar measure)."""
    return Rotation.random(count, rng=rng)


def super_fibonacci(count: int) -> Rotation:
    """Return `count` nearly uniform rotations (Alexa 2022, doi 10.1109/CVPR52688.2022.00811).

    The set is deterministic. The mean distance to the nearest neighbour is 26 degrees for 550
    rotations, 16 for 1,856, and 11 for 4,400: about 180 / count**(1/3) if there are many.
    """
    phi, psi = np.sqrt(2.0), 1.533751168755204288118041
    s = np.arange(count) + 0.5
    t = s / count
    radius, other = np.sqrt(t), np.sqrt(1.0 - t)
    alpha, beta = 2 * np.pi * s / phi, 2 * np.pi * s / psi
    quaternions = np.stack(
        [
            radius * np.sin(alpha),
            radius * np.cos(alpha),
            other * np.sin(beta),
            other * np.cos(beta),
        ],
        axis=-1,
    )
    return Rotation.from_quat(quaternions)


def angle_between(first: Rotation, second: Rotation) -> Floats:
    """Return the angle of the rotation from `first` to `second`, degrees."""
    return np.degrees((first.inv() * second).magnitude())


def rotate_volume(
    volume: Floats,
    rotation: Rotation,
    shift: ArrayLike = (0.0, 0.0, 0.0),
    order: int = 3,
    prefilter: bool = True,
) -> Floats:
    """Rotate a volume `(z, y, x)` about voxel n // 2, then shift it; zero outside the input.

    Parameters
    ----------
    volume : ndarray
        `(z, y, x)`; the output of `scipy.ndimage.spline_filter` if `prefilter` is False.
    rotation : scipy.spatial.transform.Rotation
        Takes reference vectors (xyz) to particle vectors.
    shift : array_like
        x, y, z in voxels, applied after the rotation.
    order : int
        Spline order.
    """
    backward = rotation.inv().as_matrix()[::-1, ::-1]  # xyz to zyx
    centre = np.array(volume.shape) // 2
    offset = centre - backward @ (centre + np.asarray(shift, float)[::-1])
    return ndimage.affine_transform(
        volume, backward, offset=offset, order=order, mode="constant", prefilter=prefilter
    )


def mirror(density: Floats) -> Floats:
    """Return the mirror image of a map `(z, y, x)`: x is reversed about voxel n // 2."""
    image = density[:, :, ::-1]
    return np.ascontiguousarray(image if density.shape[2] % 2 else np.roll(image, 1, axis=2))


def distance_grid(z: Floats, y: Floats, x: Floats) -> Floats:
    """Return sqrt(z^2 + y^2 + x^2) on the grid of three axes, `(len(z), len(y), len(x))`."""
    return np.asarray(np.sqrt(z[:, None, None] ** 2 + y[:, None] ** 2 + x**2))


def centre_distance(box: int) -> Floats:
    """Return the distance of each voxel of a cube from voxel n // 2, in voxels, `(n, n, n)`."""
    axis = np.arange(box, dtype=float) - box // 2
    return distance_grid(axis, axis, axis)


def clip_box(
    corner: Sequence[int] | NDArray[Any], box_shape: Sequence[int], volume_shape: Sequence[int]
) -> tuple[Slices, Slices]:
    """Return the overlap of a box and a volume, as slices of the volume and of the box.

    Both select the same voxels; they are empty if box and volume do not overlap. `corner` is the
    first voxel of the box in voxels of the volume; the box may reach beyond it. All are zyx.

    Examples
    --------
    >>> clip_box([-1], [3], [10])
    ((slice(0, 2, None),), (slice(1, 3, None),))
    """
    in_volume, in_box = [], []
    for first, length, limit in zip(corner, box_shape, volume_shape, strict=True):
        low = min(max(int(first), 0), limit)
        high = min(max(int(first) + length, low), limit)
        in_volume.append(slice(low, high))
        in_box.append(slice(low - int(first), high - int(first)))
    if any(part.start >= part.stop for part in in_volume):
        nothing = (slice(0, 0),) * len(in_volume)
        return nothing, nothing
    return tuple(in_volume), tuple(in_box)


def block_slices(corner: Sequence[int] | NDArray[np.int_], shape: Sequence[int]) -> Slices:
    """Return the slices of a block, from its first voxel and its shape."""
    return tuple(slice(a, a + n) for a, n in zip(corner, shape, strict=True))


def own_part(z: float, depth: int, part: int | None) -> tuple[int, int]:
    """Return the first section and the number of sections of the box that holds section z.

    `depth` sections are boxes of `part` sections each, one after the other; None: one volume.
    """
    if part is None:
        return 0, depth
    index = int(np.floor((z + 0.5) / part))
    return min(max(index, 0), depth // part - 1) * part, part


def centres_inside(
    places: Floats, shape: Sequence[int], box: int, part: int | None
) -> NDArray[np.int_]:
    """Return the voxels `(N, 3)` nearest to places (xyz) whose boxes lie in their parts of a volume.

    A box of `box` voxels around its voxel n // 2 stays inside its part (`own_part`), which has
    `box` voxels or more. `shape` is zyx. In a tomogram the nearest voxels are returned.
    """
    nearest = np.rint(np.asarray(places, float)).astype(int).reshape(-1, 3)
    if part is None:
        return nearest
    first = np.array([[0, 0, own_part(z, shape[0], part)[0]] for z in nearest[:, 2]], int)
    highest = np.array([shape[2], shape[1], part]) - box + box // 2
    return first.reshape(-1, 3) + np.clip(nearest - first.reshape(-1, 3), box // 2, highest)


def tiles(shape: Sequence[int], edge: int) -> Iterator[tuple[Corner, Corner]]:
    """Yield corner and shape (zyx, voxels) of the tiles that cover a volume.

    A tile has `edge` voxels along each axis; the last of each axis may be smaller.
    """
    depth, height, width = shape
    for z, y, x in product(*(range(0, n, edge) for n in shape)):
        yield (z, y, x), (min(edge, depth - z), min(edge, height - y), min(edge, width - x))
