"""The network of the detector: a residual U-Net of MONAI at half resolution.

It has half the resolution of the tomogram, because it must be trained on a CPU within minutes: each
block of 2^3 voxels is one position with eight channels, so that no voxel is lost.
"""

import torch
from torch import Tensor, nn

ALIGN = 8
"""Windows start and end at multiples of it, voxels: two for the blocks, four for the two strides."""
HALO = 64
"""Voxels beyond which the input does not change the output (tested)."""
BLOCK = 2
"""Edge of a block of voxels that becomes one position."""


def split_blocks(volumes: Tensor) -> Tensor:
    """Return `(B, 8, z/2, y/2, x/2)` of `(B, 1, z, y, x)`: the voxels of each block as channels."""
    batch, _, depth, height, width = volumes.shape
    parts = volumes.reshape(batch, depth // 2, 2, height // 2, 2, width // 2, 2)
    return parts.permute(0, 2, 4, 6, 1, 3, 5).reshape(batch, 8, depth // 2, height // 2, width // 2)


class DetectorNetwork(nn.Module):
    """Logits of background, the classes, and `other`, at half resolution.

    Position i of the output lies at voxel 2 i + 0.5. Batch normalisation has fixed statistics after
    training, so a window gives the same values as the whole tomogram.
    """

    def __init__(self, channels: int, width: int) -> None:
        from monai.networks.nets import SegResNet

        super().__init__()
        self.unet = SegResNet(
            spatial_dims=3,
            in_channels=BLOCK**3,
            out_channels=channels,
            init_filters=width,
            blocks_down=(1, 1, 1),
            blocks_up=(1, 1),
            norm="BATCH",
            act=("LEAKYRELU", {"negative_slope": 0.1, "inplace": True}),
        )

    def forward(self, volumes: Tensor) -> Tensor:
        """Return `(B, channels, z/2, y/2, x/2)` of `(B, 1, z, y, x)` with sides of `ALIGN`."""
        return self.unet(split_blocks(volumes))


def build_network(channels: int, width: int) -> DetectorNetwork:
    """Return a network; MONAI warns about optional packages when it is imported."""
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        network = DetectorNetwork(channels, width)
        # a third quicker on a CPU; the stubs of torch lack this overload
        network.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
        return network
