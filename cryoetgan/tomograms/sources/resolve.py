"""Open a tomogram by its address: a file, a URL, EMDB, EMPIAR, the data portal, copick."""

import contextlib
import re
import tempfile
import urllib.parse
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from cryoetgan.errors import UserError
from cryoetgan.io.download import download
from cryoetgan.io.raw_mrc import RawVolume, open_raw_volume
from cryoetgan.tomograms.sources.addresses import FORMS, is_remote

EMDB_URL = "https://files.wwpdb.org/pub/emdb/structures"
EMPIAR_URL = "https://ftp.ebi.ac.uk/empiar/world_availability"


@dataclass(frozen=True)
class Transfer:
    """Download settings."""

    mirror: str | None = None
    """URL (for EMDB and EMPIAR also a folder) that replaces the archive's own."""
    retries: int = 4
    """Further attempts after a transient fault."""
    timeout: float = 60.0
    """Seconds without a byte."""


@contextlib.contextmanager
def open_source(source: str, scratch: Path, transfer: Transfer) -> Iterator[RawVolume]:
    """Yield the tomogram at an address (see `addresses.FORMS`), memory-mapped.

    While it is open, a download is kept in the folder `scratch`, usually the folder of the output.
    """
    if not is_remote(source):
        if re.match(r"[a-z][a-z0-9+.-]*://", source, re.IGNORECASE):
            raise UserError(f"'{source}' is not the address of a tomogram; wanted {FORMS}")
        with open_raw_volume(Path(source), source, scratch) as raw:
            yield raw
        return
    scratch.mkdir(parents=True, exist_ok=True)
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=scratch, prefix=".got-")))
        if source.lower().startswith("copick:"):
            from cryoetgan.tomograms.sources.copick_project import copy_tomogram

            yield copy_tomogram(source, folder / "tomogram.npy")
            return
        location, voxel_size = _resolve(source, transfer)
        path = Path(location)
        if re.match(r"https?://", location):
            path = folder / "download"
            download(location, path, transfer.retries, transfer.timeout)
        raw = stack.enter_context(open_raw_volume(path, source, folder))
        yield raw if voxel_size is None else replace(raw, voxel_size=voxel_size)


def _resolve(source: str, transfer: Transfer) -> tuple[str, float | None]:
    """Return the URL or path of a source, and its voxel size if the archive states it."""
    if re.match(r"https?://", source, re.IGNORECASE):
        return source, None
    entry = re.fullmatch(r"(?:emdb:|emd-|emdb:emd-)(\d{4,5})", source, re.IGNORECASE)
    if entry:
        number = entry[1]
        inside = f"EMD-{number}/map/emd_{number}.map.gz"
        return _join(transfer.mirror or EMDB_URL, inside), None
    file = re.fullmatch(r"empiar:(\d{5})/(.+)", source, re.IGNORECASE)
    if file and ".." not in PurePosixPath(file[2]).parts:
        return _join(transfer.mirror or EMPIAR_URL, f"{file[1]}/{file[2]}"), None
    tomogram = re.fullmatch(r"portal:tomogram/(\d+)", source, re.IGNORECASE)
    if tomogram:
        from cryoetgan.tomograms.sources.portal import find_tomogram_file

        return find_tomogram_file(int(tomogram[1]), transfer.mirror)
    raise UserError(f"'{source}' is not the address of a tomogram; wanted {FORMS}")


def _join(base: str, inside: str) -> str:
    if re.match(r"https?://", base):
        return f"{base.rstrip('/')}/{urllib.parse.quote(inside)}"
    return str(Path(base) / inside)
