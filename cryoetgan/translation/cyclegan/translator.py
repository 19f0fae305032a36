"""Translate volume sets with a generator of the paper's CycleGAN."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from cryoetgan.io.volume_set import VolumeSet
from cryoetgan.seeds import integer_seed
from cryoetgan.translation.cyclegan.settings import CycleGANSettings
from cryoetgan.translation.cyclegan.trainer import make_generator
from cryoetgan.translation.engine import checkpoint
from cryoetgan.translation.engine.translator import Translator, Volumes


class CycleGANTranslator(Translator):
    """G_ds or G_sd of the CycleGAN; `Translator` has the parameters.

    Parameters
    ----------
    untrained : bool
        Load G_ds as it was before training.
    """

    box_multiple, smallest_box = 4, 8
    generator: Any

    def __init__(
        self,
        content: Mapping[str, Any],
        settings: CycleGANSettings,
        direction: str,
        device: torch.device,
        path: Path,
        untrained: bool = False,
    ) -> None:
        super().__init__(content, settings, direction, device, path)
        domains = ("density", "subtomogram") if direction == "ds" else ("subtomogram", "density")
        self.source, self.target = (checkpoint.scaler_of_domain(content, name) for name in domains)
        if direction == "ds":
            generator = make_generator(settings)
            state = content["initial" if untrained else "average"]
        else:
            generator = make_generator(settings, noise=settings.noise_generators == "both")
            state = checkpoint.network_state(content, "G_sd")
        checkpoint.load_weights(generator, state, content, path)
        self.generator = generator.to(device).eval()

    def optics(self) -> list[dict[str, Any]]:
        """Return one group: the generator mixes all training tomograms."""
        return [{**row, "rlnOpticsGroup": 1} for row in self.content["optics"][:1]]

    def optics_index(self, name: str, seed: int) -> int:
        """Return 0, the only group."""
        return 0

    def translate_batch(
        self, source: VolumeSet, items: Sequence[tuple[int, str, int]], seed: int
    ) -> tuple[list[int], Volumes]:
        """Translate a batch; see `Translator.translate_batch`."""
        volumes = np.array(source.volumes[[row for row, _, _ in items]], np.float32)
        seeds = [integer_seed(seed, "translate", name, draw) % 2**62 for _, name, draw in items]
        return [0] * len(items), self.translate(volumes, seeds)

    def sample_batch(
        self, source: VolumeSet, row: int, name: str, draws: Sequence[int], seed: int
    ) -> Volumes:
        """Return translations of one row; see `Translator.sample_batch`."""
        return self.translate_batch(source, [(row, name, draw) for draw in draws], seed)[1]

    @torch.no_grad()
    def translate(self, volumes: Volumes, seeds: Sequence[int]) -> Volumes:
        """Return the translations of volumes, each with the noise of its own seed.

        Parameters
        ----------
        volumes : ndarray
            `(N, z, y, x)` grey values of the source domain.
        seeds : sequence of int
            `(N,)`.

        Returns
        -------
        ndarray
            `(N, z, y, x)` grey values of the target domain.
        """
        inputs = self.source.forward(torch.from_numpy(volumes)[:, None])
        noises = []
        for index, seed in enumerate(seeds):
            rng = torch.Generator().manual_seed(seed)
            one = inputs[index : index + 1]
            if self.direction == "ds":
                noise_sd = float(self.content["noise_sd"])
                inputs[index] += noise_sd * torch.randn(one.shape[1:], generator=rng)
            noises.append(torch.randn(self.generator.noise_shape(one), generator=rng))
        noise = torch.cat(noises).to(self.device) if self.generator.noise_channels else None
        with self.autocast():
            outputs = self.generator(inputs.to(self.device), noise).float().cpu()
        translated: Volumes = self.target.backward(outputs)[:, 0].numpy()
        return translated
