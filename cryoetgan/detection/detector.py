"""A trained detector and its file (.pt)."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from cryoetgan.detection.calibration import Calibration
from cryoetgan.detection.network import build_network
from cryoetgan.io.weights import DamagedError, find_difference, read_weights, write_weights

KIND = "detector"
KEYS = {"classes", "width", "voxel_size", "radii", "threshold", "calibration", "weights"}
ADVICE = "train it again (`cryoetgan detection train`)"
MAX_WIDTH = 512
"""Channels; a changed file must not exhaust the memory."""


@dataclass(frozen=True)
class Detector:
    """A network and all that is needed to run it."""

    network: nn.Module
    classes: Sequence[str]
    width: int
    """Channels of the first level."""
    voxel_size: float
    """Angstrom, of the tomograms that it learned from."""
    radii: NDArray[np.float64]
    """`(C + 1,)` of the classes and of `other`, voxels."""
    threshold: float
    calibration: Calibration


def write_detector(path: Path, detector: Detector) -> None:
    """Write a detector atomically."""
    found = detector.calibration
    calibration = {
        name: torch.from_numpy(np.asarray(getattr(found, name)))
        for name in ("scores", "numbers", "hits", "found", "truth")
    }
    content: dict[str, Any] = {
        "classes": list(detector.classes),
        "width": detector.width,
        "voxel_size": detector.voxel_size,
        "radii": [float(radius) for radius in detector.radii],
        "threshold": detector.threshold,
        "calibration": calibration,
        "weights": {k: v.detach().cpu() for k, v in detector.network.state_dict().items()},
    }
    write_weights(path, KIND, content)


def read_detector(path: Path, device: torch.device) -> Detector:
    """Read a detector; raise `DamagedError` if the file is damaged or not a detector."""
    content = read_weights(path, KIND, KEYS, ADVICE)
    try:
        classes = [str(name) for name in content["classes"]]
        width, radii = int(content["width"]), np.array(content["radii"], float)
        if not 1 <= width <= MAX_WIDTH or len(radii) != len(classes) + 1:
            raise ValueError("its sizes do not fit each other")
        calibration = Calibration(**{k: v.numpy() for k, v in content["calibration"].items()})
    except (TypeError, ValueError, AttributeError) as error:
        raise DamagedError(f"{path}: is not a valid {KIND} ({error}); {ADVICE}") from error
    channels = len(classes) + 2
    wrong = find_difference(lambda: build_network(channels, width), content["weights"])
    if wrong:
        raise DamagedError(f"{path}: is not a valid {KIND} ({wrong}); {ADVICE}")
    network = build_network(channels, width)
    network.load_state_dict(content["weights"])
    return Detector(
        network.to(device).eval(), classes, width, float(content["voxel_size"]), radii,
        float(content["threshold"]), calibration,
    )  # fmt: skip
