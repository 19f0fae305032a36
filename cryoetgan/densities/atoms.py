"""The atoms of one particle: what a density map is made from."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cryoetgan.densities.altlocs import best_locations
from cryoetgan.densities.assemblies import choose_models, expand, keep_chains
from cryoetgan.densities.connected_parts import gaps, neck, ranked
from cryoetgan.errors import UserError
from cryoetgan.structures.read_structure import flatten_structure, read_structure

log = logging.getLogger("cryoetgan")
Floats = NDArray[np.float64]
SECOND_PARTICLE = 0.25
"""A part this large, compared with the largest, is a particle of its own."""
SMALLEST_PARTICLE = 5000
"""Atoms; below some 70 kDa a flexible chain is more likely than two particles."""
LAST_ELEMENT = 118
LARGEST_EXTENT = 20_000.0
"""Angstrom; wider than any particle of the archive by an order of magnitude."""


@dataclass(frozen=True)
class Atoms:
    """Atoms of one particle.

    Attributes
    ----------
    positions : ndarray
        `(N, 3)` xyz in angstrom.
    atomic_numbers : ndarray
        `(N,)`.
    phantom : bool
        Whether they are pseudo-atoms of a phantom.
    """

    positions: Floats
    atomic_numbers: NDArray[np.int_]
    phantom: bool = False

    def __len__(self) -> int:
        return len(self.atomic_numbers)

    def __getitem__(self, chosen: Any) -> "Atoms":
        return Atoms(self.positions[chosen], self.atomic_numbers[chosen], self.phantom)

    def centred(self) -> "Atoms":
        """Return the atoms with the Z-weighted centre of mass at the origin."""
        centre = np.average(self.positions, axis=0, weights=self.atomic_numbers)
        return Atoms(self.positions - centre, self.atomic_numbers, self.phantom)

    def diameter(self) -> float:
        """Return the longest distance between two atoms, angstrom (over the convex hull)."""
        from scipy.spatial import ConvexHull
        from scipy.spatial.distance import pdist

        return float(pdist(self.positions[ConvexHull(self.positions).vertices]).max())

    def mass(self) -> float:
        """Return the mass of these atoms in kilodaltons."""
        import gemmi

        counts = np.bincount(self.atomic_numbers)
        weights = [gemmi.Element(z).weight for z in range(len(counts))]
        return float(counts @ np.array(weights) / 1000)


def read_atoms(
    path: Path,
    assembly: str = "1",
    hydrogens: bool = False,
    ligands: bool = True,
    waters: bool = False,
    model: str = "auto",
    component: int = 0,
    chains: Sequence[str] = (),
) -> Atoms:
    """Read the atoms of one particle.

    Parameters
    ----------
    path : Path
        PDB or mmCIF, gzipped or not.
    assembly : str
        Name of the biological assembly to build, or `none`. A file that describes no
        assembly is taken as it stands.
    hydrogens, ligands, waters : bool
        Whether they count; ligands are all that is neither polymer nor water: ions,
        cofactors, glycans. Of alternate locations the best occupied one counts.
    model : str
        A MODEL's number, `all`, or `auto`: see `choose_models`.
    component : int
        0 for all atoms; n for the n-th largest of the parts that lie apart.
    chains : sequence of str
        Those to keep, as the authors name them, before the assembly is built; none: all.

    Raises
    ------
    UserError
        Where the model, a chain, the assembly or the part is not there, or no atom is left.
    """
    import gemmi

    structure = read_structure(path)
    structure.setup_entities()
    choose_models(structure, model, path)
    left_out = keep_chains(structure, chains, path) if chains else set()
    described = expand(structure, assembly, path, left_out)
    flat = flatten_structure(structure, path)
    numbers = np.where(flat.elements <= LAST_ELEMENT, flat.elements, 0).astype(int)
    numbers[flat.element_names == b"D"] = 1
    kept = best_locations(flat)
    kind = flat.entity_type
    if not waters:
        kept &= kind != gemmi.EntityType.Water.value
    if not ligands:
        kept &= (kind == gemmi.EntityType.Polymer.value) | (kind == gemmi.EntityType.Water.value)
    if not hydrogens:
        kept &= numbers != 1
    if not kept.any():
        raise UserError(
            f"{path}: no atom is left without ligands, waters and hydrogens; "
            "leave out --no-ligands, or give --waters or --hydrogens"
        )
    unknown = kept & (numbers == 0)
    if unknown.any():
        if (unknown == kept).all():
            raise UserError(
                f"{path}: no atom has an element that is known; fill the element column"
            )
        log.warning("%s: %d atoms of unknown element are left out", path, int(unknown.sum()))
    kept &= ~unknown
    atoms = Atoms(flat.pos[kept], numbers[kept], structure.name.upper().startswith("PHANTOM"))
    names = np.ascontiguousarray(np.asarray(flat.chain_ids)[kept]).view(np.uint64).ravel()
    _, numbered = np.unique(names, return_inverse=True)
    return _one_particle(atoms, numbered, described, component, path)


def check_extent(positions: Floats, path: Path) -> None:
    """Raise a `UserError` where atoms lie further apart than those of any particle."""
    extent = float(np.ptp(positions, axis=0).max())
    if extent > LARGEST_EXTENT:
        raise UserError(
            f"{path}: its atoms spread over {extent:.3g} A, more than any particle; "
            "are the coordinates in angstrom, and whole?"
        )


def _one_particle(
    atoms: Atoms, chains: NDArray[np.int_], described: bool, component: int, path: Path
) -> Atoms:
    """Return the part that was asked for; warn where the atoms are several particles.

    What the entry itself describes as one assembly is one particle, thin necks or not.
    """
    check_extent(atoms.positions, path)
    if atoms.phantom and not component:  # of balls that touch at points, meant as one
        return atoms
    labels, sizes = gaps(atoms.positions)
    if not described or component:
        labels, sizes = ranked(_divided(atoms, chains, labels, sizes))
    if component:
        if component > len(sizes):
            raise UserError(
                f"{path}: --component is {component}, but its atoms make up {len(sizes)} part(s)"
            )
        return atoms[labels == component - 1]
    large = [size for size in sizes if size > SECOND_PARTICLE * sizes[0]]
    if len(large) > 1:
        log.warning(
            "%s: holds %d separate particles (%s atoms); a map of all of them is the map of none: "
            "give --component 1 for the largest (a column of the table of classes too), another "
            "--assembly, or a file with one of them",
            path,
            len(large),
            ", ".join(map(str, large[:4])),
        )
    return atoms


def _divided(
    atoms: Atoms, chains: NDArray[np.int_], labels: NDArray[np.int_], sizes: list[int]
) -> NDArray[np.int_]:
    """Return labels of parts, each part divided at its thin necks until it has none."""
    labels, waiting = labels.copy(), list(range(len(sizes)))
    while waiting:
        part = np.flatnonzero(labels == waiting.pop())
        if len(part) < SMALLEST_PARTICLE:
            continue
        sides = neck(atoms.positions[part], atoms.atomic_numbers[part], chains[part])
        if sides is not None and 0 < sides.sum() < len(sides):
            fresh = int(labels.max()) + 1
            waiting += [int(labels[part[0]]), fresh]
            labels[part[sides != sides[0]]] = fresh
    return labels
