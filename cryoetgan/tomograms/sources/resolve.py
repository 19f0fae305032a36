"""Where a tomogram comes from: a file, a URL, EMDB, EMPIAR, the data portal, copick."""

import contextlib
import re
import tempfile
import urllib.parse
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from cryoetgan.errors import UserError
from cryoetgan.io.download import download
from cryoetgan.tomograms.importing.raw_tomogram import RawTomogram, open_tomogram
from cryoetgan.tomograms.sources.addresses import FORMS, is_remote

EMDB = "https://files.wwpdb.org/pub/emdb/structures"
EMPIAR = "https://ftp.ebi.ac.uk/empiar/world_availability"
SUFFIXES = (".mrc", ".rec", ".map", ".mrc.gz", ".rec.gz", ".map.gz")


@dataclass(frozen=True)
class Transfer:
    """How files are fetched.

    Attributes
    ----------
    mirror : str, optional
        URL (or folder, for EMDB and EMPIAR) asked instead of the archive's own.
    retries : int
        Further tries.
    timeout : float
        Seconds without a byte.
    """

    mirror: str | None = None
    retries: int = 4
    timeout: float = 60.0


@contextlib.contextmanager
def open_source(source: str, scratch: Path, transfer: Transfer) -> Iterator[RawTomogram]:
    """Yield the tomogram a source names, memory-mapped.

    Parameters
    ----------
    source : str
        See `addresses.FORMS`.
    scratch : Path
        Folder for a download, gone afterwards: that of the output, where there is room.
    transfer : Transfer
        Mirror, retries, timeout.

    Raises
    ------
    UserError
        Where the source is not there or no tomogram.
    """
    if not is_remote(source):
        with open_tomogram(Path(source), source, scratch) as raw:
            yield raw
        return
    scratch.mkdir(parents=True, exist_ok=True)
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=scratch, prefix=".got-")))
        scheme = source.partition(":")[0].lower()
        if scheme == "copick":
            from cryoetgan.tomograms.sources.copick_project import copy_tomogram

            yield copy_tomogram(source, folder / "tomogram.npy")
            return
        place, voxel_size = _place(source, transfer)
        path = Path(place)
        if re.match(r"https?://", place):
            path = folder / "download"
            download(place, path, transfer.retries, transfer.timeout)
        raw = stack.enter_context(open_tomogram(path, source, folder))
        yield raw if voxel_size is None else replace(raw, voxel_size=voxel_size)


def _place(source: str, transfer: Transfer) -> tuple[str, float | None]:
    """Return URL or path of a source, and the voxel size where the archive knows it."""
    if re.match(r"https?://", source, re.IGNORECASE):
        return source, None
    entry = re.fullmatch(r"(?:emdb:|emd-|emdb:emd-)(\d{4,5})", source, re.IGNORECASE)
    if entry:
        number = entry[1]
        inside = f"EMD-{number}/map/emd_{number}.map.gz"
        return _join(transfer.mirror or EMDB, inside), None
    file = re.fullmatch(r"empiar:(\d{5})/(.+)", source, re.IGNORECASE)
    if file and ".." not in PurePosixPath(file[2]).parts:
        return _join(transfer.mirror or EMPIAR, f"{file[1]}/{file[2]}"), None
    tomogram = re.fullmatch(r"portal:tomogram/(\d+)", source, re.IGNORECASE)
    if tomogram:
        from cryoetgan.tomograms.sources.portal import tomogram_file

        return tomogram_file(int(tomogram[1]), transfer.mirror)
    raise UserError(f"'{source}' names no tomogram; wanted {FORMS}")


def _join(base: str, inside: str) -> str:
    if re.match(r"https?://", base):
        return f"{base.rstrip('/')}/{urllib.parse.quote(inside)}"
    return str(Path(base) / inside)
