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
from cryoetgan.io.files import MASK, write_text
from cryoetgan.io.mrc_header import Header, find_opener
from cryoetgan.physics.acquisition import read_acquisition
from cryoetgan.progress import log
from cryoetgan.setup.tilt_files import TiltFile
from cryoetgan.setup.tomogram_folder import SUFFIXES, choose_tilt_file, companions, read_folder
from cryoetgan.tomograms.importing.contrast import measured_contrast
from cryoetgan.tomograms.importing.convert import check_header_voxel_size
from cryoetgan.tomograms.sources.listing import make_unique
from cryoetgan.tomograms.specimens import plain_name

COLUMNS = ["tomogram", "path", "voxel_size", "tilt_low", "tilt_high", "tilt_step", "voltage"]
COLUMNS += ["defocus", "ctf", "contrast", "split", "group", "annotations", "mask", "even", "odd"]
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
ANNOTATIONS = ("_annotations.star", "_annotations.csv")
HALVES = {"even": ("even", "evn", "half1"), "odd": ("odd", "half2")}
"""Ends of the names of half tomograms: `TS_1_EVN.mrc` and `TS_1_ODD.mrc`."""
MASKS = (f"{MASK}.mrc", f"{MASK}.rec")


def write_config(folder: Path, output: Path) -> list[Path]:
    """Write config.yaml, classes.tsv and tomograms.tsv; return the paths of the new files."""
    found = read_folder(folder)
    for path, reason in sorted(found.excluded.items()):
        log.info("%s is not listed: %s", path.name, reason)
    if not found.chosen:
        path, reason = next(iter(found.excluded.items()))
        raise UserError(f"{folder}: holds no tomogram; {path.name}, for example: {reason}")
    rows = [_row(path, header, found.tilts[path]) for path, header in sorted(found.chosen.items())]
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
        "run": _unused_run(folder),
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


def _unused_run(folder: Path) -> str:
    """Return a name for the run: the folder's, with a number if it has results already."""
    name = re.sub(r"[^A-Za-z0-9_.-]", "_", folder.resolve().name).lstrip(".") or "run"
    results = Path("results")
    taken = {path.name for path in results.iterdir()} if results.is_dir() else set()
    unused = make_unique(name, taken)
    if unused != name:
        log.warning("results/%s exists already, so the name of the run is %s", name, unused)
    return unused


def _row(path: Path, header: Header, tilts: Sequence[TiltFile]) -> dict[str, Any]:
    size = _voxel_size(path, header)
    return {
        "tomogram": re.sub(r"[^A-Za-z0-9_-]", "_", plain_name(path))[:70],  # at most 80, see NAME
        "path": str(path),
        "voxel_size": size,
        "contrast": _contrast(path, header),
        "annotations": next((str(m) for m in companions(path, ANNOTATIONS)), ""),
        "mask": next((str(m) for m in companions(path, MASKS)), ""),
        **_halves(path),
        **(_from_record(path) or _from_tilt_files(path, tilts)),
    }


def _halves(path: Path) -> dict[str, str]:
    """Return the two half tomograms beside a tomogram; empty if one is missing."""
    found = {
        half: next(companions(path, [f"_{word}{s}" for word in words for s in SUFFIXES]), None)
        for half, words in HALVES.items()
    }
    if None in found.values() or path in found.values():
        return {}
    return {half: str(file) for half, file in found.items()}


def _contrast(path: Path, header: Header) -> str:
    """Return the contrast of protein: as a label states it, as measured, or else dark."""
    if header.is_bright:
        return "bright"
    if find_opener(path) is not open:  # it would have to be unpacked first
        log.info(
            "%s: is compressed, so its contrast is not measured; 'dark' is written, the usual "
            "contrast", path,
        )  # fmt: skip
        return "dark"
    try:
        size = header.voxel_size if header.voxel_size > 1 else None
        measured = measured_contrast(path, size)
    except UserError as error:
        log.warning("%s", error)
        return "dark"
    if measured.contrast is None:
        log.info("%s: %s; 'dark' is written, the usual contrast", path, measured)
    elif measured.contrast == "bright":
        log.info("%s: %s", path, measured)
    return measured.contrast or "dark"


def _voxel_size(path: Path, header: Header) -> str:
    """Return the header's voxel size if an import would accept it; the table overrides the header."""
    try:
        return f"{check_header_voxel_size(header.voxel_size, path):.6g}"
    except UserError as error:
        log.warning("%s", error)
        return ""


def _from_record(path: Path) -> dict[str, str]:
    """Return the acquisition from the record of a tomogram; empty if it has none."""
    acquisition = read_acquisition(path)
    if acquisition is None:
        return {}
    names = ("tilt_low", "tilt_high", "tilt_step", "voltage", "defocus")
    values = {name: getattr(acquisition, name) for name in names}
    found = {name: "" if value is None else f"{value:g}" for name, value in values.items()}
    return found | {"ctf": acquisition.ctf}


def _from_tilt_files(path: Path, tilt_files: Sequence[TiltFile]) -> dict[str, str]:
    """Return the tilt range from a tilt file; from an .mdoc file also voltage and defocus."""
    row = {"ctf": "raw"}
    best = choose_tilt_file(path, tilt_files)
    if best is None:
        log.warning("%s: no readable tilt file found; fill in tilt_low and tilt_high", path)
        return row
    row |= {
        "tilt_low": f"{best.angles[0]:.6g}",
        "tilt_high": f"{best.angles[-1]:.6g}",
        "tilt_step": f"{best.step:.2g}",
    }
    for tilts in tilt_files:
        if tilts.voltage is not None:
            row.setdefault("voltage", f"{tilts.voltage:g}")
        if tilts.defocus is not None and "defocus" not in row:
            row["defocus"] = f"{tilts.defocus:g}"
            log.info("%s: the defocus is the target value; a measured value is better", path)
    return row
