"""A copick project: OME-Zarr tomograms, picks, label segmentations."""

import json
import logging
import re
from pathlib import Path
from typing import Any

import numpy as np

from cryoetgan.geometry import rotation_from_relion
from cryoetgan.star import ANGLES, COORDINATES, read_star
from cryoetgan.volumes import read_volume

log = logging.getLogger("cryoetgan")
USER, SESSION = "cryoetgan", "1"
README = """copick export

config.json       open it with copick: `copick.from_file("config.json")`
data/             the project's static and overlay files (OME-Zarr 0.4, JSON picks)

Coordinates are angstrom, x, y, z; orientations are 4 x 4 matrices from reference to particle.
"""


def legal(name: str) -> str:
    """Return a class name as copick allows it: letters, digits and hyphens."""
    return re.sub(r"[^A-Za-z0-9-]+", "-", name).strip("-") or "particle"


def export_copick(
    tomograms: list[Path], particles: list[Path], labels: list[Path], folder: Path, final: Path
) -> int:
    """Write tomograms and their particles as a copick project; return how many particles.

    Parameters
    ----------
    tomograms : list of Path
        MRC, protein bright.
    particles : list of Path
        STAR files; rows are told apart by rlnTomoName.
    labels : list of Path
        Label volumes `<tomogram>_labels.mrc`.
    folder : Path
        Where it is written now.
    final : Path
        Where it will lie: copick's config names absolute paths.
    """
    import copick
    import pandas as pd

    tables = [read_star(path, ["rlnTomoName", *COORDINATES]).particles for path in particles]
    table = pd.concat(tables, ignore_index=True) if tables else pd.DataFrame()
    classes = sorted(table["cryoetganClass"].astype(str).unique()) if len(table) else []
    config: dict[str, Any] = {
        "config_type": "filesystem",
        "name": final.parent.parent.name or "cryoetgan",
        "description": "Made by cryoetgan",
        "version": "1.0.0",
        "pickable_objects": [
            {"name": legal(name), "is_particle": True, "label": index, "radius": 100}
            for index, name in enumerate(classes, start=1)
        ],
        "overlay_root": f"local://{(folder / 'data').resolve()}",
        "overlay_fs_args": {"auto_mkdir": True},
    }
    path = folder / "config.json"
    path.write_text(json.dumps(config, indent=1))
    root = copick.from_file(str(path))
    count = 0
    for tomogram in tomograms:
        volume = read_volume(tomogram)
        run = root.new_run(legal(tomogram.stem))
        spacing = run.new_voxel_spacing(round(volume.voxel_size, 3))
        spacing.new_tomogram("wbp").from_numpy(np.asarray(volume.data, np.float32))
        mine = table[table["rlnTomoName"].astype(str) == tomogram.stem] if len(table) else table
        for name in classes:
            part = mine[mine["cryoetganClass"].astype(str) == name]
            if len(part):
                count += _picks(run, legal(name), part, volume.voxel_size)
        for label in labels:
            if label.stem == f"{tomogram.stem}_labels":
                segmentation = run.new_segmentation(
                    round(volume.voxel_size, 3), "labels", SESSION, True, user_id=USER
                )
                segmentation.from_numpy(np.asarray(read_volume(label).data, np.uint8))
    config["overlay_root"] = f"local://{(final / 'data').resolve()}"
    path.write_text(json.dumps(config, indent=1))
    (folder / "README.md").write_text(README, encoding="utf-8")
    return count


def _picks(run: Any, name: str, table: Any, voxel_size: float) -> int:
    picks = run.new_picks(name, SESSION, user_id=USER)
    places = table[COORDINATES].to_numpy(float) * voxel_size
    turns = np.tile(np.eye(4), (len(table), 1, 1))
    if set(ANGLES) <= set(table.columns):
        turns[:, :3, :3] = rotation_from_relion(table[ANGLES].to_numpy(float)).as_matrix()
    picks.from_numpy(places, turns)
    picks.store()
    return len(table)
