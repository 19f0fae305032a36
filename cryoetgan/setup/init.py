"""A commented configuration and tables for one's own tomograms."""

import csv
import io
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mrcfile
import yaml
from pydantic import BaseModel

from cryoetgan.config import Config
from cryoetgan.errors import UserError
from cryoetgan.files import existing, write_text
from cryoetgan.progress import log

SUFFIXES = (".mrc", ".rec", ".map")
COLUMNS = [
    "tomogram",
    "path",
    "voxel_size",
    "tilt_low",
    "tilt_high",
    "tilt_step",
    "defocus",
    "ctf",
    "contrast",
    "split",
    "marks",
]
CLASSES = (
    "class\tsource\tassembly\tradius\tcopies\tcount\n"
    "# a PDB id, a structure file, a density map, phantom:NAME, or membrane; replace this row\n"
    "ribosome\t4v6x\t\t\t\t\n"
)


def write_config(folder: Path, output: Path) -> list[Path]:
    """Write config.yaml, classes.tsv and tomograms.tsv; return what was written."""
    tomograms = sorted(
        path for path in existing(folder, "folder").iterdir() if path.suffix.lower() in SUFFIXES
    )
    if not tomograms:
        raise UserError(f"{folder}: holds no MRC file ({', '.join(SUFFIXES)})")
    rows = [_row(path) for path in tomograms]
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, delimiter="\t", lineterminator="\n", restval="")
    writer.writeheader()
    writer.writerows(rows)
    sizes = sorted(float(row["voxel_size"]) for row in rows if row["voxel_size"])
    voxel_size = max(10.0, sizes[len(sizes) // 2] if sizes else 10.0)
    changes = {
        "run": re.sub(r"[^A-Za-z0-9_.-]", "_", existing(folder).resolve().name) or "run",
        "structures.table": str(output / "classes.tsv"),
        "tomograms.table": str(output / "tomograms.tsv"),
        "densities.voxel_size": voxel_size,
        "densities.resolution": 3 * voxel_size,
        "translation.preset": "smoke",
    }
    written = []
    for name, content in (
        ("config.yaml", commented(changes)),
        ("tomograms.tsv", text.getvalue()),
        ("classes.tsv", CLASSES),
    ):
        path = output / name
        if path.exists():
            log.warning("%s exists already and is left alone", path)
            continue
        write_text(path, content)
        written.append(path)
    return written


def commented(changes: dict[str, Any]) -> str:
    """Return the whole configuration as YAML, each key under its description."""
    return "\n".join(_lines(Config, "", changes)) + "\n"


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
        for line in _wrapped(field.description or ""):
            yield f"{indent}# {line}"
        value = changes.get(key, field.get_default(call_default_factory=True))
        yield f"{indent}{name}: {_plain(value)}"


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
    except (ValueError, OSError) as error:
        raise UserError(f"{path}: cannot be read as MRC ({error})") from error
    known = size > 0 and size != 1
    if not known:
        log.warning("%s: its header gives no voxel size; fill in column voxel_size", path)
    low, high, step = _tilts(path)
    return {
        "tomogram": re.sub(r"[^A-Za-z0-9_-]", "_", path.stem),
        "path": str(path),
        "voxel_size": f"{size:.4g}" if known else "",
        "tilt_low": low,
        "tilt_high": high,
        "tilt_step": step,
        "ctf": "raw",
        "contrast": "dark",
    }


def _tilts(path: Path) -> tuple[str, str, str]:
    """Read the tilt range from a file beside the tomogram; empty where there is none."""
    angles: list[float] = []
    for suffix in (".rawtlt", ".tlt", ".mdoc", ".mrc.mdoc", ".st.mdoc"):
        beside = path.with_suffix(suffix)
        if beside.exists():
            text = beside.read_text(errors="replace")
            pattern = r"TiltAngle\s*=\s*(-?[\d.]+)" if "mdoc" in suffix else r"^\s*(-?[\d.]+)\s*$"
            angles = sorted(float(found) for found in re.findall(pattern, text, re.MULTILINE))
            break
    if len(angles) < 2:
        log.warning("%s: no tilt file beside it; fill in tilt_low and tilt_high", path)
        return "", "", ""
    step = (angles[-1] - angles[0]) / (len(angles) - 1)
    return f"{angles[0]:g}", f"{angles[-1]:g}", f"{step:.2g}"
