"""Metadata of a copick project in the fields of the CryoET Data Portal (its schema 2.0)."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cryoetgan import __version__
from cryoetgan.export.runs import Run, known_rotations
from cryoetgan.io.files import write_json

if TYPE_CHECKING:
    import pandas as pd

SOFTWARE = f"cryoetgan {__version__}"
METHODS = {
    "tomograms simulate": "user-specified physics of a packed scene",
    "imaging synthesize": "physics fitted to a tomogram, of a packed scene",
    "translation synthesize": "network, of a packed scene",
}
"""Commands that make synthetic tomograms, and their methods."""
MASK, INSTANCE_MASK = "SegmentationMask", "InstanceSegmentationMask"
Masks = dict[str, tuple[str, int | None]]
"""Shape of an annotation to the path of its mask, and the label in a mask of several objects."""
SYNTHETIC = "simulated", "generated"
"""Sources of particles that are ground truth."""


def write_portal_metadata(
    folder: Path, run: Run, tomogram: str, picks: Mapping[str, str], masks: Mapping[str, Masks]
) -> None:
    """Write the JSON files of a run: run, tilt series, tomogram, and an annotation of each class.

    `tomogram`, and the picks of each class, are paths in `folder`; `masks` has the masks of each
    class. Fields without a known value are left out: only a depositor knows authors, dates and
    identifiers, and how a real tomogram was aligned, reconstructed and annotated.
    """
    root = folder.resolve()
    spacing = f"VoxelSpacing{run.voxel_size:.3f}"
    top = folder / "portal" / run.name
    volumes = top / "Reconstructions" / spacing
    write_json(top / "run_metadata.json", {"run_name": run.name})
    write_json(top / "TiltSeries" / "tiltseries_metadata.json", _tilt_series(run))
    write_json(
        volumes / "Tomograms" / "tomogram_metadata.json", _tomogram(run, _inside(tomogram, root))
    )
    for name in sorted({*picks, *masks}):
        rows = run.particles[run.particles["cryoetganClass"].astype(str) == name]
        files = []
        if name in picks:
            shape = "Point" if known_rotations(rows) is None else "OrientedPoint"
            files.append(_file("copick", _inside(picks[name], root), shape))
        for shape, (path, label) in masks.get(name, {}).items():
            files.append(_file("zarr", _inside(path, root), shape))
            # the portal's word for one object among the labels of a file
            files[-1] |= {} if label is None else {"mask_label": label}
        write_json(
            volumes / "Annotations" / f"{name}-1.0.json", _annotation(run, name, rows, files)
        )


def _tilt_series(run: Run) -> dict[str, Any]:
    found: dict[str, Any] = {"run_name": run.name}
    if run.is_recorded:
        a = run.acquisition
        found |= {
            "acceleration_voltage": 1000 * a.voltage,
            "spherical_aberration_constant": a.cs,
            "tilt_range": {"min": a.tilt_low, "max": a.tilt_high},
            "tilt_step": a.tilt_step,
        }
    if run.made_by not in METHODS:
        return found
    return found | {
        "pixel_spacing": run.voxel_size,
        "tilt_axis": 0.0,
        "is_aligned": True,
        "microscope": {"manufacturer": "SIMULATED", "model": "simulated"},
        "camera": {"manufacturer": "simulated", "model": "simulated"},
    }


def _tomogram(run: Run, path: str) -> dict[str, Any]:
    nz, ny, nx = run.data.shape
    found = {
        "run_name": run.name,
        "voxel_spacing": run.voxel_size,
        "size": {"x": nx, "y": ny, "z": nz},
        "offset": {"x": 0, "y": 0, "z": 0},
        "affine_transformation_matrix": [[int(i == j) for j in range(4)] for i in range(4)],
        "tomogram_version": 1,
        "is_visualization_default": True,
        "omezarr_dir": path,
    }
    if run.is_recorded:
        found["ctf_corrected"] = run.acquisition.ctf != "raw"
    if run.made_by not in METHODS:
        return found
    software = f"{SOFTWARE}: {METHODS[run.made_by]}"
    return found | {
        "reconstruction_software": software,
        "fiducial_alignment_status": "NON_FIDUCIAL",
    }


def _annotation(
    run: Run, name: str, rows: "pd.DataFrame", files: list[dict[str, Any]]
) -> dict[str, Any]:
    found: dict[str, Any] = {"annotation_object": {"name": name}, "version": 1.0, "files": files}
    if len(rows):
        found["object_count"] = len(rows)
    is_true = rows["cryoetganSource"].isin(SYNTHETIC) if "cryoetganSource" in rows else [False]
    # a class without rows is a mask: whose, no file says
    if run.made_by not in METHODS or not len(rows) or not all(is_true):
        return found
    return found | {
        "annotation_method": "ground truth of a packed scene",
        "annotation_software": SOFTWARE,
        "method_type": "simulated",
        "ground_truth_status": True,
    }


def _inside(path: str, root: Path) -> str:
    return Path(path.removeprefix("local://")).relative_to(root).as_posix()


def _file(kind: str, path: str, shape: str) -> dict[str, Any]:
    return {"format": kind, "path": path, "shape": shape, "is_visualization_default": True}
