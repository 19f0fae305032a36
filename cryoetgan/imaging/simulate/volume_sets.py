"""Write simulated volume sets: conventional, fitted, ablated."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from cryoetgan.errors import UserError
from cryoetgan.imaging.model import ImagingModel
from cryoetgan.imaging.simulate.conventional import (
    ConventionalParameters,
    ConventionalSimulator,
    simulate_conventional,
)
from cryoetgan.imaging.simulate.fitted import SimulatedParts, check_models, simulate_fitted
from cryoetgan.io.memmap import iterate_sections
from cryoetgan.io.star import item_names
from cryoetgan.io.volume_set import VolumeSet, VolumeSetWriter
from cryoetgan.progress import track


def write_conventional(
    densities: VolumeSet, output: Path, parameters: ConventionalParameters, seed: int
) -> None:
    """Write the conventional simulation of a set of densities, with mean 0 and SD 1.

    Raises
    ------
    UserError
        If all densities are constant.
    """
    simulator = ConventionalSimulator(parameters, densities.box, densities.voxel_size)
    rows = _simulated_rows(densities)
    names, records = item_names(rows["cryoetganClass"]), rows.to_dict("records")
    simulated = simulate_conventional(iterate_sections(densities.volumes), simulator, seed, names)
    optics = pd.DataFrame([parameters.acquisition.to_optics(1, "simulated")])
    count, size = len(densities), densities.voxel_size
    total = square = 0.0
    with VolumeSetWriter(output, count, densities.box, size, optics) as writer:
        for volume, row in track(zip(simulated, records, strict=True), "simulating", count):
            writer.add(volume, row)
            total += float(volume.sum(dtype=np.float64))
            square += float((volume.astype(np.float64) ** 2).sum())
        # one grey scale for the set: contrast between light and heavy particles is information
        mean = total / writer.data.size
        sd = np.sqrt(max(square / writer.data.size - mean**2, 0.0))
        if not sd > 0:
            raise UserError(
                f"{densities.path}: its densities are constant everywhere, so they give no "
                "signal; name a set with particles in it"
            )
        for volume in iterate_sections(writer.data):
            volume[:] = (volume - mean) / sd


def write_fitted(
    densities: VolumeSet,
    output: Path,
    models: Mapping[Path, ImagingModel],
    seed: int,
    per_group: bool,
    parts: SimulatedParts,
) -> int:
    """Write the fitted simulation of a set of densities, in the grey values of the tomograms.

    With `per_group`, the whole set once for each group of tomograms, one after another.
    Returns the number of volumes.
    """
    check_models(densities, models)
    rows = _simulated_rows(densities)
    names, records = item_names(rows["cryoetganClass"]), rows.to_dict("records")
    fitted = list(models.values())
    groups: dict[str, list[int]] = {}
    for number, model in enumerate(fitted):
        groups.setdefault(model.acquisition.group if per_group else "", []).append(number)
    optics = pd.DataFrame([m.acquisition.to_optics(i, m.tomogram) for i, m in enumerate(fitted, 1)])
    count = len(densities) * len(groups)
    with VolumeSetWriter(output, count, densities.box, densities.voxel_size, optics) as writer:
        for numbers in groups.values():
            own = [parts.backgrounds[n] for n in numbers] if parts.backgrounds else []
            group = [fitted[n] for n in numbers]
            simulated = simulate_fitted(
                densities, group, names, seed, replace(parts, backgrounds=own)
            )
            pairs = zip(simulated, records, strict=True)
            for (volume, index), row in track(pairs, "simulating", len(densities)):
                writer.add(volume, row | {"rlnOpticsGroup": numbers[index] + 1})
    return count


def _simulated_rows(densities: VolumeSet) -> pd.DataFrame:
    rows = densities.table.drop(columns="rlnOpticsGroup", errors="ignore")
    rows["cryoetganSource"] = "simulated"
    return rows
