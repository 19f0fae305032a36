"""One MRC a particle, and lists that other programs read."""

from pathlib import Path
from xml.etree import ElementTree

import numpy as np

from cryoetgan.acquisition import Acquisition
from cryoetgan.progress import track
from cryoetgan.star import ANGLES, COORDINATES
from cryoetgan.volumes import VolumeSet, write_volume

README = """Plain export

<class>/<number>.mrc   one volume a particle, MRC float32, zyx, protein {contrast}
particles.csv          one row a particle: file, class, voxel size (angstrom), RELION angles
                       (degrees), coordinates (voxels, 0-based; absent for generated particles)
dynamo.tbl             Dynamo table: columns 1 tag, 2 aligned, 3 averaged, 7-9 tdrot, tilt, narot
                       (degrees), 13 file type, 20 tomogram, 22 class, 24-26 x, y, z (voxels)
objects.xml            DeepFinder object list: class_label, x, y, z (voxels), only for particles
                       of tomograms; classes are numbered alphabetically from 1
"""


def export_plain(volumes: VolumeSet, folder: Path, contrast: str | None) -> int:
    """Write a volume set as single files with tables into `folder`; return how many."""
    import pandas as pd

    table = volumes.table
    classes = sorted(table["cryoetganClass"].astype(str).unique())
    groups = {
        int(row["rlnOpticsGroup"]): Acquisition.from_optics(row)
        for row in volumes.optics.to_dict("records")
    } or {1: Acquisition()}
    first = next(iter(groups.values()))
    rows, dynamo = [], []
    objects = ElementTree.Element("objlist")
    records = table.to_dict("records")
    for index, row in enumerate(track(records, "exporting")):
        name = f"{row['cryoetganClass']}/{index + 1:06d}.mrc"
        acquisition = groups.get(int(row.get("rlnOpticsGroup", 1)), first)
        factor = -1 if (contrast or acquisition.contrast) == "dark" else 1
        data = factor * np.asarray(volumes.volumes[index], np.float32)
        write_volume(folder / name, data, volumes.voxel_size)
        label = classes.index(str(row["cryoetganClass"])) + 1
        known = {column: row[column] for column in [*ANGLES, *COORDINATES] if column in row}
        rows.append(
            {
                "file": name,
                "class": row["cryoetganClass"],
                "voxel_size": volumes.voxel_size,
                **known,
            }
        )
        dynamo.append(_dynamo_row(index + 1, label, known))
        if set(COORDINATES) <= set(known):
            x, y, z = (f"{known[column]:.2f}" for column in COORDINATES)
            ElementTree.SubElement(
                objects, "object", {"class_label": str(label), "x": x, "y": y, "z": z}
            )
    pd.DataFrame(rows).to_csv(folder / "particles.csv", index=False, float_format="%.4f")
    (folder / "dynamo.tbl").write_text("\n".join(dynamo) + "\n")
    if len(objects):
        ElementTree.indent(objects)
        ElementTree.ElementTree(objects).write(folder / "objects.xml")
    shown = contrast or first.contrast
    (folder / "README.md").write_text(README.format(contrast=shown), encoding="utf-8")
    return len(rows)


def _dynamo_row(tag: int, label: int, known: dict[str, float]) -> str:
    """Return a row of 35 columns; Dynamo's angles are (-psi, -tilt, -rot) in its zxz."""
    from scipy.spatial.transform import Rotation

    values = [0.0] * 35
    values[0], values[1], values[2], values[12] = tag, 1, 1, 1
    if set(ANGLES) <= set(known):
        relion = Rotation.from_euler("ZYZ", [known[a] for a in ANGLES], degrees=True)
        values[6:9] = relion.inv().as_euler("zxz", degrees=True).tolist()
    values[19], values[21] = 1, label
    if set(COORDINATES) <= set(known):
        values[23:26] = [known[column] for column in COORDINATES]
    return " ".join(f"{value:.4g}" if value != int(value) else str(int(value)) for value in values)
