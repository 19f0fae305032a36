"""The tomograms of a folder: one file per specimen, and the reason for each file left out."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from cryoetgan.errors import UserError
from cryoetgan.io.files import COMPANIONS, check_exists, strip_compression
from cryoetgan.io.mrc_header import Header, find_opener, image_stack_signs, read_header
from cryoetgan.io.raw_mrc import open_raw_volume
from cryoetgan.progress import log
from cryoetgan.setup.tilt_files import TiltFile, read_tilt_file
from cryoetgan.tomograms.same_specimen import SAME_FILE, find_alike_files, find_repeated
from cryoetgan.tomograms.specimens import plain_name, preference, specimen_name, volume_kind

SUFFIXES = (".mrc", ".rec", ".map")
TILT_FILES = (".tlt", ".aln", ".tomostar", ".rawtlt", ".mrc.mdoc", ".st.mdoc", ".mdoc")
"""Refined angles come first."""
MAX_LABELS = 16
"""Number of different grey values up to which a volume is a segmentation."""
MAX_DISAGREEMENT = 5.0
"""Degrees between the ranges of two tilt files of one tomogram."""


@dataclass
class Folder:
    """The MRC files of a folder."""

    path: Path
    chosen: dict[Path, Header] = field(default_factory=dict)
    """One file per specimen."""
    excluded: dict[Path, str] = field(default_factory=dict)
    """Reason of each other file."""
    tilts: dict[Path, list[TiltFile]] = field(default_factory=dict)
    """The readable tilt files of each volume."""


def read_folder(path: Path) -> Folder:
    """Find the tomograms of a folder, one for each specimen."""
    folder = Folder(check_exists(path, "folder"))
    if not path.is_dir():
        raise UserError(f"{path}: is a file; name the folder of the tomograms")
    files = sorted(file for file in path.iterdir() if _is_volume(file))
    if not files:
        inside = sorted({file.parent for file in path.glob("*/*") if _is_volume(file)})
        hint = f"; {inside[0]} holds some, name that folder" if inside else ""
        raise UserError(f"{path}: holds no MRC file ({', '.join(SUFFIXES)}){hint}")
    groups: dict[str, list[Path]] = {}
    headers: dict[Path, Header] = {}
    unreadable: dict[Path, list[str]] = {}
    for file in files:
        if _stem(file).endswith(COMPANIONS):
            continue
        try:
            header = read_header(file)
            folder.tilts[file], unreadable[file] = find_tilt_files(file)
            reason = _other_kind(file, header, folder.tilts[file])
        except UserError as error:
            reason = str(error).removeprefix(f"{file}: ")
        if reason:
            folder.excluded[file] = reason
        else:
            headers[file] = header
            groups.setdefault(specimen_name(file.name), []).append(file)
    for members in groups.values():
        suspect = {file: image_stack_signs(headers[file], file) for file in members}
        order = {file: (bool(suspect[file]), preference(file.name)) for file in members}
        best, *others = sorted(members, key=order.__getitem__)
        if suspect[best]:
            log.warning("%s: is listed, but may be a tilt series: %s", best, suspect[best][0])
        folder.chosen[best] = headers[best]
        for problem in unreadable[best]:
            log.warning("%s", problem)
        for file in others:
            kind = volume_kind(_stem(file)) or "another reconstruction"
            folder.excluded[file] = f"{kind} of the same specimen as {best.name}"
    _warn_of_copies(folder)
    return folder


def _is_volume(path: Path) -> bool:
    return strip_compression(path.name.lower()).endswith(SUFFIXES) and path.is_file()


def _stem(path: Path) -> str:
    return Path(strip_compression(path.name)).stem


def _other_kind(path: Path, header: Header, tilt_files: Sequence[TiltFile]) -> str:
    """Return the kind of a file that is not a tomogram, with the reason; empty if it is one."""
    if not str(path).isprintable() or set("{}") & set(str(path)):
        return "its path has control characters or braces, which no table can hold; rename it"
    if len(header.shape) != 3:
        return "stack of volumes, not a tomogram"
    stem, signs = _stem(path), image_stack_signs(header, path)
    for tilts in tilt_files:
        if len(tilts.angles) == header.shape[0] < min(header.shape[1:]):
            signs.append(f"{tilts.path.name} lists as many angles as it has sections")
            break
    if header.is_image_stack or len(signs) > 1 or (signs and volume_kind(stem) == "tilt series"):
        return f"tilt series, not a tomogram: {signs[0]}"
    if volume_kind(stem) == "segmentation" or _has_few_values(path):
        return "segmentation or mask, not a tomogram"
    return ""


def _has_few_values(path: Path) -> bool:
    """Return whether the middle of a volume has at least two, but few different values."""
    if find_opener(path) is not open:  # unpacking may take minutes
        return False
    with open_raw_volume(path) as raw:
        depth = len(raw.data)
        sections = np.asarray(raw.data[[depth // 4, depth // 2, 3 * depth // 4]])
    return 1 < len(np.unique(sections)) <= MAX_LABELS


def _warn_of_copies(folder: Folder) -> None:
    """Warn of chosen files that show the same specimen by their content; exclude links."""
    pairs = find_repeated({path.name: str(path) for path in folder.chosen})
    known = {pair[:2] for pair in pairs}
    alike = find_alike_files({path.name: path for path in folder.chosen})
    pairs += [pair for pair in alike if pair[:2] not in known]
    for first, second, reason in pairs:
        if reason == SAME_FILE:
            folder.excluded[folder.path / second] = f"the same file as {first}"
            folder.chosen.pop(folder.path / second, None)
            continue
        log.warning(
            "%s: %s and %s %s: if they show the same specimen, keep one row of the two",
            folder.path, first, second, reason,
        )  # fmt: skip


def companions(path: Path, endings: Sequence[str]) -> Iterator[Path]:
    """Yield the files that belong to a tomogram by name: TS_1.mdoc belongs to TS_1_rec_bin4.mrc.

    The longest name comes first, then the order of `endings`. A number is never left out: TS_1.mdoc
    does not belong to TS_1_2.mrc.
    """
    beside = {file.name.lower(): file for file in sorted(path.parent.iterdir())}
    stem, found = _stem(path), []
    while stem:
        found += [beside[n] for ending in endings if (n := (stem + ending).lower()) in beside]
        stem, _, last = stem.rpartition("_")
        if last.isdecimal():
            break
    for ending in endings:
        for name, file in beside.items():
            if name.endswith(ending) and specimen_name(_without(name, ending)) == specimen_name(
                path.name
            ):
                found.append(file)
    yield from dict.fromkeys(found)


def _without(name: str, ending: str) -> str:
    return plain_name(name[: -len(ending)])


def find_tilt_files(path: Path) -> tuple[list[TiltFile], list[str]]:
    """Return the readable tilt files of a tomogram, and the errors of the others."""
    found, errors = [], []
    for file in companions(path, TILT_FILES):
        try:
            found.append(read_tilt_file(file))
        except UserError as error:
            errors.append(str(error))
    return found, errors


def choose_tilt_file(path: Path, tilt_files: Sequence[TiltFile]) -> TiltFile | None:
    """Return the best tilt file of a tomogram; warn if another one has a different range."""
    found = sorted(
        tilt_files,
        key=lambda item: next(i for i, e in enumerate(TILT_FILES) if _has_ending(item.path, e)),
    )
    if not found:
        return None
    best = found[0]
    for other in found[1:]:
        ends = best.angles[[0, -1]] - other.angles[[0, -1]]
        if np.abs(ends).max() > MAX_DISAGREEMENT:
            log.warning(
                "%s: tilts %g to %g of %s are used, but %s has %g to %g; check tilt_low, tilt_high",
                path, *best.angles[[0, -1]], best.path.name,
                other.path.name, *other.angles[[0, -1]],
            )  # fmt: skip
    return best


def _has_ending(path: Path, ending: str) -> bool:
    return re.search(re.escape(ending) + "$", path.name, re.IGNORECASE) is not None
