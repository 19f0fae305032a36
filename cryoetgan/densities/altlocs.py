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
    place = np.concatenate(
        [
            _to_bytes(flat.chain_ids),
            _to_bytes(flat.resnums[:, None]),
            _to_bytes(flat.icodes[:, None]),
            _to_bytes(flat.entity_type[:, None]),
        ],
        axis=1,
    )
    _, residue = np.unique(_sort_keys(place), return_inverse=True)
    has_altloc = np.isin(residue, residue[flat.altlocs != 0])
    _, names = np.unique(_sort_keys(_to_bytes(flat.atom_names)), return_inverse=True)
    _, kinds = np.unique(_sort_keys(_to_bytes(flat.residue_names)), return_inverse=True)
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


def _to_bytes(table: NDArray[Any]) -> NDArray[np.uint8]:
    return np.ascontiguousarray(table).view(np.uint8).reshape(len(table), -1)


def _sort_keys(rows: NDArray[np.uint8]) -> NDArray[Any]:
    """Return one sortable value per row."""
    rows = np.ascontiguousarray(rows)
    return rows.view(f"V{rows.shape[1]}").ravel()
