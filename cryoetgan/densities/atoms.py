"""Which atoms of an entry make up one particle."""

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from cryoetgan.errors import UserError
from cryoetgan.structures.checks import read_structure

log = logging.getLogger("cryoetgan")
Floats = NDArray[np.float64]
EMAN2_Z = {"H": 1, "C": 6, "N": 7, "O": 8, "P": 15, "S": 16, "K": 19}
GAP = 8.0
"""Angstrom without an atom that separates two particles."""
SECOND_PARTICLE = 0.25
"""A component this large, compared with the largest, is a particle of its own."""


@dataclass(frozen=True)
class Atoms:
    """Atoms of one particle: `positions` (N, 3) xyz in angstrom, `atomic_numbers` (N,)."""

    positions: Floats
    atomic_numbers: NDArray[np.int_]

    def __len__(self) -> int:
        return len(self.atomic_numbers)

    def centred(self) -> "Atoms":
        """Return the atoms with the Z-weighted centre of mass at the origin."""
        centre = np.average(self.positions, axis=0, weights=self.atomic_numbers)
        return Atoms(self.positions - centre, self.atomic_numbers)

    def diameter(self) -> float:
        """Return the longest distance between two atoms, angstrom (over the convex hull)."""
        from scipy.spatial import ConvexHull
        from scipy.spatial.distance import pdist

        return float(pdist(self.positions[ConvexHull(self.positions).vertices]).max())


def read_atoms(
    path: Path,
    assembly: str = "1",
    hydrogens: bool = False,
    ligands: bool = True,
    waters: bool = False,
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
        Whether they count (bound ligands, ions and glycans are part of the particle). Of alternate locations the best occupied one counts.

    Raises
    ------
    UserError
        Where the assembly is not described, or no atom is left.
    """
    structure = read_structure(path)
    structure.setup_entities()
    _models(structure, path)
    _assemble(structure, assembly, path)
    if not ligands:
        structure.remove_ligands_and_waters()
    elif not waters:
        structure.remove_waters()
    if not hydrogens:
        structure.remove_hydrogens()
    sites = list(_best_locations(structure[0]))
    if not sites:
        raise UserError(
            f"{path}: no atom is left without ligands, waters and hydrogens; "
            "leave out --no-ligands, or give --waters or --hydrogens"
        )
    atoms = Atoms(
        np.array([[a.pos.x, a.pos.y, a.pos.z] for a in sites]),
        np.array([a.element.atomic_number for a in sites]),
    )
    _warn_of_two_particles(atoms, path)
    return atoms


def read_atoms_as_eman2(path: Path) -> Atoms:
    """Read atoms as e2pdb2mrc.py does.

    Z from the atom's name, all MODELs and alternate locations, no HETATM, no assembly,
    unknown names dropped.
    """
    structure = read_structure(path)
    positions, numbers = [], []
    for model in structure:
        for site in model.all():
            if site.residue.het_flag == "H":
                continue
            z = _z_from_name(site.atom)
            if z:
                positions.append([site.atom.pos.x, site.atom.pos.y, site.atom.pos.z])
                numbers.append(z)
    if not numbers:
        raise UserError(f"{path}: EMAN2 would find no atom in it (HETATM records are skipped)")
    return Atoms(np.array(positions), np.array(numbers))


def _z_from_name(atom: Any) -> int:
    # columns 13-16 of a PDB file: gemmi pads the name as the format does
    name = atom.padded_name()
    letters = name.strip().lstrip("0123456789")
    if not letters:
        return 0
    if letters[:2].upper() == "SE" and atom.element.name == "Se":
        return 16
    if atom.element.name in ("Ca", "Cl", "Cd", "Co", "Cu", "Cr", "Cs"):
        return 6
    return EMAN2_Z.get(letters[0].upper(), 0) if atom.element.name.upper() in EMAN2_Z else 0


def _models(structure: Any, path: Path) -> None:
    """Keep the first of many pictures of one molecule, but all of the parts of one."""
    import gemmi

    if len(structure) == 1:
        return
    centres = np.array([list(model.calculate_center_of_mass().tolist()) for model in structure])
    spread = np.linalg.norm(centres - centres[0], axis=1)
    if (spread[1:] < GAP).all():
        log.info("%s: %d models of one molecule; the first is taken", path, len(structure))
        for number in range(len(structure) - 1, 0, -1):
            del structure[number]
        return
    log.info("%s: %d models are parts of one particle and are put together", path, len(structure))
    structure.merge_chain_parts()
    first = structure[0]
    for number in range(1, len(structure)):
        for chain in structure[number]:
            copy = chain.clone()
            copy.name = f"{chain.name}{number + 1}"
            first.add_chain(copy)
    for number in range(len(structure) - 1, 0, -1):
        del structure[number]
    structure.assemblies = gemmi.Structure().assemblies
    structure.setup_entities()


def _assemble(structure: Any, assembly: str, path: Path) -> None:
    import gemmi

    if assembly.lower() == "none" or not len(structure.assemblies):
        return
    names = [item.name for item in structure.assemblies]
    if assembly not in names:
        raise UserError(
            f"{path}: describes no assembly '{assembly}'; it has {', '.join(names)}; set "
            "--assembly (densities.assembly, or the column of the table) to one, or to none"
        )
    structure.transform_to_assembly(assembly, gemmi.HowToNameCopiedChain.AddNumber)


def _best_locations(model: Any) -> Any:
    for chain in model:
        for residue in chain:
            best: dict[str, Any] = {}
            for atom in residue:
                kept = best.get(atom.name)
                if kept is None or atom.occ > kept.occ:
                    best[atom.name] = atom
            yield from best.values()


def _warn_of_two_particles(atoms: Atoms, path: Path) -> None:
    sizes = component_sizes(atoms.positions)
    if len(sizes) > 1 and sizes[1] > SECOND_PARTICLE * sizes[0]:
        log.warning(
            "%s: holds %d separate particles (%s atoms); a map of all of them is the map of none: "
            "choose another --assembly, or a file with one of them",
            path,
            int((np.array(sizes) > SECOND_PARTICLE * sizes[0]).sum()),
            ", ".join(map(str, sizes[:4])),
        )


def component_sizes(positions: Floats) -> list[int]:
    """Return atom counts of the parts that lie more than `GAP` angstrom apart, largest first."""
    cells = np.floor((positions - positions.min(axis=0)) / (GAP / 2)).astype(int)
    occupied = np.zeros(cells.max(axis=0) + 1, bool)
    occupied[tuple(cells.T)] = True
    labels, count = ndimage.label(occupied, structure=np.ones((3, 3, 3)))
    if count == 1:
        return [len(positions)]
    found = np.bincount(labels[tuple(cells.T)], minlength=count + 1)[1:]
    return sorted((int(size) for size in found), reverse=True)


def radius_of(atoms: Atoms) -> float:
    """Return the distance in angstrom from the origin to the farthest atom."""
    return float(np.linalg.norm(atoms.positions, axis=1).max())
