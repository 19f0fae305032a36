"""What a tomogram shows, as a command is told it: classes, crowders, vesicles, gold."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from cryoetgan.command import log, parse_counts, parse_numbers
from cryoetgan.errors import UserError
from cryoetgan.io.mrc import check_same_voxel_size, read_map
from cryoetgan.io.star import paths_by_class
from cryoetgan.tomograms.simulation.packing import Floats, Scene
from cryoetgan.tomograms.simulation.vesicles_and_gold import Surroundings

SMALLEST_MAP = 8
"""Voxels an axis."""


@dataclass(frozen=True, kw_only=True)
class Contents:
    """All that is put into a scene.

    Attributes
    ----------
    classes, copies : mapping
        Class to density `(z, y, x)`, and to how many are wanted; labelled 1, 2, ... in
        this order.
    crowders : mapping
        Name to density `(z, y, x)` of background species, labelled but no particles.
    crowder_copies : int
        Of each crowder.
    surroundings : Surroundings
        Vesicles and gold beads.
    shape : (int, int, int)
        zyx, voxels.
    voxel_size : float
        Angstrom.
    """

    classes: Mapping[str, Floats]
    copies: Mapping[str, int]
    crowders: Mapping[str, Floats]
    crowder_copies: int
    surroundings: Surroundings
    shape: tuple[int, int, int]
    voxel_size: float

    def wanted(self) -> dict[str, int]:
        """Return how many of each are asked for."""
        counts = dict(self.copies) | dict.fromkeys(self.crowders, self.crowder_copies)
        others = {"vesicle": self.surroundings.vesicles, "bead": self.surroundings.beads}
        return counts | {name: count for name, count in others.items() if count}

    def warn_of_missing(self, scene: Scene, output: Path) -> None:
        """Say what found no place."""
        wanted = self.wanted()
        for name, missing in scene.missing.items():
            log.warning(
                "%s: no place for %d of %d %s; go on without", output, missing, wanted[name], name
            )


def read_contents(
    maps: Sequence[Path],
    crowders: Sequence[Path],
    *,
    shape: tuple[int, int, int],
    copies: int,
    class_copies: Sequence[str] | None,
    crowder_copies: int,
    vesicles: int,
    vesicle_radius: str,
    beads: int,
    bead_diameter: float,
    resolution: float | None,
) -> Contents:
    """Read the maps and check all options that say what goes into a scene; shape is x, y, z.

    Raises
    ------
    UserError
        Where an option is wrong, or maps do not fit each other or the shape.
    """
    named, voxel_size = _read_maps([*maps, *crowders], shape)
    classes = {name: named[path] for name, path in paths_by_class(maps).items()}
    low, high = parse_numbers(vesicle_radius, "--vesicle-radius", ("LO", "HI"))
    surroundings = Surroundings(
        resolution=3 * voxel_size if resolution is None else resolution,
        vesicles=vesicles,
        vesicle_radii=(low, high),
        beads=beads,
        bead_diameter=bead_diameter,
    )
    shortest, longest = min(shape) * voxel_size, max(shape) * voxel_size
    if beads and bead_diameter > shortest:
        raise UserError(f"--bead-diameter: got {bead_diameter:g} A, wanted {shortest:g} or less")
    if vesicles and high > longest:
        raise UserError(f"--vesicle-radius: got {high:g} A, wanted HI of {longest:g} or less")
    x, y, z = shape
    return Contents(
        classes=classes,
        copies=parse_counts(list(classes), copies, class_copies, "--copies", "--class-copies"),
        crowders={
            f"crowder_{name}": named[path] for name, path in paths_by_class(crowders).items()
        },
        crowder_copies=crowder_copies,
        surroundings=surroundings,
        shape=(z, y, x),
        voxel_size=voxel_size,
    )


def whole_voxels(shape: str) -> tuple[int, int, int]:
    """Return `X,Y,Z` as whole numbers above zero."""
    sides = parse_numbers(shape, "--shape", ("X", "Y", "Z"))
    if any(side < 1 or side != int(side) for side in sides):
        raise UserError(f"--shape: got '{shape}', wanted whole numbers of voxels above zero")
    x, y, z = (int(side) for side in sides)
    return x, y, z


def _read_maps(
    paths: Sequence[Path], shape: tuple[int, int, int]
) -> tuple[dict[Path, NDArray[Any]], float]:
    """Return the maps' densities and their one voxel size."""
    volumes = {path: read_map(path) for path in paths}
    first = volumes[paths[0]].voxel_size
    for path, volume in volumes.items():
        check_same_voxel_size(first, volume.voxel_size, paths[0], path)
        if min(shape) < min(volume.data.shape):
            sizes = ",".join(map(str, shape))
            raise UserError(
                f"--shape: {sizes} voxels are too small for {path} ({volume.data.shape[0]}^3)"
            )
        if min(volume.data.shape) < SMALLEST_MAP:
            raise UserError(
                f"{path}: has {' x '.join(map(str, volume.data.shape[::-1]))} voxels; wanted a map "
                f"of {SMALLEST_MAP} or more an axis"
            )
    return {path: volume.data for path, volume in volumes.items()}, first
