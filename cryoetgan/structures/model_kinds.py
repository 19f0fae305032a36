"""Structures with less than all measured atoms: predicted, traces, coarse-grained, superseded."""

import logging
import re
from pathlib import Path
from typing import Any

import numpy as np

from cryoetgan.errors import UserError

log = logging.getLogger("cryoetgan")
PREDICTORS = re.compile(
    r"\b(alphafold|af-[a-z0-9]+-f\d|colabfold|esmfold|esm fold|rosettafold|omegafold|boltz|chai-\d|"
    r"protenix|openfold|predicted|prediction|theoretical model)",
    re.IGNORECASE,
)
"""Words in the name, title, method or remarks of a predicted model."""
LOW_CONFIDENCE = 70.0
"""Confidence (pLDDT, 0 to 100) below which a residue may be disordered: Jumper 2021,
doi 10.1038/s41586-021-03819-2."""
MIN_RESIDUES = 10
"""Residues of a chain below which its kind of model is not judged."""
TRACE_ATOMS = ("CA", "P", "C1'", "C3'", "C4'", "C1*", "C4*")
"""Names of the atom that stands for a residue."""
TRACE_CHARGE = 100
"""Charge that stands for an atom of a trace; real charges are below 10."""
MOST = 0.8
"""Fraction of the residues of a chain that decides its kind."""
COARSE, INCOMPLETE = 0.35, 0.65
"""Electrons of the atoms over those expected, below which a chain is coarse-grained, or lacks side
chains."""
COMPLETE_ATOMS = 5.5
"""Atoms per residue above which a chain has side chains."""
DALTON_PER_ELECTRON = 2.003
"""Of carbon, nitrogen and oxygen."""
HYDROGEN_DA, OXYGEN_DA = 1.008, 15.999


def heavy_electrons(residue: str) -> int:
    """Return the electrons of the heavy atoms of a residue in a chain; 0 if it is unknown.

    The tabulated weight is of the free molecule, which loses one oxygen by its bond in the chain.

    Examples
    --------
    Glycine in a chain has two carbons, one nitrogen and one oxygen:

    >>> heavy_electrons("GLY"), heavy_electrons("HOH")
    (27, 0)
    """
    import gemmi

    found = gemmi.find_tabulated_residue(residue)
    if not (found.is_amino_acid() or found.is_nucleic_acid()) or not found.weight:
        return 0
    heavy = found.weight - HYDROGEN_DA * found.hydrogen_count - OXYGEN_DA
    return round(heavy / DALTON_PER_ELECTRON)


def find_prediction(structure: Any, path: Path) -> str:
    """Return the word that shows that a model is predicted; empty if nothing does.

    If name, title, method and remarks say nothing, equal B factors in each residue are a sign, as
    programs write the confidence of a residue there.
    """
    info = dict(structure.info)
    keys = [key for key in ("_exptl.method", "_struct.title", "_entry.id") if key in info]
    method = info.get("_exptl.method", "")
    texts = [path.name, structure.name, *(info[key] for key in keys), *structure.raw_remarks]
    if method.strip() and not PREDICTORS.search(method):
        return ""  # an experiment, whatever its title says
    for text in texts:
        found = PREDICTORS.search(text)
        if found:
            return found[0]
    entry = info.get("_entry.id") or structure.name
    if not len(structure) or re.fullmatch(r"[0-9][A-Za-z0-9]{3}|pdb_\w{8}", entry):
        return ""  # an entry of the archive
    spreads = [
        np.ptp([atom.b_iso for atom in residue])
        for chain in structure[0]
        for residue in chain
        if len(residue) > 1 and heavy_electrons(residue.name)
    ]
    values = [residue[0].b_iso for chain in structure[0] for residue in chain if len(residue)]
    is_score = len(spreads) >= MIN_RESIDUES and min(values) > 0 and max(values) <= 100
    same = bool(spreads) and max(spreads) < 1e-3 and np.ptp(values) > 0.01 * max(values)
    return "one B factor per residue" if is_score and same else ""


def cut_by_confidence(structure: Any, lowest: float, path: Path) -> None:
    """Remove residues whose confidence is below `lowest` (0 to 100), in place; warn if none is cut.

    Without a limit (0), the share of unreliable residues of a predicted model is logged.
    """
    word = find_prediction(structure, path)
    if not word and not lowest:
        return
    if not word:
        method = dict(structure.info).get("_exptl.method") or "unknown"
        raise UserError(
            f"{path}: --min-confidence is for predicted models, but nothing says that it is one "
            f"(method: {method}); omit it (column min_confidence)"
        )
    residues = [
        residue for model in structure for chain in model for residue in chain if len(residue)
    ]
    values = np.array([np.mean([atom.b_iso for atom in residue]) for residue in residues])
    scale = 100.0 if values.max(initial=0) <= 1 else 1.0
    low = values * scale < (lowest or LOW_CONFIDENCE)
    if not lowest:
        log.warning(
            "%s: is a predicted model (%s); %.0f %% of its residues have a confidence (pLDDT) below "
            "%g and may be disordered. --min-confidence %g (column min_confidence) leaves them out",
            path, word, 100 * low.mean(), LOW_CONFIDENCE, LOW_CONFIDENCE,
        )  # fmt: skip
        return
    if low.all():
        raise UserError(
            f"{path}: no residue has a confidence of {lowest:g} or more (highest: "
            f"{values.max() * scale:.0f}); lower --min-confidence (column min_confidence)"
        )
    flags = iter(low.tolist())
    for model in structure:
        for chain in model:
            removed = [index for index, residue in enumerate(chain) if len(residue) and next(flags)]
            for index in reversed(removed):
                del chain[index]
    log.info("%s: %d of %d residues are below %g", path, low.sum(), len(low), lowest)


def mark_traces(structure: Any, path: Path) -> int:
    """Mark the atoms that stand for whole residues, by `TRACE_CHARGE`; return their number.

    A trace (C-alpha, phosphorus) has one atom for each residue, which gets the electrons of all
    heavy atoms. Raises `UserError` for coarse-grained models, whose beads are groups of atoms;
    warns of models without side chains.
    """
    count = 0
    for chain in structure[0]:
        if chain.count_atom_sites() > COMPLETE_ATOMS * len(chain):
            continue
        known = [(r, n) for r in chain if len(r) and (n := heavy_electrons(r.name))]
        if len(known) < MIN_RESIDUES:
            continue
        traced = [r for r, _ in known if _heavy_names(r) <= set(TRACE_ATOMS) and len(r) == 1]
        if len(traced) > MOST * len(known):
            for residue in traced:
                residue[0].charge = TRACE_CHARGE
            count += len(traced)
            continue
        share = sum(min(n, _electrons(r)) for r, n in known) / sum(n for _, n in known)
        beads = [r for r, _ in known if not _heavy_names(r) & {*TRACE_ATOMS, "N", "C", "O"}]
        has_backbone = sum({"N", "CA", "C"} <= _heavy_names(r) for r, _ in known) > len(known) / 2
        if (share < COARSE and not has_backbone) or len(beads) > MOST * len(known):
            names = sorted({name for r, _ in known[:50] for name in _heavy_names(r)})
            raise UserError(
                f"{path}: chain {chain.name} is a coarse-grained model (beads "
                f"{', '.join(names[:6])}), which holds {100 * share:.0f} % of its residues' electrons; "
                "give a model of all atoms"
            )
        if share < INCOMPLETE:
            log.warning(
                "%s: chain %s has %.0f %% of its residues' electrons (no side chains?), so its "
                "density is too low; complete the model first", path, chain.name, 100 * share,
            )  # fmt: skip
    if count:
        log.warning(
            "%s: is a trace of one atom per residue; each of the %d gets the electrons of its residue",
            path, count,
        )  # fmt: skip
    return count


def _heavy_names(residue: Any) -> set[str]:
    return {atom.name for atom in residue if not atom.is_hydrogen()}


def _electrons(residue: Any) -> int:
    return sum(
        {
            atom.name: atom.element.atomic_number for atom in residue if not atom.is_hydrogen()
        }.values()
    )


def find_successor(text: bytes, document: Any = None) -> tuple[str, str]:
    """Return the id of an obsolete entry and the ids that replace it; empty if it is not obsolete."""
    if document is not None:
        rows = document[0].find("_pdbx_database_PDB_obs_spr.", ["id", "pdb_id", "replace_pdb_id"])
        own = (document[0].find_value("_entry.id") or "").strip("'\"").lower()
        for row in rows:
            word, new, old = (row.str(index) for index in range(3))
            if word.upper() == "OBSLTE" and own in old.lower().split():
                return own, new.lower()
        status = document[0].find_value("_pdbx_database_status.status_code") or ""
        return (own, "") if status.strip("'\"").upper() == "OBS" else ("", "")
    found = re.search(rb"^OBSLTE {1,5}\S+ +(\w{4})((?: +\w{4})*)", text[: 1 << 16], re.MULTILINE)
    if not found:
        return "", ""
    return found[1].decode().lower(), " ".join(found[2].decode().lower().split())


def warn_if_superseded(text: bytes, document: Any, path: object) -> None:
    """Warn if an entry is obsolete."""
    own, successor = find_successor(text, document)
    if own:
        advice = f"use {successor}" if successor and successor != "?" else "look for its successor"
        log.warning("%s: entry %s is obsolete (superseded); %s", path, own, advice)
