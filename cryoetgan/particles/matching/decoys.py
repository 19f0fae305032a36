"""Decoys: maps like a class's own that no particle fits, so that wrong picks can be counted.

A pick that matches nothing prefers the map or one of its decoys by chance. The number of picks
that prefer a decoy therefore estimates the number of wrong picks that prefer the map (Elias &
Gygi 2007, doi 10.1038/nmeth1019).
"""

import logging

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage

from cryoetgan.particles.matching.align import Aligner
from cryoetgan.particles.matching.template import Template
from cryoetgan.physics.geometry import mirror, super_fibonacci

log = logging.getLogger("cryoetgan")
Floats = NDArray[np.floating]
SIZES = (0.85, 0.8, 0.75, 0.7, 0.65, 0.6)
"""Decoys of maps that resemble their mirror image: copies magnified by one of these, and by its
inverse. At 0.85 true apoferritin always prefers its own size, and picks of nothing prefer one of the
copies in 62 %, of two thirds expected. At 0.75, 80 % of picks beside membranes prefer a copy of the
membrane, so there the estimated rate is too high rather than too low."""
MAX_SIZE_LIKENESS = 0.8
"""Correlation of such a copy with the map that calls for the next of `SIZES`.

At 0.85 it is 0.46 for apoferritin, 0.74 for a proteasome, and 0.88 for a piece of membrane, because
only the thickness changes. Of true membranes 29 % prefer a copy of 0.85, and 3 % one of 0.75."""
MAX_MIRROR_LIKENESS = 0.96
"""Correlation of a map with its mirror image beyond which the image cannot serve as a decoy.

It is 0.99 for apoferritin, where 7 % of the true particles prefer the image, and 0.54 to 0.93 for
six other proteins, where nearly all prefer the map (30 A, tilts to 60 degrees)."""
LIKENESS_ORIENTATIONS = 12


def rescale(density: Floats, factor: float) -> Floats:
    """Return a map `(z, y, x)` magnified by a factor about voxel n // 2."""
    matrix = np.eye(3) / factor
    centre = np.array(density.shape) // 2
    return ndimage.affine_transform(density, matrix, offset=centre - matrix @ centre)


def make_decoys(density: Floats, aligner: Aligner) -> dict[str, Floats]:
    """Return the decoys of a map: `mirror`, its mirror image, or else copies, named by their size.

    The spectrum, size and mass of the mirror image are the map's own, so wrong picks prefer
    either in half of the cases. `aligner` aligns boxes to the map. A warning says if the copies
    resemble the map, too.
    """
    image = mirror(density)
    if map_likeness(image, aligner) <= MAX_MIRROR_LIKENESS:
        return {"mirror": image}
    for factor in SIZES:
        copies = {f"{size:.2f}": rescale(density, size) for size in (factor, 1 / factor)}
        likeness = max(map_likeness(copy, aligner) for copy in copies.values())
        if likeness <= MAX_SIZE_LIKENESS:
            return copies
    log.warning(
        "a map resembles its mirror image and its copies of %s times the size (%.2f, at most %g "
        "wanted): its false discovery rate is overestimated; compare finer detail (--lowpass)",
        " and ".join(copies), likeness, MAX_SIZE_LIKENESS,
    )  # fmt: skip
    return copies


def map_likeness(other: Floats, aligner: Aligner) -> float:
    """Return the mean correlation of another map with the aligner's map, after alignment.

    Both are seen through wedge and band, the other in `LIKENESS_ORIENTATIONS` orientations.
    """
    template = Template(other, aligner.band)
    turns = super_fibonacci(LIKENESS_ORIENTATIONS).as_matrix()
    with torch.no_grad():
        found = aligner.align_vectors(template.rotate(turns))
    return float(np.mean(found.scores))
