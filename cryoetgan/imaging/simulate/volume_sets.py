"""Write simulated volume sets: by typed physics, by fitted physics."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cryoetgan.errors import UserError
from cryoetgan.imaging.model import ImagingModel
from cryoetgan.imaging.simulate import ablated, conventional, fitted
from cryoetgan.io.files import provenance, sidecar, write_json
from cryoetgan.io.memmap import iterate_sections
from cryoetgan.io.star import item_names
from cryoetgan.io.volume_set import VolumeSet, VolumeSetWriter
from cryoetgan.physics.acquisition import Acquisition
from cryoetgan.progress import track

Made = Iterator[tuple[NDArray[np.float32], int]]
"""Volumes, and the number of the model of each."""


def write_typed(source: VolumeSet, output: Path, physics: conventional.Physics, seed: int) -> None:
    """Write the traditional simulation of a set of densities; the set has mean 0 and SD 1."""
    p = physics
    acquisition = Acquisition(
        tilt_low=p.tilts[0],
        tilt_high=p.tilts[1],
        voltage=p.voltage,
        cs=p.cs,
        amplitude_contrast=p.amplitude_contrast,
        defocus=p.defocus,
        ctf=p.ctf,
    )
    simulator = conventional.Simulator(physics, source.box, source.voxel_size)
    rows = _rows(source)
    names = item_names(rows["cryoetganClass"])
    made = conventional.simulated(iterate_sections(source.volumes), simulator, seed, names)
    optics = pd.DataFrame([acquisition.to_optics(1, "simulated")])
    total = square = 0.0
    with VolumeSetWriter(output, len(source), source.box, source.voxel_size, optics) as writer:
        for volume, row in track(
            zip(made, rows.to_dict("records"), strict=True), "simulating", len(source)
        ):
            writer.add(volume, row)
            total += float(volume.sum(dtype=np.float64))
            square += float((volume.astype(np.float64) ** 2).sum())
        # one grey scale for the set: contrast between light and heavy particles is information
        mean = total / writer.data.size
        sd = np.sqrt(max(square / writer.data.size - mean**2, 0.0))
        if not sd > 0:
            raise UserError(
                f"{source.path}: its densities are the same everywhere, so that nothing is "
                "seen of them; name a set with particles in it"
            )
        for volume in iterate_sections(writer.data):
            volume[:] = (volume - mean) / sd
    parameters: dict[str, Any] = {"snr": p.snr, "tilts": list(p.tilts)}
    typed_in = ("defocus", "ctf", "envelope", "voltage", "cs", "amplitude_contrast", "lowpass")
    parameters |= {name: getattr(p, name) for name in typed_in}
    record = provenance("imaging simulate", [source.path], parameters, seed)
    write_json(sidecar(output), {"provenance": record})


def write_matched(
    source: VolumeSet,
    output: Path,
    models: Mapping[Path, ImagingModel],
    neighbours: bool,
    seed: int,
    per_group: bool = False,
) -> int:
    """Write a set of densities as fitted physics shows it, in the tomograms' grey values.

    With `per_group` the whole set once for each group of tomograms, one behind the other.
    Returns how many volumes were written.
    """

    def made(some: Sequence[ImagingModel], _: Sequence[int], names: Sequence[str]) -> Made:
        return fitted.simulated(source, some, names, seed, neighbours)

    count = _write_by_group(source, output, models, per_group, made)
    parameters: dict[str, Any] = {
        "models": [path.name for path in models],
        "neighbours": neighbours,
        "per_group": per_group,
    }
    record = provenance("imaging simulate", [source.path, *models], parameters, seed)
    write_json(sidecar(output), {"provenance": record})
    return count


def write_control(
    kind: str,
    source: VolumeSet,
    output: Path,
    models: Mapping[Path, ImagingModel],
    backdrops: Sequence[ablated.Backdrop],
    seed: int,
    per_group: bool = False,
) -> int:
    """Write a set by a part of fitted physics (`ablated.py`); return how many volumes."""

    def made(some: Sequence[ImagingModel], numbers: Sequence[int], names: Sequence[str]) -> Made:
        behind = [backdrops[number] for number in numbers] if backdrops else []
        return ablated.made(kind, source, some, behind, names, seed)

    count = _write_by_group(source, output, models, per_group, made)
    inputs = [source.path, *models, *(backdrop.path for backdrop in backdrops)]
    parameters: dict[str, Any] = {"kind": kind, "models": [path.name for path in models]}
    parameters |= {"per_group": per_group}
    record = provenance("imaging control", inputs, parameters, seed)
    write_json(sidecar(output), {"provenance": record})
    return count


def _write_by_group(
    source: VolumeSet,
    output: Path,
    models: Mapping[Path, ImagingModel],
    per_group: bool,
    make: Callable[[Sequence[ImagingModel], Sequence[int], Sequence[str]], Made],
) -> int:
    """Write what `make` yields with the models of each group, of these numbers and item names."""
    fitted.check(source, models)
    rows = _rows(source)
    names, records = item_names(rows["cryoetganClass"]), rows.to_dict("records")
    opened = list(models.values())
    groups = fitted.by_group(opened, per_group)
    optics = pd.DataFrame([m.acquisition.to_optics(i, m.tomogram) for i, m in enumerate(opened, 1)])
    count = len(source) * len(groups)
    with VolumeSetWriter(output, count, source.box, source.voxel_size, optics) as writer:
        for numbers in groups:
            made = make([opened[number] for number in numbers], numbers, names)
            pairs = zip(made, records, strict=True)
            for (volume, index), row in track(pairs, "simulating", len(source)):
                writer.add(volume, row | {"rlnOpticsGroup": numbers[index] + 1})
    return count


def _rows(source: VolumeSet) -> pd.DataFrame:
    rows = source.table.drop(columns="rlnOpticsGroup", errors="ignore")
    rows["cryoetganSource"] = "simulated"
    return rows
