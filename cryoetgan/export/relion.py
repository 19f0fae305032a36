"""RELION: subtomograms for RELION 3, coordinates for extraction in RELION 5."""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cryoetgan.errors import UserError, suggest
from cryoetgan.export.export_folder import READMES, member, write_readme
from cryoetgan.export.grey_scale import (
    acquisition_by_group,
    describe_contrast,
    exported_particles,
    is_of_set,
    optics_group,
)
from cryoetgan.io.files import write_text
from cryoetgan.io.mrc import write_volume
from cryoetgan.io.star import ANGLES, COORDINATES, ORIGINS, write_star
from cryoetgan.io.volume_set import VolumeSet
from cryoetgan.physics.acquisition import Acquisition
from cryoetgan.physics.coordinates import ImportTransform
from cryoetgan.physics.geometry import (
    centre_distance,
    relion_from_rotation,
    rotation_from_relion,
)
from cryoetgan.physics.optics import (
    fourier_shells,
    missing_wedge,
    radius_grid,
    recorded_ctf,
    shell_sums,
)
from cryoetgan.progress import log

if TYPE_CHECKING:
    import pandas as pd

MEASURED = 100
"""Volumes of an optics group whose spectrum is measured, at most."""
FIRST_SHELL, EMPTY = 2, 1e-3
"""Shells below the first are not measured; those with less power, over the strongest, are empty."""
LEAST = 0.25
"""Amplitude below which a shell counts as empty: it then holds more of what leaks from the band at a
box's faces. RELION takes such a shell for signal and diverges after a dozen iterations."""
CENTRED_COORDINATES = [f"rlnCenteredCoordinate{axis}Angst" for axis in "XYZ"]
KEPT_COLUMNS = [*COORDINATES, *ANGLES, *ORIGINS]


def export_relion(volumes: VolumeSet, folder: Path, contrast: str | None) -> int:
    """Write a volume set as RELION 3 subtomograms and return the number of particles.

    Each volume gets background of mean 0 and standard deviation 1, as RELION assumes. The transfer
    functions include the fall-off of the set's own spectrum (`fall_off`).
    """
    import pandas as pd

    groups = acquisition_by_group(volumes)
    (folder / "Subtomograms").mkdir()
    for number, acquisition in groups.items():
        transfer = transfer_volume(acquisition, volumes.box, volumes.voxel_size)
        weakened = fall_off(_sample(volumes, number), volumes.box, acquisition.tilts)
        transfer *= fall_off_volume(weakened, volumes.box)
        write_volume(folder / "CTF" / f"ctf_{number}.mrc", transfer, volumes.voxel_size)
    rows: list[dict[str, Any]] = []
    for number, row, _, data in exported_particles(volumes, contrast):
        group = optics_group(row)
        tomogram = row.get("rlnTomoName", volumes.path.stem)
        # cryoCAT, for one, reads tomogram and particle from the numbers in the name
        name = f"Subtomograms/{row['cryoetganClass']}_{tomogram}_{number:06d}.mrc"
        data = normalise_background(data)
        write_volume(member(folder, name), data, volumes.voxel_size)
        images = {"rlnImageName": name, "rlnCtfImage": f"CTF/ctf_{group}.mrc"}
        # with rlnTomoName, cryoCAT and others take the file for one of RELION 4
        names = {"rlnMicrographName": tomogram}
        rows.append({**names, **images, "rlnOpticsGroup": group, **_kept(row)})
    table = pd.DataFrame(rows or volumes.table)
    if set(COORDINATES) <= set(table) and table[COORDINATES].isna().any(axis=None):
        # RELION cannot read an empty cell as a number
        log.info("%s: some particles have no place in a tomogram, so no row has one", volumes.path)
        table = table.drop(columns=COORDINATES)
    write_star(folder / "particles.star", table, _optics(volumes, groups))
    write_readme(folder, "relion", contrast=describe_contrast(contrast, volumes), more="")
    return len(rows)


def _sample(volumes: VolumeSet, group: int) -> Iterator[NDArray[np.floating]]:
    """Yield some volumes of an optics group, spread over the set."""
    rows = [
        n for n, row in enumerate(volumes.table.to_dict("records")) if optics_group(row) == group
    ]
    for n in rows[:: -(-len(rows) // MEASURED) or 1]:
        yield np.asarray(volumes.volumes[n], np.float32)


def _optics(volumes: VolumeSet, groups: Mapping[int, Acquisition]) -> "pd.DataFrame":
    """Return the optics block with the columns that RELION 3 needs."""
    import pandas as pd

    optics = volumes.optics.copy()
    if "rlnOpticsGroup" not in optics:
        optics = pd.DataFrame({"rlnOpticsGroup": sorted(groups)})
    if "rlnOpticsGroupName" not in optics:
        optics["rlnOpticsGroupName"] = [f"group{n}" for n in optics["rlnOpticsGroup"]]
    # RELION rejects optics without these three columns
    for number, acquisition in groups.items():
        chosen = optics["rlnOpticsGroup"].astype(int) == number
        for name, value in _microscope(acquisition).items():
            optics.loc[chosen, name] = value
    optics["rlnImagePixelSize"] = volumes.voxel_size
    optics["rlnImageSize"] = volumes.box
    optics["rlnImageDimensionality"] = 3
    return optics


def _microscope(acquisition: Acquisition) -> dict[str, float]:
    return {
        "rlnVoltage": acquisition.voltage,
        "rlnSphericalAberration": acquisition.cs,
        "rlnAmplitudeContrast": acquisition.amplitude_contrast,
    }


def export_relion5(
    volumes: VolumeSet,
    folder: Path,
    transforms: Mapping[str, ImportTransform],
    contrast: str | None,
    tilt_series_pixel_size: float | None = None,
) -> None:
    """Add particles_relion5.star to an export: coordinates for extraction in RELION 5.

    `transforms` maps a tomogram to the transform of its import. Coordinates, angles and origins are
    written for the imported file, since the user's tilt series belong to it. With the pixel size of
    the unbinned tilt series (angstrom), an optics block is written. Otherwise RELION takes the
    optics from your tomograms.star; it rejects an optics block without this pixel size.
    """
    import pandas as pd
    import starfile

    rows = []
    for number, row in enumerate(volumes.table.to_dict("records"), start=1):
        tomogram = str(row["rlnTomoName"])
        if is_of_set(row):
            raise UserError(
                f"{volumes.path}: particle {number} comes from the set of subtomograms '{tomogram}', "
                "so its place in a tomogram is unknown; export without --tomogram"
            )
        if tomogram not in transforms:
            raise UserError(
                f"{volumes.path}: the size of tomogram '{tomogram}' is unknown"
                f"{suggest(tomogram, transforms)}; add --tomogram {tomogram}.mrc"
            )
        transform = transforms[tomogram]
        coordinate = transform.to_file(np.array([float(row[name]) for name in COORDINATES]))
        x, y, z = (int(n) for n in transform.file_shape)
        centred = centred_angstrom(coordinate, (z, y, x), transform.voxel_size)
        names = {"rlnTomoName": tomogram, "rlnTomoParticleName": f"{tomogram}/{number}"}
        kept = _rotate_to_file(row, transform)
        kept = {key: value for key, value in _kept(kept).items() if key not in COORDINATES}
        group = {"rlnOpticsGroup": optics_group(row)} if tilt_series_pixel_size else {}
        rows.append(
            {**names, **dict(zip(CENTRED_COORDINATES, centred, strict=True)), **kept, **group}
        )
    columns = ["rlnTomoName", "rlnTomoParticleName", *CENTRED_COORDINATES]
    blocks = {"particles": pd.DataFrame(rows, columns=None if rows else columns)}
    if tilt_series_pixel_size:
        optics = [
            {
                "rlnOpticsGroup": number,
                "rlnOpticsGroupName": f"group{number}",
                **_microscope(acquisition),
                "rlnTomoTiltSeriesPixelSize": tilt_series_pixel_size,
            }
            for number, acquisition in acquisition_by_group(volumes).items()
        ]
        blocks = {"optics": pd.DataFrame(optics), **blocks}
    lines = starfile.to_string(blocks, float_format="%.4f").splitlines()
    body = lines[1:] if lines[0].startswith("#") else lines  # starfile's first line holds the time
    write_text(folder / "particles_relion5.star", "\n".join(body).strip("\n") + "\n")
    more = (READMES / "relion5.md").read_text(encoding="utf-8")
    write_readme(folder, "relion", contrast=describe_contrast(contrast, volumes), more=more)


def _rotate_to_file(row: Mapping[Any, Any], transform: ImportTransform) -> dict[Any, Any]:
    """Return a row with angles and origins in the frame of the imported file."""
    rotated = dict(row)
    if np.array_equal(transform.matrix, np.eye(3)):
        return rotated
    if set(ANGLES) <= set(row):
        pose = rotation_from_relion([float(row[name]) for name in ANGLES])
        angles = relion_from_rotation(transform.to_file_poses(pose))
        rotated |= dict(zip(ANGLES, angles, strict=True))
    if set(ORIGINS) <= set(row):
        origin = np.array([float(row[name]) for name in ORIGINS]) @ transform.matrix
        rotated |= dict(zip(ORIGINS, origin, strict=True))
    return rotated


def centred_angstrom(
    coordinate: NDArray[np.floating], shape: tuple[int, int, int], voxel_size: float
) -> NDArray[np.floating]:
    """Return RELION 5's coordinate: angstrom from the centre of the tomogram, xyz.

    `coordinate` is xyz in voxels from 0, `shape` zyx of the tomogram, `voxel_size` in angstrom.

    Examples
    --------
    The centre of an even width is 0; voxel 0 of a width of 100 is 50 voxels to its left.

    >>> centred_angstrom(np.array([50.0, 0.0, 12.5]), (20, 100, 100), 10.0).tolist()
    [0.0, -500.0, 25.0]
    """
    return (coordinate - np.array(shape[::-1]) / 2) * voxel_size


def _kept(row: Mapping[Any, Any]) -> dict[str, Any]:
    return {k: v for k, v in row.items() if k in KEPT_COLUMNS or str(k).startswith("cryoetgan")}


def transfer_volume(acquisition: Acquisition, box: int, voxel_size: float) -> NDArray[np.float32]:
    """Return missing wedge times CTF, `(n, n, n)` float32, zero frequency at n // 2.

    Raw data have a signed CTF, phase-flipped data its absolute value, and corrected data none.
    The contrast of the protein has no effect, since reference and particles share it.
    """
    half = missing_wedge((box, box, box), acquisition.tilts).astype(np.float32)
    half *= recorded_ctf(radius_grid((box, box, box), voxel_size), acquisition)
    # the full transform from its half: F(-k) = F(k), since the filter is real and even
    full = np.zeros((box, box, box), np.float32)
    full[..., : box // 2 + 1] = half
    index = (-np.arange(box)) % box
    full[..., box // 2 + 1 :] = half[index][:, index, (box - 1) // 2 : 0 : -1]
    return np.fft.fftshift(full)


def normalise_background(volume: NDArray[np.floating]) -> NDArray[np.float32]:
    """Return a cube `(z, y, x)` with mean 0 and SD 1 outside the largest sphere inside it.

    RELION estimates one noise spectrum for all particles. If volumes of one class have more noise,
    a 3D classification sorts by noise.
    """
    outside = volume[centre_distance(len(volume)) > len(volume) // 2]
    sd = float(outside.std()) or 1.0
    return np.asarray((volume - outside.mean()) / sd, np.float32)


def fall_off(
    volumes: Iterable[NDArray[np.floating]], box: int, tilts: tuple[float, float]
) -> NDArray[np.float64]:
    """Return the amplitude, per Fourier shell, by which a filter has weakened signal and noise.

    A(k) = sqrt(min(1, P(k) / (P_band / 2))). P is the mean power of the sampled frequencies, P_band
    its median over the shells that are not empty. A is 1 in white or slowly falling spectra,
    follows the edge of a low-pass filter, and is 0 below `LEAST`. Without it, RELION's reference falls by orders of
    magnitude from shell to shell, and interpolation errors there decide a 3D classification.

    Parameters
    ----------
    volumes : iterable of ndarray
        `(z, y, x)`.
    box : int
        Edge of the volumes, voxels.
    tilts : (float, float)
        Lowest and highest tilt, degrees.

    Returns
    -------
    ndarray
        Shells 0 to n // 2, `(n // 2 + 1,)`.
    """
    axis = np.hanning(box + 2)[1:-1]
    window = axis[:, None, None] * axis[:, None] * axis  # else a box's faces leak into all shells
    shells = fourier_shells(box)
    seen = missing_wedge((box, box, box), tilts)
    total = np.zeros(box // 2 + 1)
    for volume in volumes:
        centred = np.asarray(volume, np.float64)
        power = np.abs(np.fft.rfftn((centred - centred.mean()) * window)) ** 2
        total += shell_sums(power * seen, shells)
    counts = shell_sums(seen.astype(float), shells)
    power = total / np.maximum(counts, 1)
    inner = power[FIRST_SHELL:]
    band = inner[inner > EMPTY * inner.max()]
    if not len(band):
        return np.ones_like(power)
    amplitude = np.sqrt(np.minimum(1, power / (np.median(band) / 2)))
    amplitude[:FIRST_SHELL] = 1
    return np.where(amplitude < LEAST, 0.0, amplitude)


def fall_off_volume(amplitude: NDArray[np.floating], box: int) -> NDArray[np.float32]:
    """Return an amplitude per shell on a full transform `(n, n, n)`, zero frequency at n // 2."""
    return np.asarray(
        np.interp(centre_distance(box), np.arange(len(amplitude)), amplitude), np.float32
    )
