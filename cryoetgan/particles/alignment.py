"""Score the picks of a tomogram against all templates."""

from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray

from cryoetgan.acquisition import read_acquisition
from cryoetgan.devices import choose_device
from cryoetgan.errors import UserError
from cryoetgan.geometry import relion_from_rotation
from cryoetgan.optics import ctf, missing_wedge
from cryoetgan.particles.bank import Template, make_band
from cryoetgan.particles.extraction import extract
from cryoetgan.particles.refinement import batches
from cryoetgan.particles.scoring import Scorer
from cryoetgan.progress import track
from cryoetgan.volumes import Volume

Floats = NDArray[np.floating]
BATCH = 64


def score_picks(
    tomogram: Volume,
    coordinates: Floats,
    maps: Mapping[str, Floats],
    tilts: tuple[float, float],
    rotations: int,
    lowpass: float,
    highpass_shells: int,
    device: str,
    path: object,
) -> dict[str, tuple[Floats, Floats, Floats]]:
    """Return scores `(N,)`, refined coordinates and angles `(N, 3)` by class.

    Parameters
    ----------
    tomogram : Volume
        Protein bright.
    coordinates : ndarray
        `(N, 3)` x, y, z in voxels.
    maps : mapping
        Class to density `(z, y, x)`, cubes of one size.
    tilts : (float, float)
        Degrees.
    rotations : int
        Orientations searched before refinement.
    lowpass : float
        Angstrom.
    highpass_shells : int
        Lowest Fourier shells left out.
    device : str
        auto, cpu or cuda.
    path : object
        The tomogram's, for its record (contrast transfer) and messages.
    """
    where = choose_device(device)
    shapes = {density.shape for density in maps.values()}
    if len(shapes) != 1:
        raise UserError(f"templates have different boxes: {sorted(shapes)}; use one densities.box")
    box = next(iter(shapes))[0]
    wedge = missing_wedge((box, box, box), tilts)
    cutoff = tomogram.voxel_size / lowpass
    band = make_band(box, wedge, highpass_shells, min(cutoff, 0.5), where)
    if not len(band.index):
        raise UserError(
            f"no Fourier shell lies between highpass_shells ({highpass_shells}) and lowpass "
            f"({lowpass:g} A) in a box of {box} voxels; lower the one or the other"
        )
    transfer = _transfer(path, band.points.norm(dim=1).cpu().numpy() / tomogram.voxel_size)
    scorers = {
        name: Scorer(Template(density, band, transfer), rotations)
        for name, density in track(maps.items(), "turning templates", len(maps))
    }
    fits: dict[str, list[tuple[Floats, Floats, Floats]]] = {name: [] for name in maps}
    for part in track(list(batches(len(coordinates), BATCH)), "scoring"):
        boxes = np.stack([extract(tomogram.data, coordinates[i], box) for i in part])
        tensor = torch.as_tensor(boxes, device=where)
        for name, scorer in scorers.items():
            fit = scorer.align(tensor)
            places = coordinates[part.start : part.stop] + fit.shifts
            fits[name].append((fit.scores, places, relion_from_rotation(fit.rotations)))
    return {
        name: tuple(np.concatenate(part) for part in zip(*found, strict=True))  # type: ignore[misc]
        for name, found in fits.items()
    }


def _transfer(path: object, frequency: Floats) -> Floats | None:
    """Return what the microscope does to the template, where the record tells."""
    record = read_acquisition(path)  # type: ignore[arg-type]
    if record is None or record.defocus is None or record.ctf == "corrected":
        return None
    values = ctf(frequency, record.defocus, record.voltage, record.cs, record.amplitude_contrast)
    return np.abs(values) if record.ctf == "phase-flipped" else values
