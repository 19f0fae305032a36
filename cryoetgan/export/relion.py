"""RELION 3 style subtomograms: one MRC a particle, one CTF volume a tomogram, one STAR."""

from pathlib import Path
from typing import Any

import numpy as np

from cryoetgan.acquisition import Acquisition
from cryoetgan.optics import ctf, missing_wedge, radius
from cryoetgan.progress import track
from cryoetgan.star import ANGLES, write_star
from cryoetgan.volumes import VolumeSet, write_volume

README = """RELION export

particles.star     blocks optics and particles, RELION 3 subtomogram columns
Subtomograms/      one volume a particle, MRC float32, zyx, protein {contrast}
ctf_<group>.mrc    what the tilt series transfers, in Fourier space, full size, centred

rlnImageName       the particle's volume, relative to this folder
rlnCtfImage        the transfer of its tomogram: missing wedge times |CTF| where the defocus is known
rlnAngleRot/Tilt/Psi   degrees, RELION's convention
rlnOriginX/Y/ZAngst    angstrom; the particle's centre lies at n // 2 - origin / pixel size
rlnCoordinateX/Y/Z     voxels of the tomogram, 0-based (absent for generated particles)
cryoetganClass     the class; for generated particles it is known by construction
"""
KEPT = ["rlnOriginXAngst", "rlnOriginYAngst", "rlnOriginZAngst", *ANGLES]


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

    groups = {
        int(row["rlnOpticsGroup"]): Acquisition.from_optics(row)
        for row in volumes.optics.to_dict("records")
    } or {1: Acquisition()}
    (folder / "Subtomograms").mkdir(parents=True)
    for number, acquisition in groups.items():
        transfer = transfer_volume(acquisition, volumes.box, volumes.voxel_size)
        write_volume(folder / f"ctf_{number}.mrc", transfer, volumes.voxel_size)
    rows: list[dict[str, Any]] = []
    records = volumes.table.to_dict("records")
    for index, row in enumerate(track(records, "exporting")):
        group = int(row.get("rlnOpticsGroup", 1))
        acquisition = groups.get(group, next(iter(groups.values())))
        factor = -1 if (contrast or acquisition.contrast) == "dark" else 1
        name = f"Subtomograms/{row['cryoetganClass']}_{index + 1:06d}.mrc"
        data = factor * np.asarray(volumes.volumes[index], np.float32)
        write_volume(folder / name, data, volumes.voxel_size)
        kept = {k: v for k, v in row.items() if k in KEPT or k.startswith(("rlnCoord", "cryoet"))}
        tomogram = row.get("rlnTomoName", volumes.path.stem)
        rows.append(
            {
                "rlnTomoName": tomogram,
                "rlnMicrographName": tomogram,
                "rlnImageName": name,
                "rlnCtfImage": f"ctf_{group}.mrc",
                "rlnOpticsGroup": group,
                **kept,
            }
        )
    optics = volumes.optics.copy()
    if "rlnOpticsGroup" not in optics:
        optics = pd.DataFrame({"rlnOpticsGroup": sorted(groups)})
    if "rlnOpticsGroupName" not in optics:
        optics["rlnOpticsGroupName"] = [f"group{n}" for n in optics["rlnOpticsGroup"]]
    optics["rlnImagePixelSize"] = volumes.voxel_size
    optics["rlnImageSize"] = volumes.box
    optics["rlnImageDimensionality"] = 3
    write_star(folder / "particles.star", pd.DataFrame(rows), optics)
    shown = contrast or next(iter(groups.values())).contrast
    (folder / "README.md").write_text(README.format(contrast=shown), encoding="utf-8")
    return len(rows)


def transfer_volume(acquisition: Acquisition, box: int, voxel_size: float) -> np.ndarray:
    """Return wedge times |CTF|, `(n, n, n)` float32, the zero frequency at n // 2."""
    half = missing_wedge((box, box, box), acquisition.tilts).astype(np.float32)
    a = acquisition
    if a.defocus is not None and a.ctf != "corrected":
        k = radius((box, box, box), voxel_size)
        half *= np.abs(ctf(k, a.defocus, a.voltage, a.cs, a.amplitude_contrast))
    # an even-length full transform from its half: F(-k) = F(k) for a real, even filter
    full = np.zeros((box, box, box), np.float32)
    full[..., : box // 2 + 1] = half
    index = (-np.arange(box)) % box
    mirrored = half[index][:, index]
    for x in range(box // 2 + 1, box):
        full[..., x] = mirrored[..., box - x]
    return np.fft.fftshift(full)
