"""Translate volume sets with the residual network; the checkpoint holds the imaging models."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from cryoetgan.errors import UserError
from cryoetgan.imaging.model import crop_centre
from cryoetgan.imaging.scenes import SCENE_BOXES
from cryoetgan.io.volume_set import VolumeSet
from cryoetgan.physics.coordinates import centre_offset
from cryoetgan.seeds import rng as generator_for
from cryoetgan.translation.engine import checkpoint
from cryoetgan.translation.engine.translator import Translator, Volumes
from cryoetgan.translation.residual.imaging_models import unpack_models
from cryoetgan.translation.residual.networks import DensityEstimator, ResidualGenerator
from cryoetgan.translation.residual.settings import ResidualSettings
from cryoetgan.translation.residual.trainer import make_residual_generator


def load_generator(
    content: Mapping[str, Any], settings: ResidualSettings, path: Path, untrained: bool = False
) -> ResidualGenerator:
    """Return the averaged generator of a checkpoint, or the untrained one (the simulation)."""
    generator = make_residual_generator(settings)
    state = content["initial" if untrained else "average"]
    checkpoint.load_weights(generator, state, content, path)
    return generator.eval()


class ResidualTranslator(Translator):
    """The residual generator with its imaging models; `Translator` has the parameters.

    Parameters
    ----------
    untrained : bool
        Load G_ds as it was before training: the fitted simulation.
    """

    def __init__(
        self,
        content: Mapping[str, Any],
        settings: ResidualSettings,
        direction: str,
        device: torch.device,
        path: Path,
        untrained: bool = False,
    ) -> None:
        super().__init__(content, settings, direction, device, path)
        self.models = unpack_models(content["imaging"], path)
        self.subtomogram_scaler = checkpoint.scaler_of_domain(content, "subtomogram")
        self.density_scaler = checkpoint.scaler_of_domain(content, "density")
        generator: nn.Module
        if direction == "ds":
            generator = load_generator(content, settings, path, untrained)
        else:
            generator = DensityEstimator(settings.width, settings.blocks).eval()
            state = checkpoint.network_state(content, "G_sd")
            checkpoint.load_weights(generator, state, content, path)
        self.generator = generator.to(device)

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
        self, source: VolumeSet, items: Sequence[tuple[int, str, int]], seed: int
    ) -> tuple[list[int], Volumes]:
        """Translate a batch; see `Translator.translate_batch`.

        Scene and noise of draw 0 are those that `imaging simulate` draws for the row.
        """
        if self.direction == "sd":
            volumes = np.asarray(source.volumes[[row for row, _, _ in items]], np.float32)
            return [0] * len(items), self.apply(volumes)
        scenes = [self.simulate(source, *item, seed) for item in items]
        groups, signals, noises = zip(*scenes, strict=True)
        return list(groups), self.apply(np.stack(signals), np.stack(noises))

    def sample_batch(
        self, source: VolumeSet, row: int, name: str, draws: Sequence[int], seed: int
    ) -> Volumes:
        """Return translations of one scene; see `Translator.sample_batch`."""
        group, signal, own_noise = self.simulate(source, row, name, 0, seed)
        scene_shape = (SCENE_BOXES * source.box,) * 3
        noises = []
        for draw in draws:
            noise = own_noise
            if draw:
                rng = generator_for(seed, "imaging", name, "noise", draw)
                noise = crop_centre(self.models[group].noise(scene_shape, rng), source.box)
            noises.append(noise)
        return self.apply(np.stack([signal] * len(noises)), np.stack(noises))

    def simulate(
        self, source: VolumeSet, row: int, name: str, draw: int, seed: int
    ) -> tuple[int, Volumes, Volumes]:
        """Return the index of the imaging model, signal and noise `(z, y, x)` of one draw."""
        index, rng = self.draw_model(name, draw, seed)
        model = self.models[index]
        if model.box != source.box:
            raise UserError(
                f"{source.path} has boxes of {source.box} voxels, the imaging models in "
                f"{self.path} of {model.box}; make both with one densities.box"
            )
        centre = centre_offset(source.table.iloc[row], source.voxel_size)
        density = np.asarray(source.volumes[row], np.float32)
        return (index, *model.signal_and_noise(density, centre, rng))

    @torch.no_grad()
    def apply(self, *inputs: Volumes) -> Volumes:
        """Return the network's output `(N, z, y, x)`, grey values of the target domain.

        Parameters
        ----------
        *inputs : ndarray
            `(N, z, y, x)` grey values: signals and noises, or subtomograms.
        """
        scaled: list[Tensor] = [
            self.subtomogram_scaler.forward(torch.from_numpy(x)[:, None]).to(self.device)
            for x in inputs
        ]
        with self.autocast():
            outputs = self.generator(*scaled).float().cpu()
        target = self.subtomogram_scaler if self.direction == "ds" else self.density_scaler
        translated: Volumes = target.backward(outputs)[:, 0].numpy()
        return translated
