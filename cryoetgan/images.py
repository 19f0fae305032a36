"""Slices of volumes as small grey PNG images, with nothing but numpy and the standard library."""

import base64
import struct
import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Bytes = NDArray[np.uint8]
PLANES = ("xy", "xz", "yz")
GREY_SD = 3.0
"""Black and white lie this many standard deviations from the mean."""
STEPS = (1.0, 2.0, 5.0)


def png(image: Bytes) -> bytes:
    """Return an image as PNG: `(rows, columns)` grey or `(rows, columns, 3)` RGB, first row on top.

    No time stamp and one filter: the same image is the same bytes.
    """
    colour = 0 if image.ndim == 2 else 2
    rows, columns = image.shape[:2]
    lines = np.zeros((rows, 1 + image[0].size), np.uint8)  # each line starts with its filter: none
    lines[:, 1:] = image.reshape(rows, -1)
    header = struct.pack(">IIBBBBB", columns, rows, 8, colour, 0, 0, 0)
    body = zlib.compress(lines.tobytes(), 9)
    return (
        b"\x89PNG\r\n\x1a\n"
        + _chunk(b"IHDR", header)
        + _chunk(b"IDAT", body)
        + _chunk(b"IEND", b"")
    )


def _chunk(kind: bytes, content: bytes) -> bytes:
    check = zlib.crc32(kind + content)
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", check)


def data_uri(content: bytes, kind: str = "image/png") -> str:
    """Return bytes as a `data:` address, so that a page needs no other file."""
    return f"data:{kind};base64,{base64.b64encode(content).decode('ascii')}"


def planes(volume: NDArray[Any], thickness: int = 1) -> list[NDArray[np.float32]]:
    """Return the middle planes xy, xz and yz of `volume[z, y, x]`.

    The first letter runs to the right, the second up, as microscopists' viewers have it.

    Parameters
    ----------
    volume : ndarray
        `(z, y, x)`.
    thickness : int
        Slices averaged about the middle, voxels.
    """
    shown = []
    for axis in range(3):
        middle = volume.shape[axis] // 2
        low = max(middle - thickness // 2, 0)
        slab = np.take(volume, range(low, min(low + thickness, volume.shape[axis])), axis)
        shown.append(np.asarray(slab, np.float32).mean(axis=axis)[::-1])
    return shown


def grey_range(values: NDArray[Any], sd: float = GREY_SD) -> tuple[float, float]:
    """Return what black and white stand for: mean -+ `sd` standard deviations."""
    values = np.nan_to_num(np.asarray(values, np.float64), posinf=0.0, neginf=0.0)
    mean, spread = float(np.mean(values)), float(np.std(values)) or 1.0
    return mean - sd * spread, mean + sd * spread


def grey(image: NDArray[Any], low: float, high: float) -> Bytes:
    """Return an image as bytes, `low` black and `high` white; what is no number is black."""
    scaled = (np.asarray(image, np.float32) - low) / max(high - low, 1e-12)
    return np.rint(255 * np.clip(np.nan_to_num(scaled), 0, 1)).astype(np.uint8)


def enlarge(image: Bytes, factor: int) -> Bytes:
    """Return an image with every voxel as a square of `factor` pixels: nothing is smoothed."""
    return np.repeat(np.repeat(image, factor, axis=0), factor, axis=1)


def montage(rows: Sequence[Sequence[Bytes]], gap: int = 4, fill: int = 0) -> Bytes:
    """Return images of one shape laid out in rows and columns."""
    height, width = rows[0][0].shape
    columns = max(len(row) for row in rows)
    shape = (len(rows) * (height + gap) - gap, columns * (width + gap) - gap)
    out = np.full(shape, fill, np.uint8)
    for i, row in enumerate(rows):
        for j, image in enumerate(row):
            top, left = i * (height + gap), j * (width + gap)
            out[top : top + height, left : left + width] = image
    return out


def bar_length(width: float) -> float:
    """Return a round length (1, 2 or 5 times a power of ten) of about a third of `width`."""
    power = 10.0 ** np.floor(np.log10(width / 3))
    return float(max(step * power for step in STEPS if step * power <= width / 3 * (1 + 1e-9)))


def with_bar(image: Bytes, pixels: float, thin: int = 28) -> Bytes:
    """Return an image with a white scale bar, edged in black, in its lower left corner.

    The bar is as thick as a `thin`-th of the image is high.
    """
    out = image.copy()
    margin = max(2, image.shape[0] // 20)
    thick = max(2, image.shape[0] // thin)
    low, length = image.shape[0] - margin, max(1, round(pixels))
    out[low - thick - 1 : low + 1, margin - 1 : margin + length + 1] = 0
    out[low - thick : low, margin : margin + length] = 255
    return out
