"""Models, chains and biological assemblies: from the content of a file to the whole particle."""

import logging
from collections import Counter
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cryoetgan.errors import UserError
from cryoetgan.machine import memory_bytes
from cryoetgan.structures.read_structure import flatten_structure

log = logging.getLogger("cryoetgan")
MEMORY_PER_ATOM = 500
"""Bytes."""
OVERLAP_DISTANCE_A = 1.5
"""Angstrom; atoms of two parts of one particle do not come this close."""
OVERLAP_FRACTION = 0.05
"""Fraction of overlapping atoms above which two models show the same molecule."""


def choose_models(structure: Any, model: str, path: Path) -> None:
    """Reduce a `gemmi.Structure` to one model, in place.

    `model` is the number of a model, or `all`: all models are parts of one particle and are
    merged. `auto` merges models that do not overlap in space (files of assemblies); otherwise they
    show one molecule (NMR), and the first is kept.
    """
    numbers = [str(item.num) for item in structure]
    if model not in ("auto", "all"):
        if model not in numbers:
            raise UserError(
                f"{path}: has no model '{model}'; it has {_shorten(numbers, 8)}; set --model (a "
                "column of the table of classes) to one of them, to all, or to auto"
            )
        _keep_model(structure, numbers.index(model))
    elif len(structure) > 1 and model == "auto" and _overlap(flatten_structure(structure, path)):
        log.info("%s: %d models of one molecule; using the first", path, len(structure))
        _keep_model(structure, 0)
    elif len(structure) > 1:
        log.info("%s: merging %d models into one particle", path, len(structure))
        _merge_models(structure)


def _keep_model(structure: Any, kept: int) -> None:
    for index in reversed(range(len(structure))):
        if index != kept:
            del structure[index]


def _merge_models(structure: Any) -> None:
    """Add the chains of all models to the first, under new names."""
    import gemmi

    first = structure[0]
    for index in range(1, len(structure)):
        for chain in structure[index]:
            copy = chain.clone()
            copy.name = f"{chain.name}{index + 1}"
            first.add_chain(copy)
    _keep_model(structure, 0)
    # the models are the assembly: its generators would build it a second time
    structure.assemblies = gemmi.Structure().assemblies
    structure.setup_entities()


def _overlap(flat: Any) -> bool:
    """Return whether a model fills the same space as the first."""
    from scipy.spatial import cKDTree

    models = np.unique(flat.model_num)
    tree = cKDTree(flat.pos[flat.model_num == models[0]])
    for number in models[1:]:
        near, _ = tree.query(
            flat.pos[flat.model_num == number], distance_upper_bound=OVERLAP_DISTANCE_A
        )
        if np.isfinite(near).mean() > OVERLAP_FRACTION:
            return True
    return False


def keep_chains(structure: Any, names: Sequence[str], path: Path) -> set[str]:
    """Remove all chains but `names` (author names) from a structure of one model, in place.

    For antibodies and partners that the sample lacks. Returns the names of the removed chains and
    subchains.
    """
    model = structure[0]
    known = list(dict.fromkeys(chain.name for chain in model))
    unknown = [name for name in names if name not in known]
    if unknown:
        raise UserError(
            f"{path}: has no chain {', '.join(unknown)}; --chains (a column of the table of "
            f"classes) takes some of {_shorten(known, 40)}"
        )
    chains = [chain for chain in model if chain.name not in names]
    removed = {chain.name for chain in chains}
    removed |= {residue.subchain for chain in chains for residue in chain}
    for name in {chain.name for chain in chains}:
        model.remove_chain(name)
    return removed


def build_assembly(
    structure: Any, assembly: str, path: Path, removed: Collection[str] = frozenset()
) -> bool:
    """Build a biological assembly, in place; return whether the file describes one.

    `structure` has one model, with entities set up. `assembly` is a name or `none`; `removed` are
    the chains and subchains that were removed on purpose. Logs a warning if the file's chains are
    only a part of the assembly.
    """
    import gemmi

    described = {item.name: item for item in structure.assemblies}
    if assembly.lower() == "none":
        _warn_of_larger_assembly(structure, path)
        return False
    if not described:
        return False
    if assembly not in described:
        raise UserError(
            f"{path}: describes no assembly '{assembly}'; it has {', '.join(described)}; set "
            "--assembly (densities.assembly, or the column of the table) to one of them, or to none"
        )
    missing = [n for n in find_missing_chains(structure, described[assembly]) if n not in removed]
    if missing:
        log.warning(
            f"{path}: the file lacks chains {_shorten(missing, 8)} of assembly '{assembly}', so the "
            "map shows a part; use the whole entry, or confirm the part with --assembly none"
        )
    chains = {chain.name for chain in structure[0]}
    subchains = {residue.subchain for chain in structure[0] for residue in chain}
    for generator in described[assembly].generators:
        # gemmi refuses generators with unknown chains
        generator.chains = [name for name in generator.chains if name in chains]
        generator.subchains = [name for name in generator.subchains if name in subchains]
    _check_memory(structure, described[assembly], path)
    structure.transform_to_assembly(assembly, gemmi.HowToNameCopiedChain.AddNumber)
    if not sum(chain.count_atom_sites() for chain in structure[0]):
        raise UserError(
            f"{path}: has none of the chains of assembly '{assembly}'; set --assembly to none"
        )
    return True


def _check_memory(structure: Any, assembly: Any, path: Path) -> None:
    """Raise `UserError` if an assembly has more atoms than this machine's memory holds."""
    counts: Counter[str] = Counter()
    for chain in structure[0]:
        counts[f"chain {chain.name}"] += chain.count_atom_sites()
        for residue in chain:
            counts[f"subchain {residue.subchain}"] += len(residue)
    total = 0
    for generator in assembly.generators:
        parts = [f"chain {n}" for n in generator.chains] if generator.chains else []
        parts = parts or [f"subchain {n}" for n in generator.subchains]
        total += len(generator.operators) * sum(counts[part] for part in parts)
    largest = memory_bytes() // MEMORY_PER_ATOM
    if total > largest:
        raise UserError(
            f"{path}: assembly '{assembly.name}' has {total:.3g} atoms, but {largest:.3g} fit in the "
            "memory; set --assembly to a smaller one, or to none"
        )


def find_missing_chains(structure: Any, assembly: Any) -> list[str]:
    """Return the polymer chains of an assembly that the file lacks."""
    import gemmi

    model = structure[0]
    chains = {chain.name for chain in model}
    subchains = {residue.subchain for chain in model for residue in chain}
    small = {
        name
        for entity in structure.entities
        if entity.entity_type not in (gemmi.EntityType.Polymer, gemmi.EntityType.Unknown)
        for name in entity.subchains
    }
    missing = []
    for generator in assembly.generators:
        missing += [name for name in generator.chains if name not in chains]
        missing += [name for name in generator.subchains if name not in subchains | small]
    return list(dict.fromkeys(missing))


def _warn_of_larger_assembly(structure: Any, path: Path) -> None:
    for assembly in structure.assemblies:
        # the copies of a chain may stand in one generator (PDB) or in one each (mmCIF)
        count: Counter[str] = Counter()
        for item in assembly.generators:
            count.update(dict.fromkeys([*item.chains, *item.subchains], len(item.operators)))
        copies = max(count.values(), default=1)
        if copies > 1:
            log.warning(
                f"{path}: holds one of the {copies} copies in its assembly '{assembly.name}', so "
                "the map shows a part; set --assembly (densities.assembly) to that name for the "
                "whole particle"
            )
            return


def _shorten(names: Sequence[str], limit: int) -> str:
    return ", ".join(names[:limit]) + " ..." * (len(names) > limit)
