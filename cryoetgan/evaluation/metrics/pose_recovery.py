"""Whether a generated volume still shows its own particle in its own pose."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial.transform import Rotation

from cryoetgan.io.star import ANGLES
from cryoetgan.physics.coordinates import centre_offsets
from cryoetgan.physics.geometry import rotation_from_relion
from cryoetgan.physics.optics import missing_wedge, radius_grid

HIGHEST = 1 / 3
"""Cycles a voxel up to which volumes are compared."""
LOWEST_SHELLS = 2
"""Fourier shells up to this one are left out: mass alone must not decide the class."""
PADDING = 2
"""The density's spectrum is sampled this much finer, for interpolation."""
COARSE, FINE = 9.0, 3.0
"""Degrees between the orientations tried around the known one, in two rounds."""
REACH = 27.0
"""Degrees from the known orientation that realignment may go."""
SHIFT_REACH, SHIFT_STEP = 3.0, 0.5
"""Voxels an axis."""
Complex = NDArray[np.complexfloating]


@dataclass(frozen=True)
class Recovery:
    """What became of the particles, one entry a volume.

    Attributes
    ----------
    right : ndarray of bool
        Whether the own density fits best among the classes, at the known pose.
    correlation : ndarray
        With the own density at the known pose, over the compared Fourier voxels.
    angle, shift : ndarray
        Degrees and angstrom between the known pose and the best one near it; NaN where
        it was not searched for.
    """

    right: NDArray[np.bool_]
    correlation: NDArray[np.float64]
    angle: NDArray[np.float64]
    shift: NDArray[np.float64]


class Templates:
    """Densities in Fourier space, to be had in any pose.

    Parameters
    ----------
    maps : mapping
        Class to density `(n, n, n)`.
    tilts : (float, float)
        Degrees about y: only what a tilt series sees is compared.
    """

    def __init__(self, maps: Mapping[str, NDArray[Any]], tilts: tuple[float, float]) -> None:
        self.names = list(maps)
        n = next(iter(maps.values())).shape[-1]
        self.n = n
        shape = (n, n, n)
        k = radius_grid(shape, 1.0)
        compared = missing_wedge(shape, tilts) & (k <= HIGHEST) & (k * n > LOWEST_SHELLS + 0.5)
        compared[..., 0] = False  # the plane x = 0 holds each frequency twice
        self.where = compared
        kz, ky, kx = np.meshgrid(
            np.fft.fftfreq(n), np.fft.fftfreq(n), np.fft.rfftfreq(n), indexing="ij"
        )
        self.k = np.stack([kx[compared], ky[compared], kz[compared]], axis=-1)
        self.shell = np.rint(np.linalg.norm(self.k, axis=1) * n).astype(int)
        self.fine = {name: _fine_spectrum(np.asarray(m, np.float64)) for name, m in maps.items()}

    def spectrum(self, volume: NDArray[Any]) -> Complex:
        """Return a volume's compared Fourier voxels `(K,)`, phases relative to n // 2."""
        return np.fft.rfftn(np.fft.ifftshift(volume))[self.where]

    def posed(self, name: str, rotations: Rotation) -> Complex:
        """Return the compared Fourier voxels `(R, K)` of a density in several orientations."""
        # the particle's spectrum at k is the reference's at the rotation's inverse of k
        k = np.einsum("kj,rji->rki", self.k, rotations.as_matrix()).reshape(-1, 3)
        fine = self.fine[name]
        m = fine.shape[0]
        places = (k[:, ::-1] * m + m // 2).T
        values = ndimage.map_coordinates(fine.real, places, order=1)
        values = values + 1j * ndimage.map_coordinates(fine.imag, places, order=1)
        return values.reshape(len(rotations), len(self.k))

    def phases(self, shifts: NDArray[Any]) -> Complex:
        """Return what a shift (x, y, z in voxels) does to a spectrum, `(..., K)`."""
        return np.exp(-2j * np.pi * np.asarray(shifts, float) @ self.k.T)


def _fine_spectrum(density: NDArray[np.float64]) -> Complex:
    n = density.shape[-1]
    m = PADDING * n
    # linear interpolation in Fourier space multiplies the density by sinc^2: undo it first
    away = np.sinc((np.arange(n) - n // 2) / m) ** 2
    even = density / (away[:, None, None] * away[None, :, None] * away[None, None, :])
    padded = np.zeros((m, m, m))
    start = m // 2 - n // 2
    padded[(slice(start, start + n),) * 3] = even
    return np.fft.fftshift(np.fft.fftn(np.fft.ifftshift(padded)))


def pose_recovery(
    volumes: NDArray[Any],
    table: Any,
    maps: Mapping[str, NDArray[Any]],
    tilts: tuple[float, float],
    voxel_size: float,
    realign: int | None = None,
) -> Recovery:
    """Compare each volume with all densities at its known pose, then realign it with its own.

    Parameters
    ----------
    volumes : ndarray
        `(N, n, n, n)`.
    table : pandas.DataFrame
        Class, angles (degrees, RELION) and origins (angstrom, absent: 0) of each.
    maps : mapping
        Class to density `(n, n, n)`.
    tilts : (float, float)
        Degrees about y; only what a tilt series sees counts.
    voxel_size : float
        Angstrom.
    realign : int, optional
        How many of the volumes are realigned; all where None.

    Returns
    -------
    Recovery
        The chance level of `right` is 1 over the number of maps.
    """
    templates = Templates(maps, tilts)
    return recovered(
        [templates.spectrum(volume) for volume in volumes], table, templates, voxel_size, realign
    )


def recovered(
    spectra: list[Complex],
    table: Any,
    templates: Templates,
    voxel_size: float,
    realign: int | None = None,
) -> Recovery:
    """As `pose_recovery`, of volumes given as compared Fourier voxels."""
    right, fit, angle, shift = [], [], [], []
    most = len(spectra) if realign is None else realign
    for number, (spectrum, name, rotation, moved) in enumerate(
        zip(spectra, *_poses(table, voxel_size), strict=True)
    ):
        turned = {
            other: templates.posed(other, rotation)[0] * templates.phases(moved)
            for other in templates.names
        }
        fits = {other: _correlation(spectrum, values) for other, values in turned.items()}
        right.append(max(fits, key=lambda other: fits[other]) == name)
        fit.append(fits[name])
        found = (
            _realigned(spectrum, name, rotation, moved, templates)
            if number < most
            else (np.nan, np.nan)
        )
        angle.append(found[0])
        shift.append(found[1] * voxel_size)
    return Recovery(np.array(right, bool), np.array(fit), np.array(angle), np.array(shift))


def _poses(table: Any, voxel_size: float) -> tuple[list[str], list[Rotation], NDArray[Any]]:
    """Return classes, orientations (each a stack of one) and shifts in voxels, xyz."""
    names = [str(name) for name in table["cryoetganClass"]]
    rotations = [rotation_from_relion([row]) for row in table[ANGLES].to_numpy(float)]
    return names, rotations, centre_offsets(table, voxel_size)


def _realigned(
    spectrum: Complex, name: str, known: Rotation, moved: NDArray[Any], templates: Templates
) -> tuple[float, float]:
    """Return degrees and voxels between the known pose and the best near it."""
    steps = np.arange(-SHIFT_REACH, SHIFT_REACH + 1e-9, SHIFT_STEP)
    wide = np.stack(np.meshgrid(*[steps[::2]] * 3, indexing="ij"), axis=-1).reshape(-1, 3)
    near = np.stack(np.meshgrid(*[[-SHIFT_STEP, 0, SHIFT_STEP]] * 3, indexing="ij"), axis=-1)
    best, off = Rotation.identity(1), np.zeros(3)
    for spacing, reach, shifts in (
        (COARSE, REACH, wide),
        (FINE, COARSE, near.reshape(-1, 3)),
    ):
        turns = _ball(spacing, reach) * best
        values = templates.posed(name, turns * known)
        weights = spectrum[None] * templates.phases(moved + off + shifts).conj()
        scores = (values.conj() @ weights.T).real / np.linalg.norm(values, axis=1)[:, None]
        turn, shift = np.unravel_index(int(scores.argmax()), scores.shape)
        best, off = turns[[int(turn)]], off + shifts[int(shift)]
    return float(np.degrees(best.magnitude()[0])), float(np.linalg.norm(off))


def _ball(spacing: float, reach: float) -> Rotation:
    """Return the rotations by up to `reach` degrees, about `spacing` degrees apart."""
    line = np.arange(-reach, reach + 1e-9, spacing)
    vectors = np.stack(np.meshgrid(line, line, line, indexing="ij"), axis=-1).reshape(-1, 3)
    vectors = vectors[np.linalg.norm(vectors, axis=1) <= reach + 1e-9]
    return Rotation.from_rotvec(vectors, degrees=True)


def physics_alike(
    spectra: list[Complex],
    table: Any,
    templates: Templates,
    voxel_size: float,
    numbers: np.random.Generator,
) -> Iterator[Complex]:
    """Yield what plain physics shows of each pose at the same signal-to-noise ratio.

    Signal: the own density in its pose, at the scale that fits the volume best. Noise:
    Gaussian, with the power by shell of what the fit leaves over.
    """
    signals, rests = [], []
    for spectrum, name, rotation, moved in zip(spectra, *_poses(table, voxel_size), strict=True):
        own = templates.posed(name, rotation)[0] * templates.phases(moved)
        scale = max(0.0, float(np.vdot(own, spectrum).real / np.vdot(own, own).real))
        signals.append(scale * own)
        rests.append(np.abs(spectrum - scale * own) ** 2)
    power = np.bincount(templates.shell, np.mean(rests, axis=0)) / np.maximum(
        np.bincount(templates.shell), 1
    )
    spread = np.sqrt(power[templates.shell] / 2)
    for signal in signals:
        noise = numbers.standard_normal((2, len(signal)))
        yield signal + spread * (noise[0] + 1j * noise[1])


def _correlation(a: Complex, b: Complex) -> float:
    norm = float(np.linalg.norm(a) * np.linalg.norm(b))
    return float(np.vdot(b, a).real / norm) if norm > 0 else -1.0
