"""Unnamed crowders by a distribution of sizes."""

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.sparse.csgraph import connected_components
from scipy.spatial.transform import Rotation

from cryoetgan.densities.density_from_atoms import HEAVY_ATOM_DENSITY, gaussian_integral
from cryoetgan.io.scene import CROWDER
from cryoetgan.seeds import rng as generator_for

Floats = NDArray[np.floating]
BLUR_VOXELS = 3.0
"""Resolution of objects without a map, voxels."""
SPECIES = 16
"""Different crowders of a run."""
MASS_DA = (3e4, 6e5)
"""Smallest and largest mass, log-uniform, dalton; see `LARGER`."""
LARGER = 1.5
"""Ratio of the largest crowder's mass to the largest named particle's, if this mass is above
`MASS_DA`: a detector learns to name a particle by more than its size."""
MOST_DA = 5e6
"""Largest mass in any case: a named map of more is a patch of membrane, or of another grey scale."""
VOLUME_PER_DA = 1.21
"""Cubic angstrom per dalton of protein (partial specific volume of 0.73 ml/g)."""
LOBES = (1, 3)
"""Number of balls that make up a subunit."""
SUBUNIT_DA = (1.5e4, 1.2e5)
"""Masses of a subunit."""
TOUCHING = 0.9
"""Distance of touching balls over the sum of their radii."""
DIRECTIONS = 16
"""Random directions in which a subunit moves from the centre; the most compact oligomer in one piece is
taken."""
SYMMETRIES = ("C1", "C2", "C3", "C4", "C5", "C6", "C7", "D2", "D3", "D4", "D5", "D6", "D7", "O")
"""Point groups of oligomers. Most large proteins are symmetric (Goodsell & Olson 2000, doi
10.1146/annurev.biophys.29.1.105), so unnamed rings and barrels exist, too."""
SUBGRID = 2
"""Points of the grid in a voxel, along an axis."""


def protein_mass(density: Floats, voxel_size: float, width: float) -> float:
    """Return the mass of a density `(z, y, x)` of `densities.simulate`, dalton.

    `width` (angstrom) is w of its blur exp(-r^2 / w^2).
    """
    volume = float(density.sum(dtype=float)) * voxel_size**3
    return volume / (HEAVY_ATOM_DENSITY * gaussian_integral(width) * VOLUME_PER_DA)


def make_crowders(
    voxel_size: float, width: float, seed: int, largest: float = 0.0
) -> dict[str, Floats]:
    """Return densities `(z, y, x)` of proteins that nobody named, by name.

    A crowder is an oligomer: touching subunits, each a union of touching balls, in the positions of
    a point group. It has the volume of its mass, is blurred by exp(-r^2 / w^2) with w = `width`
    (angstrom), and has the units of `cryoetgan.densities.simulate`. `largest` is the mass of the
    largest named particle, dalton.
    """
    made, range_da = {}, (MASS_DA[0], min(max(MASS_DA[1], LARGER * largest), MOST_DA))
    for index in range(SPECIES):
        rng = generator_for(seed, "crowder", index)
        mass = float(np.exp(rng.uniform(*np.log(range_da))))
        centres, radii = _oligomer(mass, rng)
        density = _draw_balls(centres, radii, voxel_size, width)
        # overlaps of balls lose volume: the mass is kept
        scale = mass / protein_mass(density, voxel_size, width)
        made[f"{CROWDER}_{index + 1}"] = density * np.float32(scale)
    return made


def _oligomer(mass: float, rng: np.random.Generator) -> tuple[Floats, Floats]:
    """Return centres `(N, 3)` xyz and radii `(N,)` of an oligomer's balls, angstrom."""
    groups = {name: Rotation.create_group(name) for name in SYMMETRIES}
    orders = {name: len(group) for name, group in groups.items()}
    fits = [n for n in SYMMETRIES if SUBUNIT_DA[0] <= mass / orders[n] <= SUBUNIT_DA[1]]
    name = str(rng.choice(fits or [max(SYMMETRIES, key=lambda n: orders[n])]))
    lobes = int(rng.integers(LOBES[0], LOBES[1] + 1))
    shares = rng.dirichlet(np.full(lobes, 4.0))
    own = (3 * mass / orders[name] * VOLUME_PER_DA * shares / (4 * np.pi)) ** (1 / 3)
    places = [np.zeros(3)]
    for radius, before in zip(own[1:], own[:-1], strict=True):
        step = rng.normal(size=3)
        places.append(places[-1] + step / np.linalg.norm(step) * TOUCHING * (radius + before))
    subunit = np.array(places) - np.average(places, axis=0, weights=shares)
    copies = [_touching_copies(subunit, own, groups[name], rng) for _ in range(DIRECTIONS)]
    radii = np.tile(own, orders[name])
    whole = [centres for centres in copies if _is_whole(centres, radii)] or copies
    centres = min(whole, key=lambda found: float(np.linalg.norm(found, axis=1).max()))
    while not _is_whole(centres, radii):
        centres = 0.9 * centres
    return centres, radii


def _is_whole(centres: Floats, radii: Floats) -> bool:
    """Return whether balls are one piece: some groups have copies that do not touch."""
    gaps = np.linalg.norm(centres[:, None] - centres, axis=2) - radii[:, None] - radii
    return bool(connected_components(gaps < 0, directed=False)[0] == 1)


def _touching_copies(
    subunit: Floats, radii: Floats, group: Rotation, rng: np.random.Generator
) -> Floats:
    """Return the balls `(N, 3)` of all copies of a subunit, moved from the centre until they touch.

    Ball a of the subunit and ball b of copy R lie p + d q apart, with p = a - R b, q = u - R u and
    the distance d along u; they are apart beyond the larger root of |p + d q| = t.
    """
    along = rng.normal(size=3)
    along /= np.linalg.norm(along)
    matrices = group.as_matrix()[group.magnitude() > 1e-6]
    p = subunit[:, None] - np.einsum("kij,bj->kbi", matrices, subunit)[:, None]
    q = (along - matrices @ along)[:, None, None]
    touch = TOUCHING * (radii[:, None] + radii)
    qq, pq, pp = ((x * y).sum(axis=3) for x, y in ((q, q), (p, q), (p, p)))
    qq = np.maximum(qq, 1e-6)  # on an axis: far away, so never the most compact
    inside = pq**2 - qq * (pp - touch**2)
    roots = np.where(inside > 0, (np.sqrt(np.maximum(inside, 0)) - pq) / qq, 0.0)
    distance = max(0.0, float(roots.max(initial=0.0)))
    return np.concatenate([rotation.apply(subunit + distance * along) for rotation in group])


def _draw_balls(centres: Floats, radii: Floats, voxel_size: float, width: float) -> Floats:
    """Return the union of balls in a cube `(z, y, x)`, blurred."""
    reach = (np.linalg.norm(centres, axis=1) + radii).max() + 2 * width
    half = int(np.ceil(reach / voxel_size)) + 1
    spacing = voxel_size / SUBGRID
    axis = (np.arange((2 * half + 1) * SUBGRID) + 0.5 - (half + 0.5) * SUBGRID) * spacing
    z, y, x = np.meshgrid(axis, axis, axis, indexing="ij", sparse=True)
    inside = np.zeros((len(axis),) * 3, bool)
    for (a, b, c), radius in zip(centres, radii, strict=True):
        inside |= (x - a) ** 2 + (y - b) ** 2 + (z - c) ** 2 < radius**2
    fine = ndimage.gaussian_filter(inside.astype(np.float32), width / np.sqrt(2) / spacing)
    edge = 2 * half + 1
    return fine.reshape(edge, SUBGRID, edge, SUBGRID, edge, SUBGRID).mean(axis=(1, 3, 5))
