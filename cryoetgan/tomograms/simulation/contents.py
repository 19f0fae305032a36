"""Contents of a scene: classes, crowders, vesicles and gold; the scene built of them, and its files."""

import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cryoetgan.command import parse_counts
from cryoetgan.densities.crowders import make_crowders, protein_mass
from cryoetgan.densities.maps import grey_level, is_other_scale, protein_scale
from cryoetgan.errors import UserError, format_shape
from cryoetgan.io.files import INSTANCES, LABELS, check_disk_space
from cryoetgan.io.memmap import scratch_array
from cryoetgan.io.mrc import check_same_voxel_size, open_volume, read_map, write_volume
from cryoetgan.io.scene import CROWDER, beside
from cryoetgan.io.star import ANGLES, COORDINATES, class_name, paths_by_class, write_star
from cryoetgan.physics.acquisition import Acquisition, optics_row
from cryoetgan.tomograms.options import (
    MEMBRANE_SHAPES,
    CellContents,
    SceneOptions,
    VesiclesAndGold,
)
from cryoetgan.tomograms.simulation.filaments import add_filaments
from cryoetgan.tomograms.simulation.film import (
    CARBON,
    CONTAMINATION,
    add_carbon,
    add_contamination,
    make_film,
)
from cryoetgan.tomograms.simulation.gold import add_beads, blur_resolution, blur_width
from cryoetgan.tomograms.simulation.helices import Helix, parse_helices
from cryoetgan.tomograms.simulation.membranes import (
    WantedMembranes,
    add_membrane_proteins,
    add_membranes,
)
from cryoetgan.tomograms.simulation.packing import (
    WAITING_VOXELS,
    Floats,
    Scene,
    empty_scene,
    pack,
)
from cryoetgan.tomograms.simulation.waiting_parts import RECORD

if TYPE_CHECKING:
    import pandas as pd

log = logging.getLogger("cryoetgan")
MICROMETRE, SQUARE_MICROMETRE = 1e4, 1e8
"""In angstrom and square angstrom."""
FILAMENT_REACHED = 0.8
"""Fraction of the wanted length of a filament below which the missing rest is said."""
FILL_REACHED = 0.995
"""Fraction of the wanted filling below which the missing rest is said."""
MIN_MAP_VOXELS = 8
"""Voxels along the shortest axis of a map."""


@dataclass(frozen=True, kw_only=True)
class Contents:
    """Everything that is placed in a scene."""

    classes: Mapping[str, Floats]
    """Class to density `(z, y, x)`. Labels are 1, 2, ... in this order."""
    copies: Mapping[str, int | None]
    """None: as many as `fill` allows."""
    crowders: Mapping[str, Floats]
    """Name to density `(z, y, x)` of background species: labelled, but not in the truth."""
    crowder_copies: int
    """Copies of each crowder."""
    vesicles_and_gold: VesiclesAndGold
    fill: float
    """Fraction of the voxels that are occupied at most."""
    shape: tuple[int, int, int]
    """zyx, voxels."""
    voxel_size: float
    """Angstrom."""
    cell: CellContents = field(default_factory=CellContents)
    membrane_proteins: Mapping[str, Floats] = field(default_factory=dict)
    filaments: Mapping[str, Floats] = field(default_factory=dict)
    """Name to density `(z, y, x)`."""
    helices: Mapping[str, Helix] = field(default_factory=dict)
    """Lattice of each filament."""

    def listed(self) -> set[str]:
        """Return the classes that have rows in the truth."""
        return {*self.classes, *self.membrane_proteins, *self.filaments}

    def requested(self) -> dict[str, int]:
        """Return the requested number of each kind of object."""
        counts = {name: count for name, count in self.copies.items() if count is not None}
        counts |= dict.fromkeys(self.crowders, self.crowder_copies)
        others = {"vesicle": self.vesicles_and_gold.vesicles, "bead": self.vesicles_and_gold.beads}
        others |= {"membrane": self.cell.membranes, CONTAMINATION: self.cell.contamination}
        return counts | {name: count for name, count in others.items() if count}

    def warn_of_missing(self, scene: Scene, output: Path) -> None:
        """Log the objects that did not fit."""
        requested = self.requested()
        for name, missing in scene.missing.items():
            wanted = f" of {requested[name]}" if name in requested else ""
            log.warning("%s: %d%s %s are not placed", output, missing, wanted, name)
        if scene.crowders < FILL_REACHED:
            message = "%s: %.2f of the wanted crowders (--crowder-fraction) have a place"
            log.warning(message, output, scene.crowders)
        for name, length in scene.filament_lengths.items():
            wanted_um, placed_um = self.cell.filament_length, length / MICROMETRE
            if placed_um < FILAMENT_REACHED * wanted_um:
                message = "%s: %.3g of %.3g micrometres of %s have a place"
                log.warning(message, output, placed_um, wanted_um, name)
        if self.fill < 1 and scene.reached < FILL_REACHED * scene.target:
            rest = "free place" if None in self.copies.values() else "copy (--copies)"
            log.warning(
                "%s: %.3f of the voxels are occupied, wanted %.3f (--fill): no %s is left",
                output, scene.reached, scene.target, rest,
            )  # fmt: skip


def read_contents(
    maps: Sequence[Path],
    options: SceneOptions,
    objects: VesiclesAndGold,
    cell: CellContents | None = None,
) -> Contents:
    """Read the maps of a scene and check that they fit each other and the shape.

    The stem of a file is the name of a class or crowder.
    """
    cell = cell or CellContents()
    named, crowders = paths_by_class(maps), paths_by_class(options.crowder or [])
    proteins = paths_by_class(cell.membrane_protein or [])
    filaments = paths_by_class(cell.filament or [])
    placed = {
        "membrane": cell.membranes,
        "vesicle": objects.vesicles,
        CARBON: cell.carbon_edge,
        CONTAMINATION: cell.contamination,
    }
    _check_names([*named, *proteins, *filaments], [name for name, count in placed.items() if count])
    helices = parse_helices(list(filaments), cell.helix or [])
    if options.fill is None and options.copies is None:
        raise UserError("--copies: not given; give the particles of each class, or --fill")
    # any number of copies: one, until the counts of single classes are known
    count = 1 if options.copies is None else options.copies
    counts = parse_counts(
        list(named), count, options.class_copies, "--copies", "--class-copies", least=0
    )
    copies: dict[str, int | None] = dict(counts)
    if options.copies is None:
        given = {item.partition("=")[0] for item in options.class_copies or []}
        copies |= dict.fromkeys(named.keys() - given)
    x, y, z = options.sides()
    paths = [*named.values(), *crowders.values(), *proteins.values(), *filaments.values()]
    densities, voxel_size = _read_maps(paths, (x, y, z))
    units = [*placed.values(), objects.beads, cell.crowder_fraction]
    _warn_of_scales(densities, blur_resolution(objects, voxel_size), any(units))
    shortest, longest = min(x, y, z) * voxel_size, max(x, y, z) * voxel_size
    if objects.beads and objects.bead_diameter > shortest:
        raise UserError(
            f"--bead-diameter: got {objects.bead_diameter:g} A, wanted {shortest:g} or less"
        )
    _, largest = objects.vesicle_radii()
    if objects.vesicles and largest > longest:
        raise UserError(f"--vesicle-radius: got {largest:g} A, wanted HI of {longest:g} or less")
    return Contents(
        classes={name: densities[path] for name, path in named.items()},
        copies=copies,
        crowders={f"{CROWDER}_{name}": densities[path] for name, path in crowders.items()},
        crowder_copies=options.crowder_copies,
        vesicles_and_gold=objects,
        cell=cell,
        membrane_proteins={name: densities[path] for name, path in proteins.items()},
        filaments={name: densities[path] for name, path in filaments.items()},
        helices=helices,
        fill=options.fill or 1.0,
        shape=(z, y, x),
        voxel_size=voxel_size,
    )


def _check_names(names: Sequence[str], placed: Sequence[str]) -> None:
    """Raise `UserError` if two maps have one name, or a map the name of other objects `placed`."""
    for name in names:
        if names.count(name) > 1:
            raise UserError(f"{name}: is named twice; give each map once")
        # beads have their label in every scene: `simulate --scene` takes it for gold
        if name in (*placed, "bead") or name.startswith(CROWDER):
            raise UserError(f"{name}: is the label of other objects of the scene; rename the map")


def _warn_of_scales(densities: Mapping[Path, Floats], resolution: float, with_others: bool) -> None:
    """Log the maps whose grey scale is not protein's, where other objects have it.

    `with_others` means that the scene holds objects without a map.
    """
    factors = {
        path: protein_scale(grey_level(map_), resolution) for path, map_ in densities.items()
    }
    if len(factors) > 1 and is_other_scale(max(factors.values()) / min(factors.values())):
        low, high = max(factors, key=factors.__getitem__), min(factors, key=factors.__getitem__)
        log.warning(
            "%s, %s: the grey values of the second are %.3g times the first's, so the contrast between them "
            "is wrong. Import both with `densities import`", low, high, factors[low] / factors[high],
        )  # fmt: skip
    foreign = {path: factor for path, factor in factors.items() if is_other_scale(factor)}
    if foreign and with_others:
        path, factor = next(iter(foreign.items()))
        log.warning(
            "%s: its grey values are %.3g times protein's at %.3g A, the scale of all objects without a map. Give "
            "the resolution of the maps (--resolution), or import maps of other programs with `densities import`",
            path, 1 / factor, resolution,
        )  # fmt: skip


def build_scene(
    contents: Contents,
    name: str,
    seed: int,
    scene: Scene | None = None,
    folder: Path | None = None,
) -> Scene:
    """Return the packed scene: carbon, membranes, filaments, gold, particles, crowders, ice on top.

    `name` (the tomogram's) and `seed` (the run's) determine the random numbers. `scene` is an
    empty scene to fill, for example of memory-mapped files. Parts of filaments wait in a file in
    `folder`, by default the one of temporary files.
    """
    scene = empty_scene(contents.shape, folder=folder) if scene is None else scene
    for label in contents.classes:
        scene.label(label)
    objects, cell, voxel_size = contents.vesicles_and_gold, contents.cell, contents.voxel_size
    width = blur_width(objects, voxel_size)
    film = make_film(contents.shape, cell.thickness_range(), voxel_size, name, seed)
    if cell.carbon_edge:
        add_carbon(scene, film, cell.carbon_edge, width, voxel_size, name, seed)
    shapes = cell.membrane_shape or MEMBRANE_SHAPES
    vesicles = WantedMembranes("vesicle", objects.vesicles, ["vesicle"], objects.vesicle_radii())
    wanted_membranes = WantedMembranes("membrane", cell.membranes, shapes, cell.radii())
    add_membranes(scene, vesicles, width, voxel_size, name, seed)
    membranes = add_membranes(scene, wanted_membranes, width, voxel_size, name, seed)
    if film.outside:
        film.cut(scene)
        membranes = [membrane.within(scene) for membrane in membranes]
    scene.membrane_area = sum(membrane.area for membrane in membranes)
    per_area = cell.membrane_protein_density / SQUARE_MICROMETRE
    flipped, proteins = cell.membrane_protein_inverted, contents.membrane_proteins
    add_membrane_proteins(scene, proteins, membranes, per_area, flipped, name, seed)
    if contents.filaments:
        length = cell.filament_length * MICROMETRE
        scene.filament_lengths = add_filaments(
            scene, contents.filaments, contents.helices, length, voxel_size, name, seed
        )
    if objects.beads:
        add_beads(scene, objects, voxel_size, name, seed)
    scene.target = contents.fill * (1 - film.outside)
    pack(scene, contents.classes, contents.copies, name, seed, scene.target)
    scene.reached = scene.filled / scene.occupied.size
    crowders = dict.fromkeys(contents.crowders, contents.crowder_copies)
    pack(scene, contents.crowders, crowders, name, seed)
    if cell.crowder_fraction:
        named = [*contents.classes.values(), *contents.membrane_proteins.values()]
        largest = max((protein_mass(one, voxel_size, width) for one in named), default=0.0)
        unnamed = make_crowders(voxel_size, width, seed, largest)
        before = scene.filled / scene.occupied.size
        wanted = cell.crowder_fraction * (1 - film.outside)
        pack(scene, unnamed, dict.fromkeys(unnamed), name, seed, before + wanted, CROWDER)
        scene.crowders = (scene.filled / scene.occupied.size - before) / wanted
    add_contamination(scene, film, cell.contamination, width, voxel_size, name, seed)
    return scene


def _read_maps(
    paths: Sequence[Path], shape: tuple[int, int, int]
) -> tuple[dict[Path, NDArray[Any]], float]:
    """Return the maps' densities `(z, y, x)` and their common voxel size."""
    volumes = {path: read_map(path) for path in paths}
    first = volumes[paths[0]].voxel_size
    for path, volume in volumes.items():
        check_same_voxel_size(first, volume.voxel_size, paths[0], path)
        size = format_shape(volume.data.shape)
        if min(shape) < min(volume.data.shape):
            raise UserError(
                f"--shape: {','.join(map(str, shape))} voxels are too small for {path} ({size})"
            )
        if min(volume.data.shape) < MIN_MAP_VOXELS:
            raise UserError(
                f"{path}: has {size} voxels; wanted a map of {MIN_MAP_VOXELS} or more per axis"
            )
    return {path: volume.data for path, volume in volumes.items()}, first


BYTES_PER_VOXEL = 11
"""Bytes of a scene on disk: density 4, labels 2, instances 4, occupied voxels 1."""


INSTANCE_NOTE = ["number of the object, cryoetganInstance; 0: none"]
"""Header of a volume of instances; MRC has no integers of 32 bits."""


def check_scene_space(output: Path, contents: Contents, by_voxel: int) -> None:
    """Raise `UserError` if the disk of `output` lacks room for volumes and waiting parts.

    `by_voxel` is the number of bytes of the volumes of a scene or tomogram for each voxel.
    """
    voxels = math.prod(contents.shape)
    waiting = RECORD.itemsize * min(WAITING_VOXELS, voxels) if contents.filaments else 0
    check_disk_space(output, by_voxel * voxels + waiting, "lower --shape (tomograms.shape)")


def write_scene(output: Path, contents: Contents, seed: int) -> Scene:
    """Write `SCENE.mrc`, `SCENE_labels.mrc`, `SCENE_instances.mrc`, `SCENE.star`; return the scene.

    Gold is part of the density. Memory does not grow with the scene.
    """
    name, shape, voxel_size = class_name(output), contents.shape, contents.voxel_size
    output.parent.mkdir(parents=True, exist_ok=True)
    check_scene_space(output, contents, BYTES_PER_VOXEL)
    note = [f"labels: see {output.name}.json"]
    with (
        open_volume(beside(output, LABELS), shape, voxel_size, np.int16, note) as labels,
        open_volume(
            beside(output, INSTANCES), shape, voxel_size, np.float32, INSTANCE_NOTE
        ) as instances,
        open_volume(output, shape, voxel_size, np.float32, ["density scene"]) as density,
    ):
        # only packing needs the occupied voxels
        occupied = scratch_array(output.parent, bool, shape)
        # plain views: slices of a memory map cost twice as much
        scene = Scene(
            density.view(np.ndarray),
            labels.view(np.ndarray),
            instances.view(np.ndarray),
            occupied.view(np.ndarray),
            folder=output.parent,
        )
        if contents.vesicles_and_gold.beads:
            scene.beads = scene.density
        build_scene(contents, name, seed, scene)
    particles, optics = truth_tables(scene, contents, None, name)
    write_star(output.with_suffix(".star"), particles, optics)
    return scene


def write_truth(
    output: Path, scene: Scene, contents: Contents, acquisition: Acquisition
) -> tuple[list[Path], dict[str, Any]]:
    """Write the labels, instances and truth of a simulated tomogram.

    Returns the volumes that get a record, and the entries of the record.
    """
    name, voxel_size = class_name(output), contents.voxel_size
    labels, instances = beside(output, LABELS), beside(output, INSTANCES)
    write_volume(labels, scene.labels, voxel_size, [f"labels: see {name}.mrc.json"])
    write_volume(instances, scene.instances, voxel_size, INSTANCE_NOTE)
    particles, optics = truth_tables(scene, contents, acquisition, name)
    write_star(output.with_suffix(".star"), particles, optics)
    log.info("%s: %d particles of %d classes", output, len(particles), len(contents.classes))
    about = {"labels": scene.label_names(), "acquisition": acquisition.to_json()}
    return [labels, instances], about


def truth_tables(
    scene: Scene, contents: Contents, acquisition: Acquisition | None, name: str
) -> "tuple[pd.DataFrame, pd.DataFrame]":
    """Return the tables `particles` and `optics` of a scene, without crowders.

    If no acquisition is given, the rows have the source `density`: they were not imaged.
    """
    import pandas as pd

    columns = ["rlnTomoName", *COORDINATES, *ANGLES]
    columns += ["cryoetganClass", "cryoetganSource", "cryoetganId", "cryoetganInstance"]
    columns += ["rlnHelicalTubeID"] * any("rlnHelicalTubeID" in row for row in scene.rows)
    rows = [row for row in scene.rows if row["cryoetganClass"] in contents.listed()]
    particles = pd.DataFrame(rows, columns=columns).assign(rlnOpticsGroup=1)
    if acquisition is None:
        particles["cryoetganSource"] = "density"
    optics = pd.DataFrame([optics_row(acquisition, 1, name)])
    optics["rlnImagePixelSize"] = contents.voxel_size
    return particles, optics
