"""Tomograms of a copick project, read through copick."""

import json
import os
import urllib.parse
from pathlib import Path
from typing import Any

import numpy as np

from cryoetgan.errors import UserError
from cryoetgan.io.files import check_exists
from cryoetgan.io.memmap import release_pages
from cryoetgan.progress import track
from cryoetgan.tomograms.importing.raw_tomogram import RawTomogram


def _project(text: str) -> tuple[Any, dict[str, str]]:
    """Return copick's root and the query of `copick:config.json?run=...`."""
    path, _, query = text.partition(":")[2].partition("?")
    try:
        import copick
    except ImportError as error:
        raise UserError("copick is not installed; pip install 'cryoetgan[export]'") from error
    configuration = check_exists(Path(os.path.expandvars(path)), "copick configuration")
    if not configuration.is_file():
        raise UserError(f"{text}: names no copick configuration; give copick:config.json?run=R")
    try:
        root = copick.from_file(str(configuration))
    except (ValueError, KeyError, TypeError, NotImplementedError, json.JSONDecodeError) as error:
        raise UserError(f"{path}: is no copick configuration ({error})") from error
    return root, dict(urllib.parse.parse_qsl(query))


def copy_tomogram(source: str, path: Path) -> RawTomogram:
    """Copy a project's tomogram to an uncompressed file, chunk by chunk, and map that.

    Parameters
    ----------
    source : str
        `copick:config.json?run=R[&tomogram=wbp][&voxel_size=10]`; what is left out may
        stand for one thing only.
    path : Path
        The .npy file to write.

    Raises
    ------
    UserError
        Where the project has no such tomogram.
    """
    import zarr

    root, query = _project(source)
    runs = {run.name: run for run in root.runs}
    run = runs[_one(source, "run", query.get("run"), list(runs))]
    spacings = {f"{spacing.voxel_size:g}": spacing for spacing in run.voxel_spacings}
    given = query.get("voxel_size")
    try:
        wanted = None if given is None else f"{float(given):g}"
    except ValueError:
        raise UserError(f"{source}: voxel_size is '{given}', wanted a number") from None
    spacing = spacings[_one(source, "voxel_size", wanted, list(spacings))]
    tomograms = {item.tomo_type: item for item in spacing.tomograms}
    tomogram = tomograms[_one(source, "tomogram", query.get("tomogram"), list(tomograms))]
    finest = zarr.open(tomogram.zarr(), mode="r")["0"]
    copy = np.lib.format.open_memmap(path, "w+", np.dtype(finest.dtype), finest.shape)
    thick = finest.chunks[0]
    for start in track(range(0, len(copy), thick), f"copying {source}"):
        copy[start : start + thick] = finest[start : start + thick]
        release_pages(copy)
    return RawTomogram(copy, float(spacing.voxel_size))


def _one(source: str, key: str, given: str | None, known: list[str]) -> str:
    if given is not None and given in known:
        return given
    if given is None and len(known) == 1:
        return known[0]
    got = "is not named" if given is None else f"is '{given}'"
    raise UserError(f"{source}: {key} {got}; the project has {', '.join(sorted(known)) or 'none'}")


def rows(source: str) -> list[dict[str, Any]]:
    """Return rows of the table of tomograms: one a run, voxel size and kind of tomogram."""
    root, _ = _project(source)
    path = source.partition(":")[2].partition("?")[0]
    found = []
    for run in root.runs:
        for spacing in run.voxel_spacings:
            for tomogram in spacing.tomograms:
                query = urllib.parse.urlencode(
                    {
                        "run": run.name,
                        "tomogram": tomogram.tomo_type,
                        "voxel_size": f"{spacing.voxel_size:g}",
                    }
                )
                row = {"path": f"copick:{path}?{query}", "voxel_size": spacing.voxel_size}
                found.append({"tomogram": run.name, "kind": tomogram.tomo_type, **row})
    if not found:
        raise UserError(f"{source}: the project holds no tomogram")
    for row in found:
        if sum(other["tomogram"] == row["tomogram"] for other in found) > 1:
            row["name"] = f"{row['tomogram']}_{row['kind']}_{row['voxel_size']:g}"
    return [
        {"tomogram": row.get("name", row["tomogram"])}
        | {key: row[key] for key in ("path", "voxel_size")}
        for row in found
    ]
