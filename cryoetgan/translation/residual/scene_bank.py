"""Scenes through the fitted simulation, held in memory: the residual network's training data."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cryoetgan.errors import UserError
from cryoetgan.imaging.model import SCENE_BOXES, ImagingModel, crop_centre
from cryoetgan.imaging.simulate.fitted import check_models
from cryoetgan.imaging.storage import load_model
from cryoetgan.io.memmap import release_pages
from cryoetgan.io.volume_set import VolumeSet
from cryoetgan.physics.coordinates import centre_offset
from cryoetgan.progress import track
from cryoetgan.seeds import rng as generator_for


def read_models(paths: Sequence[Path], densities: VolumeSet) -> list[ImagingModel]:
    """Return the imaging models of some files; box, voxel size and classes must fit."""
    models = {path: load_model(path) for path in paths}
    check_models(densities, models)
    known: dict[str, Path] = {}
    for path, model in models.items():
        if known.setdefault(model.tomogram, path) != path:
            raise UserError(
                f"--imaging: {known[model.tomogram]} and {path} are both of tomogram "
                f"{model.tomogram}; give one model a tomogram"
            )
    return list(models.values())


@dataclass(frozen=True)
class SceneBank:
    """Simulated scenes; a signal may be combined with any noise of the same imaging model.

    Attributes
    ----------
    signal, noise : Tensor
        `(N, 1, z, y, x)` half precision: grey values over `unit`.
    density : Tensor
        `(N, 1, z, y, x)` half precision: the densities behind the signals.
    model : Tensor of int
        `(N,)` index of the imaging model, sorted.
    unit : float
        Grey values of one unit of signal and noise, near the noise's standard deviation.
    """

    signal: Tensor
    noise: Tensor
    density: Tensor
    model: Tensor
    unit: float = 1.0

    def __len__(self) -> int:
        return len(self.signal)

    def draw(self, count: int) -> tuple[Tensor, Tensor, Tensor]:
        """Return `count` signals, noises and densities, drawn by torch's generator."""
        rows = torch.randint(len(self), (count,))
        first = torch.searchsorted(self.model, self.model[rows])
        last = torch.searchsorted(self.model, self.model[rows], right=True)
        others = first + (torch.rand(count) * (last - first)).long()
        signal, noise = (self.unit * x.float() for x in (self.signal[rows], self.noise[others]))
        return signal, noise, self.density[rows].float()


def simulate_scene_bank(
    densities: VolumeSet,
    rows: NDArray[np.int_],
    models: Sequence[ImagingModel],
    count: int,
    class_fractions: str,
    seed: int,
) -> SceneBank:
    """Simulate `count` scenes, the same number for each imaging model.

    Targets are the posed densities of `rows`; their class fractions are equal to the picks'
    (matched), or uniform.
    """
    table = densities.table.iloc[rows]
    by_class = {
        str(name): rows[(table["cryoetganClass"] == name).to_numpy()]
        for name in sorted(table["cryoetganClass"].unique())
    }
    which = np.sort(np.arange(count) % len(models))
    shape = (count, 1, *(densities.box,) * 3)
    # half of the memory; rounding is 1 part in 2000
    signal, noise, density = (torch.empty(shape, dtype=torch.float16) for _ in range(3))
    unit = 0.0
    classes: list[str] = []
    for index, model in enumerate(models):
        rng = generator_for(seed, "translation", "classes", index)
        number = int((which == index).sum())
        classes += draw_classes(model, list(by_class), class_fractions, rng, number)
    unused: list[NDArray[np.float32]] = []
    for i in track(range(count), "simulating scenes"):
        rng = generator_for(seed, "translation", "scene", i)
        model = models[which[i]]
        row = int(rng.choice(by_class[classes[i]]))
        target = np.array(densities.volumes[row], np.float32)
        release_pages(densities.volumes)
        centre = centre_offset(densities.table.iloc[row], densities.voxel_size)
        scene = model.build_scene(target, centre, rng)
        density[i, 0] = torch.from_numpy(crop_centre(scene, densities.box))
        if i and which[i] != which[i - 1]:
            unused = []
        if not unused:
            unused = split_octants(model.noise(scene.shape, rng))
        unit = unit or float(unused[0].std()) or 1.0
        signal[i, 0] = torch.from_numpy(crop_centre(model.signal(scene), densities.box) / unit)
        noise[i, 0] = torch.from_numpy(unused.pop() / unit)
    return SceneBank(signal, noise, density, torch.from_numpy(which), unit)


def draw_classes(
    model: ImagingModel,
    names: Sequence[str],
    class_fractions: str,
    rng: np.random.Generator,
    count: int,
) -> list[str]:
    """Return the classes of `count` scenes, at the particles' class fractions or at equal ones."""
    weights = np.array([model.class_fractions.get(name, 0.0) for name in names])
    if class_fractions == "uniform":
        weights = np.ones(len(names))
    if not weights.sum() > 0:
        raise UserError(
            f"the imaging model of {model.tomogram} has the classes {', '.join(model.class_fractions)}, "
            f"the densities {', '.join(names)}; fit it with the maps of these densities"
        )
    drawn = rng.choice(len(weights), size=count, p=weights / weights.sum())
    return [names[i] for i in drawn]


def split_octants(noise: NDArray[np.float32]) -> list[NDArray[np.float32]]:
    """Return the eight boxes of a noise scene: one Fourier transform gives eight."""
    box = noise.shape[0] // SCENE_BOXES
    starts = [range(0, n - box + 1, box) for n in noise.shape]
    return [
        np.ascontiguousarray(noise[z : z + box, y : y + box, x : x + box])
        for z, y, x in product(*starts)
    ]
