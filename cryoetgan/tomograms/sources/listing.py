"""Rows of the table of tomograms for what an archive or project holds."""

import html.parser
import re
import urllib.parse
from pathlib import Path
from typing import Any

from cryoetgan.errors import UserError
from cryoetgan.io.download import read_page
from cryoetgan.tomograms.sources.resolve import EMPIAR, SUFFIXES, Transfer

COLUMNS = (
    "tomogram",
    "path",
    "voxel_size",
    "tilt_low",
    "tilt_high",
    "tilt_step",
    "voltage",
    "cs",
    "ctf",
)
NOTE = "# tilts of {names} are not told by their archive: -60 to 60 by 3 degrees stand in; correct them"
DEEPEST = 4
MOST_FOLDERS = 500
WANTED = (
    "wanted portal:dataset/ID, portal:run/ID, portal:tomogram/ID, emdb:ID, empiar:ID[/data/folder] "
    "or copick:config.json"
)


def table(sources: list[str], transfer: Transfer) -> str:
    """Return the text of a table of tomograms, tab-separated.

    Raises
    ------
    UserError
        Where a source is not known or holds no tomogram.
    """
    rows = [row for source in sources for row in list_source(source, transfer)]
    taken: set[str] = set()
    for row in rows:
        row["tomogram"] = _unused(re.sub(r"[^A-Za-z0-9_-]+", "-", str(row["tomogram"])), taken)
    guessed = [row["tomogram"] for row in rows if "tilt_low" not in row]
    lines = []
    if guessed:
        shown = ", ".join(guessed[:3]) + (" and others" if len(guessed) > 3 else "")
        lines.append(NOTE.format(names=shown))
    lines.append("\t".join(COLUMNS))
    for row in rows:
        if row["tomogram"] in guessed:
            row |= {"tilt_low": -60, "tilt_high": 60, "tilt_step": 3}
        lines.append("\t".join(_text(row.get(column)) for column in COLUMNS))
    return "\n".join(lines) + "\n"


def _text(value: Any) -> str:
    return "" if value is None else f"{value:g}" if isinstance(value, float) else str(value)


def _unused(name: str, taken: set[str]) -> str:
    number, unused = 2, name
    while unused in taken:
        unused, number = f"{name}_{number}", number + 1
    taken.add(unused)
    return unused


def list_source(source: str, transfer: Transfer) -> list[dict[str, Any]]:
    """Return one row a tomogram that a source holds."""
    on_portal = re.fullmatch(r"portal:(dataset|run|tomogram)/(\d+)", source)
    if on_portal:
        from cryoetgan.tomograms.sources import portal

        return portal.rows(on_portal[1], int(on_portal[2]), transfer.mirror)
    if source.startswith("copick:"):
        from cryoetgan.tomograms.sources import copick_project

        return copick_project.rows(source)
    entry = re.fullmatch(r"(?:emdb:|EMD-)(\d{4,5})", source)
    if entry:
        return [{"tomogram": f"EMD-{entry[1]}", "path": f"emdb:{entry[1]}"}]
    folder = re.fullmatch(r"empiar:(\d{5})(?:/(.*))?", source)
    if folder:
        return _empiar(folder[1], folder[2] or "data", transfer)
    raise UserError(f"'{source}' cannot be listed; {WANTED}")


def _empiar(entry: str, inside: str, transfer: Transfer) -> list[dict[str, Any]]:
    """Walk an entry's folders, as its server lists them."""
    base = (transfer.mirror or EMPIAR).rstrip("/")
    found: list[str] = []
    todo = [(inside.strip("/"), 0)]
    looked = 0
    while todo and looked < MOST_FOLDERS:
        folder, depth = todo.pop(0)
        looked += 1
        for name in _names(base, f"{entry}/{folder}", transfer):
            if name.endswith("/") and depth < DEEPEST:
                todo.append((f"{folder}/{name.rstrip('/')}", depth + 1))
            elif name.lower().endswith(SUFFIXES):
                found.append(f"{folder}/{name}")
    if not found:
        raise UserError(
            f"empiar:{entry}/{inside}: holds no file that ends in {', '.join(SUFFIXES)}"
        )
    return [
        {"tomogram": Path(name.removesuffix(".gz")).stem, "path": f"empiar:{entry}/{name}"}
        for name in sorted(found)
    ]


def _names(base: str, inside: str, transfer: Transfer) -> list[str]:
    if not re.match(r"https?://", base):
        folder = Path(base) / inside
        if not folder.is_dir():
            raise UserError(f"{folder}: no such folder")
        return sorted(f"{path.name}/" if path.is_dir() else path.name for path in folder.iterdir())
    page = _Links()
    page.feed(read_page(f"{base}/{urllib.parse.quote(inside)}/", transfer.timeout))
    return page.names


class _Links(html.parser.HTMLParser):
    """Names of files and folders in a server's listing of a folder."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        """Keep links to what lies directly inside."""
        target = urllib.parse.unquote(dict(attributes).get("href") or "")
        if tag == "a" and re.fullmatch(r"[^/?#:]+/?", target) and not target.startswith("."):
            self.names.append(target)
