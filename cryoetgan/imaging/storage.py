"""An imaging model as files: `M.json` for numbers and words, `M.npz` beside it for arrays.

Nothing in either is executable, and neither holds a voxel of a tomogram.
"""

import io
import zipfile
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cryoetgan.errors import UserError
from cryoetgan.imaging.model import ImagingModel
from cryoetgan.imaging.noise_spectrum import Spectrum
from cryoetgan.imaging.pair_correlation import Crowding
from cryoetgan.imaging.transfer import Gain
from cryoetgan.io.files import atomic, check_exists, read_json, sha256, write_json
from cryoetgan.physics.acquisition import Acquisition

FORMAT = 1
"""Raised whenever older files can no longer be read."""
Arrays = dict[str, NDArray[Any]]


def arrays_of(path: Path) -> Path:
    """Return where the arrays of a model lie: `M.npz` beside `M.json`."""
    return Path(path).with_suffix(".npz")


def to_parts(model: ImagingModel) -> tuple[dict[str, Any], Arrays]:
    """Return a model as plain numbers and words, and its arrays by name."""
    content = {
        "format": FORMAT,
        "tomogram": model.tomogram,
        "voxel_size": model.voxel_size,
        "box": model.box,
        "acquisition": asdict(model.acquisition),
        "offset": model.offset,
        "crowding": model.crowding.to_json(),
        "shares": {name: float(share) for name, share in model.shares.items()},
        "gain": {"step_per_A": model.gain.step, "steepest_deg": model.gain.steepest},
        "noise": {
            "step_per_A": model.noise_spectrum.step,
            "tilts_deg": list(model.noise_spectrum.tilts),
        },
        "about": dict(model.about),
    }
    arrays: Arrays = {
        "gain": np.asarray(model.gain.values, np.float64),
        "noise_seen": np.asarray(model.noise_spectrum.seen, np.float32),
        "noise_unseen": np.asarray(model.noise_spectrum.unseen, np.float32),
    }
    arrays |= {f"map/{name}": np.asarray(value, np.float32) for name, value in model.maps.items()}
    return content, arrays


def from_parts(content: Mapping[str, Any], arrays: Mapping[str, Any], name: object) -> ImagingModel:
    """Return the model that `to_parts` gave; `name` is what messages call it.

    Raises
    ------
    UserError
        Where a part is missing, or of another version.
    """
    if content.get("format") != FORMAT:
        raise UserError(
            f"{name}: is an imaging model of format {content.get('format')}, wanted {FORMAT}; "
            "fit it again (cryoetgan imaging fit)"
        )
    try:
        low, high = content["noise"]["tilts_deg"]
        return ImagingModel(
            voxel_size=float(content["voxel_size"]),
            box=int(content["box"]),
            acquisition=Acquisition(**content["acquisition"]),
            gain=Gain(
                np.asarray(arrays["gain"], np.float64),
                float(content["gain"]["step_per_A"]),
                float(content["gain"]["steepest_deg"]),
            ),
            noise_spectrum=Spectrum(
                np.asarray(arrays["noise_seen"], np.float64),
                np.asarray(arrays["noise_unseen"], np.float64),
                float(content["noise"]["step_per_A"]),
                (float(low), float(high)),
            ),
            crowding=Crowding.from_json(content["crowding"]),
            shares=dict(content["shares"]),
            maps={
                key.removeprefix("map/"): np.asarray(arrays[key], np.float32)
                for key in sorted(arrays)
                if key.startswith("map/")
            },
            offset=float(content["offset"]),
            tomogram=str(content["tomogram"]),
            about=dict(content["about"]),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(
            f"{name}: is no imaging model ({type(error).__name__}: {error}); fit it again "
            "(cryoetgan imaging fit)"
        ) from error


def save(model: ImagingModel, path: Path, provenance: Mapping[str, Any] | None = None) -> None:
    """Write `path` (JSON) and its arrays beside it; the same model is the same bytes.

    Raises
    ------
    UserError
        Where the name does not end in .json.
    """
    if Path(path).suffix != ".json":
        raise UserError(f"{path}: an imaging model is named by its JSON file; end it in .json")
    content, arrays = to_parts(model)
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)  # type: ignore[arg-type]
    with atomic(arrays_of(path)) as part:
        part.write_bytes(buffer.getvalue())
    # the arrays' hash is in the JSON: files of two fits are never taken for one model
    content["arrays"] = {"file": arrays_of(path).name, "sha256": sha256(arrays_of(path))}
    if provenance is not None:
        content["provenance"] = dict(provenance)
    write_json(path, content)


def load(path: Path) -> ImagingModel:
    """Read a model.

    Raises
    ------
    UserError
        Where a file is missing, broken or belongs to another fit.
    """
    content = read_json(path)
    if not isinstance(content, dict):
        raise UserError(f"{path}: is no imaging model; fit one (cryoetgan imaging fit)")
    beside = check_exists(arrays_of(path), "file of an imaging model's arrays")
    wanted = content.get("arrays", {}).get("sha256") if "arrays" in content else None
    if wanted is not None and sha256(beside) != wanted:
        raise UserError(f"{beside}: does not belong to {path}; fit again (cryoetgan imaging fit)")
    try:
        # opened here: numpy leaves a broken file open
        with open(beside, "rb") as file, np.load(file, allow_pickle=False) as opened:
            arrays = {name: opened[name] for name in opened.files}
    except (ValueError, OSError, EOFError, zipfile.BadZipFile) as error:
        raise UserError(
            f"{beside}: cannot be read ({error}); fit again (cryoetgan imaging fit)"
        ) from error
    return from_parts(content, arrays, path)
