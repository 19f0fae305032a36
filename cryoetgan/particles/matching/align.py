"""Align boxes and picks to templates: wedge-constrained correlation over rotations and shifts.

Box and template are normalised inside wedge and band, so that the score is the correlation
coefficient of the measured frequencies. The lowest shells are excluded; otherwise the mass
alone would decide the class (Foerster 2008, doi 10.1016/j.jsb.2007.07.006).
"""

import itertools
from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray

from cryoetgan.devices import choose_device
from cryoetgan.io.mrc import Volume
from cryoetgan.particles.extraction import extract_boxes
from cryoetgan.particles.matching import template as templates
from cryoetgan.particles.matching.low_rank import leading_directions, rotate_in_chunks
from cryoetgan.particles.matching.refine import Alignment, refine
from cryoetgan.particles.matching.template import SearchOptions, Template, batches
from cryoetgan.physics.geometry import relion_from_rotation, super_fibonacci
from cryoetgan.progress import track

Floats = NDArray[np.floating]
SEARCH_FREQUENCY_SHARE = 0.8
"""Highest frequency of the search, relative to the band's. Finer detail hardly distinguishes
orientations as far apart as those searched; the refinement uses the whole band."""
MIN_SEARCH_SHELLS = 6
"""Fewest shells of the search, for bands with a low cut-off."""
MAX_SEARCH_SHIFT = 4.0
"""Largest distance between a pick and its particle, voxels."""
SHIFT_STEP = 1.8
"""Cell edge of the grid of shifts, voxels."""
REFINED_ORIENTATIONS = 5
"""Best orientations that are refined, each from its best shift."""
BOXES_PER_SEARCH = 16
PICKS_PER_BATCH = 64


class Aligner:
    """Align boxes to one template; `rotations` orientations are searched, then refined."""

    def __init__(self, template: Template, rotations: int) -> None:
        self.template, self.band = template, template.band
        self.searched = self.band.lowpass_indices(SEARCH_FREQUENCY_SHARE, MIN_SEARCH_SHELLS)
        coarse = template.subset(self.searched)
        self.coarse = coarse.band
        self.rotations = super_fibonacci(rotations)
        self.spacing = grid_spacing(rotations)
        bank = rotate_in_chunks(coarse, self.rotations)
        self.basis = leading_directions(bank)
        self.bank = bank @ self.basis  # (R, K)
        self.shifts = shift_grid(MAX_SEARCH_SHIFT, SHIFT_STEP).to(bank.device)

    def align(self, boxes: torch.Tensor) -> Alignment:
        """Return the best fit of each box `(N, z, y, x)`."""
        vectors = templates.band_vectors(boxes, self.band)
        coarse = templates.subset_vectors(vectors, self.searched)
        matrices = self.rotations.as_matrix()
        count = min(REFINED_ORIENTATIONS, len(matrices))
        turns, places = [], []
        for part in batches(len(vectors), BOXES_PER_SEARCH):
            moved = templates.shift_back(coarse[part], self.shifts, self.coarse)
            for box in moved @ self.basis:  # (S, K)
                by_shift = box @ self.bank.T  # (S, R): the maximum of a column is fast
                best = torch.topk(by_shift.amax(dim=0), count).indices
                turns.append(matrices[best.cpu().numpy()])
                places.append(self.shifts[by_shift[:, best].argmax(dim=0)].cpu().numpy())
        return refine(self.template, vectors, np.array(turns), np.array(places), self.spacing)


def score_picks(
    tomogram: Volume, coordinates: Floats, maps: Mapping[str, Floats], options: SearchOptions
) -> dict[str, tuple[Floats, Floats, Floats]]:
    """Align the picks at coordinates `(N, 3)` (x, y, z in voxels) to every template.

    `maps` is class to density `(z, y, x)`, cubes of one size. Returns class to scores `(N,)`,
    refined coordinates `(N, 3)` and RELION angles `(N, 3)`.
    """
    device = choose_device(options.device)
    box = templates.template_box(maps)
    band = templates.search_band(box, tomogram.voxel_size, options, device)
    aligners = {
        name: Aligner(Template(density, band), options.rotations)
        for name, density in track(maps.items(), "rotating templates", len(maps))
    }
    fits: dict[str, list[tuple[Floats, Floats, Floats]]] = {name: [] for name in maps}
    # boxes at whole voxels need no interpolation; the shifts found are subvoxel
    centres = np.floor(np.asarray(coordinates, float) + 0.5)
    for part in track(list(batches(len(centres), PICKS_PER_BATCH)), "scoring"):
        here = centres[part]
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


def grid_spacing(rotations: int) -> float:
    """Return the mean distance in degrees between neighbours of a uniform grid of rotations."""
    return float(np.degrees((8 * np.pi**2 / rotations) ** (1 / 3)))


def shift_grid(radius: float, step: float) -> torch.Tensor:
    """Return `(S, 3)` shifts inside a ball, voxels, on a body-centred cubic grid of cells `step`.

    The nearest grid point of any shift is at most 0.56 steps away. A simple cubic grid needs
    twice as many points (Conway & Sloane, Sphere Packings, Lattices and Groups, chapter 2).
    """
    half = np.arange(-int(2 * radius / step), int(2 * radius / step) + 1)
    shifts = [
        s
        for s in itertools.product(half, repeat=3)
        if len({v % 2 for v in s}) == 1 and sum(v * v for v in s) <= (2 * radius / step) ** 2
    ]
    return torch.tensor(step / 2 * np.array(shifts), dtype=torch.float32)
