"""The volumes of a density scene of another simulator, and the known names and poses in it."""

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from numpy.typing import NDArray

from cryoetgan.errors import UserError, format_shape
from cryoetgan.io.mrc import Volume, read_volume


@dataclass(frozen=True)
class ForeignScene:
    """The volumes of a scene, and the known names and poses of its objects."""

    density: Path
    volume: Volume
    labels: Path
    """File or folder, for messages."""
    label_data: NDArray[Any]
    """`(z, y, x)`."""
    names: Mapping[int, str]
    """Label to name."""
    rows: pd.DataFrame | None
    """A row for each particle: coordinate in voxels, class, perhaps angles; None: not listed."""
    program: str
    complete: bool = True
    """Whether a label without rows holds no particles, as a membrane."""
    instances: NDArray[Any] | None = None
    """`(z, y, x)`, 0 or the number of an object of its label; None: not given."""
    files: Sequence[Path] = ()
    """Files that were read."""
    parts: Set[str] = frozenset()
    """Classes without a list, whose connected parts are particles although `complete` is true."""


def open_scene(
    density: Path,
    labels: Path,
    names: Mapping[int, str],
    rows: pd.DataFrame | None,
    program: str,
    complete: bool = True,
    instances: Path | None = None,
) -> ForeignScene:
    """Return a scene of MRC files; labels and instances must cover the density."""
    volume = read_volume(density)
    given = [labels, *([instances] if instances else [])]
    covering = [read_covering(path, density, volume) for path in given]
    return ForeignScene(
        density, volume, labels, covering[0], names, rows, program, complete,
        covering[1] if instances else None, [density, *given],
    )  # fmt: skip


def read_covering(path: Path, density: Path, volume: Volume) -> NDArray[Any]:
    """Return the values of a volume with the shape of the density."""
    data = read_volume(path, volume.voxel_size).data
    if data.shape != volume.data.shape:
        raise UserError(
            f"{path}: has {format_shape(data.shape)} voxels (x, y, z), {density} "
            f"{format_shape(volume.data.shape)}; labels must cover the density"
        )
    return data
