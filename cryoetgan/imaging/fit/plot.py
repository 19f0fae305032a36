"""A picture of an imaging model's fit beside the data: what to look at before trusting it."""

import io
from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from cryoetgan.imaging.model import EMPTY, ImagingModel

REAL, SIMULATED, OTHER = "#0072B2", "#D55E00", "#009E73"


def drawn(model: ImagingModel) -> bytes:
    """Return four panels as PNG: power, wedge, transfer, crowding and shares.

    Parameters
    ----------
    model : ImagingModel
        As `fitting.fit` returns it: with what it compared in `about`.
    """
    figure = Figure(figsize=(11, 7.5), layout="constrained")
    canvas = FigureCanvasAgg(figure)
    panels = figure.subplots(2, 2)
    _power(panels[0, 0], model)
    _wedge(panels[0, 1], model.about["wedge"])
    _gain(panels[1, 0], model)
    _crowding(panels[1, 1], model)
    figure.suptitle(
        f"Imaging model of {model.tomogram or 'a tomogram'}: fit (orange) beside data (blue)"
    )
    buffer = io.BytesIO()
    # no time stamp: the same fit is the same bytes
    canvas.print_png(buffer, metadata={"Software": None})
    return buffer.getvalue()


def _power(axes: Axes, model: ImagingModel) -> None:
    power: Mapping[str, Any] = model.about["power"]
    shells = np.arange(1, len(power["real"]) + 1)
    k = shells / (model.box * model.voxel_size)
    axes.semilogy(k, power["real"], "o", color=REAL, label="crops at the picks")
    axes.semilogy(k, power["simulated"], color=SIMULATED, label="simulated")
    axes.semilogy(k, power["noise"], "--", color=SIMULATED, label="its noise")
    axes.semilogy(k, power["signal"], ":", color=SIMULATED, label="its signal")
    axes.set(xlabel="frequency (1/angstrom)", ylabel="power inside the tilt range")
    ratio = np.array(power["simulated"]) / np.maximum(power["real"], 1e-30)
    axes.set_title(
        f"simulated over real power: {ratio.min():.2f} to {ratio.max():.2f}", fontsize=10
    )
    axes.legend(fontsize=8, frameon=False)


def _wedge(axes: Axes, wedge: Mapping[str, Any]) -> None:
    axes.plot(wedge["angles"], wedge["power"], color=REAL)
    for edge in wedge["typed"]:
        axes.axvline(edge, color=SIMULATED, linestyle="--")
    axes.set(xlabel="tilt angle (degrees)", ylabel="power over that at small tilts", xlim=(-90, 90))
    seen = wedge["seen"]
    said = "no missing wedge in the spectrum" if seen is None else f"{seen[0]:.0f} to {seen[1]:.0f}"
    low, high = wedge["typed"]
    axes.set_title(f"tilts: typed {low:g} to {high:g} degrees (dashed), seen {said}", fontsize=10)


def _gain(axes: Axes, model: ImagingModel) -> None:
    k = np.linspace(0, 0.5 / model.voxel_size, 200)
    rows = len(model.gain.values)
    for row in range(rows):
        angle = (row + 0.5) * model.gain.steepest / rows
        axes.plot(
            k,
            model.gain.on(k, np.full(len(k), angle)),
            color=SIMULATED,
            alpha=1 - 0.6 * row / rows,
            label=f"{angle:.0f} degrees",
        )
    axes.set(xlabel="frequency (1/angstrom)", ylabel="grey value per unit of density")
    defocus = model.acquisition.defocus
    known = (
        "no defocus known: includes the CTF" if defocus is None else f"CTF at {defocus:g} um apart"
    )
    axes.set_title(f"gain by tilt angle ({known})", fontsize=10)
    axes.legend(fontsize=8, frameon=False)


def _crowding(axes: Axes, model: ImagingModel) -> None:
    crowding = model.crowding
    r = (np.arange(len(crowding.correlation)) + 0.5) * crowding.step
    axes.plot(r, crowding.correlation, color=REAL)
    axes.axhline(1, color="0.7", linewidth=0.8)
    axes.set(xlabel="distance between picks (angstrom)", ylabel="pair correlation")
    lines = [
        f"{'no particle' if name == EMPTY else name}: {100 * share:.0f} %"
        for name, share in sorted(model.shares.items(), key=lambda item: -item[1])
    ]
    shown = lines if len(lines) <= 12 else [*lines[:11], f"and {len(lines) - 11} more"]
    axes.text(
        0.98, 0.04, "\n".join(shown), transform=axes.transAxes, ha="right", va="bottom", fontsize=8
    )
    axes.set_title("how close picks lie, and their classes", fontsize=10)
