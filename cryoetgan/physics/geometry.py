"""Orientations and boxes: RELION's angles, sets of rotations, rotated and clipped volumes.

Vectors are xyz and arrays are zyx. The centre of a box of n voxels is voxel n // 2.
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage
from scipy.spatial.transform import Rotation

Floats = NDArray[np.floating]
Slices = tuple[slice, ...]


def rotation_from_relion(angles: ArrayLike) -> Rotation:
    """Return the rotation that takes the reference (xyz) to the particle.

    Parameters
    ----------
    angles : array_like
        `(..., 3)` rlnAngleRot, rlnAngleTilt, rlnAnglePsi in degrees. The matrix that RELION
        builds from them takes the particle to the reference, hence the inverse here.
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

    The set is deterministic. The mean distance to the nearest neighbour is about
    360 / count**(1/3) / 2 degrees: 15 degrees for 4,400 rotations.
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
    """Rotate a volume about voxel n // 2, then shift it.

    Parameters
    ----------
    volume : ndarray
        `(z, y, x)`; the spline coefficients if `prefilter` is False.
    rotation : scipy.spatial.transform.Rotation
        Takes reference vectors (xyz) to particle vectors.
    shift : array_like
        x, y, z in voxels, applied after the rotation.
    order : int
        Spline order.
    prefilter : bool
        False if `volume` is the output of `scipy.ndimage.spline_filter`.

    Returns
    -------
    ndarray
        `(z, y, x)`, same shape; zero outside the rotated input.
    """
    backward = rotation.inv().as_matrix()[::-1, ::-1]  # xyz to zyx
    centre = np.array(volume.shape) // 2
    offset = centre - backward @ (centre + np.asarray(shift, float)[::-1])
    return ndimage.affine_transform(
        volume, backward, offset=offset, order=order, mode="constant", prefilter=prefilter
    )


def clip_box(start: ArrayLike, box: ArrayLike, shape: ArrayLike) -> tuple[Slices, Slices]:
    """Return the overlap of a box with a volume, as slices of both.

    Parameters
    ----------
    start : array_like of int
        First voxel of the box in the volume, zyx; it may be negative.
    box, shape : array_like of int
        Edges of the box and of the volume, zyx, voxels.

    Returns
    -------
    in_volume, in_box : tuple of slice
        The overlap in each array; empty slices if there is none.

    Examples
    --------
    >>> in_volume, in_box = clip_box([-1, 2], [4, 4], [5, 5])
    >>> in_volume
    (slice(0, 3, None), slice(2, 5, None))
    >>> in_box
    (slice(1, 4, None), slice(0, 3, None))
    """
    start = np.asarray(start)
    low = np.clip(start, 0, shape)
    high = np.maximum(np.minimum(start + np.asarray(box), shape), low)
    in_volume = tuple(slice(*pair) for pair in zip(low.tolist(), high.tolist(), strict=True))
    low, high = low - start, high - start
    return in_volume, tuple(slice(*pair) for pair in zip(low.tolist(), high.tolist(), strict=True))


def distance_grid(box: int) -> NDArray[np.float64]:
    """Return the distance of each voxel from voxel n // 2, `(z, y, x)`, voxels."""
    axes = np.indices((box, box, box)) - box // 2
    return np.asarray(np.sqrt((axes**2).sum(0)))
