"""A small classifier: minutes on two cores, no worse than CB3D on small sets."""

import torch
from torch import Tensor, nn


class Small(nn.Module):
    """Four 3^3 convolutions, three of them strided, then the mean over space.

    Parameters
    ----------
    box : int
        Edge in voxels; any of 12 or more.
    classes : int
        How many.
    """

    WIDTHS = (32, 32, 64, 128)
    STRIDES = (2, 1, 2, 2)

    def __init__(self, box: int, classes: int) -> None:
        super().__init__()
        self.box = box
        layers: list[nn.Module] = []
        into = 1
        for width, stride in zip(self.WIDTHS, self.STRIDES, strict=True):
            layers += [
                nn.Conv3d(into, width, 3, stride=stride, padding=1, bias=False),
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
