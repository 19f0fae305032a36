"""Alternate locations: one conformer a residue."""

from typing import Any

import numpy as np
from numpy.typing import NDArray


def best_locations(flat: Any) -> NDArray[np.bool_]:
    """Return which atoms to keep so that every residue stands in one conformer.

    Parameters
    ----------
    flat : gemmi.FlatStructure
        One model.

    Returns
    -------
    ndarray
        `(N,)`. In a residue with alternate locations, the label of the highest mean
        occupancy wins (the first of equals), and atoms without a label stay. An atom
        that the winner does not have is kept in its best location where the residue has
        the same name; where two residues share a place, the loser's atoms go.
    """
    kept = np.ones(len(flat.occ), bool)
    if not flat.altlocs.any():
        return kept
    place = np.concatenate(
        [
            _bytes(flat.chain_ids),
            _bytes(flat.resnums[:, None]),
            _bytes(flat.icodes[:, None]),
            _bytes(flat.entity_type[:, None]),
        ],
        axis=1,
    )
    _, residue = np.unique(_keys(place), return_inverse=True)
    split = np.isin(residue, residue[flat.altlocs != 0])
    _, names = np.unique(_keys(_bytes(flat.atom_names)), return_inverse=True)
    _, kinds = np.unique(_keys(_bytes(flat.residue_names)), return_inverse=True)
    members = np.flatnonzero(split)
    members = members[np.argsort(residue[members], kind="stable")]
    edges = np.flatnonzero(np.diff(residue[members])) + 1
    for atoms in np.split(members, edges):
        labels = flat.altlocs[atoms]
        candidates = np.unique(labels[labels != 0])  # in order: the first of equals wins
        scores = [flat.occ[atoms[labels == label]].mean() for label in candidates]
        best = candidates[int(np.argmax(scores))]
        winner = atoms[(labels == best) | (labels == 0)]
        present, kind = set(names[winner]), kinds[atoms[labels == best][0]]
        kept[atoms] = False
        kept[winner] = True
        others = atoms[(labels != best) & (labels != 0) & (kinds[atoms] == kind)]
        for atom in others[np.argsort(-flat.occ[others], kind="stable")]:
            if names[atom] not in present:
                present.add(names[atom])
                kept[atom] = True
    return kept


def _bytes(table: NDArray[Any]) -> NDArray[np.uint8]:
    return np.ascontiguousarray(table).view(np.uint8).reshape(len(table), -1)


def _keys(rows: NDArray[np.uint8]) -> NDArray[Any]:
    """Return one sortable value a row."""
    rows = np.ascontiguousarray(rows)
    return rows.view(f"V{rows.shape[1]}").ravel()
