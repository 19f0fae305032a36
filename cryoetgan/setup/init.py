"""The command `init`: a commented configuration and tables for your own tomograms."""

import csv
import io
import math
import re
import textwrap
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import yaml
from pydantic import BaseModel

from cryoetgan.config import Config
from cryoetgan.errors import UserError
from cryoetgan.io.files import COMPANIONS, check_exists, write_text
from cryoetgan.io.mrc import PROTEIN_BRIGHT, read_header
from cryoetgan.physics.acquisition import read_acquisition
from cryoetgan.progress import log
from cryoetgan.tomograms.sources.listing import make_unique

SUFFIXES = (".mrc", ".rec", ".map")
COLUMNS = ["tomogram", "path", "voxel_size", "tilt_low", "tilt_high", "tilt_step", "voltage"]
COLUMNS += ["defocus", "ctf", "contrast", "split", "group", "annotations", "mask"]
EXAMPLE_CLASSES = """class\tsource\tassembly\tchains\tradius\tcopies\tcount
# One row per class. Source: a PDB id, a structure file, a density map, phantom:NAME, or membrane.
# Paths are relative to the folder in which snakemake starts, as in tomograms.tsv.
# The other columns may stay empty; config/README.md of the project explains each.
# Boxes of densities.box = {box} voxels hold particles of up to {largest:.0f} angstrom.
# Replace these rows with your own: one class is enough.
ribosome\t4v6x\t\t\t\t\t
proteasome\t4r3o\t\t\t\t\t
"""
HEAD = (
    "# config/README.md of the project explains all keys and all columns of the tables. Paths are",
    "# relative to the folder in which snakemake starts, usually the project folder.",
)
LARGEST_PARTICLE = 300.0
"""Diameter of the largest particle of the example, angstrom."""
BOX_OVER_PARTICLE = 1.3
TILT_FILES = (".rawtlt", ".tlt", ".mdoc", ".mrc.mdoc", ".st.mdoc")
ANNOTATIONS = ("_annotations.star", "_annotations.csv")
MASKS = ("_mask.mrc", "_mask.rec")


def write_config(folder: Path, output: Path) -> list[Path]:
    """Write config.yaml, classes.tsv and tomograms.tsv; return the paths of the new files."""
    tomograms = sorted(
        path
        for path in check_exists(folder, "folder").iterdir()
        if path.suffix.lower() in SUFFIXES and not path.stem.endswith(COMPANIONS)
    )
    if not tomograms:
        raise UserError(f"{folder}: holds no MRC file ({', '.join(SUFFIXES)})")
    rows = [_row(path) for path in tomograms]
    taken: set[str] = set()
    for row in rows:
        row["tomogram"] = make_unique(row["tomogram"], taken)
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, delimiter="\t", lineterminator="\n", restval="")
    writer.writeheader()
    writer.writerows(rows)
    sizes = sorted(float(row["voxel_size"]) for row in rows if row["voxel_size"])
    voxel_size = max(10.0, sizes[len(sizes) // 2] if sizes else 10.0)
    box = max(16, 4 * math.ceil(BOX_OVER_PARTICLE * LARGEST_PARTICLE / voxel_size / 4))
    changes = {
        "run": re.sub(r"[^A-Za-z0-9_.-]", "_", check_exists(folder).resolve().name) or "run",
        "structures.table": str(output / "classes.tsv"),
        "tomograms.table": str(output / "tomograms.tsv"),
        "densities.voxel_size": voxel_size,
        "densities.resolution": 3 * voxel_size,
        "densities.box": box,
        "translation.preset": "recommended",
    }
    largest = box * voxel_size / BOX_OVER_PARTICLE
    contents = {
        "config.yaml": format_config(changes),
        "tomograms.tsv": text.getvalue(),
        "classes.tsv": EXAMPLE_CLASSES.format(box=box, largest=largest),
    }
    written = []
    for name, content in contents.items():
        path = output / name
        if path.exists():
            log.warning("%s exists already and is not changed", path)
            continue
        write_text(path, content)
        written.append(path)
    return written


def format_config(changes: dict[str, Any]) -> str:
    """Return the whole configuration as YAML, with each description above its key."""
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
        for line in textwrap.wrap((field.description or "") + _choices(kind), 88):
            yield f"{indent}# {line}"
        value = changes.get(key, field.get_default(call_default_factory=True))
        yield f"{indent}{name}: {_to_yaml(value)}"


def _choices(kind: Any) -> str:
    """Return the list of allowed words, if a key has one."""
    if get_origin(kind) is Literal:
        return f" One of: {', '.join(get_args(kind))}."
    inner = get_args(kind)
    if get_origin(kind) is list and get_origin(inner[0]) is Literal:
        return f" Any of: {', '.join(get_args(inner[0]))}."
    return ""


def _to_yaml(value: Any) -> str:
    value = list(value) if isinstance(value, tuple) else value
    text = yaml.safe_dump(value, default_flow_style=True).strip()
    return text.removesuffix("...").strip()


def _row(path: Path) -> dict[str, Any]:
    header = read_header(path)
    known = header.voxel_size > 0 and header.voxel_size != 1
    if not known:
        log.warning("%s: its header has no voxel size; fill in column voxel_size", path)
    return {
        "tomogram": re.sub(r"[^A-Za-z0-9_-]", "_", path.stem),
        "path": str(path),
        "voxel_size": f"{header.voxel_size:.4g}" if known else "",
        "contrast": "bright" if PROTEIN_BRIGHT in header.labels else "dark",
        "annotations": next((str(m) for m in _companions(path, ANNOTATIONS)), ""),
        "mask": next((str(m) for m in _companions(path, MASKS)), ""),
        **(_from_record(path) or _from_tilt_file(path)),
    }


def _from_record(path: Path) -> dict[str, str]:
    """Return the acquisition from the record of a tomogram; empty if it has none."""
    acquisition = read_acquisition(path)
    if acquisition is None:
        return {}
    names = ("tilt_low", "tilt_high", "tilt_step", "voltage", "defocus")
    values = {name: getattr(acquisition, name) for name in names}
    found = {name: "" if value is None else f"{value:g}" for name, value in values.items()}
    return found | {"ctf": acquisition.ctf}


def _companions(path: Path, endings: Sequence[str]) -> Iterator[Path]:
    """Yield the files that belong to a tomogram by name: TS_1.mdoc belongs to TS_1_rec_bin4.mrc."""
    stem = path.stem
    while stem:
        for ending in endings:
            found = path.with_name(stem + ending)
            if found.exists():
                yield found
        stem = stem.rpartition("_")[0]


def _from_tilt_file(path: Path) -> dict[str, str]:
    """Return the tilt range from a tilt file; from an .mdoc file also voltage and defocus."""
    found = {"ctf": "raw"}
    file = next(_companions(path, TILT_FILES), None)
    text = file.read_text(errors="replace") if file else ""
    is_mdoc = file is not None and file.name.endswith("mdoc")
    pattern = r"TiltAngle\s*=\s*(-?[\d.]+)" if is_mdoc else r"^\s*(-?[\d.]+)\s*$"
    angles = sorted(float(angle) for angle in re.findall(pattern, text, re.MULTILINE))
    if len(angles) < 2:
        log.warning("%s: no tilt file found; fill in tilt_low and tilt_high", path)
        return found
    step = (angles[-1] - angles[0]) / (len(angles) - 1)
    found |= {
        "tilt_low": f"{angles[0]:g}",
        "tilt_high": f"{angles[-1]:g}",
        "tilt_step": f"{step:.2g}",
    }
    if is_mdoc:
        voltage = re.search(r"^Voltage\s*=\s*([\d.]+)", text, re.MULTILINE)
        target = re.search(r"^TargetDefocus\s*=\s*(-?[\d.]+)", text, re.MULTILINE)
        found |= {"voltage": f"{float(voltage[1]):g}"} if voltage else {}
        if target:
            found["defocus"] = f"{abs(float(target[1])):g}"
            log.info("%s: the defocus is the target value; a measured value is better", path)
    return found
