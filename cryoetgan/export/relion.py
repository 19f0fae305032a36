"""RELION: subtomograms for RELION 3, coordinates for extraction in RELION 5."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cryoetgan.errors import UserError, suggest
from cryoetgan.export.contrast import (
    acquisition_by_group,
    describe_contrast,
    exported_particles,
    optics_group,
)
from cryoetgan.export.folder import READMES, member, write_readme
from cryoetgan.io.files import write_text
from cryoetgan.io.mrc import write_volume
from cryoetgan.io.star import ANGLES, COORDINATES, ORIGINS, write_star
from cryoetgan.io.volume_set import VolumeSet
from cryoetgan.physics.acquisition import Acquisition
from cryoetgan.physics.coordinates import ImportTransform
from cryoetgan.physics.geometry import relion_from_rotation, rotation_from_relion
from cryoetgan.physics.optics import missing_wedge, radius_grid, recorded_ctf

if TYPE_CHECKING:
    import pandas as pd

CENTRED_COORDINATES = [f"rlnCenteredCoordinate{axis}Angst" for axis in "XYZ"]
KEPT_COLUMNS = [*COORDINATES, *ANGLES, *ORIGINS]


def export_relion(volumes: VolumeSet, folder: Path, contrast: str | None) -> int:
    """Write a volume set as RELION 3 subtomograms and return the number of particles."""
    import pandas as pd

    groups = acquisition_by_group(volumes)
    (folder / "Subtomograms").mkdir()
    for number, acquisition in groups.items():
        transfer = transfer_volume(acquisition, volumes.box, volumes.voxel_size)
        write_volume(folder / "CTF" / f"ctf_{number}.mrc", transfer, volumes.voxel_size)
    rows: list[dict[str, Any]] = []
    for number, row, _, data in exported_particles(volumes, contrast):
        group = optics_group(row)
        tomogram = row.get("rlnTomoName", volumes.path.stem)
        # cryoCAT, for one, reads tomogram and particle from the numbers in the name
        name = f"Subtomograms/{row['cryoetganClass']}_{tomogram}_{number:06d}.mrc"
        write_volume(member(folder, name), data, volumes.voxel_size)
        images = {"rlnImageName": name, "rlnCtfImage": f"CTF/ctf_{group}.mrc"}
        # with rlnTomoName, cryoCAT and others take the file for one of RELION 4
        names = {"rlnMicrographName": tomogram}
        rows.append({**names, **images, "rlnOpticsGroup": group, **_kept(row)})
    write_star(folder / "particles.star", pd.DataFrame(rows), _optics(volumes, groups))
    write_readme(folder, "relion", contrast=describe_contrast(contrast, volumes), more="")
    return len(rows)


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
    blocks = {"particles": pd.DataFrame(rows)}
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
        rotation = transform.rotation.inv() * rotation_from_relion(
            [float(row[name]) for name in ANGLES]
        )
        rotated |= dict(zip(ANGLES, relion_from_rotation(rotation), strict=True))
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
