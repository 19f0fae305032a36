"""A density scene of any size to a tomogram, tile by tile, whatever the tiles.

Physics is that of `imaging.tiles`; the network's field ends within the halo, and no layer
normalises, so that nothing of a tile shows in the result.
"""

import numpy as np
import torch
from numpy.typing import NDArray

from cryoetgan.imaging.simulate.tiling import TiledSimulator, expand_block
from cryoetgan.physics.geometry import Corner
from cryoetgan.translation.engine.scaling import Scaler
from cryoetgan.translation.residual.networks import ResidualGenerator


class Synthesizer:
    """Turns parts of a density scene into parts of a tomogram.

    Parameters
    ----------
    physics : TiledSimulator
        Signal and noise.
    generator : ResidualGenerator
        What is added to them.
    grey : Scaler
        Of subtomograms.
    device : torch.device
        Where the network computes.
    """

    def __init__(
        self,
        physics: TiledSimulator,
        generator: ResidualGenerator,
        grey: Scaler,
        device: torch.device,
    ) -> None:
        self.physics, self.generator, self.grey, self.device = physics, generator, grey, device

    @property
    def halo(self) -> int:
        """Voxels around a part that count for it."""
        return self.generator.radius() + self.physics.halo

    @torch.no_grad()
    def simulate_block(
        self, scene: NDArray[np.generic], corner: Corner, shape: Corner
    ) -> NDArray[np.float32]:
        """Return the tomogram's part at `corner`, of `shape` (zyx), in its own grey values."""
        radius = self.generator.radius()
        halves = self.physics.signal_and_noise(scene, *expand_block(corner, shape, radius))
        inputs = (
            self.grey.forward(torch.from_numpy(half)[None, None]).to(self.device) for half in halves
        )
        made = self.grey.backward(self.generator(*inputs).float().cpu())[0, 0].numpy()
        inner = tuple(slice(radius, n - radius) for n in made.shape)
        return np.ascontiguousarray(made[inner])
