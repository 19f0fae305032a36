"""Plot an imaging model beside the data to which it was fitted."""

import io
from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from cryoetgan.imaging.model import ImagingModel

REAL, SIMULATED = "#0072B2", "#D55E00"


def plot_model(model: ImagingModel) -> bytes:
    """Return four panels as PNG: power, tilt range, gain, pair correlation with class fractions.

    The model is from `fit_model`, with its diagnostics in `about`.
    """
    figure = Figure(figsize=(11, 7.5), layout="constrained")
    canvas = FigureCanvasAgg(figure)
    panels = figure.subplots(2, 2)
    _plot_power(panels[0, 0], model)
    _plot_tilt_range(panels[0, 1], model.about["wedge"])
    _plot_gain(panels[1, 0], model)
    _plot_pair_correlation(panels[1, 1], model)
    figure.suptitle(
        f"Imaging model of {model.tomogram or 'a tomogram'}: fit (orange) beside data (blue)"
    )
    buffer = io.BytesIO()
    # no time stamp: the same fit gives the same bytes
    canvas.print_png(buffer, metadata={"Software": None})
    return buffer.getvalue()


def _plot_power(axes: Axes, model: ImagingModel) -> None:
    power: Mapping[str, Any] = model.about["power"]
    shells = np.arange(1, len(power["real"]) + 1)
    k = shells / (model.box * model.voxel_size)
    axes.semilogy(k, power["real"], "o", color=REAL, label="boxes at the picks")
    axes.semilogy(k, power["simulated"], color=SIMULATED, label="simulated")
    axes.semilogy(
        k, power["noise"], "--", color=SIMULATED, label="simulated noise and surroundings"
    )
    axes.semilogy(k, power["signal"], ":", color=SIMULATED, label="simulated signal")
    axes.set(xlabel="frequency (1/angstrom)", ylabel="power inside the tilt range")
    ratio = np.array(power["simulated"]) / np.maximum(power["real"], 1e-30)
    axes.set_title(
        f"simulated over real power: {ratio.min():.2f} to {ratio.max():.2f}", fontsize=10
    )
    axes.legend(fontsize=8, frameon=False)


def _plot_tilt_range(axes: Axes, wedge: Mapping[str, Any]) -> None:
    axes.plot(wedge["angles"], wedge["power"], color=REAL)
    (low, high), seen = wedge["given"], wedge["seen"]
    for edge in (low, high):
        axes.axvline(edge, color=SIMULATED, linestyle="--")
    axes.set(xlabel="tilt angle (degrees)", ylabel="power relative to low tilts", xlim=(-90, 90))
    measured = f"measured {seen[0]:.0f} to {seen[1]:.0f}" if seen else "no missing wedge measured"
    axes.set_title(f"tilts: given {low:g} to {high:g} degrees (dashed), {measured}", fontsize=10)


def _plot_gain(axes: Axes, model: ImagingModel) -> None:
    k = np.linspace(0, 0.5 / model.voxel_size, 200)
    rows = len(model.gain.values)
    for row in range(rows):
        angle = (row + 0.5) * model.gain.max_tilt / rows
        gain, fade = model.gain.interpolate(k, np.full(len(k), angle)), 1 - 0.6 * row / rows
        axes.plot(k, gain, color=SIMULATED, alpha=fade, label=f"{angle:.0f} degrees")
    axes.set(xlabel="frequency (1/angstrom)", ylabel="grey value per unit of density")
    defocus = model.acquisition.defocus
    unknown = "no defocus known: includes the CTF"
    ctf = unknown if defocus is None else f"without CTF, {defocus:g} um"
    axes.set_title(f"gain by tilt angle ({ctf})", fontsize=10)
    axes.legend(fontsize=8, frameon=False)


def _plot_pair_correlation(axes: Axes, model: ImagingModel, most_classes: int = 12) -> None:
    g = model.pair_correlation
    axes.plot((np.arange(len(g.values)) + 0.5) * g.step, g.values, color=REAL)
    axes.axhline(1, color="0.7", linewidth=0.8)
    axes.set(xlabel="distance between picks (angstrom)", ylabel="pair correlation")
    lines = [
        f"{name}: {100 * fraction:.0f} %"
        for name, fraction in sorted(model.class_fractions.items(), key=lambda item: -item[1])
    ]
    if len(lines) > most_classes:
        rest = len(lines) - most_classes + 1
        lines = [*lines[: most_classes - 1], f"and {rest} more"]
    axes.text(
        0.98, 0.04, "\n".join(lines), transform=axes.transAxes, ha="right", va="bottom", fontsize=8
    )
    axes.set_title("pair correlation of the picks, and class fractions", fontsize=10)
