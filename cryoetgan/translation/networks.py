"""The paper's networks under their public name (`cyclegan/networks.py`)."""

from cryoetgan.translation.cyclegan.networks import Discriminator, Generator

__all__ = ["Discriminator", "Generator"]
