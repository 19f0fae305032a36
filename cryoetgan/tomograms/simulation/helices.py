"""Lattices of filaments: actin, microtubules, any helix."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from cryoetgan.errors import UserError


def about_z(degrees: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return the matrices `(N, 3, 3)` of turns about z."""
    return Rotation.from_euler("z", degrees[:, None], degrees=True).as_matrix()


@dataclass(frozen=True)
class Helix:
    """Lattice of a filament. Monomers have z along the axis and x away from it."""

    rise: float
    """Angstrom along the axis from one turn of monomers to the next."""
    twist: float = 0.0
    """Degrees about the axis with each rise."""
    radius: float = 0.0
    """Angstrom from the axis to voxel n // 2 of the monomer's map."""
    protofilaments: int = 1
    stagger: float = 0.0
    """Angstrom along the axis from one protofilament to the next, counter-clockwise seen from the
    plus end (+z); the seam is where they close."""
    persistence: float = 1e5
    """Persistence length, angstrom."""

    @property
    def middle(self) -> float:
        """Angstrom along the axis from the first protofilament's monomer to the middle of a ring."""
        return self.stagger * (self.protofilaments - 1) / 2

    def ring(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return rotations `(N, 3, 3)` and positions `(N, 3)`, angstrom, of a ring's monomers.

        The axis is z; the first monomer lies at x = radius.
        """
        index = np.arange(self.protofilaments)
        strands = about_z(360 * index / self.protofilaments)
        along = np.stack([0 * index, 0 * index, self.stagger * index], axis=1)
        return strands, strands @ [self.radius, 0, 0] + along


HELICES = {
    # Dominguez and Holmes 2011, doi 10.1146/annurev-biophys-042910-155359; Gittes 1993,
    # doi 10.1083/jcb.120.4.923: persistence lengths of 17.7 and 5,200 micrometres
    "actin": Helix(27.5, -166.6, 0.0, persistence=1.77e5),
    # 13 protofilaments of dimers, left-handed three-start helix of monomers of 40.6 A: 3 * 40.6 / 13
    "microtubule": Helix(81.2, 0.0, 112.0, 13, -9.37, 5.2e7),
}
"""Lattices of names that a class begins with. An actin monomer's map is centred on the axis."""


def parse_helices(names: Sequence[str], items: Sequence[str]) -> dict[str, Helix]:
    """Return the lattice of each class, from NAME=RISE,TWIST,RADIUS[,N,STAGGER[,PERSISTENCE]]."""
    found: dict[str, Helix] = {
        name: helix
        for name in names
        for prefix, helix in HELICES.items()
        if name.lower().startswith(prefix)
    }
    for item in items:
        name, _, values = item.partition("=")
        try:
            numbers = [float(value) for value in values.split(",")]
            if name not in names or len(numbers) not in (3, 5, 6):
                raise ValueError
            numbers += [1.0, 0.0, 1e5][len(numbers) - 3 :]
            rise, twist, radius, count, stagger, persistence = numbers
            if rise <= 0 or radius < 0 or count < 1 or persistence <= 0:
                raise ValueError
        except ValueError:
            raise UserError(
                f"--helix: got '{item}', wanted NAME=RISE,TWIST,RADIUS[,N,STAGGER[,PERSISTENCE]], "
                f"angstrom and degrees, with NAME of {', '.join(names) or 'a --filament'}"
            ) from None
        found[name] = Helix(rise, twist, radius, int(count), stagger, persistence)
    if unknown := [name for name in names if name not in found]:
        raise UserError(
            f"--filament: the lattice of {unknown[0]} is not known ({', '.join(HELICES)} are); give "
            f"--helix {unknown[0]}=RISE,TWIST,RADIUS"
        )
    return found
