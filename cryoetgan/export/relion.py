"""RELION: subtomograms as RELION 3 reads them, coordinates as RELION 5 extracts from."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cryoetgan.errors import UserError, suggest
from cryoetgan.export.volume_rows import acquisitions, factor, group_of, shown_contrast
from cryoetgan.io.files import write_text
from cryoetgan.io.memmap import iterate_sections
from cryoetgan.io.mrc import write_volume
from cryoetgan.io.star import ANGLES, COORDINATES, ORIGINS, write_star
from cryoetgan.io.volume_set import VolumeSet
from cryoetgan.physics.acquisition import Acquisition
from cryoetgan.physics.coordinates import ImportTransform
from cryoetgan.physics.geometry import relion_from_rotation, rotation_from_relion
from cryoetgan.physics.optics import ctf, missing_wedge, radius_grid
from cryoetgan.progress import track

CENTRED = [
    "rlnCenteredCoordinateXAngst",
    "rlnCenteredCoordinateYAngst",
    "rlnCenteredCoordinateZAngst",
]
README = """# RELION export

| file | what |
|---|---|
| particles.star | blocks `optics` and `particles`: subtomograms as RELION 3.0 and 3.1 read them |
| Subtomograms/ | one volume a particle, named by class, tomogram and row: MRC, float32, protein {contrast} |
| CTF/ | what a tilt series transfers, one volume an optics group: Fourier space, full size, zero frequency in the centre |
| provenance.json | what made this folder, from what |
{more}
Start RELION in this folder: the paths in particles.star are relative to it. RELION takes protein as
bright: where it is dark here, export with `--contrast bright`.

| column | meaning |
|---|---|
| rlnTomoName, rlnMicrographName | the tomogram; of generated particles the set they belong to |
| rlnImageName | the particle's volume |
| rlnCtfImage | transfer of its tilt series: the missing wedge (tilt axis y, beam z), times the CTF where the defocus is known: with its sign for raw data, without for phase-flipped, none for corrected |
| rlnAngleRot, rlnAngleTilt, rlnAnglePsi | degrees, RELION's convention |
| rlnOriginXAngst, Y, Z | angstrom; the particle's centre lies at box // 2 - origin / pixel size |
| rlnCoordinateX, Y, Z | voxels of the tomogram, counted from 0; absent for generated particles, which lie in none |
| cryoetganClass | the class; known by construction for simulated and generated particles |
| cryoetganSource, cryoetganSplit | real, simulated or generated; train, validation or test |
| cryoetganScore, cryoetganId | of the picking; a name that stays |
"""
README_5 = """| particles_relion5.star | the same particles by place, for extraction from your own tilt series in RELION 5 |

In particles_relion5.star, rlnCenteredCoordinateXAngst = (x - X / 2) * voxel size, in angstrom, with
x the 0-based voxel coordinate and X the tomogram's width in voxels (Y and Z likewise), both in the
file that was imported, before it was turned or resampled; angles likewise. rlnTomoName must be that
of your tomograms.star.
"""
KEPT = [*COORDINATES, *ANGLES, *ORIGINS]


def export_relion(volumes: VolumeSet, folder: Path, contrast: str | None) -> int:
    """Write a volume set as RELION 3 subtomograms into `folder`; return how many.

    Parameters
    ----------
    volumes : VolumeSet
        Protein bright.
    folder : Path
        A new folder.
    contrast : str, optional
        dark or bright; the tomogram's own where None.
    """
    import pandas as pd

    groups = acquisitions(volumes)
    (folder / "Subtomograms").mkdir(parents=True)
    for number, recorded in groups.items():
        transfer = transfer_volume(recorded, volumes.box, volumes.voxel_size)
        write_volume(folder / "CTF" / f"ctf_{number}.mrc", transfer, volumes.voxel_size)
    rows: list[dict[str, Any]] = []
    records = track(volumes.table.to_dict("records"), "exporting")
    for index, (row, volume) in enumerate(
        zip(records, iterate_sections(volumes.volumes), strict=True)
    ):
        group = group_of(row)
        tomogram = row.get("rlnTomoName", volumes.path.stem)
        # readers such as cryoCAT take tomogram and particle from the numbers in the name
        name = f"Subtomograms/{row['cryoetganClass']}_{tomogram}_{index + 1:06d}.mrc"
        data = factor(contrast, groups.get(group)) * np.asarray(volume, np.float32)
        write_volume(folder / name, data, volumes.voxel_size)
        images = {"rlnImageName": name, "rlnCtfImage": f"CTF/ctf_{group}.mrc"}
        names = {"rlnTomoName": tomogram, "rlnMicrographName": tomogram}
        rows.append({**names, **images, "rlnOpticsGroup": group, **_kept(row)})
    optics = volumes.optics.copy()
    if "rlnOpticsGroup" not in optics:
        optics = pd.DataFrame({"rlnOpticsGroup": sorted(groups)})
    if "rlnOpticsGroupName" not in optics:
        optics["rlnOpticsGroupName"] = [f"group{n}" for n in optics["rlnOpticsGroup"]]
    # RELION refuses optics without these three
    for number, recorded in groups.items():
        chosen = optics["rlnOpticsGroup"].astype(int) == number
        optics.loc[chosen, "rlnVoltage"] = recorded.voltage
        optics.loc[chosen, "rlnSphericalAberration"] = recorded.cs
        optics.loc[chosen, "rlnAmplitudeContrast"] = recorded.amplitude_contrast
    optics["rlnImagePixelSize"] = volumes.voxel_size
    optics["rlnImageSize"] = volumes.box
    optics["rlnImageDimensionality"] = 3
    write_star(folder / "particles.star", pd.DataFrame(rows), optics)
    _readme(folder, shown_contrast(contrast, groups))
    return len(rows)


def export_relion5(
    volumes: VolumeSet,
    folder: Path,
    imported: Mapping[str, ImportTransform],
    contrast: str | None,
    tilt_series_pixel_size: float | None = None,
) -> None:
    """Add particles_relion5.star to an export: places for extraction in RELION 5.

    Parameters
    ----------
    volumes : VolumeSet
        With rlnTomoName and coordinates.
    folder : Path
        Of the export.
    imported : mapping
        Tomogram to how it was brought in: places, angles and origins are given as they are in
        its file, which your tilt series made.
    contrast : str, optional
        As the export's, for its README.
    tilt_series_pixel_size : float, optional
        Angstrom, of the unbinned tilt series. With it, an optics block is written; without,
        RELION takes the optics from your tomograms.star (it refuses a block that lacks it).
    """
    import pandas as pd
    import starfile

    rows = []
    for number, row in enumerate(volumes.table.to_dict("records"), start=1):
        tomogram = str(row["rlnTomoName"])
        if tomogram not in imported:
            raise UserError(
                f"{volumes.path}: has particles of tomogram '{tomogram}', whose size is not known"
                f"{suggest(tomogram, imported)}; add --tomogram {tomogram}.mrc"
            )
        was = imported[tomogram]
        place = was.to_file(np.array([float(row[name]) for name in COORDINATES]))
        x, y, z = (int(n) for n in was.file_shape)
        centred = centred_angstrom(place, (z, y, x), was.voxel_size)
        names = {"rlnTomoName": tomogram, "rlnTomoParticleName": f"{tomogram}/{number}"}
        kept = _turned_back(row, was)
        kept = {key: value for key, value in _kept(kept).items() if key not in COORDINATES}
        row5 = {**names, **dict(zip(CENTRED, centred, strict=True)), **kept}
        rows.append(row5 | {"rlnOpticsGroup": group_of(row)} if tilt_series_pixel_size else row5)
    blocks = {"particles": pd.DataFrame(rows)}
    if tilt_series_pixel_size:
        optics = [
            {
                "rlnOpticsGroup": number,
                "rlnOpticsGroupName": f"group{number}",
                "rlnVoltage": recorded.voltage,
                "rlnSphericalAberration": recorded.cs,
                "rlnAmplitudeContrast": recorded.amplitude_contrast,
                "rlnTomoTiltSeriesPixelSize": tilt_series_pixel_size,
            }
            for number, recorded in acquisitions(volumes).items()
        ]
        blocks = {"optics": pd.DataFrame(optics), **blocks}
    lines = starfile.to_string(blocks, float_format="%.4f").splitlines()
    body = lines[1:] if lines[0].startswith("#") else lines  # the library's line has the time
    write_text(folder / "particles_relion5.star", "\n".join(body).strip("\n") + "\n")
    _readme(folder, shown_contrast(contrast, acquisitions(volumes)), README_5)


def _turned_back(row: Mapping[Any, Any], was: ImportTransform) -> dict[Any, Any]:
    """Return a row with angles and origins as they are in the tomogram's file."""
    turned = dict(row)
    if np.array_equal(was.matrix, np.eye(3)):
        return turned
    if set(ANGLES) <= set(row):
        rotation = was.rotation.inv() * rotation_from_relion([float(row[name]) for name in ANGLES])
        turned |= dict(zip(ANGLES, relion_from_rotation(rotation), strict=True))
    if set(ORIGINS) <= set(row):
        origin = np.array([float(row[name]) for name in ORIGINS]) @ was.matrix
        turned |= dict(zip(ORIGINS, origin, strict=True))
    return turned


def centred_angstrom(
    place: NDArray[np.floating], shape: tuple[int, int, int], voxel_size: float
) -> NDArray[np.floating]:
    """Return RELION 5's coordinates, angstrom from the tomogram's centre.

    Examples
    --------
    The middle of an even width is 0, voxel 0 of a width of 100 lies 50 voxels to its left.

    >>> centred_angstrom(np.array([50.0, 0.0, 12.5]), (20, 100, 100), 10.0).tolist()
    [0.0, -500.0, 25.0]
    """
    return (place - np.array(shape[::-1]) / 2) * voxel_size


def _kept(row: Mapping[Any, Any]) -> dict[str, Any]:
    return {k: v for k, v in row.items() if k in KEPT or str(k).startswith("cryoetgan")}


def _readme(folder: Path, contrast: str, more: str = "") -> None:
    write_text(folder / "README.md", README.format(contrast=contrast, more=more))


def transfer_volume(recorded: Acquisition, box: int, voxel_size: float) -> NDArray[np.float32]:
    """Return wedge times CTF, `(n, n, n)` float32, the zero frequency at n // 2.

    The CTF keeps its sign for raw data and loses it for phase-flipped ones; protein bright
    or dark makes no difference, for the reference has the particles' contrast.
    """
    half = missing_wedge((box, box, box), recorded.tilts).astype(np.float32)
    if recorded.defocus is not None and recorded.ctf != "corrected":
        k = radius_grid((box, box, box), voxel_size)
        values = ctf(
            k, recorded.defocus, recorded.voltage, recorded.cs, recorded.amplitude_contrast
        )
        half *= values if recorded.ctf == "raw" else np.abs(values)
    # an even-length full transform from its half: F(-k) = F(k) for a real, even filter
    full = np.zeros((box, box, box), np.float32)
    full[..., : box // 2 + 1] = half
    index = (-np.arange(box)) % box
    mirrored = half[index][:, index]
    for x in range(box // 2 + 1, box):
        full[..., x] = mirrored[..., box - x]
    return np.fft.fftshift(full)
