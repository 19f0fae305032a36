"""One MRC file per particle, and particle lists of other programs."""

import csv
import io
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from scipy.spatial.transform import Rotation

from cryoetgan.export.contrast import describe_contrast, exported_particles
from cryoetgan.export.folder import member, write_readme
from cryoetgan.io.files import write_text
from cryoetgan.io.mrc import write_volume
from cryoetgan.io.star import ANGLES, COORDINATES
from cryoetgan.io.volume_set import VolumeSet
from cryoetgan.physics.acquisition import Acquisition
from cryoetgan.physics.coordinates import centre_offset

COLUMNS = ["file", "class", "source", "split", "tomogram", "voxel_size", "x", "y", "z"]
COLUMNS += ["center_x", "center_y", "center_z", "rot", "tilt", "psi", "score", "id"]


def export_plain(volumes: VolumeSet, folder: Path, contrast: str | None) -> int:
    """Write a volume set as single files with tables and return the number of particles."""
    classes = [str(name) for name in volumes.classes()]
    names = volumes.table["rlnTomoName"].astype(str) if "rlnTomoName" in volumes.table else [""]
    tomograms = sorted(set(names))
    rows, dynamo = [], []
    objects = ElementTree.Element("objlist")
    for number, row, acquisition, data in exported_particles(volumes, contrast):
        label = classes.index(str(row["cryoetganClass"])) + 1
        name = f"volumes/id{label:04d}_{row['cryoetganClass']}_{number:06d}.mrc"
        write_volume(member(folder, name), data, volumes.voxel_size)
        rows.append(_row(row, name, volumes.voxel_size, volumes.box))
        tomogram = tomograms.index(str(row.get("rlnTomoName", "")))
        shift = centre_offset(row, volumes.voxel_size)
        dynamo.append(dynamo_row(number, label, tomogram + 1, row, shift, acquisition))
        if set(COORDINATES) <= set(row):
            place = {axis: f"{row[f'rlnCoordinate{axis.upper()}']:.3f}" for axis in "xyz"}
            ids = {"tomo_idx": tomogram, "obj_id": number - 1, "class_label": label}
            ElementTree.SubElement(objects, "object", {k: str(v) for k, v in ids.items()} | place)
    _write_csv(folder / "particles.csv", COLUMNS, [[r[c] for c in COLUMNS] for r in rows])
    codes = [[f"{n:04d}", n, name] for n, name in enumerate(classes, start=1)]
    _write_csv(folder / "classes.csv", ["code", "label", "class"], codes)
    numbered = [[n + 1, n, name] for n, name in enumerate(tomograms) if name]
    _write_csv(folder / "tomograms.csv", ["dynamo", "tomo_idx", "tomogram"], numbered)
    write_text(folder / "dynamo.tbl", "\n".join(dynamo) + "\n")
    ElementTree.indent(objects)
    write_text(folder / "objects.xml", ElementTree.tostring(objects, encoding="unicode") + "\n")
    write_readme(folder, "plain", contrast=describe_contrast(contrast, volumes))
    return len(rows)


def _row(row: Mapping[Any, Any], name: str, voxel_size: float, box: int) -> dict[str, Any]:
    centre = box // 2 + centre_offset(row, voxel_size)
    known = {"rlnTomoName": "tomogram", "cryoetganClass": "class", "cryoetganSource": "source"}
    known |= {"cryoetganSplit": "split", "cryoetganScore": "score", "cryoetganId": "id"}
    known |= dict(zip(COORDINATES, "xyz", strict=True))
    known |= dict(zip(ANGLES, ("rot", "tilt", "psi"), strict=True))
    found = {ours: row.get(column, "") for column, ours in known.items()}
    position = {f"center_{axis}": value for axis, value in zip("xyz", centre, strict=True)}
    return {"file": name, "voxel_size": voxel_size, **position, **found}


def _write_csv(path: Path, heading: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(heading)
    for row in rows:
        writer.writerow([f"{v:.4f}" if isinstance(v, float) else v for v in row])
    write_text(path, out.getvalue())


def dynamo_row(
    tag: int,
    label: int,
    tomogram: int,
    row: Mapping[Any, Any],
    shift: Any,
    acquisition: Acquisition,
) -> str:
    """Return one line of a Dynamo table.

    Dynamo's (tdrot, tilt, narot) are zxz angles about fixed axes. Their matrix rotates the
    particle into the reference; it equals RELION's matrix.

    `tag`, `label` and `tomogram` are numbers from 1 of the particle, its class and its tomogram;
    `shift` is its offset from the centre of the box, xyz, voxels.
    """
    values = [0.0] * 35
    values[0], values[1], values[2] = tag, 1, 1  # flags: align, average
    values[3:6] = shift
    if set(ANGLES) <= set(row):
        rotation = Rotation.from_euler("ZYZ", [float(row[a]) for a in ANGLES], degrees=True)
        with warnings.catch_warnings():
            # at tilt 0 only the sum of the other angles is defined; scipy sets the third to zero
            warnings.filterwarnings("ignore", message="Gimbal lock")
            values[6:9] = rotation.as_euler("zxz", degrees=True)
    values[9] = float(row.get("cryoetganScore", 0.0))
    values[12:15] = 1, acquisition.tilt_low, acquisition.tilt_high
    values[19], values[21] = tomogram, label
    if set(COORDINATES) <= set(row):
        values[23:26] = [float(row[column]) for column in COORDINATES]
    return " ".join(str(int(v)) if v == int(v) else f"{v:.4f}" for v in values)
