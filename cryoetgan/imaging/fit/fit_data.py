"""Data of a fit: a tomogram, its picks, the maps of its classes, how it was recorded."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from cryoetgan import seeds
from cryoetgan.densities.poses import Poser
from cryoetgan.errors import UserError, format_shape
from cryoetgan.imaging.fit.noise import in_part
from cryoetgan.imaging.model import add_box
from cryoetgan.io.exclusion import ExclusionMask, excluded_voxels
from cryoetgan.io.mrc import read_maps, read_mask
from cryoetgan.io.star import ANGLES, COORDINATES, OTHER, read_star, select_tomogram
from cryoetgan.io.volume_set import open_tomogram
from cryoetgan.particles.curation.fdr import (
    add_q_values,
    beats_decoys,
    count_decoys,
    posterior,
    rank_rows,
)
from cryoetgan.particles.picking.dog import non_maximum_suppression
from cryoetgan.particles.subtomograms.set_picks import (
    GIVEN_CLASS,
    check_edge,
    has_given_class,
    read_set_picks,
)
from cryoetgan.physics.acquisition import Acquisition, read_acquisition
from cryoetgan.physics.coordinates import warn_of_picks_outside
from cryoetgan.physics.geometry import (
    block_slices,
    centre_distance,
    centres_inside,
    random_rotations,
    rotation_from_relion,
)
from cryoetgan.tomograms.importing.contrast import UNMEASURED, measure_contrast

if TYPE_CHECKING:
    import pandas as pd

log = logging.getLogger("cryoetgan")
PARTICLE_FDR, COUNT_FDR = 0.05, 0.1
"""False discovery rates: of the picks that count as particles, and of those that are counted to
estimate class fractions, if they have q-values without decoys."""
MIN_POSTERIOR = 0.5
"""Probability of a pick to be right, below which it is not counted. Of 133 fractions of single
classes, pairs, triples and all of seven (dev_set2_2), the error has a root mean square of 0.006
(0.010 with a limit of 0.1 on the rate instead), and 0.045 (0.080) after a Gaussian filter of 2
voxels, where many sets of picks do not reach that rate."""
Floats = NDArray[np.floating]


@dataclass(frozen=True)
class Picks:
    """Positions of particles, with class and orientation from template matching."""

    places: Floats
    """`(N, 3)` x, y, z in voxels."""
    names: NDArray[np.str_]
    """`(N,)` classes, each with a map."""
    rotations: Rotation
    """N of them, reference to particle."""
    aligned: bool = False
    """Whether classes and rotations were measured; otherwise they are random."""
    particles: NDArray[np.bool_] | None = None
    """`(N,)` whether a pick shows its class, by its q-value; None if it has none."""
    counts: NDArray[np.float64] | None = None
    """`(N,)` contribution of a pick to the number of particles of its class (`judge_picks`)."""

    def __len__(self) -> int:
        return len(self.places)

    def subset(self, chosen: NDArray[np.int_]) -> "Picks":
        """Return the picks of these indices."""
        return Picks(
            self.places[chosen],
            self.names[chosen],
            self.rotations[chosen],
            self.aligned,
            None if self.particles is None else self.particles[chosen],
            None if self.counts is None else self.counts[chosen],
        )


def judge_picks(table: "pd.DataFrame") -> tuple[NDArray[np.bool_], NDArray[np.float64]] | None:
    """Return which picks are particles, and the contribution of each to the count of its class.

    A pick is a particle if its map won against the decoys at a q-value up to `PARTICLE_FDR`. The
    number of particles of a class is estimated among the picks whose rank makes them more likely
    right than wrong (`fdr.posterior`):

        number of maps that won - number of decoys that won / decoys of a map

    The table has one row a pick, with the scores of its best class, or q-values of the selection,
    which holds no decoys: such a pick counts 1 - q. A pick whose class a person or program gave is a
    particle. None if the table has none of these.
    """
    if (given := has_given_class(table).to_numpy()).any():
        judged = judge_picks(table.drop(columns=GIVEN_CLASS))
        particles, counts = judged or (np.zeros(len(table), bool), np.zeros(len(table)))
        return particles | given, np.where(given, 1.0, counts)
    if "cryoetganQValue" in table:
        q = table["cryoetganQValue"].to_numpy(float)
        return q <= PARTICLE_FDR, np.where(q <= COUNT_FDR, 1 - q, 0.0)
    if not {"cryoetganDecoyScore", "cryoetganDecoys"} <= set(table):
        return None
    judged = add_q_values(table, np.full(len(table), "all"))
    q = judged["cryoetganQValue"].to_numpy(float)
    ranks, won, decoys = rank_rows(table), beats_decoys(table), count_decoys(table)
    counts = np.where(won, 1.0, -1 / decoys)
    for rows in table.groupby("cryoetganClass", sort=False).indices.values():
        right = posterior(ranks[rows], won[rows], int(decoys[rows[0]]))
        counts[rows[right < MIN_POSTERIOR]] = 0
    return won & (q <= PARTICLE_FDR), counts


def picks_from_table(
    table: "pd.DataFrame", classes: list[str], seed: int, min_distance: float = 0.0
) -> Picks:
    """Return one entry a pick: its best class, or a random class if it has none.

    Picks that were aligned to the same position are one particle; the best-scoring one is kept.

    The table holds scores (one row a pick and class), picks, or any coordinates; `classes` have a
    map. The seed gives the class and orientation that the table lacks. `min_distance` is the
    smallest distance between two particles, voxels.
    """
    if "cryoetganClass" in table:
        known = table[table["cryoetganClass"].isin(classes)]
        table = known if len(known) else table.drop(columns="cryoetganClass")
    if "cryoetganScore" in table and "cryoetganId" in table:
        table = table.iloc[np.argsort(-rank_rows(table), kind="stable")]
        table = table.drop_duplicates("cryoetganId").reset_index(drop=True)
        if min_distance > 0:
            places, distances = (
                table[COORDINATES].to_numpy(float),
                np.full(len(table), min_distance),
            )
            kept = non_maximum_suppression(places, rank_rows(table), distances)
            table = table.iloc[np.sort(kept)]
    rng = seeds.rng(seed, "imaging", "picks")
    names = np.array(classes)[rng.integers(len(classes), size=len(table))]
    has_class = "cryoetganClass" in table
    if has_class:
        names = table["cryoetganClass"].to_numpy(str)
    quaternions, aligned = random_rotations(len(table), rng).as_quat(), False
    if set(ANGLES) <= set(table):
        angles = table[ANGLES].to_numpy(float)
        measured = np.isfinite(angles).all(axis=1)
        if measured.any():
            quaternions[measured] = rotation_from_relion(angles[measured]).as_quat()
        aligned = bool(measured.all()) and has_class
    rotations = Rotation.from_quat(quaternions)
    judged = judge_picks(table) if aligned and "cryoetganScore" in table else None
    return Picks(table[COORDINATES].to_numpy(float), names, rotations, aligned, *(judged or ()))


class PosedPicks:
    """Densities of a tomogram's picks, placed in blocks of the tomogram.

    `maps` gives each class its density `(z, y, x)`, cubes of one size. `part` is the edge of the
    boxes of a set; a box holds its own picks alone. Up to `max_cached` rotated densities
    are kept in memory.
    """

    def __init__(
        self,
        picks: Picks,
        maps: Mapping[str, Floats],
        part: int | None = None,
        max_cached: int = 2000,
    ) -> None:
        self.picks, self.part = picks, part
        self.box = next(iter(maps.values())).shape[0]
        self.active = np.ones(len(picks), bool)
        self._posers = {name: Poser(np.asarray(maps[name])) for name in maps}
        self._density = lru_cache(max_cached)(self._rotate)

    def _rotate(self, index: int) -> NDArray[np.float32]:
        place = self.picks.places[index]
        pose = self._posers[str(self.picks.names[index])]
        return pose(self.picks.rotations[index], place - np.rint(place))

    def density_block(self, corner: tuple[int, ...], shape: tuple[int, ...]) -> NDArray[np.float32]:
        """Return the densities of the active picks in a block; corner and shape zyx, voxels."""
        scene = np.zeros(shape, np.float32)
        low, high = np.array(corner)[::-1], (np.array(corner) + shape)[::-1]
        places = self.picks.places
        near = ((places > low - self.box) & (places < high + self.box)).all(axis=1) & self.active
        near &= in_part(places, corner, shape, self.part)
        for index in np.flatnonzero(near):
            add_box(scene, self._density(int(index)), np.rint(self.picks.places[index]) - low)
        return scene

    def density_around(self, place: Floats, size: int) -> NDArray[np.float32]:
        """Return the densities `(size, size, size)` around the voxel nearest to a place (xyz)."""
        corner = np.rint(place)[::-1].astype(int) - size // 2
        return self.density_block(tuple(int(c) for c in corner), (size,) * 3)


@dataclass(frozen=True)
class FitData:
    """Data to which a model is fitted."""

    volume: NDArray[np.generic]
    """`(z, y, x)`, memory-mapped; protein bright."""
    voxel_size: float
    """Angstrom."""
    picks: Picks
    """Positions, classes and orientations of the particles."""
    maps: Mapping[str, Floats]
    """Class to density `(z, y, x)`, cubes of one size."""
    acquisition: Acquisition
    """Tilts, optics, CTF state."""
    path: object
    """The tomogram, for messages."""
    excluded: ExclusionMask | None = None
    """Voxels without data: carbon, ice, gold, padding."""
    part: int | None = None
    """Edge of the boxes of a set, which are stacked along z (`io.mrc.Volume`); None: a tomogram."""

    @cached_property
    def centres(self) -> NDArray[np.int_]:
        """Voxels `(N, 3)` xyz at which the picks' boxes are cut: the nearest, inside a set's box."""
        return centres_inside(self.picks.places, self.volume.shape, self.box, self.part)

    @property
    def box(self) -> int:
        """Edge of the maps, voxels."""
        return next(iter(self.maps.values())).shape[0]


def read_fit_data(
    tomogram: Path,
    particles: Path,
    densities: Sequence[Path],
    acquisition: Acquisition,
    mask: Path | None,
    seed: int,
) -> FitData:
    """Read the files of a fit, and check that they belong together.

    The tomogram is protein-bright MRC, the particles are picks or scores (STAR), and the stem of a
    density map is its class. The mask is not zero in excluded regions. The seed gives picks the
    class and orientation that the table lacks.
    """
    volume = open_tomogram(tomogram)
    maps = read_maps(densities, volume.voxel_size, tomogram)
    if OTHER in maps:
        raise UserError(f"'{OTHER}' is the class of all other picks; rename {OTHER}.mrc")
    if len({n for density in maps.values() for n in density.shape}) > 1:
        found = ", ".join(f"{name} {format_shape(m.shape)}" for name, m in maps.items())
        raise UserError(f"maps have {found} voxels; wanted cubes of one size (densities.box)")
    check_edge(volume, next(iter(maps.values())).shape[0], tomogram)
    if volume.part is not None and particles.resolve() == tomogram.resolve():
        # poses that were never compared with the maps may refer to another reference
        table = read_set_picks(tomogram).drop(columns=ANGLES, errors="ignore")
        table = table.rename(columns={GIVEN_CLASS: "cryoetganClass"})
    else:
        table = read_star(particles, COORDINATES).particles
    if not len(table):
        raise UserError(f"{particles}: holds no pick; lower particles.threshold and pick again")
    table = select_tomogram(table, tomogram, particles)
    places = table[COORDINATES].to_numpy(float)
    # template matching may refine a few picks across a face
    warn_of_picks_outside(places, volume.data.shape, particles, tomogram, tolerated=0.1)
    _check_classes(table, sorted(maps), particles)
    picks = picks_from_table(table, sorted(maps), seed, min_particle_distance(maps))
    drawn = None if mask is None else read_mask(mask, volume, tomogram)
    excluded = excluded_voxels(volume, drawn)
    if excluded.levels and not excluded.labelled:
        levels = ", ".join(f"{level:g}" for level in excluded.levels)
        log.info("%s: padding with the value %s is excluded", tomogram, levels)
    size = volume.voxel_size
    measured = UNMEASURED if volume.part else measure_contrast(volume.data, size, excluded)
    if measured.contrast == "dark":
        log.warning(
            "%s: wrong contrast? %s, wanted bright; import it again with the other contrast "
            "(tomograms import --contrast; column contrast of the table)", tomogram, measured,
        )  # fmt: skip
    return FitData(
        volume.data, size, picks, maps, acquisition, tomogram, excluded or None, volume.part
    )


def _check_classes(table: "pd.DataFrame", maps: list[str], path: Path) -> None:
    """Raise `UserError` if no row has the class of a map; warn of rows that do not."""
    if "cryoetganClass" not in table:
        return
    named = table["cryoetganClass"].astype(str)
    unknown = sorted(set(named) - set(maps))
    if not set(named) & set(maps):
        raise UserError(
            f"{path}: no map is given for its classes ({', '.join(unknown)}), only for "
            f"{', '.join(maps)}; a map's class is the name of its file"
        )
    if unknown:
        log.warning(
            "%s: %d of %d rows have a class without a map (%s); they are ignored and count as "
            "background: give --density for each class",
            path, int(named.isin(unknown).sum()), len(named), ", ".join(unknown),
        )  # fmt: skip


def resolve_acquisition(tomogram: Path, given: Mapping[str, Any]) -> Acquisition:
    """Return the acquisition of a tomogram: its record (`T.mrc.json`), replaced by given values."""
    recorded = read_acquisition(tomogram)
    if recorded is None and "tilt_low" not in given:
        raise UserError(f"{tomogram}: has no record of its tilts beside it; give --tilts=LO,HI")
    found = replace(recorded or Acquisition(), **given)
    if found.defocus is None and found.ctf != "corrected":
        log.warning(
            "%s: no defocus is known, so the CTF is fitted as part of the gain; for a better fit "
            "give --defocus (column defocus of the table of tomograms)",
            tomogram,
        )
    return found


def particle_radius(maps: Mapping[str, Floats], fraction: float = 0.95) -> float:
    """Return the radius in voxels within which the largest map holds `fraction` of its mass."""
    radii = [0.0]
    for density in maps.values():
        r = centre_distance(density.shape[0]).ravel()
        order = np.argsort(r)
        mass = np.cumsum(np.maximum(density, 0).ravel()[order], dtype=np.float64)
        index = int(np.searchsorted(mass, fraction * mass[-1]))
        radii.append(float(r[order][min(index, mass.size - 1)]))
    return max(radii)


def min_particle_distance(maps: Mapping[str, Floats]) -> float:
    """Return the smallest distance between two particles, voxels: half the smallest radius."""
    return min(particle_radius({name: density}) for name, density in maps.items()) / 2


def boxes_inside(
    places: Floats | NDArray[np.int_], shape: tuple[int, ...], box: int
) -> NDArray[np.int_]:
    """Return the indices of places whose boxes, cut at the nearest voxel, lie in a tomogram."""
    low = np.rint(places)[:, ::-1] - box // 2
    return np.flatnonzero(((low >= 0) & (low + box <= np.array(shape))).all(axis=1))


def cut_box(volume: NDArray[Any], place: Floats, box: int) -> NDArray[np.float32]:
    """Return the box centred on the voxel nearest to a place (xyz), without interpolation."""
    corner = np.rint(place)[::-1].astype(int) - box // 2
    return np.asarray(volume[block_slices(corner, (box,) * 3)], np.float32)
