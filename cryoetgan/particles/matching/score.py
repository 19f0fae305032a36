"""Score the picks of a tomogram against all templates."""

from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray

from cryoetgan.devices import choose_device
from cryoetgan.errors import UserError
from cryoetgan.io.mrc import Volume
from cryoetgan.particles.extraction import extract_boxes
from cryoetgan.particles.matching.align import Aligner
from cryoetgan.particles.matching.refine import batches
from cryoetgan.particles.matching.template import SearchOptions, Template, search_band
from cryoetgan.physics.geometry import relion_from_rotation
from cryoetgan.progress import track

Floats = NDArray[np.floating]
BOXES_PER_BATCH = 64


def score_picks(
    tomogram: Volume, coordinates: Floats, maps: Mapping[str, Floats], options: SearchOptions
) -> dict[str, tuple[Floats, Floats, Floats]]:
    """Align every pick to every template.

    Parameters
    ----------
    tomogram : Volume
        Protein bright.
    coordinates : ndarray
        `(N, 3)` x, y, z in voxels.
    maps : mapping
        Class to density `(z, y, x)`, cubes of one size.
    options : SearchOptions
        Orientations and frequencies.

    Returns
    -------
    dict
        Class to scores `(N,)`, refined coordinates `(N, 3)` and RELION angles `(N, 3)`.
    """
    device = choose_device(options.device)
    box = template_box(maps)
    band, transfer = search_band(box, tomogram.voxel_size, options, device)
    aligners = {
        name: Aligner(Template(density, band, transfer), options.rotations)
        for name, density in track(maps.items(), "rotating templates", len(maps))
    }
    fits: dict[str, list[tuple[Floats, Floats, Floats]]] = {name: [] for name in maps}
    # boxes at whole voxels need no interpolation; the shifts found are subvoxel
    centres = np.floor(np.asarray(coordinates, float) + 0.5)
    for part in track(list(batches(len(centres), BOXES_PER_BATCH)), "scoring"):
        here = centres[part.start : part.stop]
        boxes = np.stack(list(extract_boxes(tomogram.data, here, box)))
        tensor = torch.as_tensor(boxes, device=device)
        for name, aligner in aligners.items():
            fit = aligner.align(tensor)
            angles = relion_from_rotation(fit.rotations)
            fits[name].append((fit.scores, here + fit.shifts, angles))
    return {
        name: tuple(np.concatenate(part) for part in zip(*found, strict=True))  # type: ignore[misc]
        for name, found in fits.items()
    }


def template_box(maps: Mapping[str, Floats]) -> int:
    """Return the edge of the templates in voxels; raise `UserError` if it is not one for all."""
    shapes = {density.shape for density in maps.values()}
    if len(shapes) != 1 or len(set(next(iter(shapes)))) != 1:
        raise UserError(
            f"templates must be cubes of one size, but their shapes are {sorted(shapes)}; "
            "use one densities.box"
        )
    return int(next(iter(shapes))[0])
