"""Models and biological assemblies: from what a file holds to the whole particle."""

import logging
from collections import Counter
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cryoetgan.errors import UserError
from cryoetgan.structures.read_structure import flatten_structure

log = logging.getLogger("cryoetgan")
OVERLAP_DISTANCE = 1.5
"""Angstrom; atoms of two parts of one particle do not come this close."""
OVERLAP_SHARE = 0.05
"""Share of atoms that overlap, above which two models picture the same molecule."""


def choose_models(structure: Any, model: str, path: Path) -> None:
    """Leave one model in the structure.

    Parameters
    ----------
    structure : gemmi.Structure
        Changed in place.
    model : str
        A number as the file has it; `all`: all models are parts of one particle;
        `auto`: so they are if they do not overlap in space (the archive's files of
        assemblies), else they are pictures of one molecule (NMR) and the first is taken.
    """
    import gemmi

    numbers = [str(item.num) for item in structure]
    if model not in ("auto", "all"):
        if model not in numbers:
            raise UserError(
                f"{path}: has no model '{model}'; it has {', '.join(numbers[:8])}"
                f"{' ...' if len(numbers) > 8 else ''}; set --model (a column of the table "
                "of classes) to one, to all, or to auto"
            )
        for index in reversed(range(len(structure))):
            if numbers[index] != model:
                del structure[index]
        return
    if len(structure) == 1:
        return
    if model == "auto" and _overlap(flatten_structure(structure, path)):
        log.info("%s: %d models of one molecule; the first is taken", path, len(structure))
        for index in reversed(range(1, len(structure))):
            del structure[index]
        return
    log.info("%s: %d models are parts of one particle and are put together", path, len(structure))
    first = structure[0]
    for number in range(1, len(structure)):
        for chain in structure[number]:
            copy = chain.clone()
            copy.name = f"{chain.name}{number + 1}"
            first.add_chain(copy)
    for index in reversed(range(1, len(structure))):
        del structure[index]
    # the models are the assembly: what builds it from the first would build it twice
    structure.assemblies = gemmi.Structure().assemblies
    structure.setup_entities()


def _overlap(flat: Any) -> bool:
    """Return whether some model fills the same space as the first."""
    from scipy.spatial import cKDTree

    models = np.unique(flat.model_num)
    tree = cKDTree(flat.pos[flat.model_num == models[0]])
    for number in models[1:]:
        near, _ = tree.query(
            flat.pos[flat.model_num == number], distance_upper_bound=OVERLAP_DISTANCE
        )
        if np.isfinite(near).mean() > OVERLAP_SHARE:
            return True
    return False


def keep_chains(structure: Any, names: Sequence[str], path: Path) -> set[str]:
    """Leave only some chains, in place: antibodies and partners that the sample lacks go.

    Parameters
    ----------
    structure : gemmi.Structure
        One model, entities set up.
    names : sequence of str
        Chains as the authors name them.

    Returns
    -------
    set of str
        Chains and subchains that went.

    Raises
    ------
    UserError
        Where a chain is not there.
    """
    model = structure[0]
    there = list(dict.fromkeys(chain.name for chain in model))
    unknown = [name for name in names if name not in there]
    if unknown:
        raise UserError(
            f"{path}: has no chain {', '.join(unknown)}; --chains (a column of the table of "
            f"classes) takes some of {', '.join(there[:40])}{' ...' if len(there) > 40 else ''}"
        )
    gone = [chain for chain in model if chain.name not in names]
    left_out = {chain.name for chain in gone}
    left_out |= {residue.subchain for chain in gone for residue in chain}
    for name in {chain.name for chain in gone}:
        model.remove_chain(name)
    return left_out


def expand(
    structure: Any, assembly: str, path: Path, left_out: Collection[str] = frozenset()
) -> bool:
    """Build the biological assembly, in place; return whether the file describes one.

    Warns where the file's chains are only a part of it.

    Parameters
    ----------
    structure : gemmi.Structure
        One model, entities set up.
    assembly : str
        Its name, or `none`.
    left_out : collection of str
        Chains and subchains that are missing on purpose.
    """
    import gemmi

    described = {item.name: item for item in structure.assemblies}
    if assembly.lower() == "none":
        _warn_of_a_larger_assembly(structure, path)
        return False
    if not described:
        return False
    if assembly not in described:
        raise UserError(
            f"{path}: describes no assembly '{assembly}'; it has {', '.join(described)}; set "
            "--assembly (densities.assembly, or the column of the table) to one, or to none"
        )
    missing = missing_chains(structure, described[assembly])
    missing = [name for name in missing if name not in left_out]
    if missing:
        log.warning(
            "%s: assembly '%s' is made of chains the file lacks (%s%s); its map is that of a part: "
            "take the whole entry, or say that the part is meant with --assembly none",
            path,
            assembly,
            ", ".join(missing[:8]),
            " ..." if len(missing) > 8 else "",
        )
    chains = {chain.name for chain in structure[0]}
    parts = {residue.subchain for chain in structure[0] for residue in chain}
    for generator in described[assembly].generators:
        # the library refuses chains that are not there
        generator.chains = [name for name in generator.chains if name in chains]
        generator.subchains = [name for name in generator.subchains if name in parts]
    structure.transform_to_assembly(assembly, gemmi.HowToNameCopiedChain.AddNumber)
    if not sum(chain.count_atom_sites() for chain in structure[0]):
        raise UserError(
            f"{path}: has none of the chains of assembly '{assembly}'; set --assembly to none"
        )
    return True


def missing_chains(structure: Any, assembly: Any) -> list[str]:
    """Return the polymer chains that an assembly is made of and the file lacks."""
    import gemmi

    model = structure[0]
    chains = {chain.name for chain in model}
    parts = {residue.subchain for chain in model for residue in chain}
    small = {
        name
        for entity in structure.entities
        if entity.entity_type not in (gemmi.EntityType.Polymer, gemmi.EntityType.Unknown)
        for name in entity.subchains
    }
    missing = []
    for generator in assembly.generators:
        missing += [name for name in generator.chains if name not in chains]
        missing += [name for name in generator.subchains if name not in parts | small]
    return list(dict.fromkeys(missing))


def _warn_of_a_larger_assembly(structure: Any, path: Path) -> None:
    for assembly in structure.assemblies:
        # a chain's copies may stand in one generator (PDB) or in one each (mmCIF)
        of_chain: Counter[str] = Counter()
        for item in assembly.generators:
            of_chain.update(dict.fromkeys([*item.chains, *item.subchains], len(item.operators)))
        copies = max(of_chain.values(), default=1)
        if copies > 1:
            log.warning(
                "%s: holds one of the %d copies that make up its assembly '%s'; its map is that "
                "of a part: set --assembly (densities.assembly) to %s for the whole particle",
                path,
                copies,
                assembly.name,
                assembly.name,
            )
            return
