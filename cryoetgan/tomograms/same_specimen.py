"""Tomograms that show one specimen, by their names and contents."""

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cryoetgan.errors import UserError
from cryoetgan.io.mrc_header import find_opener
from cryoetgan.io.raw_mrc import open_raw_volume
from cryoetgan.tomograms.sources.addresses import is_remote
from cryoetgan.tomograms.specimens import specimen_of

SAMPLE_BYTES, SAMPLES = 1 << 16, 4
"""Size and number of the parts of a file that are compared."""
HEADER_BYTES = 1024
THUMBNAIL = 32
"""Edge of the blocks that are compared: the middle half of a tomogram, in this many parts."""
SLAB = 1 / 20
"""Thickness of the slab around the middle that a thumbnail sums, as a fraction of the tomogram."""
MAX_SECTIONS = 10
SAME_FILE = "are the same file"
MIN_CORRELATION = 0.35
"""Of two thumbnails of one specimen; of two specimens it is 0 +- 0.05."""


def fingerprint(path: Path) -> tuple[int, str] | None:
    """Return size and hash of some parts of a file's voxels: equal for copies of one file.

    The header does not count. None if all parts hold one value.
    """
    size = path.stat().st_size
    starts = np.linspace(HEADER_BYTES, max(HEADER_BYTES, size - SAMPLE_BYTES), SAMPLES)
    with open(path, "rb") as file:
        parts = []
        for start in starts:
            file.seek(int(start))
            parts.append(file.read(SAMPLE_BYTES))
    content = b"".join(parts)
    return (size, hashlib.sha256(content).hexdigest()) if len(set(content)) > 1 else None


def find_repeated(paths: Mapping[str, str], by_name: bool = True) -> list[tuple[str, str, str]]:
    """Return pairs of tomograms that show one specimen, and the reason.

    `paths` are files and addresses by tomogram, as in the table. Files are compared by inode, by
    size and content, and `by_name`; a file that does not exist only by name.
    """
    seen: dict[object, str] = {}
    sizes: dict[int, list[str]] = {}
    found: dict[tuple[str, str], str] = {}

    def note(key: object, name: str, reason: str) -> None:
        first = seen.setdefault(key, name)
        if first != name:
            found.setdefault((first, name), reason)

    for name, path in paths.items():
        file = Path(path)
        if is_remote(path) or not file.exists():
            continue
        status = file.stat()
        note((status.st_dev, status.st_ino), name, SAME_FILE)
        if file.is_file():
            sizes.setdefault(status.st_size, []).append(name)
    for names in sizes.values():
        for name in names if len(names) > 1 else ():
            content = fingerprint(Path(paths[name]))
            if content is not None:
                note(content, name, "have the same content")
    for name, path in paths.items() if by_name else ():
        note(specimen_of(path), name, "show the same specimen, by their names")
    return [(*pair, reason) for pair, reason in found.items()]


def make_thumbnail(data: NDArray[np.generic]) -> NDArray[np.float64] | None:
    """Return the middle of a tomogram `(z, y, x)` in coarse blocks, high-passed, norm 1.

    The borders are excluded: padding looks alike in all tomograms. None if the tomogram is too
    small, or uniform.
    """
    from scipy import ndimage

    depth, height, width = data.shape
    if min(height, width) < 2 * THUMBNAIL:
        return None
    half = min(max(2, round(SLAB * depth / 2)), MAX_SECTIONS // 2)
    middle = slice(max(0, depth // 2 - half), depth // 2 + half)
    edges = [
        np.linspace(n / 4, 3 * n / 4, THUMBNAIL + 1).round().astype(int) for n in (height, width)
    ]
    (top, bottom), (left, right) = (edge[[0, -1]] for edge in edges)
    blocks = np.asarray(data[middle, top:bottom, left:right], np.float64).mean(axis=0)
    for axis, edge in enumerate(edges):
        blocks = np.add.reduceat(blocks, edge[:-1] - edge[0], axis=axis)
        blocks = blocks / np.expand_dims(np.diff(edge), 1 - axis)
    blocks = blocks - ndimage.gaussian_filter(blocks, 4)
    spread = np.median(np.abs(blocks - np.median(blocks))) * 1.4826
    if not spread > 0:
        return None
    blocks = np.clip(blocks / spread, -4, 4)
    blocks = blocks - blocks.mean()
    return np.asarray(blocks / np.linalg.norm(blocks))


def find_alike(thumbnails: Mapping[str, NDArray[np.float64]]) -> list[tuple[str, str, float]]:
    """Return pairs of tomograms whose thumbnails correlate, and the correlation."""
    names: Sequence[str] = list(thumbnails)
    if len(names) < 2:
        return []
    rows = np.stack([thumbnails[name].ravel() for name in names])
    correlations = rows @ rows.T
    return [
        (names[i], names[j], float(correlations[i, j]))
        for i in range(len(names))
        for j in range(i + 1, len(names))
        if abs(correlations[i, j]) > MIN_CORRELATION  # the contrast may be inverted
    ]


def find_alike_files(paths: Mapping[str, Path]) -> list[tuple[str, str, str]]:
    """Return pairs of tomograms whose middles correlate, and the reason, as `find_repeated` does.

    Compressed files, which take long to unpack, and broken ones are left out.
    """
    thumbnails = {}
    for name, path in paths.items():
        if find_opener(path) is not open:
            continue
        try:
            with open_raw_volume(path) as raw:
                thumbnail = make_thumbnail(raw.data)
        except UserError:
            continue
        if thumbnail is not None:
            thumbnails[name] = thumbnail
    return [
        (first, second, f"look alike (correlation {correlation:.2f})")
        for first, second, correlation in find_alike(thumbnails)
    ]
