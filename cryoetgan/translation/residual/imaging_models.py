"""Imaging models of a run: read from files, and kept in its checkpoint."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from cryoetgan.errors import UserError
from cryoetgan.imaging.model import ImagingModel
from cryoetgan.imaging.simulate.fitted import check_models
from cryoetgan.imaging.storage import from_parts, load_model, to_parts
from cryoetgan.io.volume_set import VolumeSet


def read_models(paths: Sequence[Path], densities: VolumeSet) -> list[ImagingModel]:
    """Return the imaging models of some files; box, voxel size and classes must fit."""
    models = {path: load_model(path) for path in paths}
    check_models(densities, models)
    known: dict[str, Path] = {}
    for path, model in models.items():
        if model.tomogram in known:
            raise UserError(
                f"--imaging: {known[model.tomogram]} and {path} are both of tomogram "
                f"{model.tomogram}; give one model a tomogram"
            )
        known[model.tomogram] = path
    return list(models.values())


def pack_models(models: Sequence[ImagingModel]) -> list[dict[str, Any]]:
    """Return imaging models as plain values and tensors, for a checkpoint."""
    out = []
    for model in models:
        content, arrays = to_parts(model)
        # a checkpoint holds no numpy scalars
        content = json.loads(json.dumps(content, default=float))
        tensors = {name: torch.from_numpy(np.array(value)) for name, value in arrays.items()}
        out.append({"content": content, "arrays": tensors})
    return out


def unpack_models(parts: Sequence[Mapping[str, Any]], path: Path) -> list[ImagingModel]:
    """Return the imaging models of the checkpoint `path`."""
    return [
        from_parts(part["content"], {k: v.numpy() for k, v in part["arrays"].items()}, path)
        for part in parts
    ]
