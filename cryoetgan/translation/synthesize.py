"""A whole tomogram from a density scene, tile by tile, with a network that does not normalise.

The result does not depend on the tiles: noise is a function of absolute coordinates, filters have a
finite reach, and tiles overlap by the network's receptive radius.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from cryoetgan.errors import UserError
from cryoetgan.imaging.simulate.tiling import (
    TiledSimulator,
    check_scale,
    expand_block,
    read_padded,
    white_noise,
)
from cryoetgan.imaging.simulate.tomogram import Origin
from cryoetgan.physics.acquisition import Acquisition
from cryoetgan.physics.geometry import Corner
from cryoetgan.progress import log
from cryoetgan.translation.cyclegan.networks import FilterGenerator
from cryoetgan.translation.cyclegan.translator import CycleGANTranslator
from cryoetgan.translation.engine.scaling import Scaler
from cryoetgan.translation.residual.networks import ResidualGenerator
from cryoetgan.translation.residual.translator import ResidualTranslator
from cryoetgan.translation.translate import open_translator

ReadInputs = Callable[[NDArray[np.generic], Corner, Corner], tuple[torch.Tensor, ...]]
"""From a scene, a corner and a shape (zyx, voxels) to the network's inputs `(z, y, x)`, scaled."""


@dataclass(frozen=True)
class TiledGenerator:
    """Generates blocks of a tomogram: inputs of a larger block, the network, the inner part.

    `scaler` is the scaler of subtomograms.
    """

    read_inputs: ReadInputs
    generator: ResidualGenerator | FilterGenerator
    scaler: Scaler
    device: torch.device

    @torch.no_grad()
    def simulate_block(
        self, scene: NDArray[np.generic], corner: Corner, shape: Corner
    ) -> NDArray[np.float32]:
        """Return the block of the tomogram at `corner`, of `shape` (zyx, voxels), grey values."""
        radius = self.generator.radius()
        inputs = self.read_inputs(scene, *expand_block(corner, shape, radius))
        volumes = self.generator(*(x[None, None].to(self.device) for x in inputs))
        output = self.scaler.backward(volumes.float().cpu())[0, 0].numpy()
        inner = tuple(slice(radius, n - radius) for n in output.shape)
        return np.ascontiguousarray(output[inner])


def physics_inputs(simulator: TiledSimulator, scaler: Scaler) -> ReadInputs:
    """Return the inputs of the residual network: a simulator's signal and noise."""

    def read(scene: NDArray[np.generic], corner: Corner, shape: Corner) -> tuple[torch.Tensor, ...]:
        pair = simulator.signal_and_noise(scene, corner, shape)
        return tuple(scaler.forward(torch.from_numpy(x)) for x in pair)

    return read


def density_inputs(
    scaler: Scaler, noise_sd: float, has_noise: bool, seed: int, name: str, scale: float
) -> ReadInputs:
    """Return the inputs of a CycleGAN: density and, unless it draws none, white noise.

    `scaler` is the scaler of densities, `noise_sd` the standard deviation of noise added to them;
    seed and name of the tomogram give the noise, `scale` is a factor on the densities.
    """

    def read(scene: NDArray[np.generic], corner: Corner, shape: Corner) -> tuple[torch.Tensor, ...]:
        density = scale * read_padded(scene, corner, shape)
        inputs = [scaler.forward(torch.from_numpy(density))]
        if noise_sd:
            added = white_noise(seed, f"{name} input", corner, shape)
            inputs[0] = inputs[0] + noise_sd * torch.from_numpy(added)
        if has_noise:
            inputs.append(torch.from_numpy(white_noise(seed, name, corner, shape)))
        return tuple(inputs)

    return read


def open_tiled_generator(
    path: Path,
    tomogram: str | None,
    name: str,
    scale: float,
    device: torch.device,
    seed: int,
    has_crowders: bool = False,
) -> tuple[TiledGenerator, Origin]:
    """Return the tile generator of a checkpoint, and the origin of its tomograms.

    The residual network takes the imaging model of `tomogram`, by default the first. A CycleGAN
    imitates all training tomograms; `tomogram` gives the acquisition alone. The noise depends on
    `name`, the synthetic tomogram's; `scale` is a factor on the scene's densities.
    """
    check_scale(scale)
    translator = open_translator(path, "ds", device)
    scaler, content = translator.scaler("subtomogram"), translator.content
    if isinstance(translator, ResidualTranslator):
        models = {model.tomogram: model for model in translator.models}
        model = models[_chosen(tomogram, list(models), path)].for_scene(has_crowders)
        read = physics_inputs(TiledSimulator(model, seed, name, scale), scaler)
        origin = Origin(model.tomogram, model.voxel_size, model.acquisition)
        return TiledGenerator(read, translator.generator, scaler, device), origin
    if not isinstance(translator, CycleGANTranslator) or not translator.settings.makes_tomograms:
        raise UserError(
            f"{path}: was trained with preset {content['key']['preset']}, whose instance norm "
            "depends on the tile. Use preset cyclegan or recommended for whole tomograms, or the "
            "fitted simulation (cryoetgan imaging synthesize)"
        )
    optics = {
        str(row.get("rlnOpticsGroupName", f"group{number}")): Acquisition.from_optics(row)
        for number, row in enumerate(content["optics"], start=1)
    }
    if not optics:
        log.warning("%s: its training set has no optics; the default acquisition is recorded", path)
        optics = {"unknown": Acquisition()}
    chosen = _chosen(tomogram, list(optics), path)
    read = density_inputs(
        translator.scaler("density"),
        float(content["noise_sd"]),
        bool(translator.generator.noise_channels),
        seed,
        name,
        scale,
    )
    several = f"all {len(optics)} training tomograms, acquired like {chosen}"
    imitated = chosen if len(optics) == 1 else several
    origin = Origin(imitated, float(content["voxel_size"]), optics[chosen])
    return TiledGenerator(read, translator.generator, scaler, device), origin


def _chosen(tomogram: str | None, known: list[str], path: Path) -> str:
    """Return the tomogram that --tomogram names, by default the first of a checkpoint's."""
    if tomogram is not None and tomogram not in known:
        raise UserError(f"--tomogram: got '{tomogram}', but {path} has {', '.join(known)}")
    return known[0] if tomogram is None else tomogram
