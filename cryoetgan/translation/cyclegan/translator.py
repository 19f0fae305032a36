"""Translate volume sets with a generator of the paper's CycleGAN."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from cryoetgan.io.volume_set import VolumeSet
from cryoetgan.seeds import integer_seed
from cryoetgan.seeds import rng as numpy_rng
from cryoetgan.translation.cyclegan.neighbours import add_neighbours
from cryoetgan.translation.cyclegan.networks import FilterGenerator, Generator
from cryoetgan.translation.cyclegan.trainer import make_generator
from cryoetgan.translation.engine.translator import Item, Translator, Volumes


class CycleGANTranslator(Translator):
    """G_ds or G_sd of the CycleGAN; `Translator` has the parameters."""

    box_multiple, smallest_box = 4, 8

    def build_generator(self) -> Generator | FilterGenerator:
        """Return the network of the direction, without its weights."""
        noise = self.direction == "ds" or self.settings.noise_generators == "both"
        return make_generator(self.settings, noise)

    def optics(self) -> list[dict[str, Any]]:
        """Return one group: the generator mixes all training tomograms."""
        return [{**row, "rlnOpticsGroup": 1} for row in self.content["optics"][:1]]

    @torch.no_grad()
    def translate_batch(
        self, source: VolumeSet, items: Sequence[Item], seed: int
    ) -> tuple[list[int], Volumes]:
        """Translate a batch; see `Translator.translate_batch`."""
        scaler, target = self.scaler("density"), self.scaler("subtomogram")
        if self.direction == "sd":
            scaler, target = target, scaler
        volumes = np.array(source.volumes[[item.row for item in items]], np.float32)
        inputs = scaler.forward(torch.from_numpy(volumes)[:, None])

        def others(rows: NDArray[np.int_]) -> torch.Tensor:
            drawn = np.array(source.volumes[rows], np.float32)
            return scaler.forward(torch.from_numpy(drawn)[:, None])

        noises = []
        for index, item in enumerate(items):
            # neighbours follow the draw; either number selects the noise
            draw = item.draw or item.noise_draw
            item_seed = integer_seed(seed, "translate", item.name, draw) % 2**62
            rng = torch.Generator().manual_seed(item_seed)
            one = inputs[index : index + 1]
            if self.direction == "ds" and self.settings.neighbours:
                random = numpy_rng(seed, "neighbours", item.name, item.draw)
                count = len(source.volumes)
                one[:] = add_neighbours(one, self.settings.neighbours, others, count, random)
            if self.direction == "ds":
                noise_sd = float(self.content["noise_sd"])
                inputs[index] += noise_sd * torch.randn(one.shape[1:], generator=rng)
            noises.append(torch.randn(self.generator.noise_shape(one), generator=rng))
        noise = torch.cat(noises).to(self.device) if self.generator.noise_channels else None
        with self.autocast():
            outputs = self.generator(inputs.to(self.device), noise).float().cpu()
        return [0] * len(items), target.backward(outputs)[:, 0].numpy()
