"""Translate volume sets with a trained generator: labels by construction."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from cryoetgan.devices import multiplies_bfloat16
from cryoetgan.errors import UserError
from cryoetgan.io.memmap import release_pages
from cryoetgan.io.volume_set import VolumeSet
from cryoetgan.seeds import integer_seed
from cryoetgan.translation.cyclegan.networks import Generator
from cryoetgan.translation.cyclegan.trainer import make_generator
from cryoetgan.translation.engine import checkpoint
from cryoetgan.translation.settings import Settings

BATCH, ROOM = 8, 8 * 40**3
"""Volumes made at a time, and voxels: large boxes go one by one."""
Made = tuple[int, int, NDArray[np.float32]]
"""Row of the source, number of the imaging model (0 where there is none), volume."""


def batch_of(box: int) -> int:
    """Return how many volumes of this edge are made at a time."""
    return max(1, min(BATCH, ROOM // box**3))


class Translating(Protocol):
    """What both frames' translators have in common."""

    content: Mapping[str, Any]
    multiple: int
    least: int

    @property
    def generator(self) -> nn.Module:
        """The network."""
        ...

    def optics(self) -> list[dict[str, Any]]:
        """Return the optics groups of what is made."""
        ...

    def translated(
        self, source: VolumeSet, names: Sequence[str], draws: int, seed: int
    ) -> Iterator[Made]:
        """Yield each row's draws one after another."""
        ...

    def look(self, name: str, seed: int) -> int:
        """Return which of `optics` a volume of this name is made by."""
        ...

    def passes(
        self, source: VolumeSet, row: int, name: str, seed: int, count: int, fixed: bool
    ) -> Iterator[NDArray[np.float32]]:
        """Yield batches of `count` translations of one row, of one noise or each of its own."""
        ...


def open_translator(
    path: Path, direction: str, snapshot: int | None, device: torch.device
) -> Translating:
    """Return the translator of a checkpoint.

    Parameters
    ----------
    path : Path
        `checkpoint.pt`, or one of `snapshots/`.
    direction : str
        ds: densities to subtomograms; sd: back.
    snapshot : int, optional
        0: the generator as it was before training.
    device : torch.device
        Where it computes.

    Raises
    ------
    UserError
        Where the checkpoint has no such generator.
    """
    from cryoetgan.translation.residual.translator import ResidualTranslator

    if direction not in ("ds", "sd"):
        raise UserError(f"--direction: got '{direction}', wanted ds or sd")
    if snapshot not in (None, 0):
        raise UserError(
            f"--snapshot: got {snapshot}, wanted 0; the generator of an epoch is a checkpoint of "
            f"its own, {path.parent}/snapshots/epoch_N.pt (snapshot_every in the preset)"
        )
    if snapshot == 0 and direction == "sd":
        raise UserError("--snapshot: the untrained generator is kept for direction ds only")
    content = checkpoint.read(path)
    settings = checkpoint.settings_of(content, path)
    kind = ResidualTranslator if settings.frame == "residual" else Translator
    return kind(content, settings, direction, snapshot, device, path)


def check_box(translator: Translating, source: VolumeSet) -> None:
    """Refuse boxes that the networks cannot take."""
    if source.box % translator.multiple or source.box < translator.least:
        raise UserError(
            f"{source.path}: boxes of {source.box} voxels; wanted a multiple of "
            f"{translator.multiple}, {translator.least} or more"
        )


class Translator:
    """A generator of the paper's cycle with the scales of its two domains.

    Parameters
    ----------
    content : mapping
        A checkpoint's.
    settings : Settings
        Its recipe.
    direction, snapshot, device, path
        As of `open_translator`.
    """

    multiple, least = 4, 8
    """Boxes must be divisible by it, and as large."""

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
        self.device, self.direction = device, direction
        domains = ("density", "subtomogram") if direction == "ds" else ("subtomogram", "density")
        self.source, self.target = (checkpoint.scaler_of(content, name) for name in domains)
        self.generator = self._load(snapshot, path).to(device).eval()

    def optics(self) -> list[dict[str, Any]]:
        """Return one group: the generator mixes what it learnt of all tomograms."""
        return [{**row, "rlnOpticsGroup": 1} for row in self.content["optics"][:1]]

    def _load(self, snapshot: int | None, path: Path) -> Generator:
        s = self.settings
        if self.direction == "sd":
            generator = make_generator(s, noise=s.noise_generators == "both")
            prefix = "G_sd."
            state = {
                name.removeprefix(prefix): value
                for name, value in self.content["networks"].items()
                if name.startswith(prefix)
            }
        else:
            generator = make_generator(s)
            state = self.content["initial" if snapshot == 0 else "average"]
        checkpoint.load_weights(generator, state, self.content, path)
        return generator

    @torch.no_grad()
    def translate(self, volumes: np.ndarray, seeds: list[int]) -> np.ndarray:
        """Return the translations `(N, z, y, x)`; each draws its noise from its own seed.

        Parameters
        ----------
        volumes : ndarray
            `(N, z, y, x)` in the source's own grey values.
        seeds : list of int
            One a volume.
        """
        inputs = self.source.forward(torch.from_numpy(np.array(volumes, np.float32))[:, None])
        noises = []
        for index, seed in enumerate(seeds):
            numbers = torch.Generator().manual_seed(seed)
            one = inputs[index : index + 1]
            if self.direction == "ds":
                inputs[index] += self._input_noise() * torch.randn(one.shape[1:], generator=numbers)
            noises.append(torch.randn(self.generator.noise_shape(one), generator=numbers))
        noise = torch.cat(noises).to(self.device) if self.generator.noise_channels else None
        on = self.settings.precision == "bf16" and multiplies_bfloat16(self.device)
        with torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=on):
            made = self.generator(inputs.to(self.device), noise).float().cpu()
        return self.target.backward(made)[:, 0].numpy()

    def _input_noise(self) -> float:
        return float(self.content["noise_sd"])

    def translated(
        self, source: VolumeSet, names: Sequence[str], draws: int, seed: int
    ) -> Iterator[Made]:
        """Yield each row's draws one after another, made batch by batch."""
        todo = [(row, draw) for row in range(len(names)) for draw in range(draws)]
        batch = batch_of(source.box)
        for start in range(0, len(todo), batch):
            part = todo[start : start + batch]
            seeds = [
                integer_seed(seed, "translate", names[row], draw) % 2**62 for row, draw in part
            ]
            made = self.translate(np.asarray(source.volumes[[row for row, _ in part]]), seeds)
            release_pages(source.volumes)
            for (row, _), volume in zip(part, made, strict=True):
                yield row, 0, volume

    def look(self, name: str, seed: int) -> int:
        """Return which of `optics` a volume of this name is made by."""
        return 0

    def passes(
        self, source: VolumeSet, row: int, name: str, seed: int, count: int, fixed: bool
    ) -> Iterator[NDArray[np.float32]]:
        """Yield batches of `count` translations of one row, of one noise or each of its own."""
        volume = np.asarray(source.volumes[row])
        batch = batch_of(source.box)
        for start in range(0, count, batch):
            draws = range(start, min(start + batch, count))
            seeds = [
                integer_seed(seed, "translate", name, 0 if fixed else k) % 2**62 for k in draws
            ]
            yield self.translate(np.stack([volume] * len(seeds)), seeds)
