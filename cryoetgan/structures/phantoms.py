"""Pseudo-atom phantoms of published symmetry and size, for runs without a network.

Phantoms are not structures. They are balls filled with pseudo-atoms at the electron density of
protein, and repeated by the point group of the complex:

- 20S proteasome, 150 x 115 A, D7 (Groll 1997, doi 10.1038/386463a0);
- TRiC/CCT, 160 x 175 A, D8 as seen at low resolution (Munoz 2011, doi 10.1038/nsmb.1971);
- 80S ribosome, 250-300 A, no symmetry (Ben-Shem 2011, doi 10.1126/science.1212642);
- apoferritin, a hollow shell of 120 A, O (Lawson 1991, doi 10.1038/349541a0).
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from cryoetgan.errors import UserError, suggest
from cryoetgan.io.files import atomic
from cryoetgan.seeds import rng

Floats = NDArray[np.float64]
ELEMENT = "S"
ELEMENT_ELECTRONS = 16
PROTEIN_ELECTRON_DENSITY = 0.43
"""Electrons per cubic angstrom inside a protein (1.35 g/cm3)."""
MAX_RESIDUES = 5000
"""Residues of a chain: readers search all residues of the chain for each atom."""
SPACING_A = (ELEMENT_ELECTRONS / PROTEIN_ELECTRON_DENSITY) ** (1 / 3)
"""Angstrom between pseudo-atoms."""


def proteasome() -> list[Floats]:
    """20S proteasome: four rings of seven, two kinds of subunits."""
    unit = np.concatenate([fill_ball((37, 0, 19), 19.3), fill_ball((36, 8, 56.5), 18.6)])
    return apply_symmetry(unit, Rotation.create_group("D7"))


def tric() -> list[Floats]:
    """TRiC: two rings of eight, each subunit with an equatorial and an apical part."""
    unit = np.concatenate([fill_ball((62, 0, 20), 21.5), fill_ball((50, 12, 58), 20.5)])
    return apply_symmetry(unit, Rotation.create_group("D8"))


def apoferritin() -> list[Floats]:
    """Apoferritin: 24 subunits on a shell."""
    direction = np.array([0.29, 0.56, 0.78])
    unit = fill_ball(54 * direction / np.linalg.norm(direction), 17.6)
    return apply_symmetry(unit, Rotation.create_group("O"))


def ribosome() -> list[Floats]:
    """80S ribosome: a round large subunit with three protrusions, and a long small subunit."""
    large = fill_body(
        lambda x, y, z: (
            (x**2 / 88**2 + y**2 / 84**2 + (z + 42) ** 2 / 80**2 < 1)
            | ((x - 95) ** 2 + (y - 10) ** 2 + (z + 30) ** 2 < 22**2)
            | ((x + 92) ** 2 + (y + 25) ** 2 + (z + 25) ** 2 < 19**2)
            | ((x - 5) ** 2 + (y - 88) ** 2 + (z + 22) ** 2 < 24**2)
        ),
        150,
    )
    small = fill_body(
        lambda x, y, z: (
            ((x - 0.25 * y) ** 2 / 52**2 + (y + 10) ** 2 / 105**2 + (z - 82) ** 2 / 44**2 < 1)
            | ((x + 25) ** 2 + (y - 88) ** 2 + (z - 74) ** 2 < 30**2)
        ),
        150,
    )
    return [large, small]


PHANTOMS: dict[str, Callable[[], list[Floats]]] = {
    "proteasome": proteasome,
    "ribosome": ribosome,
    "tric": tric,
    "apoferritin": apoferritin,
}


def fill_ball(centre: Any, radius: float) -> Floats:
    """Return pseudo-atoms `(N, 3)` that fill a ball; `centre` (xyz) and radius in angstrom."""
    x0, y0, z0 = centre
    points = fill_body(lambda x, y, z: x**2 + y**2 + z**2 < radius**2, radius + SPACING_A)
    return points + np.array([x0, y0, z0])


def fill_body(test: Callable[..., NDArray[np.bool_]], reach: float) -> Floats:
    """Return jittered lattice points `(N, 3)` xyz within `reach` angstrom that pass a test.

    `test(x, y, z)` is True inside the body.
    """
    axis = np.arange(-reach, reach + SPACING_A, SPACING_A)
    points = np.stack(np.meshgrid(axis, axis, axis, indexing="ij"), axis=-1).reshape(-1, 3)
    points += rng(0, "phantom", len(points)).uniform(-0.3, 0.3, points.shape) * SPACING_A
    return points[test(*points.T)]


def apply_symmetry(unit: Floats, group: Rotation) -> list[Floats]:
    """Return the copies of the asymmetric unit `(N, 3)`, one array per symmetry operation."""
    return [operation.apply(unit) for operation in group]


def write_phantom(name: str, path: Path) -> int:
    """Write a phantom as mmCIF; return its number of pseudo-atoms."""
    import gemmi

    key = name.lower()
    if key not in PHANTOMS:
        known = ", ".join(sorted(PHANTOMS))
        raise UserError(f"no phantom is named '{name}'{suggest(key, PHANTOMS)} (known: {known})")
    structure = gemmi.Structure()
    structure.name = f"PHANTOM_{key}"
    structure.info["_struct.title"] = f"Phantom of {key}: pseudo-atoms, not a structure"
    structure.info["_entry.id"] = structure.name
    model = gemmi.Model(1)
    atom, residue = gemmi.Atom(), gemmi.Residue()
    atom.name, atom.element = ELEMENT, gemmi.Element(ELEMENT)
    residue.name, residue.entity_type = "UNK", gemmi.EntityType.Polymer
    residue.add_atom(atom)
    subunits = [subunit.round(3).tolist() for subunit in PHANTOMS[key]()]
    parts = [
        subunit[start : start + MAX_RESIDUES]
        for subunit in subunits
        for start in range(0, len(subunit), MAX_RESIDUES)
    ]
    for number, part in enumerate(parts, start=1):
        chain = gemmi.Chain(f"P{number}")
        for index, place in enumerate(part, start=1):
            residue.seqid, residue[0].pos = gemmi.SeqId(index, " "), gemmi.Position(*place)
            chain.add_residue(residue)  # a copy
        model.add_chain(chain)
    structure.add_model(model)
    structure.setup_entities()
    with atomic(path) as temporary:
        structure.make_mmcif_document().write_file(str(temporary))
    return sum(map(len, subunits))
