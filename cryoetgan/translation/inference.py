"""Translate volume sets with a trained generator: labels by construction."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from cryoetgan.devices import multiplies_bfloat16
from cryoetgan.errors import UserError
from cryoetgan.seeds import integer
from cryoetgan.translation import checkpoint
from cryoetgan.translation.networks import Generator
from cryoetgan.translation.settings import Settings
from cryoetgan.translation.training import make_generator

BATCH = 8


class Translator:
    """A generator with the scales of its two domains.

    Parameters
    ----------
    path : Path
        `checkpoint.pt`.
    direction : str
        ds: densities to subtomograms; sd: back.
    snapshot : int, optional
        0: the generator as it was before training.
    device : torch.device
        Where it computes.
    """

    def __init__(
        self, path: Path, direction: str, snapshot: int | None, device: torch.device
    ) -> None:
        if direction not in ("ds", "sd"):
            raise UserError(f"--direction: got '{direction}', wanted ds or sd")
        if snapshot not in (None, 0):
            raise UserError(f"--snapshot: got {snapshot}; {path} keeps snapshot 0 only")
        if snapshot == 0 and direction == "sd":
            raise UserError("--snapshot: the untrained generator is kept for direction ds only")
        self.content = checkpoint.read(path)
        self.settings: Settings = checkpoint.settings_of(self.content, path)
        self.device, self.direction = device, direction
        domains = ("density", "subtomogram") if direction == "ds" else ("subtomogram", "density")
        self.source, self.target = (checkpoint.scaler_of(self.content, name) for name in domains)
        self.generator = self._load(snapshot).to(device).eval()

    def _load(self, snapshot: int | None) -> Generator:
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
        generator.load_state_dict(state)
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
    translator: Translator, volumes: Any, names: list[str], draws: int, seed: int
) -> Iterator[tuple[int, np.ndarray]]:
    """Yield `(row, volume)`: each row's draws one after another, batch by batch."""
    todo = [(row, draw) for row in range(len(names)) for draw in range(draws)]
    for start in range(0, len(todo), BATCH):
        part = todo[start : start + BATCH]
        seeds = [integer(seed, "translate", names[row], draw) % 2**62 for row, draw in part]
        made = translator.translate(np.asarray(volumes[[row for row, _ in part]]), seeds)
        for (row, _), volume in zip(part, made, strict=True):
            yield row, volume
