"""Section: numbers of volumes by class and set, box sizes, and tomograms."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cryoetgan.errors import UserError
from cryoetgan.io.files import sidecar
from cryoetgan.physics.acquisition import Acquisition, read_acquisition
from cryoetgan.report.results import Results, volumes_in
from cryoetgan.report.run import TITLES, Run


def describe_data(run: Run) -> dict[str, Any]:
    """Return counts, box sizes and acquisition."""
    return {
        "counts": count_volumes(run),
        "boxes": describe_boxes(run),
        "tomograms": tomogram_rows(run.results),
    }


def count_volumes(run: Run) -> list[list[str]]:
    """Return the number of volumes by class (rows) and set (columns), heading first."""
    columns: dict[str, Mapping[Any, int]] = {}
    for name, label in (("subtomograms", "picked"), ("annotated", "annotated")):
        table = run.results.table(f"particles/{name}.star", ["rlnTomoName", "cryoetganClass"])
        if table is None:
            continue
        if "cryoetganSplit" not in table:
            table = table.assign(cryoetganSplit="train")
        for split in ("train", "validation", "test"):
            part = table[table["cryoetganSplit"].astype(str) == split]
            if len(part):
                columns[f"{label}, {split}"] = _count_classes(part)
    for name in ("density", "conventional", "fitted", "generated"):
        if name in run.sets:
            columns[TITLES[name]] = _count_classes(run.sets[name].table)
    classes = sorted({name for counts in columns.values() for name in counts})
    rows = [[name, *(str(counts.get(name, 0)) for counts in columns.values())] for name in classes]
    total = ["all", *(str(sum(counts.values())) for counts in columns.values())]
    return [["class", *columns], *rows, total] if rows else []


def _count_classes(table: Any) -> Mapping[Any, int]:
    counts: dict[Any, int] = table["cryoetganClass"].astype(str).value_counts().to_dict()
    return counts


def describe_boxes(run: Run) -> list[str]:
    """Return box and voxel size of the sets; one line if all sets agree."""
    names: dict[str, list[str]] = {}
    for name, volumes in run.sets.items():
        text = f"{volumes.box} voxels of {volumes.voxel_size:.2f} angstrom"
        names.setdefault(text, []).append(TITLES.get(name, name.replace("_", " ")))
    if len(names) == 1:
        return [f"Edge of all boxes: {next(iter(names))}."]
    return [f"Edge of the boxes ({', '.join(sets)}): {text}." for text, sets in names.items()]


def tomogram_rows(results: Results) -> list[list[str]]:
    """Return size and acquisition of each tomogram and set of subtomograms, heading first."""
    rows = [["tomogram", "size, voxels", "voxel, \u00c5", "tilts", "defocus, \u00b5m", "CTF"]]
    for path in volumes_in(results.folder / "tomograms"):
        volume = results.tomogram(path)
        if volume is not None:
            size = " x ".join(str(n) for n in volume.data.shape[::-1])
            rows += _acquisition_row(results, path, size, volume.voxel_size)
    for path in sorted((results.folder / "particles/sets").glob("*.star")):
        boxes = results.opened_set(f"particles/sets/{path.name}")
        if boxes is not None:
            size = f"{len(boxes)} boxes of {boxes.box}"
            rows += _acquisition_row(results, path, size, boxes.voxel_size)
    return rows if len(rows) > 1 else []


def _acquisition_row(results: Results, path: Path, size: str, voxel_size: float) -> list[list[str]]:
    """Return one row; none if the record of the acquisition is damaged."""
    try:
        acquisition = read_acquisition(path) or Acquisition()
    except UserError as error:
        results.gaps.append(f"{path.parent.name}/{path.name}.json: {error}")
        return []
    row = [path.stem, size, f"{voxel_size:.2f}"]
    if not sidecar(path).exists():  # the defaults of `Acquisition` would look like facts
        return [[*row, *["not recorded"] * 3]]
    defocus = acquisition.defocus
    row.append(f"{acquisition.tilt_low:g}\u00b0 to {acquisition.tilt_high:g}\u00b0")
    return [[*row, "unknown" if defocus is None else f"{defocus:g}", acquisition.ctf]]
