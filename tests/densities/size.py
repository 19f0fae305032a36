"""The size of a particle."""

from scipy.spatial import ConvexHull
from scipy.spatial.distance import pdist


def diameter(atoms):
    """The longest distance between two atoms, angstrom (of their convex hull)."""
    return pdist(atoms.positions[ConvexHull(atoms.positions).vertices]).max()
