"""A whole tomogram from a density scene, tile by tile, with the residual network.

The result does not depend on the tiles: signal and noise are those of `imaging.simulate.tiling`,
tiles overlap by the network's receptive radius, and no layer normalises.
"""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from cryoetgan.errors import UserError
from cryoetgan.imaging.model import ImagingModel
from cryoetgan.imaging.simulate.tiling import TiledSimulator, expand_block
from cryoetgan.physics.geometry import Corner
from cryoetgan.translation.engine import checkpoint
from cryoetgan.translation.engine.scaling import Scaler
from cryoetgan.translation.presets import parse_settings
from cryoetgan.translation.residual.imaging_models import unpack_models
from cryoetgan.translation.residual.networks import ResidualGenerator
from cryoetgan.translation.residual.settings import ResidualSettings
from cryoetgan.translation.residual.translator import load_generator


class TiledGenerator:
    """Generates blocks of a tomogram from blocks of a density scene.

    Parameters
    ----------
    simulator : TiledSimulator
        Signal and noise.
    generator : ResidualGenerator
        Network applied to them.
    scaler : Scaler
        Scaler of subtomograms.
    device : torch.device
        Device of the network.
    """

    def __init__(
        self,
        simulator: TiledSimulator,
        generator: ResidualGenerator,
        scaler: Scaler,
        device: torch.device,
    ) -> None:
        self.simulator, self.generator, self.scaler = simulator, generator, scaler
        self.device = device

    @property
    def halo(self) -> int:
        """Voxels around a block on which its values depend."""
        return self.generator.radius() + self.simulator.halo

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
    path: Path, tomogram: str | None, name: str, scale: float, device: torch.device, seed: int
) -> tuple[TiledGenerator, ImagingModel]:
    """Return the tile generator of a checkpoint, and its imaging model.

    Parameters
    ----------
    path : Path
        Checkpoint of the residual network.
    tomogram : str, optional
        Tomogram of the imaging model; the first of the checkpoint by default.
    name : str
        Name of the synthetic tomogram, on which its noise depends.
    scale : float
        Factor on the scene's densities.
    device : torch.device
        Device of the network.
    seed : int
        Seed of the run.

    Raises
    ------
    UserError
        If the checkpoint is not of the residual network, or has no model of the tomogram.
    """
    content = checkpoint.read(path)
    settings = parse_settings(content["settings"], str(path))
    if not isinstance(settings, ResidualSettings):
        raise UserError(
            f"{path}: was trained with preset {content['key']['preset']}, whose instance norm "
            "depends on the tile. Use preset recommended for whole tomograms, or the fitted "
            "simulation (cryoetgan imaging synthesize)"
        )
    model = select_model(unpack_models(content["imaging"], path), tomogram, path)
    generator: Any = load_generator(content, settings, path).to(device)
    scaler = checkpoint.scaler_of_domain(content, "subtomogram")
    simulator = TiledSimulator(model, seed, name, scale)
    return TiledGenerator(simulator, generator, scaler, device), model


def select_model(models: list[ImagingModel], tomogram: str | None, path: Path) -> ImagingModel:
    """Return the imaging model of a tomogram, or the first one."""
    by_tomogram = {model.tomogram: model for model in models}
    if tomogram is None:
        return models[0]
    if tomogram not in by_tomogram:
        raise UserError(f"--tomogram: got '{tomogram}', but {path} has {', '.join(by_tomogram)}")
    return by_tomogram[tomogram]
