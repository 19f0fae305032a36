"""Translate with a residual generator: from densities and the checkpoint alone."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from cryoetgan.devices import multiplies_bfloat16
from cryoetgan.errors import UserError
from cryoetgan.imaging.model import ImagingModel, crop_centre
from cryoetgan.imaging.scenes import SCENE_BOXES
from cryoetgan.io.memmap import release_pages
from cryoetgan.io.volume_set import VolumeSet
from cryoetgan.physics.coordinates import centre_offset
from cryoetgan.seeds import rng
from cryoetgan.translation.engine import checkpoint
from cryoetgan.translation.residual.networks import Change
from cryoetgan.translation.residual.scene_simulation import unpacked
from cryoetgan.translation.residual.trainer import make_residual
from cryoetgan.translation.settings import Settings
from cryoetgan.translation.translator import Made, batch_of


def load_residual(
    content: Mapping[str, Any], settings: Settings, path: Path, snapshot: int | None = None
) -> nn.Module:
    """Return the averaged generator of a checkpoint, or with snapshot 0 fitted physics."""
    generator = make_residual(settings)
    state = content["initial" if snapshot == 0 else "average"]
    checkpoint.load_weights(generator, state, content, path)
    return generator.eval()


class ResidualTranslator:
    """A residual generator with the imaging models its scenes go through.

    Parameters
    ----------
    content : mapping
        A checkpoint's.
    settings : Settings
        Its recipe.
    direction, snapshot, device, path
        As of `inference.open_translator`.
    """

    multiple = least = 1

    def __init__(
        self,
        content: Mapping[str, Any],
        settings: Settings,
        direction: str,
        snapshot: int | None,
        device: torch.device,
        path: Path,
    ) -> None:
        self.content, self.settings = content, settings
        self.device, self.direction, self.path = device, direction, path
        self.models: list[ImagingModel] = unpacked(content["imaging"], path)
        self.half = settings.precision == "bf16" and multiplies_bfloat16(device)
        self.grey = checkpoint.scaler_of(content, "subtomogram")
        self.density = checkpoint.scaler_of(content, "density")
        if direction == "ds":
            self.generator = load_residual(content, settings, path, snapshot).to(device)
        else:
            self.generator = Change(1, settings.width, settings.blocks).to(device).eval()
            states = content["networks"].items()
            back = {k.removeprefix("G_sd."): v for k, v in states if k.startswith("G_sd.")}
            checkpoint.load_weights(self.generator, back, content, path)

    def optics(self) -> list[dict[str, Any]]:
        """Return one group an imaging model."""
        return [m.acquisition.to_optics(i, m.tomogram) for i, m in enumerate(self.models, 1)]

    @torch.no_grad()
    def apply(self, *inputs: Tensor) -> NDArray[np.float32]:
        """Return `(N, z, y, x)` in the target's grey values of inputs `(N, 1, z, y, x)` in theirs."""
        scaled = [self.grey.forward(x).to(self.device) for x in inputs]
        with torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.half):
            made = self.generator(*scaled).float().cpu()
        target = self.grey if self.direction == "ds" else self.density
        return target.backward(made)[:, 0].numpy()

    def translated(
        self, source: VolumeSet, names: Sequence[str], draws: int, seed: int
    ) -> Iterator[Made]:
        """Yield each row's draws one after another, made batch by batch.

        The first draw's scene and noise are those that `imaging simulate` gives the row.
        """
        todo = [(row, draw) for row in range(len(names)) for draw in range(draws)]
        batch = batch_of(source.box)
        for start in range(0, len(todo), batch):
            part = todo[start : start + batch]
            release_pages(source.volumes)
            if self.direction == "sd":
                boxes = np.asarray(source.volumes[[row for row, _ in part]], np.float32)
                made = self.apply(torch.from_numpy(boxes)[:, None])
                which = [0] * len(part)
            else:
                halves = [self._halves(source, row, names[row], draw, seed) for row, draw in part]
                which = [index for index, _, _ in halves]
                signals, noises = (
                    torch.from_numpy(np.stack([half[i] for half in halves]))[:, None]
                    for i in (1, 2)
                )
                made = self.apply(signals, noises)
            for (row, _), index, volume in zip(part, which, made, strict=True):
                yield row, index, volume

    def look(self, name: str, seed: int) -> int:
        """Return which imaging model a volume of this name is made by."""
        return self._drawn(name, 0, seed)[0]

    def _drawn(self, name: str, draw: int, seed: int) -> tuple[int, np.random.Generator]:
        """Return the imaging model of a draw, and the numbers to go on with."""
        numbers = rng(seed, "imaging", name, *([draw] if draw else []))
        return int(numbers.integers(len(self.models))), numbers

    def passes(
        self, source: VolumeSet, row: int, name: str, seed: int, count: int, fixed: bool
    ) -> Iterator[NDArray[np.float32]]:
        """Yield batches of `count` translations of one row: one scene, one noise or many."""
        index, signal, noise = self._halves(source, row, name, 0, seed)
        scene = (SCENE_BOXES * source.box,) * 3
        batch = batch_of(source.box)
        for start in range(0, count, batch):
            noises = []
            for draw in range(start, min(start + batch, count)):
                if not fixed and draw:
                    numbers = rng(seed, "imaging", name, "noise", draw)
                    noise = crop_centre(self.models[index].noise(scene, numbers), source.box)
                noises.append(noise)
            signals = np.stack([signal] * len(noises))
            yield self.apply(*(torch.from_numpy(x)[:, None] for x in (signals, np.stack(noises))))

    def _halves(
        self, source: VolumeSet, row: int, name: str, draw: int, seed: int
    ) -> tuple[int, NDArray[np.float32], NDArray[np.float32]]:
        index, numbers = self._drawn(name, draw, seed)
        model = self.models[index]
        if model.box != source.box:
            raise UserError(
                f"{source.path} has boxes of {source.box} voxels, the imaging models in {self.path} "
                f"of {model.box}; make both with one densities.box"
            )
        centre = centre_offset(source.table.iloc[row], source.voxel_size)
        density = np.asarray(source.volumes[row], np.float32)
        return (index, *model.signal_and_noise(density, centre, numbers))
