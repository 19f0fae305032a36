"""The atoms of one particle: the input of a density map."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cryoetgan.densities.altlocs import select_altlocs
from cryoetgan.densities.assemblies import build_assembly, choose_models, keep_chains
from cryoetgan.densities.connected_parts import rank_labels, split_at_gaps, split_at_neck
from cryoetgan.errors import UserError
from cryoetgan.structures.model_kinds import (
    TRACE_CHARGE,
    cut_by_confidence,
    heavy_electrons,
    mark_traces,
)
from cryoetgan.structures.read_structure import flatten_structure, read_structure

log = logging.getLogger("cryoetgan")
Floats = NDArray[np.float64]
SECOND_PARTICLE_FRACTION = 0.25
"""A part with more than this fraction of the largest part's atoms is a particle of its own."""
MIN_PARTICLE_ATOMS = 5000
"""Below about 70 kDa a flexible chain is more likely than two particles."""
MAX_ATOMIC_NUMBER = 118
MAX_EXTENT_A = 20_000.0
"""Angstrom; ten times wider than any particle of the archive."""


@dataclass(frozen=True)
class Atoms:
    """Atoms of one particle."""

    positions: Floats
    """`(N, 3)` xyz in angstrom."""
    atomic_numbers: NDArray[np.int_]
    """`(N,)`."""
    phantom: bool = False
    """True if they are the pseudo-atoms of a phantom."""
    trace: bool = False
    """True if single atoms stand for residues, with the electrons of all heavy atoms."""

    def __len__(self) -> int:
        return len(self.atomic_numbers)

    def __getitem__(self, chosen: Any) -> "Atoms":
        return replace(
            self, positions=self.positions[chosen], atomic_numbers=self.atomic_numbers[chosen]
        )

    def centre(self) -> "Atoms":
        """Return the atoms moved so that their Z-weighted centre of mass is the origin."""
        centre = np.average(self.positions, axis=0, weights=self.atomic_numbers)
        return replace(self, positions=self.positions - centre)


@dataclass(frozen=True)
class Part:
    """The part of a file that is the particle."""

    model: str = "auto"
    """Number of a MODEL, `all`, or `auto`; see `choose_models`."""
    component: int = 0
    """0 for all atoms; n for the n-th largest of the parts that are separated in space."""
    chains: Sequence[str] = ()
    """Chains to keep before the assembly is built, by their author names; empty for all."""
    min_confidence: float = 0.0
    """Lowest confidence (pLDDT, 0 to 100) of a residue in a predicted model; 0 for all."""

    def __post_init__(self) -> None:
        if self.component < 0:
            raise UserError(
                f"--component: got {self.component}, wanted 0 (all), 1 (the largest), 2 ..."
            )
        if not 0 <= self.min_confidence <= 100:
            raise UserError(f"--min-confidence: got {self.min_confidence:g}, wanted 0 to 100")


def read_atoms(
    path: Path,
    assembly: str = "1",
    hydrogens: bool = False,
    ligands: bool = True,
    waters: bool = False,
    part: Part | None = None,
) -> Atoms:
    """Read the atoms of one particle from PDB or mmCIF, gzipped or not.

    Parameters
    ----------
    path : Path
        Of alternate locations the best occupied is used.
    assembly : str
        Name of the biological assembly to build, or `none`. If the file describes no assembly,
        its atoms are used as they are.
    hydrogens, ligands, waters : bool
        Whether to include them. A ligand is any entity that is neither polymer nor water: ions,
        cofactors, glycans.
    part : Part, optional
        Model, chains, residues and component; default: all that are one particle.
    """
    import gemmi

    part = part or Part()
    structure = read_structure(path)
    structure.setup_entities()
    choose_models(structure, part.model, path)
    removed = keep_chains(structure, part.chains, path) if part.chains else set()
    phantom = structure.name.upper().startswith("PHANTOM")
    if not phantom:
        cut_by_confidence(structure, part.min_confidence, path)
        mark_traces(structure, path)
    described = build_assembly(structure, assembly, path, removed)
    flat = flatten_structure(structure, path)
    numbers = np.where(flat.elements <= MAX_ATOMIC_NUMBER, flat.elements, 0).astype(int)
    numbers[flat.element_names == b"D"] = 1
    traced = np.asarray(flat.charge) == TRACE_CHARGE
    residues = np.ascontiguousarray(np.asarray(flat.residue_names)).view("S8").ravel()
    for name in np.unique(residues[traced]):
        numbers[traced & (residues == name)] = heavy_electrons(name.decode())
    keep = select_altlocs(flat)
    kind = flat.entity_type
    if not waters:
        keep &= kind != gemmi.EntityType.Water.value
    if not ligands:
        keep &= (kind == gemmi.EntityType.Polymer.value) | (kind == gemmi.EntityType.Water.value)
    if not hydrogens:
        keep &= numbers != 1
    if not keep.any():
        raise UserError(
            f"{path}: no atom is left without ligands, waters and hydrogens; "
            "omit --no-ligands, or give --waters or --hydrogens"
        )
    unknown = keep & (numbers == 0)
    if unknown.any():
        if (unknown == keep).all():
            raise UserError(f"{path}: no atom has a known element; fill the element column")
        log.warning("%s: skipping %d atoms of unknown element", path, int(unknown.sum()))
    keep &= ~unknown
    atoms = Atoms(flat.pos[keep], numbers[keep], phantom, bool(traced.any()))
    names = np.ascontiguousarray(np.asarray(flat.chain_ids)[keep]).view(np.uint64).ravel()
    _, chain_numbers = np.unique(names, return_inverse=True)
    return _select_component(atoms, chain_numbers, described, part.component, path)


def check_extent(positions: Floats, path: Path) -> None:
    """Raise `UserError` if atoms are further apart than the atoms of any particle."""
    extent = float(np.ptp(positions, axis=0).max())
    if extent > MAX_EXTENT_A:
        raise UserError(
            f"{path}: its atoms spread over {extent:.3g} A, more than any particle; "
            "check that the coordinates are complete and in angstrom"
        )


def _select_component(
    atoms: Atoms, chains: NDArray[np.int_], described: bool, component: int, path: Path
) -> Atoms:
    """Return the requested component; log a warning if the atoms are several particles.

    An assembly that the entry itself describes is one particle, even with thin necks.
    """
    check_extent(atoms.positions, path)
    if atoms.phantom and not component:  # a phantom's balls may touch at single points
        return atoms
    labels, sizes = split_at_gaps(atoms.positions)
    if not described or component:
        labels, sizes = rank_labels(_split_at_necks(atoms, chains, labels, sizes))
    if component:
        if component > len(sizes):
            raise UserError(
                f"{path}: --component is {component}, but its atoms make up {len(sizes)} part(s)"
            )
        return atoms[labels == component - 1]
    large = [size for size in sizes if size > SECOND_PARTICLE_FRACTION * sizes[0]]
    if len(large) > 1:
        sizes_text = ", ".join(map(str, large[:4]))
        log.warning(
            f"{path}: holds {len(large)} separate particles ({sizes_text} atoms), and their common "
            "map shows neither; give --component 1 (column component) for the largest, another "
            "--assembly, or a file with one particle"
        )
    return atoms


def _split_at_necks(
    atoms: Atoms, chains: NDArray[np.int_], labels: NDArray[np.int_], sizes: list[int]
) -> NDArray[np.int_]:
    """Return the labels `(N,)` of parts, each part split until it has no thin neck."""
    labels, queue = labels.copy(), list(range(len(sizes)))
    while queue:
        part = np.flatnonzero(labels == queue.pop())
        if len(part) < MIN_PARTICLE_ATOMS:
            continue
        sides = split_at_neck(atoms.positions[part], atoms.atomic_numbers[part], chains[part])
        if sides is not None and 0 < sides.sum() < len(sides):
            new = int(labels.max()) + 1
            queue += [int(labels[part[0]]), new]
            labels[part[sides != sides[0]]] = new
    return labels
