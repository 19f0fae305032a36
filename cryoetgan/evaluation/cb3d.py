"""CB3D, the classifier of Paper, section 3.3.5 (Che 2018, doi 10.1109/BIBM.2018.8621363)."""

from torch import Tensor, nn
from torch.nn import functional

from cryoetgan.errors import UserError

DENSE_UNITS = 4096
LAYERS = ("flatten", "fc6", "fc7")
SMALLEST_BOX = 16  # voxels


class CB3D(nn.Module):
    """Eight 3^3 convolutions in five groups, then two dense layers of 4096 units.

    The box edge is at least 16 voxels. The network has 61,231,492 parameters at 40 voxels and
    four classes, and 46,563,719 at 28 voxels and seven classes. The first pooling keeps the
    first axis, so the axis order is part of the model: arrays are zyx.
    """

    def __init__(self, box: int, classes: int) -> None:
        super().__init__()
        if box < SMALLEST_BOX:
            raise UserError(
                f"cb3d needs boxes of {SMALLEST_BOX} voxels or more, got {box}; "
                "use --network small (evaluation.network)"
            )
        self.box = box
        self.body = nn.Sequential(
            *_convolutions(1, 64),
            nn.MaxPool3d((1, 2, 2)),
            *_convolutions(64, 128),
            nn.MaxPool3d(2),
            *_convolutions(128, 256, 256),
            nn.MaxPool3d(2),
            *_convolutions(256, 512, 512),
            nn.MaxPool3d(2),
            *_convolutions(512, 512, 512),
            nn.ConstantPad3d((1, 1, 1, 1, 0, 0), 0.0),
            nn.MaxPool3d(2),
            nn.Flatten(),
        )
        self.fc6 = nn.Linear(flat_size(box), DENSE_UNITS)
        self.fc7 = nn.Linear(DENSE_UNITS, DENSE_UNITS)
        self.fc8 = nn.Linear(DENSE_UNITS, classes)
        self.apply(_initialise)

    def features(self, x: Tensor, layer: str = "fc7") -> Tensor:
        """Return `(B, F)` activations of `flatten`, `fc6` or `fc7` (after ReLU, no dropout)."""
        flat = self.body(x)
        if layer == "flatten":
            return flat
        six = functional.relu(self.fc6(flat))
        return six if layer == "fc6" else functional.relu(self.fc7(six))

    def forward(self, x: Tensor) -> Tensor:
        """Return class scores (logits) `(B, classes)` of volumes `(B, 1, z, y, x)`."""
        drop = self.training
        six = functional.dropout(functional.relu(self.fc6(self.body(x))), 0.5, drop)
        seven = functional.dropout(functional.relu(self.fc7(six)), 0.5, drop)
        return self.fc8(seven)


def flat_size(box: int) -> int:
    """Return the number of activations after the last pooling."""
    first, others = box, box // 2
    for _ in range(3):
        first, others = first // 2, others // 2
    return 512 * (first // 2) * ((others + 2) // 2) ** 2


def _convolutions(channels: int, *widths: int) -> list[nn.Module]:
    layers: list[nn.Module] = []
    for width in widths:
        layers += [nn.Conv3d(channels, width, 3, padding=1), nn.ReLU()]
        channels = width
    return layers


def _initialise(layer: nn.Module) -> None:
    if isinstance(layer, nn.Conv3d | nn.Linear):
        nn.init.xavier_uniform_(layer.weight)
        nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
