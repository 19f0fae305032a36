"""Score the picks of a tomogram against all templates."""

from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray

from cryoetgan.devices import choose_device
from cryoetgan.errors import UserError
from cryoetgan.io.mrc import Volume
from cryoetgan.particles.extraction import boxes
from cryoetgan.particles.matching.refine import batches
from cryoetgan.particles.matching.align import Scorer
from cryoetgan.particles.matching.template import Band, Template, make_band
from cryoetgan.physics.acquisition import Acquisition
from cryoetgan.physics.geometry import relion_from_rotation
from cryoetgan.physics.optics import ctf, missing_wedge
from cryoetgan.progress import track

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
    record: Acquisition | None = None,
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
    record : Acquisition, optional
        How it was recorded, for its contrast transfer.
    """
    where = choose_device(device)
    box = box_of(maps)
    band, transfer = band_and_transfer(
        box, tomogram.voxel_size, tilts, lowpass, highpass_shells, where, record
    )
    scorers = {
        name: Scorer(Template(density, band, transfer), rotations)
        for name, density in track(maps.items(), "turning templates", len(maps))
    }
    fits: dict[str, list[tuple[Floats, Floats, Floats]]] = {name: [] for name in maps}
    # boxes about whole voxels need no interpolation; the shifts found are subvoxel
    centres = np.floor(np.asarray(coordinates, float) + 0.5)
    for part in track(list(batches(len(centres), BATCH)), "scoring"):
        cut = np.stack(list(boxes(tomogram.data, centres[part.start : part.stop], box)))
        tensor = torch.as_tensor(cut, device=where)
        for name, scorer in scorers.items():
            fit = scorer.align(tensor)
            places = centres[part.start : part.stop] + fit.shifts
            fits[name].append((fit.scores, places, relion_from_rotation(fit.rotations)))
    return {
        name: tuple(np.concatenate(part) for part in zip(*found, strict=True))  # type: ignore[misc]
        for name, found in fits.items()
    }


def box_of(maps: Mapping[str, Floats]) -> int:
    """Return the templates' box in voxels, or raise where it is not one."""
    shapes = {density.shape for density in maps.values()}
    if len(shapes) != 1 or len(set(next(iter(shapes)))) != 1:
        raise UserError(
            f"templates have different boxes, or are no cubes: {sorted(shapes)}; use one densities.box"
        )
    return int(next(iter(shapes))[0])


def band_and_transfer(
    box: int,
    voxel_size: float,
    tilts: tuple[float, float],
    lowpass: float,
    highpass_shells: int,
    device: torch.device,
    record: Acquisition | None,
) -> tuple[Band, Floats | None]:
    """Return the Fourier voxels that count and what the microscope did to them.

    Parameters
    ----------
    box : int
        Voxels.
    voxel_size, lowpass : float
        Angstrom.
    tilts : (float, float)
        Degrees.
    highpass_shells : int
        Lowest Fourier shells left out.
    device : torch.device
        Where they are kept.
    record : Acquisition, optional
        Tells the defocus and what was done about it.

    Raises
    ------
    UserError
        Where nothing is left between the two limits.
    """
    wedge = missing_wedge((box, box, box), tilts)
    band = make_band(box, wedge, highpass_shells, min(voxel_size / lowpass, 0.5), device)
    if not len(band.index):
        raise UserError(
            f"no Fourier shell lies between highpass_shells ({highpass_shells}) and lowpass "
            f"({lowpass:g} A) in a box of {box} voxels; lower the one or the other"
        )
    return band, _transfer(record, band.points.norm(dim=1).cpu().numpy() / voxel_size)


def _transfer(record: Acquisition | None, frequency: Floats) -> Floats | None:
    """Return what the microscope does to the template, where the record tells."""
    if record is None or record.defocus is None or record.ctf == "corrected":
        return None
    values = ctf(frequency, record.defocus, record.voltage, record.cs, record.amplitude_contrast)
    return np.abs(values) if record.ctf == "phase-flipped" else values
