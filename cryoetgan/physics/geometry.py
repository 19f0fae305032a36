"""Orientations and coordinates: RELION's angles, grids on SO(3), turning volumes.

Vectors are xyz, arrays are zyx, the centre of a box of n voxels is n // 2.
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage
from scipy.spatial.transform import Rotation

Floats = NDArray[np.floating]


def rotation_from_relion(angles: ArrayLike) -> Rotation:
    """Return the rotation that turns the reference (xyz) into the particle.

    Parameters
    ----------
    angles : array_like
        `(..., 3)` rlnAngleRot, rlnAngleTilt, rlnAnglePsi in degrees. RELION's own
        matrix turns the particle into the reference, hence the inverse.
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
    """Return `count` rotations uniform on SO(3) (Haar measure)."""
    return Rotation.random(count, rng=rng)


def super_fibonacci(count: int) -> Rotation:
    """Return `count` nearly uniform rotations (Alexa 2022, doi 10.1109/CVPR52688.2022.00811).

    Deterministic. The mean distance to the nearest neighbour is about 360 / count**(1/3)
    divided by 2: 4,400 rotations are some 15 degrees apart.
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
    """Return the angle in degrees of the rotation that leads from one to the other."""
    return np.degrees((first.inv() * second).magnitude())


def rotate_volume(
    volume: Floats,
    rotation: Rotation,
    shift: ArrayLike = (0.0, 0.0, 0.0),
    order: int = 3,
    prefilter: bool = True,
) -> Floats:
    """Turn a volume about the voxel n // 2, then shift it.

    Parameters
    ----------
    volume : ndarray
        `(z, y, x)`; with `prefilter=False` its spline coefficients.
    rotation : scipy.spatial.transform.Rotation
        Turns reference vectors (xyz) into particle vectors.
    shift : array_like
        x, y, z in voxels, after the rotation.
    order : int
        Spline order.
    prefilter : bool
        False where `volume` already went through `scipy.ndimage.spline_filter`.

    Returns
    -------
    ndarray
        `(z, y, x)`, same shape, zero where the input does not reach.
    """
    backward = rotation.inv().as_matrix()[::-1, ::-1]  # xyz to zyx
    centre = np.array(volume.shape) // 2
    offset = centre - backward @ (centre + np.asarray(shift, float)[::-1])
    return ndimage.affine_transform(
        volume, backward, offset=offset, order=order, mode="constant", prefilter=prefilter
    )
