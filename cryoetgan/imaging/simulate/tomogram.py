"""Files around a synthetic tomogram: scene in; tomogram, labels and truth out."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cryoetgan.errors import UserError
from cryoetgan.imaging.model import ImagingModel
from cryoetgan.imaging.simulate.tiling import Corner, tiles
from cryoetgan.io.files import check_not_overwritten, provenance, read_json, sidecar, write_json
from cryoetgan.io.memmap import iterate_sections, release_pages
from cryoetgan.io.mrc import (
    PROTEIN_BRIGHT,
    Volume,
    check_mrc_name,
    check_same_voxel_size,
    open_volume,
    read_volume,
)
from cryoetgan.io.star import COORDINATES, class_name, particle_id, read_star, write_star
from cryoetgan.progress import track

Part = Callable[[NDArray[np.generic], Corner, Corner], NDArray[np.float32]]
LABEL_TYPES = (np.int8, np.int16, np.uint16, np.float32, np.float16)


@dataclass(frozen=True)
class Source:
    """What a synthetic tomogram is made of, opened and checked.

    Attributes
    ----------
    scene_path : Path
        MRC of densities.
    scene : Volume
        Itself, memory-mapped.
    labels_path, particles_path : Path or None
        What is passed through.
    labels : Volume or None
        On the scene's grid.
    particles : pandas.DataFrame or None
        The truth.
    """

    scene_path: Path
    scene: Volume
    labels_path: Path | None
    labels: Volume | None
    particles_path: Path | None
    particles: pd.DataFrame | None

    @property
    def files(self) -> list[Path]:
        """All that is read."""
        given = (self.scene_path, self.labels_path, self.particles_path)
        return [path for path in given if path is not None]


def open_source(scene: Path, labels: Path | None, particles: Path | None) -> Source:
    """Open a scene with what belongs to it.

    Raises
    ------
    UserError
        Where a file is missing, or labels do not cover the scene.
    """
    opened = read_volume(scene)
    marks = None if labels is None else _labels(labels, opened, scene)
    truth = None if particles is None else read_star(particles, COORDINATES).particles
    return Source(scene, opened, labels, marks, particles, truth)


def _labels(path: Path, scene: Volume, name: Path) -> Volume:
    found = read_volume(path, scene.voxel_size)
    if found.data.shape != scene.data.shape:
        raise UserError(
            f"{path}: has {found.data.shape} voxels (zyx), but {name} {scene.data.shape}; labels "
            "and scene must cover each other"
        )
    if found.data.dtype not in LABEL_TYPES:
        raise UserError(f"{path}: holds {found.data.dtype}, no type that MRC labels have")
    return found


def write_tomogram(
    output: Path,
    source: Source,
    model: ImagingModel,
    part: Part,
    tile: int,
    record: dict[str, Any],
    origin: str,
) -> None:
    """Write `T.mrc`, and beside it `T_labels.mrc` and `T.star` where labels and truth are given.

    Parameters
    ----------
    output : Path
        `T.mrc`.
    source : Source
        What it is made of.
    model : ImagingModel
        Whose grey values, and how it was recorded.
    part : callable
        Gives the tomogram's part of a scene, at a corner, of a shape (zyx).
    tile : int
        Voxels, edge of such a part.
    record : dict
        Provenance.
    origin : str
        For the rows' cryoetganSource: simulated, generated.

    Raises
    ------
    UserError
        Where the name is not that of an MRC file, or scene and model differ in voxel size.
    """
    check_mrc_name(output)
    beside = output.with_name(f"{output.stem}_labels.mrc")
    for target in (output, beside, output.with_suffix(".star")):
        for path in source.files:
            check_not_overwritten(path, target)
    name, data, voxel_size = class_name(output), source.scene.data, source.scene.voxel_size
    check_same_voxel_size(voxel_size, model.voxel_size, source.scene_path, model.tomogram)
    z, y, x = data.shape
    made = [PROTEIN_BRIGHT, f"synthetic: looks like {model.tomogram}"]
    with open_volume(output, data.shape, voxel_size, np.float32, made) as out:
        for corner, shape in track(list(tiles((z, y, x), tile)), "synthesizing"):
            where = tuple(slice(c, c + n) for c, n in zip(corner, shape, strict=True))
            values = part(data, corner, shape)
            if not np.isfinite(values).all():
                at = ", ".join(map(str, corner))
                raise UserError(
                    f"{source.scene_path}: what is made of it about voxel z, y, x = {at} is not "
                    "finite: look for NaN or infinite densities there"
                )
            out[where] = values
            release_pages(out)
            release_pages(data)
    content = {"provenance": record} | _meaning(source.labels_path)
    if source.labels is not None:
        marks = source.labels.data
        with open_volume(beside, marks.shape, voxel_size, marks.dtype) as out:
            for plane, given in zip(iterate_sections(out), iterate_sections(marks), strict=True):
                plane[:] = given
        write_json(sidecar(beside), content)
    if source.particles is not None:
        optics = pd.DataFrame([model.acquisition.to_optics(1, name)])
        optics["rlnImagePixelSize"] = voxel_size
        write_star(output.with_suffix(".star"), _renamed(source.particles, name, origin), optics)
    write_json(sidecar(output), content | {"acquisition": model.acquisition.to_json()})


def _renamed(particles: pd.DataFrame, name: str, origin: str) -> pd.DataFrame:
    """Return the truth's rows as those of the tomogram made."""
    rows = particles.copy()
    rows["rlnTomoName"] = name
    rows["cryoetganId"] = [particle_id(name, *at) for at in rows[COORDINATES].to_numpy(float)]
    return rows.assign(cryoetganSource=origin, rlnOpticsGroup=1)


def _meaning(labels: Path | None) -> dict[str, Any]:
    """Return the names of the labels as the record beside them has them, where there is one."""
    if labels is None or not sidecar(labels).exists():
        return {}
    found = read_json(sidecar(labels))
    return {"labels": found["labels"]} if isinstance(found, dict) and "labels" in found else {}


def record_of(command: str, source: Source, more: list[Path], seed: int, **said: Any) -> Any:
    """Return the provenance of a synthetic tomogram; `said` are its parameters."""
    return provenance(command, [*more, *source.files], said, seed)
