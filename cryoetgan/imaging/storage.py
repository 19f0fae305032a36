"""Files of an imaging model: `M.json` for numbers and text, `M.npz` beside it for arrays.

Neither holds executable content or a voxel of a tomogram.
"""

import io
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cryoetgan.errors import UserError
from cryoetgan.imaging.model import EnvelopeGain, ImagingModel, UnnamedNeighbours
from cryoetgan.imaging.noise_spectrum import NoiseSpectrum
from cryoetgan.imaging.pair_correlation import PairCorrelation
from cryoetgan.io.archives import check_archive
from cryoetgan.io.files import atomic, check_exists, read_record, sha256, write_json
from cryoetgan.physics.acquisition import Acquisition

FORMAT, UNNAMED_FORMAT = 1, 2
"""Versions of the files, without and with unnamed neighbours: programs that read the first alone would
leave out their density. Increase both if a change makes older files unreadable."""
MAX_ARRAY_BYTES = 1 << 30
"""Unpacked; a model has some megabytes."""
FIT_AGAIN = "fit it again (cryoetgan imaging fit)"
MAP, UNNAMED = "map/", "unnamed/"
"""Beginnings of the names of densities among the arrays."""
Arrays = dict[str, NDArray[Any]]


def check_model_name(path: Path) -> None:
    """Raise `UserError` if a model's file name does not end in .json."""
    if path.suffix != ".json":
        raise UserError(f"{path}: an imaging model is named by its JSON file; end it in .json")


def to_parts(model: ImagingModel) -> tuple[dict[str, Any], Arrays]:
    """Return a model as plain numbers and text, and its arrays by name."""
    noise = model.noise_spectrum
    content = {
        "format": FORMAT if model.unnamed is None else UNNAMED_FORMAT,
        "tomogram": model.tomogram,
        "voxel_size": model.voxel_size,
        "box": model.box,
        "acquisition": asdict(model.acquisition),
        "offset": model.offset,
        "pair_correlation": _write_distances(model.pair_correlation),
        "class_fractions": {name: float(f) for name, f in model.class_fractions.items()},
        "gain": {"step_per_A": model.gain.step, "max_tilt_deg": model.gain.max_tilt},
        "noise": {"step_per_A": noise.step, "tilts_deg": list(noise.tilts)},
        "about": dict(model.about),
    }
    arrays: Arrays = {
        "gain": np.asarray(model.gain.values, np.float64),
        "noise_seen": np.asarray(noise.seen, np.float32),
        "noise_unseen": np.asarray(noise.unseen, np.float32),
    }
    filters = {"surroundings": model.surroundings}
    arrays |= {MAP + name: np.asarray(value, np.float32) for name, value in model.maps.items()}
    if (unnamed := model.unnamed) is not None:
        content["unnamed"] = {
            "per_particle": unnamed.per_particle,
            "pair_correlation": _write_distances(unnamed.pair_correlation),
        }
        filters["replaced_surroundings"] = unnamed.replaced
        for name, value in unnamed.maps.items():
            arrays[UNNAMED + name] = np.asarray(value, np.float32)
    for name, found in filters.items():
        if found is not None:
            content[name] = {"step_per_A": found.step, "max_tilt_deg": found.max_tilt}
            arrays[name] = np.asarray(found.values, np.float64)
    return content, arrays


def _write_distances(g: PairCorrelation) -> dict[str, Any]:
    return {
        "particles_per_A3": g.density,
        "distance_step_A": g.step,
        "values": [round(float(value), 5) for value in g.values],
        "acceptance_correction": g.acceptance_correction,
    }


def from_parts(content: Mapping[str, Any], arrays: Mapping[str, Any], name: object) -> ImagingModel:
    """Return the model of `to_parts`; messages call it `name`."""
    if content.get("format") not in (FORMAT, UNNAMED_FORMAT):
        raise UserError(
            f"{name}: is an imaging model of format {content.get('format')}, wanted {FORMAT} or "
            f"{UNNAMED_FORMAT}; {FIT_AGAIN}"
        )
    try:
        low, high = content["noise"]["tilts_deg"]
        return ImagingModel(
            voxel_size=float(content["voxel_size"]),
            box=int(content["box"]),
            acquisition=Acquisition(**content["acquisition"]),
            gain=_read_gain(content, arrays, "gain"),
            surroundings=_read_filter(content, arrays, "surroundings"),
            unnamed=_read_unnamed(content, arrays) if "unnamed" in content else None,
            noise_spectrum=NoiseSpectrum(
                np.asarray(arrays["noise_seen"], np.float64),
                np.asarray(arrays["noise_unseen"], np.float64),
                float(content["noise"]["step_per_A"]),
                (float(low), float(high)),
            ),
            pair_correlation=_read_distances(content["pair_correlation"]),
            class_fractions=dict(content["class_fractions"]),
            maps=_read_maps(arrays, MAP),
            offset=float(content["offset"]),
            tomogram=str(content["tomogram"]),
            about=dict(content["about"]),
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise UserError(
            f"{name}: is not an imaging model ({type(error).__name__}: {error}); {FIT_AGAIN}"
        ) from error


def _read_distances(g: Mapping[str, Any]) -> PairCorrelation:
    return PairCorrelation(
        float(g["particles_per_A3"]),
        float(g["distance_step_A"]),
        np.array(g["values"], float),
        float(g["acceptance_correction"]),
    )


def _read_maps(arrays: Mapping[str, Any], prefix: str) -> Arrays:
    names = [name for name in sorted(arrays) if name.startswith(prefix)]
    return {name.removeprefix(prefix): np.asarray(arrays[name], np.float32) for name in names}


def _read_unnamed(content: Mapping[str, Any], arrays: Mapping[str, Any]) -> UnnamedNeighbours:
    found = content["unnamed"]
    if not (maps := _read_maps(arrays, UNNAMED)):
        raise ValueError("no density of an unnamed particle")
    return UnnamedNeighbours(
        maps,
        float(found["per_particle"]),
        _read_distances(found["pair_correlation"]),
        _read_filter(content, arrays, "replaced_surroundings"),
    )


def _read_filter(
    content: Mapping[str, Any], arrays: Mapping[str, Any], name: str
) -> EnvelopeGain | None:
    return _read_gain(content, arrays, name) if name in content else None


def _read_gain(content: Mapping[str, Any], arrays: Mapping[str, Any], name: str) -> EnvelopeGain:
    return EnvelopeGain(
        np.asarray(arrays[name], np.float64),
        float(content[name]["step_per_A"]),
        float(content[name]["max_tilt_deg"]),
    )


def save_model(
    model: ImagingModel, path: Path, provenance: Mapping[str, Any] | None = None
) -> None:
    """Write `path` (JSON) and the arrays beside it; equal models give equal bytes."""
    check_model_name(path)
    content, arrays = to_parts(model)
    buffer, beside = io.BytesIO(), path.with_suffix(".npz")
    np.savez_compressed(buffer, **arrays)  # type: ignore[arg-type]
    with atomic(beside) as part:
        part.write_bytes(buffer.getvalue())
    # the JSON holds the hash of the arrays, so that files of two fits are never combined
    content["arrays"] = {"file": beside.name, "sha256": sha256(beside)}
    if provenance is not None:
        content["provenance"] = dict(provenance)
    write_json(path, content)


def load_model(path: Path) -> ImagingModel:
    """Read a model that `save_model` or `cryoetgan imaging fit` wrote."""
    content = read_record(path)
    beside = check_exists(path.with_suffix(".npz"), "file of an imaging model's arrays")
    recorded = content.get("arrays")
    wanted = recorded.get("sha256") if isinstance(recorded, dict) else None
    if wanted is not None and sha256(beside) != wanted:
        raise UserError(f"{beside}: does not belong to {path}; {FIT_AGAIN}")
    try:
        # opened here, because numpy leaves a broken file open
        with open(beside, "rb") as file:
            check_archive(file, MAX_ARRAY_BYTES)
            with np.load(file, allow_pickle=False) as opened:
                arrays = {name: opened[name] for name in opened.files}
    except (ValueError, EOFError, MemoryError) as error:
        raise UserError(f"{beside}: cannot be read ({error}); {FIT_AGAIN}") from error
    return from_parts(content, arrays, path)
