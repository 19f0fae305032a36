"""Scenes through fitted physics, as the residual generator learns from them: u and n apart."""

import json
from collections.abc import Mapping, Sequence
from itertools import product
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from cryoetgan.errors import UserError
from cryoetgan.imaging.model import EMPTY_CLASS, ImagingModel, crop_centre
from cryoetgan.imaging.scenes import SCENE_BOXES
from cryoetgan.imaging.storage import from_parts, to_parts
from cryoetgan.io.volume_set import VolumeSet
from cryoetgan.physics.coordinates import centre_offset
from cryoetgan.progress import track
from cryoetgan.seeds import rng
from cryoetgan.translation.residual.scene_bank import Scenes


def drawn_classes(
    model: ImagingModel, names: Sequence[str], shares: str, numbers: np.random.Generator, count: int
) -> list[str]:
    """Return the classes of `count` scenes, as often as in the picks, or all as often.

    Raises
    ------
    UserError
        Where the densities hold none of the model's classes.
    """
    weights = np.array([model.class_fractions.get(name, 0.0) for name in (*names, EMPTY_CLASS)])
    if shares == "uniform":
        weights = np.array([1.0] * len(names) + [0.0])
    if not weights[:-1].sum() > 0:
        raise UserError(
            f"the imaging model of {model.tomogram} has the classes "
            f"{', '.join(model.class_fractions)}, the densities {', '.join(names)}: none in "
            "common; fit it with these densities' maps"
        )
    drawn = numbers.choice(len(weights), size=count, p=weights / weights.sum())
    return [(*names, EMPTY_CLASS)[i] for i in drawn]


def make_scenes(
    densities: VolumeSet,
    rows: NDArray[np.int_],
    models: Sequence[ImagingModel],
    count: int,
    shares: str,
    seed: int,
) -> Scenes:
    """Return `count` scenes, shared evenly among the imaging models.

    Parameters
    ----------
    densities : VolumeSet
        Posed densities.
    rows : ndarray of int
        Those to use.
    models : sequence of ImagingModel
        Of the tomograms that subtomograms come from.
    count : int
        Scenes.
    shares : {'matched', 'uniform'}
        How often each class occurs.
    seed : int
        The run's seed.
    """
    table = densities.table.iloc[rows]
    by_class = {
        str(name): rows[(table["cryoetganClass"] == name).to_numpy()]
        for name in sorted(table["cryoetganClass"].unique())
    }
    which = np.sort(np.arange(count) % len(models))
    shape = (count, 1, *(densities.box,) * 3)
    signal, noise = (torch.empty(shape) for _ in range(2))
    density = torch.empty(shape, dtype=torch.float16)
    classes: list[str] = []
    for index, model in enumerate(models):
        numbers = rng(seed, "translation", "classes", index)
        number = int((which == index).sum())
        classes += drawn_classes(model, list(by_class), shares, numbers, number)
    spare: list[NDArray[np.float32]] = []
    for i in track(range(count), "making scenes"):
        numbers = rng(seed, "translation", "scene", i)
        model = models[which[i]]
        target = None
        centre: NDArray[np.floating] = np.zeros(3)
        if classes[i] != EMPTY_CLASS:
            row = int(numbers.choice(by_class[classes[i]]))
            target = np.asarray(densities.volumes[row], np.float32)
            centre = centre_offset(densities.table.iloc[row], densities.voxel_size)
        scene = model.build_scene(target, centre, numbers)
        signal[i, 0] = torch.from_numpy(crop_centre(model.signal(scene), densities.box))
        density[i, 0] = torch.from_numpy(crop_centre(scene, densities.box))
        if i and which[i] != which[i - 1]:
            spare = []
        if not spare:
            spare = octants(model.noise(scene.shape, numbers))
        noise[i, 0] = torch.from_numpy(spare.pop())
    return Scenes(signal, noise, density, torch.from_numpy(which))


def octants(noise: NDArray[np.float32]) -> list[NDArray[np.float32]]:
    """Return the eight boxes of a noise scene: one Fourier transform makes eight."""
    box = noise.shape[0] // SCENE_BOXES
    starts = [range(0, n - box + 1, box) for n in noise.shape]
    return [
        np.ascontiguousarray(noise[z : z + box, y : y + box, x : x + box])
        for z, y, x in product(*starts)
    ]


def packed(models: Sequence[ImagingModel]) -> list[dict[str, Any]]:
    """Return imaging models as plain values and tensors, for a checkpoint."""
    out = []
    for model in models:
        content, arrays = to_parts(model)
        # plain numbers: a checkpoint holds no numpy scalars
        content = json.loads(json.dumps(content, default=float))
        tensors = {name: torch.from_numpy(np.array(value)) for name, value in arrays.items()}
        out.append({"content": content, "arrays": tensors})
    return out


def unpacked(parts: Sequence[Mapping[str, Any]], name: object) -> list[ImagingModel]:
    """Return the imaging models of a checkpoint; `name` is what messages call it."""
    return [
        from_parts(part["content"], {k: v.numpy() for k, v in part["arrays"].items()}, name)
        for part in parts
    ]
