"""Validation of results: files are readable, finite, complete and unchanged."""

import gzip
import zlib
from pathlib import Path

import numpy as np

from cryoetgan.errors import UserError
from cryoetgan.io.archives import check_archive
from cryoetgan.io.files import check_exists, read_json, sha256, sidecar
from cryoetgan.io.mrc import read_volume
from cryoetgan.io.star import read_star
from cryoetgan.io.volume_set import read_volume_set, stack_path
from cryoetgan.progress import track

IGNORED_FOLDERS = {"logs", "benchmarks"}


def find_problems(path: Path) -> tuple[list[str], int]:
    """Return one line per file with a problem, and the number of files."""
    path = check_exists(path, "file or folder")
    files = sorted(
        file
        for file in ([path] if path.is_file() else path.rglob("*"))
        if file.is_file() and not IGNORED_FOLDERS & set(file.relative_to(path).parts)
    )
    found: list[str] = []
    for file in track(files, "validating"):
        try:
            _check(file)
        except UserError as error:
            found.append(str(error))
    return found, len(files)


def _check(path: Path) -> None:
    if ".part" in path.name and path.name.startswith("."):
        raise UserError(f"{path}: is a remainder of an interrupted run; delete it")
    if path.stat().st_size == 0:
        raise UserError(f"{path}: is empty; delete it and create it again")
    if path.suffix == ".star":
        _check_star(path)
    elif path.suffix in (".mrc", ".mrcs", ".rec"):
        _check_mrc(path)
    elif path.suffix == ".json":
        _check_json(path)
    elif path.suffix == ".pt":
        _check_checkpoint(path)
    elif path.suffix == ".gz":
        _check_gzip(path)
    _check_record(path)


def _check_star(path: Path) -> None:
    if stack_path(path).exists():
        read_volume_set(path, allow_empty=True)
    else:
        table = read_star(path).particles
        if (
            "rlnImageName" in table
            and table["rlnImageName"].astype(str).str.endswith(".mrcs").any()
        ):
            raise UserError(f"{path}: names {stack_path(path).name}, which does not exist")


def _check_mrc(path: Path) -> None:
    star = path.with_suffix(".star")
    is_stack = path.suffix == ".mrcs" and star.exists()
    data = read_volume_set(star, allow_empty=True).volumes if is_stack else read_volume(path).data
    for index, section in enumerate(data):
        if not np.isfinite(section).all():
            raise UserError(f"{path}: section {index} holds values that are not finite")


def _check_checkpoint(path: Path) -> None:
    # a torch checkpoint is a zip archive with checksums
    try:
        with open(path, "rb") as file:
            check_archive(file)
    except ValueError as error:
        raise UserError(f"{path}: is a broken checkpoint ({error}); train again") from error


def _check_gzip(path: Path) -> None:
    try:
        with gzip.open(path) as file:
            while file.read(1 << 20):
                pass
    except (OSError, EOFError, zlib.error) as error:
        raise UserError(f"{path}: is a broken gzip file ({error})") from error


def _check_json(path: Path) -> None:
    """Read a file; compare the files of an export with the hashes in its provenance.json."""
    content = read_json(path)
    listed = content.get("files") if isinstance(content, dict) else None
    if path.name != "provenance.json" or not isinstance(listed, dict):
        return
    for name, wanted in listed.items():
        file = path.parent / name
        if not file.is_file():
            raise UserError(f"{file}: does not exist; export again")
        _check_hash(file, wanted, "export again")


def _check_record(path: Path) -> None:
    """Compare a file with the hash in its record, or in the record of the file that it accompanies."""
    records = [sidecar(path)]
    main_suffix = {".mrcs": ".star", ".star": ".mrc"}.get(path.suffix)
    if main_suffix:
        records.append(sidecar(path.with_suffix(main_suffix)))
    for record in filter(Path.exists, records):
        content = read_json(record)
        content = content.get("provenance") if isinstance(content, dict) else None
        if not isinstance(content, dict):
            raise UserError(f"{record}: has no provenance; create {path.name} again")
        outputs = content.get("outputs")
        wanted = outputs.get(path.name) if isinstance(outputs, dict) else None
        if wanted:
            _check_hash(path, wanted, "create it again")


def _check_hash(path: Path, wanted: str, advice: str) -> None:
    if sha256(path) != wanted:
        raise UserError(f"{path}: has changed since it was written (its hash differs); {advice}")
