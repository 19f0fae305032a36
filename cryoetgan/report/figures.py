"""Figures of the report, as PNG bytes; grey maps, colours the colour-blind can tell apart."""

import io
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from cryoetgan.volumes import VolumeSet

# Okabe and Ito's colours
COLOURS = ["#0072B2", "#E69F00", "#009E73", "#CC79A7", "#D55E00", "#56B4E9", "#F0E442", "#000000"]
PLANES = ("xy", "xz", "yz")
GREY_SD = 3.5
DPI = 110


def to_png(figure: Figure) -> bytes:
    """Return a figure as PNG; no time stamp, so that the same figure is the same bytes."""
    out = io.BytesIO()
    figure.savefig(out, format="png", dpi=DPI, bbox_inches="tight", metadata={"Software": None})
    plt.close(figure)
    return out.getvalue()


def planes(volume: NDArray[Any]) -> list[NDArray[Any]]:
    """Return the three middle planes of a box: across z, y and x."""
    n = volume.shape[0] // 2
    return [np.asarray(volume[n]), np.asarray(volume[:, n]), np.asarray(volume[:, :, n])]


def class_slices(
    sets: Mapping[str, VolumeSet], name: str, sample: int, seed: int = 0
) -> bytes | None:
    """Return slices of one class: a row a set, three planes of each of `sample` volumes."""
    rows = {}
    for label, volumes in sets.items():
        if "cryoetganClass" not in volumes.table:
            continue
        found = np.flatnonzero(volumes.table["cryoetganClass"].to_numpy(str) == name)
        if len(found):
            chosen = np.random.default_rng(seed).permutation(found)[:sample]
            rows[label] = [np.asarray(volumes.volumes[i], np.float32) for i in sorted(chosen)]
    if not rows:
        return None
    columns = 3 * max(len(row) for row in rows.values())
    figure, axes = plt.subplots(
        len(rows), columns, figsize=(0.82 * columns, 0.95 * len(rows) + 0.25), squeeze=False
    )
    voxel_size = next(iter(sets.values())).voxel_size
    for row, (label, shown) in enumerate(rows.items()):
        values = np.concatenate([v.ravel() for v in shown])
        if label == "density":
            low, high = 0.0, float(np.percentile(values, 99.8)) or 1.0
        else:
            low, high = (
                values.mean() - GREY_SD * values.std(),
                values.mean() + GREY_SD * values.std(),
            )
        for axis in axes[row]:
            axis.axis("off")
        for index, volume in enumerate(shown):
            for plane, image in enumerate(planes(volume)):
                axis = axes[row, 3 * index + plane]
                axis.imshow(image, cmap="gray", vmin=low, vmax=high, origin="lower")
                if row == 0:
                    axis.set_title(PLANES[plane], fontsize=6, pad=2)
        axes[row, 0].text(
            -0.12, 0.5, label, transform=axes[row, 0].transAxes, ha="right", va="center", fontsize=7
        )
    _scale_bar(axes[-1, 0], voxel_size, rows[list(rows)[-1]][0].shape[-1])
    figure.subplots_adjust(wspace=0.04, hspace=0.06)
    return to_png(figure)


def _scale_bar(axis: Any, voxel_size: float, width: int) -> None:
    length = _round_length(width * voxel_size / 3)
    axis.plot([1, 1 + length / voxel_size], [1, 1], color="#F0E442", lw=2.5, solid_capstyle="butt")
    axis.text(1, 2, f"{length / 10:g} nm", color="#F0E442", fontsize=6, va="bottom")


def _round_length(angstrom: float) -> float:
    power = 10 ** np.floor(np.log10(max(angstrom, 1)))
    return float(max(step * power for step in (1, 2, 5) if step * power <= angstrom))


def picks_over_slice(
    tomogram: NDArray[Any], voxel_size: float, table: Any, title: str, thickness: int = 5
) -> bytes:
    """Return a section of a tomogram with the particles that lie near it."""
    middle = tomogram.shape[0] // 2
    slab = np.asarray(tomogram[middle - thickness // 2 : middle + thickness // 2 + 1], np.float32)
    image = slab.mean(axis=0)
    figure, axis = plt.subplots(figsize=(6.2, 6.2 * image.shape[0] / image.shape[1] + 0.3))
    low, high = np.percentile(image, [0.5, 99.7])
    axis.imshow(image, cmap="gray", vmin=low, vmax=high, origin="lower")
    near = table[(table["rlnCoordinateZ"].astype(float) - middle).abs() <= thickness]
    if "cryoetganClass" in near:
        classes = sorted(table["cryoetganClass"].astype(str).unique())
        for index, name in enumerate(classes):
            part = near[near["cryoetganClass"].astype(str) == name]
            axis.scatter(
                part["rlnCoordinateX"].astype(float),
                part["rlnCoordinateY"].astype(float),
                s=90,
                facecolors="none",
                edgecolors=COLOURS[index % len(COLOURS)],
                linewidths=1.3,
                label=f"{name} ({len(part)})",
            )
        axis.legend(fontsize=7, loc="upper right", framealpha=0.85)
    axis.set_title(f"{title}, section {middle} +- {thickness}", fontsize=8)
    axis.set_axis_off()
    _scale_bar(axis, voxel_size, image.shape[1])
    return to_png(figure)


def loss_curves(rows: Sequence[Mapping[str, float]]) -> bytes:
    """Return the training log: critics' losses, cycles, spread of generated voxels."""
    figure, axes = plt.subplots(1, 3, figsize=(9.5, 2.4))
    steps = [row["step"] for row in rows]
    panels = [
        ("discriminators", ["loss_D_s", "loss_D_d"]),
        ("cycle", ["cycle_d", "cycle_s"]),
        ("generated over real SD", ["sd_ratio"]),
    ]
    for axis, (title, names) in zip(axes, panels, strict=True):
        for index, name in enumerate(names):
            values = [row.get(name, np.nan) for row in rows]
            axis.plot(steps, values, color=COLOURS[index], lw=1, label=name)
        axis.set_title(title, fontsize=8)
        axis.set_xlabel("step", fontsize=7)
        axis.tick_params(labelsize=7)
        axis.legend(fontsize=6)
    axes[2].axhline(1, color="0.6", lw=0.8, ls="--")
    figure.tight_layout()
    return to_png(figure)


def power_spectra(spectra: Mapping[str, NDArray[np.float64]], voxel_size: float, box: int) -> bytes:
    """Return mean power by shell of each set."""
    figure, axis = plt.subplots(figsize=(5.2, 3))
    for index, (label, power) in enumerate(spectra.items()):
        k = np.arange(1, len(power) + 1) / (box * voxel_size)
        style = "-" if index == 0 else "--" if index == 1 else "-."
        axis.semilogy(k, power, style, color=COLOURS[index], lw=1.4, label=label)
    axis.set_xlabel("spatial frequency (1/A)", fontsize=8)
    axis.set_ylabel("mean power", fontsize=8)
    axis.tick_params(labelsize=7)
    axis.legend(fontsize=7)
    figure.tight_layout()
    return to_png(figure)


def confusion(classes: Sequence[str], counts: Sequence[Sequence[int]], title: str) -> bytes:
    """Return a confusion matrix: rows true, columns found, shares of the row."""
    table = np.asarray(counts, float)
    shares = table / np.maximum(table.sum(axis=1, keepdims=True), 1)
    size = 1.6 + 0.42 * len(classes)
    figure, axis = plt.subplots(figsize=(size, size))
    axis.imshow(shares, cmap="cividis", vmin=0, vmax=1)
    for i in range(len(classes)):
        for j in range(len(classes)):
            colour = "white" if shares[i, j] < 0.5 else "black"
            axis.text(
                j, i, str(int(table[i, j])), ha="center", va="center", color=colour, fontsize=7
            )
    axis.set_xticks(
        range(len(classes)), [c[:14] for c in classes], rotation=60, ha="right", fontsize=6
    )
    axis.set_yticks(range(len(classes)), [c[:14] for c in classes], fontsize=6)
    axis.set_xlabel("found", fontsize=7)
    axis.set_ylabel("true", fontsize=7)
    axis.set_title(title, fontsize=8)
    figure.tight_layout()
    return to_png(figure)
