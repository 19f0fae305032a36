"""Alternate locations: keep one conformer of each residue."""

from typing import Any

import numpy as np
from numpy.typing import NDArray


def select_altlocs(flat: Any) -> NDArray[np.bool_]:
    """Return which of the N atoms of a `gemmi.FlatStructure` give each residue one conformer.

    In a residue with alternate locations, the label of the highest mean occupancy wins (the
    first label if several are equal); atoms without a label are kept. If the winner lacks an
    atom, that atom is kept at its best occupied location, provided that the residue has the same
    name. If two residues share a place, the other is removed.
    """
    keep = np.ones(len(flat.occ), bool)
    if not flat.altlocs.any():
        return keep
    residue = _number_rows(flat.chain_ids, flat.resnums, flat.icodes, flat.entity_type)
    has_altloc = np.isin(residue, residue[flat.altlocs != 0])
    names, kinds = _number_rows(flat.atom_names), _number_rows(flat.residue_names)
    members = np.flatnonzero(has_altloc)
    members = members[np.argsort(residue[members], kind="stable")]
    edges = np.flatnonzero(np.diff(residue[members])) + 1
    for atoms in np.split(members, edges):
        labels = flat.altlocs[atoms]
        candidates = np.unique(labels[labels != 0])  # sorted: the first of equals wins
        scores = [flat.occ[atoms[labels == label]].mean() for label in candidates]
        best = candidates[int(np.argmax(scores))]
        winner = atoms[(labels == best) | (labels == 0)]
        present, kind = set(names[winner]), kinds[atoms[labels == best][0]]
        keep[atoms] = False
        keep[winner] = True
        others = atoms[(labels != best) & (labels != 0) & (kinds[atoms] == kind)]
        for atom in others[np.argsort(-flat.occ[others], kind="stable")]:
            if names[atom] not in present:
                present.add(names[atom])
                keep[atom] = True
    return keep


def _number_rows(*columns: NDArray[Any]) -> NDArray[np.intp]:
    """Return for each of N rows a number that equals the number of every equal row."""
    tables = [np.ascontiguousarray(c).view(np.uint8).reshape(len(c), -1) for c in columns]
    rows = np.concatenate(tables, axis=1)
    return np.unique(rows.view(f"V{rows.shape[1]}").ravel(), return_inverse=True)[1]
