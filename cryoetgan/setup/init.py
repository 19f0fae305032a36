"""A commented configuration and tables for one's own tomograms."""

import csv
import io
import math
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import mrcfile
import yaml
from pydantic import BaseModel

from cryoetgan.config import Config
from cryoetgan.errors import UserError
from cryoetgan.io.files import check_exists, write_text
from cryoetgan.io.mrc import PROTEIN_BRIGHT
from cryoetgan.physics.acquisition import read_acquisition
from cryoetgan.progress import log

SUFFIXES = (".mrc", ".rec", ".map")
COLUMNS = [
    "tomogram",
    "path",
    "voxel_size",
    "tilt_low",
    "tilt_high",
    "tilt_step",
    "voltage",
    "defocus",
    "ctf",
    "contrast",
    "split",
    "group",
    "annotations",
    "mask",
]
CLASSES = """class\tsource\tassembly\tchains\tradius\tcopies\tcount
# One row a kind of particle; source: a PDB id, a structure file, a density map, phantom:NAME, or
# membrane. A path is relative to the folder that snakemake is started in, as in tomograms.tsv.
# The other columns may stay empty; config/README.md of the project explains each.
# Boxes of densities.box = {box} voxels hold particles of up to {largest:.0f} angstrom.
# Replace these rows by your own, two at least: a classifier has nothing to tell apart otherwise.
ribosome\t4v6x\t\t\t\t\t
proteasome\t4r3o\t\t\t\t\t
"""
HEAD = (
    "# Keys, and the columns of the tables: config/README.md of the project. Paths are relative",
    "# to the folder that snakemake is started in: the project's.",
)
LARGEST = 300.0
"""Angstrom: the example's largest particle; the box holds 1.3 times as much."""
ROOM = 1.3
TILT_FILES = (".rawtlt", ".tlt", ".mdoc", ".mrc.mdoc", ".st.mdoc")
ANNOTATIONS = ("_annotations.star", "_annotations.csv")
MASKS = ("_mask.mrc", "_mask.rec")
BESIDE = ("_labels", "_mask")
"""Endings of volumes that are no tomograms."""


def write_config(folder: Path, output: Path) -> list[Path]:
    """Write config.yaml, classes.tsv and tomograms.tsv; return what was written."""
    tomograms = sorted(
        path
        for path in check_exists(folder, "folder").iterdir()
        if path.suffix.lower() in SUFFIXES and not path.stem.endswith(BESIDE)
    )
    if not tomograms:
        raise UserError(f"{folder}: holds no MRC file ({', '.join(SUFFIXES)})")
    rows = [_row(path) for path in tomograms]
    for row, name in zip(rows, _unique([row["tomogram"] for row in rows]), strict=True):
        row["tomogram"] = name
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, delimiter="\t", lineterminator="\n", restval="")
    writer.writeheader()
    writer.writerows(rows)
    sizes = sorted(float(row["voxel_size"]) for row in rows if row["voxel_size"])
    voxel_size = max(10.0, sizes[len(sizes) // 2] if sizes else 10.0)
    box = max(16, 4 * math.ceil(ROOM * LARGEST / voxel_size / 4))
    changes = {
        "run": re.sub(r"[^A-Za-z0-9_.-]", "_", check_exists(folder).resolve().name) or "run",
        "structures.table": str(output / "classes.tsv"),
        "tomograms.table": str(output / "tomograms.tsv"),
        "densities.voxel_size": voxel_size,
        "densities.resolution": 3 * voxel_size,
        "densities.box": box,
        "translation.preset": "recommended",
    }
    written = []
    for name, content in (
        ("config.yaml", commented(changes)),
        ("tomograms.tsv", text.getvalue()),
        ("classes.tsv", CLASSES.format(box=box, largest=box * voxel_size / ROOM)),
    ):
        path = output / name
        if path.exists():
            log.warning("%s exists already and is left alone", path)
            continue
        write_text(path, content)
        written.append(path)
    return written


def _unique(names: list[str]) -> list[str]:
    """Return the names, a number after those that occur before."""
    found: list[str] = []
    for name in names:
        number, unique = 2, name
        while unique in found:
            unique, number = f"{name}_{number}", number + 1
        found.append(unique)
    return found


def commented(changes: dict[str, Any]) -> str:
    """Return the whole configuration as YAML, each key under its description."""
    return "\n".join([*HEAD, *_lines(Config, "", changes)]) + "\n"


def _lines(model: type[BaseModel], prefix: str, changes: dict[str, Any]) -> Iterator[str]:
    indent = "  " * prefix.count(".")
    for name, field in model.model_fields.items():
        key = prefix + name
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            yield ""
            yield f"# {(kind.__doc__ or '').strip().splitlines()[0]}"
            yield f"{name}:"
            yield from _lines(kind, key + ".", changes)
            continue
        for line in _wrapped((field.description or "") + _choices(kind)):
            yield f"{indent}# {line}"
        value = changes.get(key, field.get_default(call_default_factory=True))
        yield f"{indent}{name}: {_plain(value)}"


def _choices(kind: Any) -> str:
    """Return what may stand there, of a key that takes words from a list."""
    if get_origin(kind) is Literal:
        return f" One of: {', '.join(get_args(kind))}."
    inner = get_args(kind)
    if get_origin(kind) is list and get_origin(inner[0]) is Literal:
        return f" Any of: {', '.join(get_args(inner[0]))}."
    return ""


def _wrapped(text: str) -> list[str]:
    import textwrap

    return textwrap.wrap(text, 88)


def _plain(value: Any) -> str:
    value = list(value) if isinstance(value, tuple) else value
    text = yaml.safe_dump(value, default_flow_style=True).strip()
    return text.removesuffix("...").strip()


def _row(path: Path) -> dict[str, Any]:
    try:
        with mrcfile.open(path, header_only=True, permissive=True) as file:
            size = float(file.voxel_size.x)
            labels = [str(line).strip() for line in file.get_labels()]
    except (ValueError, OSError) as error:
        raise UserError(f"{path}: cannot be read as MRC ({error})") from error
    known = size > 0 and size != 1
    if not known:
        log.warning("%s: its header gives no voxel size; fill in column voxel_size", path)
    return {
        "tomogram": re.sub(r"[^A-Za-z0-9_-]", "_", path.stem),
        "path": str(path),
        "voxel_size": f"{size:.4g}" if known else "",
        "contrast": "bright" if PROTEIN_BRIGHT in labels else "dark",
        "annotations": next((str(m) for m in _beside(path, ANNOTATIONS)), ""),
        "mask": next((str(m) for m in _beside(path, MASKS)), ""),
        **(_from_record(path) or _from_tilt_file(path)),
    }


def _from_record(path: Path) -> dict[str, str]:
    """Return what the record of a tomogram that we made says; empty where there is none."""
    recorded = read_acquisition(path)
    if recorded is None:
        return {}
    return {
        "tilt_low": f"{recorded.tilt_low:g}",
        "tilt_high": f"{recorded.tilt_high:g}",
        "tilt_step": f"{recorded.tilt_step:g}",
        "voltage": f"{recorded.voltage:g}",
        "defocus": "" if recorded.defocus is None else f"{recorded.defocus:g}",
        "ctf": recorded.ctf,
    }


def _beside(path: Path, endings: Sequence[str]) -> Iterator[Path]:
    """Yield files beside a tomogram named like it; TS_1_rec_bin4.mrc belongs to TS_1.mdoc."""
    stem = path.stem
    while stem:
        for ending in endings:
            found = path.with_name(stem + ending)
            if found.exists():
                yield found
        stem = stem.rpartition("_")[0]


def _from_tilt_file(path: Path) -> dict[str, str]:
    """Return tilts, and what an .mdoc says, from a file beside the tomogram."""
    found = {"ctf": "raw"}
    beside = next(_beside(path, TILT_FILES), None)
    text = beside.read_text(errors="replace") if beside else ""
    is_mdoc = beside is not None and beside.name.endswith("mdoc")
    pattern = r"TiltAngle\s*=\s*(-?[\d.]+)" if is_mdoc else r"^\s*(-?[\d.]+)\s*$"
    angles = sorted(float(angle) for angle in re.findall(pattern, text, re.MULTILINE))
    if len(angles) < 2:
        log.warning("%s: no tilt file beside it; fill in tilt_low and tilt_high", path)
        return found
    step = (angles[-1] - angles[0]) / (len(angles) - 1)
    found |= {
        "tilt_low": f"{angles[0]:g}",
        "tilt_high": f"{angles[-1]:g}",
        "tilt_step": f"{step:.2g}",
    }
    if is_mdoc:
        voltage = re.search(r"^Voltage\s*=\s*([\d.]+)", text, re.MULTILINE)
        aimed = re.search(r"^TargetDefocus\s*=\s*(-?[\d.]+)", text, re.MULTILINE)
        found |= {"voltage": f"{float(voltage[1]):g}"} if voltage else {}
        if aimed:
            found["defocus"] = f"{abs(float(aimed[1])):g}"
            log.info("%s: the defocus is what was aimed at; a measured one is better", path)
    return found
