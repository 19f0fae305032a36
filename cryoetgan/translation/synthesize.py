"""A whole tomogram from a density scene, tile by tile, with the residual network.

The result does not depend on the tiles: signal and noise come from `imaging.simulate.tiling`, tiles
overlap by the network's receptive radius, and no layer normalises.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from cryoetgan.errors import UserError
from cryoetgan.imaging.model import ImagingModel
from cryoetgan.imaging.simulate.tiling import TiledSimulator, expand_block
from cryoetgan.physics.geometry import Corner
from cryoetgan.translation.engine.scaling import Scaler
from cryoetgan.translation.residual.networks import ResidualGenerator
from cryoetgan.translation.residual.translator import ResidualTranslator
from cryoetgan.translation.translate import open_translator


@dataclass(frozen=True)
class TiledGenerator:
    """Generates blocks of a tomogram: a simulator's signal and noise, then the network.

    `scaler` is the scaler of subtomograms.
    """

    simulator: TiledSimulator
    generator: ResidualGenerator
    scaler: Scaler
    device: torch.device

    @torch.no_grad()
    def simulate_block(
        self, scene: NDArray[np.generic], corner: Corner, shape: Corner
    ) -> NDArray[np.float32]:
        """Return the block of the tomogram at `corner`, of `shape` (zyx, voxels), grey values."""
        radius = self.generator.radius()
        pair = self.simulator.signal_and_noise(scene, *expand_block(corner, shape, radius))
        inputs = (
            self.scaler.forward(torch.from_numpy(x)[None, None]).to(self.device) for x in pair
        )
        output = self.scaler.backward(self.generator(*inputs).float().cpu())[0, 0].numpy()
        inner = tuple(slice(radius, n - radius) for n in output.shape)
        return np.ascontiguousarray(output[inner])


def open_tiled_generator(
    path: Path,
    tomogram: str | None,
    name: str,
    scale: float,
    device: torch.device,
    seed: int,
    has_crowders: bool = False,
) -> tuple[TiledGenerator, ImagingModel]:
    """Return the tile generator of a checkpoint, and its imaging model.

    The model is fitted to `tomogram`; by default it is the first. The noise depends on `name`, the
    synthetic tomogram's; `scale` is a factor on the scene's densities.
    """
    translator = open_translator(path, "ds", device)
    if not isinstance(translator, ResidualTranslator):
        raise UserError(
            f"{path}: was trained with preset {translator.content['key']['preset']}, whose instance "
            "norm depends on the tile. Use preset recommended for whole tomograms, or the fitted "
            "simulation (cryoetgan imaging synthesize)"
        )
    models = {model.tomogram: model for model in translator.models}
    if tomogram is not None and tomogram not in models:
        raise UserError(f"--tomogram: got '{tomogram}', but {path} has {', '.join(models)}")
    model = translator.models[0] if tomogram is None else models[tomogram]
    model = model.for_scene(has_crowders)
    simulator = TiledSimulator(model, seed, name, scale)
    scaler = translator.scaler("subtomogram")
    return TiledGenerator(simulator, translator.generator, scaler, device), model
