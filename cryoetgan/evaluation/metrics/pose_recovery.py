"""Pose recovery: whether a generated volume still shows its own particle in its own pose."""

import functools
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
from cryoetgan.physics.optics import frequency_axes, missing_wedge, radius_grid

HIGHEST_FREQUENCY = 1 / 3  # cycles per voxel up to which volumes are compared
EXCLUDED_SHELLS = 2
"""Fourier shells up to this number are excluded: mass alone must not decide the class."""
PADDING_FACTOR = 2  # oversampling of a density's spectrum for interpolation
COARSE_STEP_DEG, FINE_STEP_DEG = 9.0, 3.0
LARGEST_ANGLE_DEG = 27.0  # largest rotation from the known orientation during realignment
LARGEST_SHIFT, SHIFT_STEP = 3.0, 0.5  # voxels per axis during realignment
Complex = NDArray[np.complexfloating]
Shift = NDArray[np.floating]
"""`(..., 3)` voxels, xyz."""


@dataclass(frozen=True)
class Recovery:
    """Result of the comparison with the densities: `(N,)` arrays, NaN if not realigned."""

    correct: NDArray[np.bool_]  # the own density fits best of all classes, at the known pose
    correlation: NDArray[np.float64]  # with the own density at the known pose
    angle_error: NDArray[np.float64]  # degrees between the known pose and the best pose near it
    shift_error: NDArray[np.float64]  # angstrom between them


class PosedTemplates:
    """Spectra of the densities in any pose.

    `maps` is class to density `(n, n, n)`, zyx. Only frequencies that a tilt series from
    `tilts[0]` to `tilts[1]` degrees about y samples are compared.
    """

    def __init__(self, maps: Mapping[str, NDArray[Any]], tilts: tuple[float, float]) -> None:
        self.names = list(maps)
        n = next(iter(maps.values())).shape[-1]
        shape = (n, n, n)
        radius = radius_grid(shape, 1.0)
        compared = missing_wedge(shape, tilts) & (radius <= HIGHEST_FREQUENCY)
        compared &= radius * n > EXCLUDED_SHELLS + 0.5
        compared[..., 0] = False  # the plane x = 0 holds each frequency twice
        self.compared = compared
        kz, ky, kx = np.broadcast_arrays(*frequency_axes(shape, 1.0))
        self.k = np.stack([kx[compared], ky[compared], kz[compared]], axis=-1)
        self.shell = np.rint(np.linalg.norm(self.k, axis=1) * n).astype(int)
        self.fine = {name: _fine_spectrum(np.asarray(m, np.float64)) for name, m in maps.items()}
        # realignment: spacing and largest angle of rotations, shifts and their phases, conjugated
        wide = _shifts_up_to(LARGEST_SHIFT, 2 * SHIFT_STEP)
        near = _shifts_up_to(SHIFT_STEP, SHIFT_STEP)
        self.searches = [
            (COARSE_STEP_DEG, LARGEST_ANGLE_DEG, wide, self.shift_phases(wide).conj()),
            (FINE_STEP_DEG, COARSE_STEP_DEG, near, self.shift_phases(near).conj()),
        ]

    def spectrum(self, volume: NDArray[Any]) -> Complex:
        """Return the compared Fourier voxels `(K,)` of a volume, phases relative to n // 2."""
        return np.fft.rfftn(np.fft.ifftshift(volume))[self.compared]

    def rotate(self, name: str, rotations: Rotation) -> Complex:
        """Return the compared Fourier voxels `(R, K)` of a density in several orientations."""
        # the particle's spectrum at k is the reference's at the rotation's inverse of k
        k = (self.k @ rotations.as_matrix()).reshape(-1, 3)
        fine = self.fine[name]
        m = fine.shape[0]
        points = (k[:, ::-1] * m + m // 2).T
        values = ndimage.map_coordinates(fine.real, points, order=1)
        values = values + 1j * ndimage.map_coordinates(fine.imag, points, order=1)
        return values.reshape(len(rotations), len(self.k))

    def pose(self, name: str, rotation: Rotation, shift: Shift) -> Complex:
        """Return the compared Fourier voxels `(K,)` of a density in one pose."""
        return self.rotate(name, rotation)[0] * self.shift_phases(shift)

    def shift_phases(self, shifts: Shift) -> Complex:
        """Return the phase factors of shifts, `(..., K)`."""
        return np.exp(-2j * np.pi * np.asarray(shifts, float) @ self.k.T)


def _fine_spectrum(density: NDArray[np.float64]) -> Complex:
    n = density.shape[-1]
    m = PADDING_FACTOR * n
    # linear interpolation in Fourier space multiplies the density by sinc^2: undo it first
    falloff = np.sinc((np.arange(n) - n // 2) / m) ** 2
    even = density / (falloff[:, None, None] * falloff[None, :, None] * falloff[None, None, :])
    padded = np.zeros((m, m, m))
    start = m // 2 - n // 2
    padded[(slice(start, start + n),) * 3] = even
    return np.fft.fftshift(np.fft.fftn(np.fft.ifftshift(padded)))


def recover_poses(
    spectra: list[Complex],
    table: Any,
    templates: PosedTemplates,
    voxel_size: float,
    realign: int | None = None,
) -> Recovery:
    """Compare each volume with all densities at its known pose, then realign it with its own.

    `spectra` are `templates.spectrum(volume)`, `(K,)` each. `table` holds their classes, angles
    (degrees, RELION) and origins (angstrom, 0 if absent). The first `realign` volumes are
    realigned, by default all. The chance level of `correct` is 1 over the number of densities.
    """
    rows = []
    n_realigned = len(spectra) if realign is None else realign
    poses = zip(spectra, *_poses(table, voxel_size), strict=True)
    for index, (spectrum, name, rotation, shift) in enumerate(poses):
        fits = {
            other: _correlation(spectrum, templates.pose(other, rotation, shift))
            for other in templates.names
        }
        angle, distance = np.nan, np.nan
        if index < n_realigned:
            angle, distance = _realign(spectrum, name, rotation, shift, templates)
        best = max(fits, key=lambda other: fits[other])
        rows.append((best == name, fits[name], angle, distance * voxel_size))
    correct, *others = np.array(rows, float).T
    return Recovery(correct.astype(bool), *others)


def _poses(table: Any, voxel_size: float) -> tuple[list[str], list[Rotation], NDArray[Any]]:
    """Return classes, orientations (each a stack of one) and shifts in voxels, xyz."""
    names = [str(name) for name in table["cryoetganClass"]]
    rotations = [rotation_from_relion([row]) for row in table[ANGLES].to_numpy(float)]
    return names, rotations, centre_offsets(table, voxel_size)


def _realign(
    spectrum: Complex, name: str, rotation: Rotation, shift: Shift, templates: PosedTemplates
) -> tuple[float, float]:
    """Return degrees and voxels between the known pose and the best pose near it."""
    best, offset = Rotation.identity(1), np.zeros(3)
    for spacing, largest_angle, shifts, phases in templates.searches:
        turns = _rotations_within(spacing, largest_angle) * best
        values = templates.rotate(name, turns * rotation)
        centred = values.conj() * (spectrum * templates.shift_phases(shift + offset).conj())
        scores = (centred @ phases.T).real / np.linalg.norm(values, axis=1)[:, None]
        row, column = np.unravel_index(int(scores.argmax()), scores.shape)
        best, offset = turns[[int(row)]], offset + shifts[int(column)]
    return float(np.degrees(best.magnitude()[0])), float(np.linalg.norm(offset))


def _shifts_up_to(largest: float, spacing: float) -> Shift:
    """Return the shifts `(S, 3)` of a cubic grid."""
    steps = np.arange(-largest, largest + 1e-9, spacing)
    return np.stack(np.meshgrid(steps, steps, steps, indexing="ij"), axis=-1).reshape(-1, 3)


@functools.cache
def _rotations_within(spacing: float, largest_angle: float) -> Rotation:
    """Return rotations by at most `largest_angle`, about `spacing` apart, in degrees."""
    line = np.arange(-largest_angle, largest_angle + 1e-9, spacing)
    vectors = np.stack(np.meshgrid(line, line, line, indexing="ij"), axis=-1).reshape(-1, 3)
    vectors = vectors[np.linalg.norm(vectors, axis=1) <= largest_angle + 1e-9]
    return Rotation.from_rotvec(vectors, degrees=True)


def simulate_at_equal_snr(
    spectra: list[Complex],
    table: Any,
    templates: PosedTemplates,
    voxel_size: float,
    rng: np.random.Generator,
) -> Iterator[Complex]:
    """Yield simulated spectra `(K,)` in each pose, at the signal-to-noise ratio of the volumes.

    The signal is the own density in its pose, at the scale that fits the volume best. The
    noise is Gaussian, with the shell power of the residuals of this fit.
    """
    signals, residuals = [], []
    for spectrum, name, rotation, shift in zip(spectra, *_poses(table, voxel_size), strict=True):
        own = templates.pose(name, rotation, shift)
        scale = max(0.0, float(np.vdot(own, spectrum).real / np.vdot(own, own).real))
        signals.append(scale * own)
        residuals.append(np.abs(spectrum - scale * own) ** 2)
    total = np.bincount(templates.shell, np.mean(residuals, axis=0))
    power = total / np.maximum(np.bincount(templates.shell), 1)
    sd = np.sqrt(power[templates.shell] / 2)
    for signal in signals:
        noise = rng.standard_normal((2, len(signal)))
        yield signal + sd * (noise[0] + 1j * noise[1])


def _correlation(a: Complex, b: Complex) -> float:
    norm = float(np.linalg.norm(a) * np.linalg.norm(b))
    return float(np.vdot(b, a).real / norm) if norm > 0 else -1.0
