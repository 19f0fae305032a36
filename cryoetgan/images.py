"""Slices of volumes as PNG images."""

import base64
import io
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Bytes = NDArray[np.uint8]


def encode_png(image: Bytes) -> bytes:
    """Return an image as PNG: `(rows, columns)` grey or `(rows, columns, 3)` RGB, top row first."""
    out = io.BytesIO()
    Image.fromarray(image).save(out, "PNG")
    return out.getvalue()


def data_uri(content: bytes, kind: str = "image/png") -> str:
    """Return bytes as a `data:` URI, so that a page needs no other file."""
    return f"data:{kind};base64,{base64.b64encode(content).decode('ascii')}"


def central_planes(volume: NDArray[Any], thickness: int = 1) -> list[NDArray[np.float32]]:
    """Return the central planes xy, xz and yz of `volume[z, y, x]`, each of `thickness` slices.

    The first axis points right and the second up, as in viewers of the field.
    """
    shown = []
    for axis in range(3):
        middle = volume.shape[axis] // 2
        low = max(middle - thickness // 2, 0)
        slab = np.take(volume, range(low, min(low + thickness, volume.shape[axis])), axis)
        shown.append(np.asarray(slab, np.float32).mean(axis=axis)[::-1])
    return shown


def grey_range(values: NDArray[Any], sd: float = 3.0) -> tuple[float, float]:
    """Return the values shown black and white: mean -+ `sd` standard deviations."""
    values = np.nan_to_num(np.asarray(values, np.float64), posinf=0.0, neginf=0.0)
    mean, spread = float(np.mean(values)), float(np.std(values)) or 1.0
    return mean - sd * spread, mean + sd * spread


def scale_grey(image: NDArray[Any], low: float, high: float) -> Bytes:
    """Return an image as bytes, `low` black and `high` white; NaN is black."""
    scaled = (np.asarray(image, np.float32) - low) / max(high - low, 1e-12)
    return np.rint(255 * np.clip(np.nan_to_num(scaled), 0, 1)).astype(np.uint8)


def enlarge(image: Bytes, factor: int) -> Bytes:
    """Return an image with each voxel as a square of `factor` pixels, without smoothing."""
    return np.repeat(np.repeat(image, factor, axis=0), factor, axis=1)


def montage(rows: Sequence[Sequence[Bytes]], gap: int = 4, fill: int = 0) -> Bytes:
    """Return images of one shape in rows and columns, `gap` pixels of value `fill` apart."""
    around = [(0, gap), (0, gap)]
    padded = [[np.pad(image, around, constant_values=fill) for image in row] for row in rows]
    return np.block(padded)[:-gap, :-gap]


def scale_bar_length(width: float) -> float:
    """Return 1, 2 or 5 times a power of ten, the largest up to a third of `width`.

    Examples
    --------
    >>> scale_bar_length(299.0)
    50.0
    """
    power = 10.0 ** np.floor(np.log10(width / 3))
    return float(max(s * power for s in (1.0, 2.0, 5.0) if s * power <= width / 3 * (1 + 1e-9)))


def add_scale_bar(image: Bytes, pixels: float, fraction: int = 28) -> Bytes:
    """Return a grey image with a white scale bar, edged in black, in the lower left corner.

    The thickness of the bar is the height of the image divided by `fraction`.
    """
    out = image.copy()
    margin = max(2, image.shape[0] // 20)
    thick = max(2, image.shape[0] // fraction)
    low, length = image.shape[0] - margin, max(1, round(pixels))
    out[low - thick - 1 : low + 1, margin - 1 : margin + length + 1] = 0
    out[low - thick : low, margin : margin + length] = 255
    return out
