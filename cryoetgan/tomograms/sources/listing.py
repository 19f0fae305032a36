"""Table of the tomograms that an archive, the data portal or a copick project holds."""

import html
import re
import urllib.parse
from pathlib import Path
from typing import Any

from cryoetgan.errors import UserError
from cryoetgan.io.download import read_page
from cryoetgan.tomograms.sources.resolve import EMPIAR_URL, Transfer
from cryoetgan.tomograms.specimens import preference, specimen_of

COLUMNS = [
    "tomogram",
    "path",
    "voxel_size",
    "tilt_low",
    "tilt_high",
    "tilt_step",
    "voltage",
    "cs",
    "ctf",
]
SUFFIXES = (".mrc", ".rec", ".map", ".mrc.gz", ".rec.gz", ".map.gz")
LINK = re.compile(r'<a\s[^>]*?href\s*=\s*["\']?([^"\'\s>]+)', re.IGNORECASE)
MAX_DEPTH = 4
"""Folders below the folder that is listed."""
MAX_FOLDERS = 500
WANTED = (
    "wanted portal:dataset/ID, portal:run/ID, portal:tomogram/ID, emdb:ID, empiar:ID[/data/folder] "
    "or copick:config.json"
)


def format_table(sources: list[str], transfer: Transfer) -> str:
    """Return the text of a table of tomograms, tab-separated."""
    rows = [row for source in sources for row in list_source(source, transfer)]
    taken: set[str] = set()
    for row in rows:
        row["tomogram"] = make_unique(re.sub(r"[^A-Za-z0-9_-]+", "-", str(row["tomogram"])), taken)
    guessed = [row["tomogram"] for row in rows if "tilt_low" not in row]
    lines = []
    if guessed:
        names = ", ".join(guessed[:3]) + (" and others" if len(guessed) > 3 else "")
        lines.append(
            f"# the archive gives no tilts of {names}: -60 to 60 by 3 degrees are a guess; correct them"
        )
    lines.append("\t".join(COLUMNS))
    for row in rows:
        if row["tomogram"] in guessed:
            row |= {"tilt_low": -60, "tilt_high": 60, "tilt_step": 3}
        lines.append("\t".join(_format(row.get(column)) for column in COLUMNS))
        lines += [f"# same specimen: {other}" for other in row.get("others", ())]
    return "\n".join(lines) + "\n"


def _format(value: Any) -> str:
    return "" if value is None else f"{value:g}" if isinstance(value, float) else str(value)


def make_unique(name: str, taken: set[str]) -> str:
    """Return a name, with a number if it is taken; `taken` gets it."""
    number, unused = 2, name
    while unused in taken:
        unused, number = f"{name}_{number}", number + 1
    taken.add(unused)
    return unused


def list_source(source: str, transfer: Transfer) -> list[dict[str, Any]]:
    """Return one row per tomogram of a source: column name to value."""
    on_portal = re.fullmatch(r"portal:(dataset|run|tomogram)/(\d+)", source)
    if on_portal:
        from cryoetgan.tomograms.sources import portal

        return portal.list_tomograms(on_portal[1], int(on_portal[2]), transfer.mirror)
    if source.startswith("copick:"):
        from cryoetgan.tomograms.sources import copick_project

        return copick_project.list_tomograms(source)
    entry = re.fullmatch(r"(?:emdb:|EMD-)(\d{4,5})", source)
    if entry:
        return [{"tomogram": f"EMD-{entry[1]}", "path": f"emdb:{entry[1]}"}]
    folder = re.fullmatch(r"empiar:(\d{5})(?:/(.*))?", source)
    if folder:
        return _list_empiar(folder[1], folder[2] or "data", transfer)
    raise UserError(f"'{source}' cannot be listed; {WANTED}")


def _list_empiar(entry: str, inside: str, transfer: Transfer) -> list[dict[str, Any]]:
    """Return the rows of an EMPIAR entry, from the listings of its folders."""
    base = (transfer.mirror or EMPIAR_URL).rstrip("/")
    found: list[str] = []
    queue = [(inside.strip("/"), 0)]
    visited = 0
    while queue and visited < MAX_FOLDERS:
        folder, depth = queue.pop(0)
        visited += 1
        for name in _list_folder(base, f"{entry}/{folder}", transfer):
            if name.endswith("/") and depth < MAX_DEPTH:
                queue.append((f"{folder}/{name.rstrip('/')}", depth + 1))
            elif name.lower().endswith(SUFFIXES):
                found.append(f"{folder}/{name}")
    if not found:
        raise UserError(
            f"empiar:{entry}/{inside}: holds no file that ends in {', '.join(SUFFIXES)}"
        )
    groups: dict[str, list[str]] = {}
    for name in sorted(found):
        groups.setdefault(specimen_of(f"empiar:{entry}/{name}"), []).append(name)
    rows = []
    for names in groups.values():
        best, *others = sorted(names, key=lambda name: preference(Path(name).name))
        row = {"tomogram": Path(best.removesuffix(".gz")).stem, "path": f"empiar:{entry}/{best}"}
        rows.append(row | {"others": [f"empiar:{entry}/{other}" for other in others]})
    return rows


def _list_folder(base: str, inside: str, transfer: Transfer) -> list[str]:
    if not re.match(r"https?://", base):
        folder = Path(base) / inside
        if not folder.is_dir():
            raise UserError(f"{folder}: no such folder")
        return sorted(f"{path.name}/" if path.is_dir() else path.name for path in folder.iterdir())
    page = read_page(f"{base}/{urllib.parse.quote(inside)}/", transfer.timeout)
    links = (urllib.parse.unquote(html.unescape(link)) for link in LINK.findall(page))
    # direct members only, no parent folder and no query
    return [
        link for link in links if re.fullmatch(r"[^/?#:.][^/?#:]*/?", link) and link.isprintable()
    ]
