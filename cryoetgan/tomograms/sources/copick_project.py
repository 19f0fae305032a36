"""Tomograms of a copick project, through the copick package."""

import math
import os
import urllib.parse
from pathlib import Path
from typing import Any

import numpy as np

from cryoetgan.errors import UserError
from cryoetgan.io.files import check_disk_space, check_exists
from cryoetgan.io.memmap import release_pages
from cryoetgan.io.raw_mrc import RawVolume
from cryoetgan.progress import track
from cryoetgan.tomograms.specimens import preference

USUAL_VOXEL_SIZE_A = 10.0


def open_project(address: str) -> tuple[Any, dict[str, str]]:
    """Return copick's root and the query of `copick:config.json?run=...`.

    Environment variables in the path are replaced.
    """
    path, _, query = address.partition(":")[2].partition("?")
    try:
        import copick
    except ImportError as error:
        raise UserError("copick is not installed; pip install 'cryoetgan[export]'") from error
    configuration = check_exists(Path(os.path.expandvars(path)), "copick configuration")
    if not configuration.is_file():
        raise UserError(
            f"{address}: is a folder, not a copick configuration; give copick:config.json?run=R"
        )
    try:
        root = copick.from_file(str(configuration))
    except (ValueError, KeyError, TypeError, NotImplementedError, RecursionError) as error:
        raise UserError(
            f"{path}: is not a copick configuration ({type(error).__name__}: {error})"
        ) from error
    return root, dict(urllib.parse.parse_qsl(query))


def copy_tomogram(address: str, path: Path) -> RawVolume:
    """Copy a project's tomogram to an uncompressed .npy file, chunk by chunk, and map that file.

    `address` is `copick:config.json?run=R[&tomogram=wbp][&voxel_size=10]`. A key may be omitted if
    the project leaves only one choice.
    """
    import zarr

    root, query = open_project(address)
    runs = {run.name: run for run in root.runs}
    run = runs[_choose(address, "run", query.get("run"), list(runs))]
    spacings = {f"{spacing.voxel_size:g}": spacing for spacing in run.voxel_spacings}
    given = query.get("voxel_size")
    try:
        wanted = None if given is None else f"{float(given):g}"
    except ValueError:
        raise UserError(f"{address}: voxel_size is '{given}', wanted a number") from None
    spacing = spacings[_choose(address, "voxel_size", wanted, list(spacings))]
    tomograms = {item.tomo_type: item for item in spacing.tomograms}
    tomogram = tomograms[_choose(address, "tomogram", query.get("tomogram"), list(tomograms))]
    finest = zarr.open(tomogram.zarr(), mode="r")["0"]
    size = int(np.prod(finest.shape, dtype=np.float64)) * np.dtype(finest.dtype).itemsize
    check_disk_space(path, size, "choose a coarser voxel size")
    copy = np.lib.format.open_memmap(path, "w+", np.dtype(finest.dtype), finest.shape)
    thickness = finest.chunks[0]
    for start in track(range(0, len(copy), thickness), f"copying {address}"):
        copy[start : start + thickness] = finest[start : start + thickness]
        release_pages(copy)
    return RawVolume(copy, float(spacing.voxel_size))


def _choose(address: str, key: str, given: str | None, known: list[str]) -> str:
    if given is not None and given in known:
        return given
    if given is None and len(known) == 1:
        return known[0]
    found = "is missing" if given is None else f"is '{given}'"
    choices = ", ".join(sorted(known)) or "none"
    raise UserError(f"{address}: {key} {found}; the project has {choices}")


def list_tomograms(address: str) -> list[dict[str, Any]]:
    """Return rows of the table of tomograms: one per run, and the addresses of its other kinds.

    A run is one specimen. The kind that is not denoised is taken (`wbp`), at the voxel size nearest
    to `USUAL_VOXEL_SIZE_A`; key `others` holds the other addresses.
    """
    root, _ = open_project(address)
    path = address.partition(":")[2].partition("?")[0]
    rows = []
    for run in root.runs:
        found = []
        for spacing in run.voxel_spacings:
            ratio = abs(math.log(spacing.voxel_size / USUAL_VOXEL_SIZE_A))
            for tomogram in spacing.tomograms:
                kind, size = tomogram.tomo_type, f"{spacing.voxel_size:g}"
                query = {"run": run.name, "tomogram": kind, "voxel_size": size}
                key = (kind != "wbp", preference(kind)[0], ratio, kind)
                found.append((key, f"copick:{path}?{urllib.parse.urlencode(query)}", spacing))
        if found:
            (_, best, spacing), *others = sorted(found, key=lambda item: item[0])
            row = {"tomogram": run.name, "path": best, "voxel_size": spacing.voxel_size}
            rows.append(row | {"others": [other for _, other, _ in others]})
    if not rows:
        raise UserError(f"{address}: the project holds no tomogram")
    return rows
