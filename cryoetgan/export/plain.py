"""Single MRC files, and particle lists of other programs: of volumes, or of whole tomograms."""

import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
from numpy.typing import NDArray

from cryoetgan.export.deepfinder import DeepFinderData, write_deepfinder
from cryoetgan.export.export_folder import member, write_csv, write_readme
from cryoetgan.export.grey_scale import describe_contrast, exported_particles, is_of_set
from cryoetgan.export.runs import Run, has_angles, renumber_labels
from cryoetgan.io.files import write_text
from cryoetgan.io.mrc import write_volume
from cryoetgan.io.star import ANGLES, COORDINATES
from cryoetgan.io.volume_set import VolumeSet
from cryoetgan.physics.acquisition import Acquisition
from cryoetgan.physics.coordinates import centre_offset
from cryoetgan.physics.geometry import rotation_from_relion

COLUMNS = ["file", "class", "source", "split", "tomogram", "voxel_size", "x", "y", "z"]
COLUMNS += ["center_x", "center_y", "center_z", "rot", "tilt", "psi", "score", "id"]
TOMOTWIN_BOX = 37
"""Voxels of the edge of TomoTwin's boxes."""
VALIDATION = (1, 2)
"""Of ten volumes of a class, those for validation if the set has no splits; TomoTwin needs pairs."""


@dataclass
class ParticleLists:
    """The lists of an export, one entry for each particle.

    `classes` and `tomograms` are names in the order of their numbers: labels, DeepFinder's tomo_idx
    and Dynamo's tomogram.
    """

    classes: list[str]
    tomograms: list[str]
    rows: list[dict[str, Any]] = field(default_factory=list)
    dynamo: list[str] = field(default_factory=list)
    objects: ElementTree.Element = field(default_factory=lambda: ElementTree.Element("objlist"))

    def add(
        self,
        row: Mapping[Any, Any],
        acquisition: Acquisition,
        offset: NDArray[np.float64],
        **values: Any,
    ) -> None:
        """Add a particle at the coordinates of its row plus an offset, x, y, z in voxels.

        `values` are further columns of particles.csv.
        """
        label = self.classes.index(str(row["cryoetganClass"])) + 1
        name = tomogram_of(row)
        number = self.tomograms.index(name) + 1 if name else 0
        tag = len(self.rows) + 1
        self.dynamo.append(dynamo_row(tag, label, number, row, offset, acquisition))
        known = {"cryoetganClass": "class", "cryoetganSource": "source", "cryoetganSplit": "split"}
        known |= {"cryoetganScore": "score", "cryoetganId": "id"}
        known |= dict(zip(ANGLES, ("rot", "tilt", "psi"), strict=True))
        found = {ours: row.get(column, "") for column, ours in known.items()} | values
        found["tomogram"] = name
        if set(COORDINATES) <= set(row):
            place = np.array([float(row[column]) for column in COORDINATES]) + offset
            found |= dict(zip("xyz", map(float, place), strict=True))
            self._add_object(row, tag, label, max(number - 1, 0), place)
        # an empty cell of a STAR file is not a number
        shown = {key: value for key, value in found.items() if value == value}
        self.rows.append({column: shown.get(column, "") for column in COLUMNS})

    def _add_object(
        self, row: Mapping[Any, Any], tag: int, label: int, tomogram: int, place: Any
    ) -> None:
        """Add an object of DeepFinder, with TOM's angles if the orientation is known."""
        ids = {"tomo_idx": tomogram, "obj_id": tag - 1, "class_label": label}
        numbers = dict(zip("xyz", place, strict=True))
        if has_angles(row):
            phi, theta, psi = _tom_angles(row)
            numbers |= {"phi": phi, "psi": psi, "the": theta}
        text = {k: str(v) for k, v in ids.items()} | {k: f"{v:.3f}" for k, v in numbers.items()}
        ElementTree.SubElement(self.objects, "object", text)

    def write(
        self, folder: Path, files: Mapping[str, str], splits: Mapping[str, str] | None = None
    ) -> None:
        """Write the lists; `files` are the tomograms' files by name, for Dynamo's table map.

        `splits` are the splits of the tomograms by name.
        """
        table = [[row[column] for column in COLUMNS] for row in self.rows]
        write_csv(folder / "particles.csv", COLUMNS, table)
        codes = [[f"{n:04d}", n, name] for n, name in enumerate(self.classes, start=1)]
        write_csv(folder / "classes.csv", ["code", "label", "class"], codes)
        numbered = [(n + 1, n, name) for n, name in enumerate(self.tomograms)]
        heading = ["dynamo", "tomo_idx", "tomogram", *(["split"] if splits else [])]
        lines = [(*row, splits[row[2]]) if splits else row for row in numbered]
        write_csv(folder / "tomograms.csv", heading, lines)
        write_text(folder / "dynamo.tbl", "".join(f"{line}\n" for line in self.dynamo))
        if numbered:
            mapped = [f"{n} {files.get(name, f'{name}.mrc')}\n" for n, _, name in numbered]
            write_text(folder / "dynamo.doc", "".join(mapped))
        ElementTree.indent(self.objects)
        text = ElementTree.tostring(self.objects, encoding="unicode")
        write_text(folder / "objects.xml", text + "\n")


def export_plain(volumes: VolumeSet, folder: Path, contrast: str | None) -> int:
    """Write a volume set as single files with lists and return the number of particles."""
    classes = [str(name) for name in volumes.classes()]
    names = set(map(tomogram_of, volumes.table.to_dict("records")))
    lists = ParticleLists(classes, sorted(names - {""}))
    seen = dict.fromkeys(classes, 0)
    step = volumes.voxel_size * volumes.box / TOMOTWIN_BOX
    for number, row, acquisition, data in exported_particles(volumes, contrast):
        kind = str(row["cryoetganClass"])
        file = f"id{classes.index(kind) + 1:04d}_{kind}_{number:06d}.mrc"
        write_volume(member(folder, f"volumes/{file}"), data, volumes.voxel_size)
        part = "validation" if _is_validation(row, seen[kind]) else "training"
        seen[kind] += 1
        write_volume(member(folder, f"tomotwin/{part}/{file}"), tomotwin_cube(data), step)
        offset = centre_offset(row, volumes.voxel_size)
        centre = dict(zip("xyz", map(float, volumes.box // 2 + offset), strict=True))
        inside: dict[str, Any] = {f"center_{axis}": value for axis, value in centre.items()}
        inside |= {"file": f"volumes/{file}", "voxel_size": volumes.voxel_size}
        lists.add(row, acquisition, offset, **inside)
    lists.write(folder, {})
    shown = describe_contrast(contrast, volumes)
    write_readme(folder, "plain", contrast=shown, tomotwin=f"{step:.4g}")
    return len(lists.rows)


def export_plain_tomograms(runs: Iterable[Run], folder: Path, contrast: str | None) -> int:
    """Write tomograms, their labels and the lists of all their particles; return the number.

    Only one tomogram is in memory at a time; particles at the border are kept.
    """
    lists, learned = ParticleLists([], []), DeepFinderData()
    for run in runs:
        learned.add_run(run)
        lists.tomograms.append(run.name)
        known = {*run.label_names.values(), *run.particles["cryoetganClass"].astype(str)}
        lists.classes.extend(sorted(known - set(lists.classes)))
        file = f"tomograms/{run.name}.mrc"
        write_volume(member(folder, file), run.data, run.voxel_size)
        if run.labels is not None:
            numbers = {n: lists.classes.index(name) + 1 for n, name in run.label_names.items()}
            labels = renumber_labels(run.labels, numbers).astype(np.int16)
            write_volume(member(folder, f"labels/{run.name}_labels.mrc"), labels, run.voxel_size)
        for row in run.particles.to_dict("records"):
            lists.add(row, run.acquisition, np.zeros(3), file=file, voxel_size=run.voxel_size)
    files = {name: f"tomograms/{name}.mrc" for name in lists.tomograms}
    lists.write(folder, files, learned.complete())
    described = contrast or "as in your own files (dark by default)"
    write_readme(folder, "plain_tomograms", contrast=described)
    write_deepfinder(folder, learned, lists.classes, lists.objects)
    return len(lists.rows)


def tomogram_of(row: Mapping[Any, Any]) -> str:
    """Return the tomogram of a particle; empty if it has none, or lies in a set of subtomograms."""
    return "" if is_of_set(row) else str(row.get("rlnTomoName", ""))


def _is_validation(row: Mapping[Any, Any], number: int) -> bool:
    """Return whether a volume, the `number`-th of its class, is for validation."""
    split = str(row.get("cryoetganSplit", "") or "")
    if split in ("train", "validation", "test"):
        return split != "train"
    return number % 10 in VALIDATION


def tomotwin_cube(volume: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return a cube `(z, y, x)` on 37 voxels over the same field, voxel n // 2 on voxel 18."""
    from cryoetgan.tomograms.importing.resample import lanczos_weights

    box = len(volume)
    step = box / TOMOTWIN_BOX
    weights = lanczos_weights(box, TOMOTWIN_BOX, step, box // 2 - TOMOTWIN_BOX // 2 * step)
    dense = weights.toarray()
    cube = np.einsum("ai,bj,ck,ijk->abc", dense, dense, dense, volume, optimize=True)
    return np.asarray(cube, np.float32)


def _tom_angles(row: Mapping[Any, Any]) -> NDArray[np.float64]:
    """Return phi, theta, psi of TOM and PyTom, degrees.

    The reference is rotated about z by phi, then about x by theta, then about z by psi.
    """
    rotation = rotation_from_relion([float(row[name]) for name in ANGLES])
    with warnings.catch_warnings():
        # at tilt 0 only the sum of the other angles is defined; scipy sets the third to zero
        warnings.filterwarnings("ignore", message="Gimbal lock")
        return np.asarray(rotation.as_euler("zxz", degrees=True))


def dynamo_row(
    tag: int,
    label: int,
    tomogram: int,
    row: Mapping[Any, Any],
    shift: Any,
    acquisition: Acquisition,
) -> str:
    """Return one line of a Dynamo table; coordinates are counted from 1.

    Dynamo's (tdrot, tilt, narot) are zxz angles about fixed axes. Their matrix rotates the
    particle into the reference; it equals RELION's matrix.

    `tag`, `label` and `tomogram` are numbers from 1 of the particle, its class and its tomogram
    (0: none); `shift` is its offset from the centre of the box, xyz, voxels.
    """
    values = [0.0] * 35
    values[0], values[1], values[2] = tag, 1, 1  # flags: align, average
    values[3:6] = shift
    if has_angles(row):
        phi, theta, psi = _tom_angles(row)
        values[6:9] = -psi, -theta, -phi  # the inverse rotation
    score = float(row.get("cryoetganScore", 0.0))
    values[9] = score if np.isfinite(score) else 0.0
    values[12:15] = 1, acquisition.tilt_low, acquisition.tilt_high
    values[19], values[21] = tomogram, label
    if set(COORDINATES) <= set(row):
        values[23:26] = [float(row[column]) + 1 for column in COORDINATES]
    return " ".join(str(int(v)) if v == int(v) else f"{v:.4f}" for v in values)
