"""Translate volume sets with the residual network; the checkpoint holds the imaging models."""

import json
from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import nn

from cryoetgan.errors import UserError
from cryoetgan.imaging.model import SCENE_BOXES, ImagingModel, crop_centre
from cryoetgan.imaging.storage import from_parts, to_parts
from cryoetgan.io.volume_set import VolumeSet
from cryoetgan.physics.coordinates import centre_offset
from cryoetgan.seeds import rng as generator_for
from cryoetgan.translation.engine.layers import ResidualConvolutions
from cryoetgan.translation.engine.translator import Item, Translator, Volumes
from cryoetgan.translation.residual.networks import ResidualGenerator


def pack_models(models: Sequence[ImagingModel]) -> list[dict[str, Any]]:
    """Return imaging models as plain values and tensors, for a checkpoint."""
    return [
        {
            # a checkpoint holds no numpy scalars
            "content": json.loads(json.dumps(content, default=float)),
            "arrays": {name: torch.from_numpy(np.array(value)) for name, value in arrays.items()},
        }
        for content, arrays in map(to_parts, models)
    ]


class ResidualTranslator(Translator):
    """The residual network with its imaging models; untrained, it is the fitted simulation."""

    def build_generator(self) -> nn.Module:
        """Return the network of the direction, without its weights."""
        s = self.settings
        if self.direction == "ds":
            return ResidualGenerator(s.diffusion_steps, s.filters)
        return ResidualConvolutions(s.width, s.blocks)

    @cached_property
    def models(self) -> list[ImagingModel]:
        """Imaging models of the training tomograms."""
        return [
            from_parts(
                part["content"], {k: v.numpy() for k, v in part["arrays"].items()}, self.path
            )
            for part in self.content["imaging"]
        ]

    def optics(self) -> list[dict[str, Any]]:
        """Return one group for each imaging model."""
        return [m.acquisition.to_optics(i, m.tomogram) for i, m in enumerate(self.models, 1)]

    def optics_index(self, name: str, seed: int) -> int:
        """Return the index of the imaging model that simulates the item `name`."""
        return self.draw_model(name, 0, seed)[0]

    def draw_model(self, name: str, draw: int, seed: int) -> tuple[int, np.random.Generator]:
        """Return the index of a draw's imaging model, and the generator of its scene."""
        rng = generator_for(seed, "imaging", name, *([draw] if draw else []))
        return int(rng.integers(len(self.models))), rng

    def translate_batch(
        self, source: VolumeSet, items: Sequence[Item], seed: int
    ) -> tuple[list[int], Volumes]:
        """Translate a batch; see `Translator.translate_batch`.

        Scene and noise of draw 0 are those that `imaging simulate` draws for the row.
        """
        if self.direction == "sd":
            volumes = np.asarray(source.volumes[[item.row for item in items]], np.float32)
            return [0] * len(items), self.apply(volumes)
        scenes: dict[tuple[int, int], tuple[int, Volumes, Volumes]] = {}
        drawn = []
        for item in items:
            scene = item.row, item.draw
            if scene not in scenes:
                scenes[scene] = self.simulate(source, item, seed)
            group, signal, noise = scenes[scene]
            if item.noise_draw:
                rng = generator_for(seed, "imaging", item.name, "noise", item.noise_draw)
                shape = (SCENE_BOXES * source.box,) * 3
                noise = crop_centre(self.models[group].noise(shape, rng), source.box)
            drawn.append((group, signal, noise))
        groups, *pair = zip(*drawn, strict=True)
        return list(groups), self.apply(*map(np.stack, pair))

    def simulate(self, source: VolumeSet, item: Item, seed: int) -> tuple[int, Volumes, Volumes]:
        """Return the index of the imaging model, signal and noise `(z, y, x)` of one draw."""
        index, rng = self.draw_model(item.name, item.draw, seed)
        model = self.models[index]
        if model.box != source.box:
            raise UserError(
                f"{source.path} has boxes of {source.box} voxels, the imaging models in "
                f"{self.path} of {model.box}; make both with one densities.box"
            )
        centre = centre_offset(source.table.iloc[item.row], source.voxel_size)
        density = np.asarray(source.volumes[item.row], np.float32)
        return (index, *model.signal_and_noise(density, centre, rng))

    @torch.no_grad()
    def apply(self, *inputs: Volumes) -> Volumes:
        """Return the network's output `(N, z, y, x)` in grey values of the target domain.

        Inputs are grey values of that shape: signals and noises, or subtomograms.
        """
        scaler = self.scaler("subtomogram")
        scaled = [scaler.forward(torch.from_numpy(x)[:, None]).to(self.device) for x in inputs]
        with self.autocast():
            outputs = self.generator(*scaled).float().cpu()
        target = scaler if self.direction == "ds" else self.scaler("density")
        translated: Volumes = target.backward(outputs)[:, 0].numpy()
        return translated
