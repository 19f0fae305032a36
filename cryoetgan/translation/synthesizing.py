"""Files around a synthetic tomogram: scene and checkpoint in; tomogram, labels and truth out."""

from pathlib import Path
from typing import Any

import numpy as np
import torch

from cryoetgan.errors import UserError
from cryoetgan.files import provenance, read_json, sidecar, write_json
from cryoetgan.imaging.model import ImagingModel
from cryoetgan.progress import track
from cryoetgan.star import COORDINATES, class_name, particle_id, read_star, write_star
from cryoetgan.translation import checkpoint
from cryoetgan.translation.residual_inference import load_residual
from cryoetgan.translation.scenes import unpacked
from cryoetgan.translation.synthesis import Synthesizer, tiles
from cryoetgan.volumes import Volume, open_volume, read_volume, same_voxel_size


def chosen_model(models: list[ImagingModel], name: str | None, path: Path) -> ImagingModel:
    """Return the imaging model of a tomogram, or the first."""
    known = {model.tomogram: model for model in models}
    if name is not None and name not in known:
        raise UserError(f"--tomogram: got '{name}', but {path} has {', '.join(known)}")
    return models[0] if name is None else known[name]


def write_tomogram(
    path: Path,
    scene: Path,
    output: Path,
    labels: Path | None,
    particles: Path | None,
    tomogram: str | None,
    core: int,
    device: torch.device,
    seed: int,
) -> None:
    """Write `T.mrc`, and beside it `T_labels.mrc` and `T.star` where labels and truth are given.

    Raises
    ------
    UserError
        Where the checkpoint is no residual one, or files do not fit each other.
    """
    if output.suffix != ".mrc":
        raise UserError(f"{output}: a tomogram is an MRC file; end its name in .mrc")
    content = checkpoint.read(path)
    settings = checkpoint.settings_of(content, path)
    if settings.frame != "residual":
        raise UserError(
            f"{path}: was trained with preset {content.get('preset')}, whose instance norm would "
            "change grey values from tile to tile; whole tomograms want preset recommended"
        )
    model = chosen_model(unpacked(content["imaging"], path), tomogram, path)
    source = read_volume(scene)
    same_voxel_size(source.voxel_size, model.voxel_size, scene, path)
    marks = None if labels is None else _labels(labels, source, scene)
    truth = None if particles is None else read_star(particles, COORDINATES)
    generator = load_residual(content, settings).to(device)
    grey = checkpoint.scaler_of(content, "subtomogram")
    made = Synthesizer(model, generator, grey, device, seed)  # type: ignore[arg-type]
    z, y, x = source.data.shape
    todo = list(tiles((z, y, x), core))
    with open_volume(output, source.data.shape, source.voxel_size) as out:
        for corner, shape in track(todo, "synthesizing"):
            part = tuple(slice(c, c + n) for c, n in zip(corner, shape, strict=True))
            out[part] = made.part(source.data, corner, shape)
    name = class_name(output)
    inputs = [p for p in (path, scene, labels, particles) if p is not None]
    record = provenance("translation synthesize", inputs, {"tomogram": model.tomogram}, seed)
    content_of = {"provenance": record} | _meaning(labels)
    if marks is not None:
        beside = output.with_name(f"{name}_labels.mrc")
        with open_volume(beside, marks.data.shape, source.voxel_size, marks.data.dtype) as out:
            for index, plane in enumerate(marks.data):
                out[index] = plane
        write_json(sidecar(beside), content_of)
    if truth is not None:
        rows = truth.particles.copy()
        rows["rlnTomoName"] = name
        places = rows[COORDINATES].to_numpy(float)
        rows["cryoetganId"] = [particle_id(name, *place) for place in places]
        rows["cryoetganSource"] = "generated"
        write_star(output.with_suffix(".star"), rows, truth.optics)
    write_json(sidecar(output), content_of | {"acquisition": model.acquisition.to_json()})


def _meaning(labels: Path | None) -> dict[str, Any]:
    """Return the names of the labels as the record beside them has them, where there is one."""
    if labels is None or not sidecar(labels).exists():
        return {}
    found = read_json(sidecar(labels))
    return {"labels": found["labels"]} if isinstance(found, dict) and "labels" in found else {}


def _labels(path: Path, scene: Volume, name: Path) -> Volume:
    found = read_volume(path, scene.voxel_size)
    if found.data.shape != scene.data.shape:
        raise UserError(
            f"{path}: has {found.data.shape} voxels (zyx), but {name} {scene.data.shape}; labels "
            "and scene must cover each other"
        )
    if found.data.dtype not in (np.int8, np.int16, np.uint16, np.float32, np.float16):
        raise UserError(f"{path}: holds {found.data.dtype}, no type that MRC labels have")
    return found
