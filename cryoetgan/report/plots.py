"""Curves as PNG, once for light pages and once for dark ones."""

import io
import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray

from cryoetgan.images import data_uri
from cryoetgan.report.evaluation_results import Accuracy

DPI = 150
LIGHT = {"ink": "#1c1f24", "line": "#c9cdd4", "lines": ("#0072B2", "#D55E00", "#009E73", "#CC79A7")}
DARK = {"ink": "#e7e9ec", "line": "#4a505a", "lines": ("#56B4E9", "#F0A35E", "#2FCFA0", "#E9A6CC")}
STYLES = ("-", "--", "-.", ":")
SMOOTH = 0.05
"""Share of the training log over which curves are averaged."""
PANELS = (
    ("critics' losses", ("loss_D_s", "loss_D_d")),
    ("adversarial loss of the generators", ("adversarial",)),
    ("cycle loss", ("cycle_d", "cycle_s")),
    ("distance of texture", ("voxels", "filters", "strengths")),
    ("distance of spectra", ("spectrum",)),
    ("spread: generated over real", ("sd_ratio",)),
    ("critic's scores of subtomograms", ("D_s_train", "D_s_held_out")),
    ("noise kept: share of the variation", ("noise_ratio",)),
    ("label lost: 1 - cosine with the density", ("signal_cosine",)),
    ("Inception score", ("is",)),
    ("FID", ("fid",)),
    ("KID", ("kid",)),
)

NAMED = {
    "loss_D_s": "of subtomograms",
    "loss_D_d": "of densities",
    "cycle_d": "density, there and back",
    "cycle_s": "subtomogram, there and back",
    "D_s_train": "it has learnt from",
    "D_s_held_out": "it has never seen",
    "voxels": "grey values",
    "filters": "filters' answers",
    "strengths": "where they are strong",
}
LABELS = 1.25
"""Two sizes of a learning curve nearer than this share a label."""
RATIOS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100)
"""Ticks of an axis of ratios."""


@dataclass(frozen=True)
class Plot:
    """A figure as `data:` addresses."""

    light: str
    dark: str


def _both(draw: Callable[[Figure, Mapping[str, Any]], None], size: tuple[float, float]) -> Plot:
    images = []
    for theme in (LIGHT, DARK):
        ink = theme["ink"]
        colours = {
            key: ink for key in ("text.color", "axes.labelcolor", "xtick.color", "ytick.color")
        }
        settings: Any = {
            **colours,
            "axes.edgecolor": theme["line"],
            "axes.facecolor": "none",
            "legend.frameon": False,
            "font.size": 9,
            "axes.spines.top": False,
            "axes.spines.right": False,
        }
        with rc_context(settings):
            figure = Figure(figsize=size, dpi=DPI, facecolor="none", layout="constrained")
            canvas = FigureCanvasAgg(figure)
            draw(figure, theme)
            out = io.BytesIO()
            canvas.print_png(out, metadata={"Software": None})
        images.append(data_uri(out.getvalue()))
    return Plot(*images)


def training_curves(log: Mapping[str, Sequence[float]]) -> list[tuple[str, Plot]]:
    """Return one plot a group of columns of log.csv, against the step; averaged a little."""
    steps = np.asarray(log.get("step", ()), float)
    shown = []
    for title, names in PANELS:
        there = [n for n in names if n in log and np.isfinite(log[n]).any()]
        if there and len(steps):
            curves = {name: np.asarray(log[name], float) for name in there}
            shown.append((title, _both(_curves(steps, curves, title), (3.6, 2.3))))
    return shown


def _curves(
    steps: NDArray[np.float64], curves: Mapping[str, NDArray[np.float64]], title: str
) -> Callable[[Figure, Mapping[str, Any]], None]:
    def draw(figure: Figure, theme: Mapping[str, Any]) -> None:
        axis = figure.subplots()
        for index, (name, values) in enumerate(curves.items()):
            colour = theme["lines"][index]
            good = np.isfinite(values)
            axis.plot(steps[good], values[good], color=colour, lw=0.7, alpha=0.35)
            smooth = _smooth(values[good])
            axis.plot(
                steps[good],
                smooth,
                STYLES[index],
                color=colour,
                lw=1.7,
                label=NAMED.get(name, name),
            )
        if title.startswith("spread"):
            axis.axhline(1, color=theme["line"], lw=1)
        if title.startswith("distance"):
            axis.set_yscale("log")
        axis.set_xlabel("step")
        axis.margins(x=0.01)
        if len(curves) > 1:
            axis.legend()

    return draw


def _smooth(values: NDArray[np.float64]) -> NDArray[np.float64]:
    width = max(1, int(len(values) * SMOOTH))
    kernel = np.ones(width)
    weight = np.convolve(np.ones(len(values)), kernel, "same")
    return np.convolve(values, kernel, "same") / weight


def power_spectra(power: Mapping[str, NDArray[np.float64]], voxel_size: float, box: int) -> Plot:
    """Return mean power by shell of each set, and its ratio to the first.

    Parameters
    ----------
    power : mapping
        Set to `(n // 2,)`, from shell 1 on.
    voxel_size : float
        Angstrom.
    box : int
        Voxels.
    """

    def draw(figure: Figure, theme: Mapping[str, Any]) -> None:
        above, below = figure.subplots(2, sharex=True, height_ratios=(2, 1))
        first = next(iter(power.values()))
        k = np.arange(1, len(first) + 1) / (box * voxel_size) * 10  # per nanometre
        for index, (name, values) in enumerate(power.items()):
            style, colour = STYLES[index % 4], theme["lines"][index % 4]
            floor = np.maximum(values, first[first > 0].min() * 1e-6 if (first > 0).any() else 1)
            above.semilogy(k, floor, style, color=colour, lw=1.7, label=name)
            if index:
                ratio = floor / np.maximum(first, 1e-30)
                below.semilogy(k, ratio, style, color=colour, lw=1.7)
        below.axhline(1, color=theme["line"], lw=1)
        low, high = below.get_ylim()
        low, high = min(low, 0.45), max(high, 2.2)
        below.set_yticks([r for r in RATIOS if low <= r <= high], minor=False)
        below.yaxis.set_major_formatter("{x:g}")
        below.minorticks_off()
        below.set_ylim(low, high)
        above.set_ylabel("mean power")
        below.set_ylabel(f"over {next(iter(power))}")
        below.set_xlabel("spatial frequency (1/nm)")
        above.legend()

    return _both(draw, (5.2, 3.9))


def learning_curve(
    curves: Mapping[str, Sequence[tuple[int, Accuracy]]], levels: Mapping[str, Accuracy]
) -> Plot:
    """Return accuracy against the number of volumes trained on, a line a set.

    Parameters
    ----------
    curves : mapping
        Set to its points, in order of size.
    levels : mapping
        What else was trained, drawn as level lines.
    """

    def draw(figure: Figure, theme: Mapping[str, Any]) -> None:
        axis = figure.subplots()
        colours = iter(theme["lines"])
        for name, points in curves.items():
            sizes = np.array([size for size, _ in points])
            values = np.array([[100 * a.value, 100 * a.low, 100 * a.high] for _, a in points])
            axis.errorbar(
                sizes,
                values[:, 0],
                [values[:, 0] - values[:, 1], values[:, 2] - values[:, 0]],
                color=next(colours),
                marker="o",
                ms=4,
                capsize=3,
                lw=1.7,
                label=name,
            )
        for index, (name, accuracy) in enumerate(levels.items(), start=1):
            axis.axhline(
                100 * accuracy.value, color=next(colours), ls=STYLES[index % 4], lw=1.4, label=name
            )
        guessing = 100 * next(iter(curves.values()))[-1][1].guessing
        axis.axhline(guessing, color=theme["ink"], lw=0.8, ls=":", label="commonest class")
        axis.set_xscale("log")
        ticks = sorted({size for points in curves.values() for size, _ in points})
        # sizes that lie close together share a label, else they print over each other
        apart = [s for s, after in itertools.pairwise(ticks) if after > LABELS * s]
        axis.set_xticks([*apart, ticks[-1]], [f"{size:,}" for size in (*apart, ticks[-1])])
        axis.minorticks_off()
        axis.set_ylim(0, 102)
        axis.set_xlabel("volumes trained on")
        axis.set_ylabel("right on real crops (%)")
        figure.legend(loc="outside lower center", ncols=2, fontsize=8)

    return _both(draw, (5.2, 3.6))


def score_curves(lines: Mapping[str, NDArray[np.float64]], title: str) -> Plot:
    """Return a score against training steps, one line a noise level.

    Parameters
    ----------
    lines : mapping
        Noise level to `(N, 4)`: step, score, its interval (NaN: none).
    title : str
        Name of the score.
    """

    def draw(figure: Figure, theme: Mapping[str, Any]) -> None:
        axis = figure.subplots()
        for index, (name, line) in enumerate(lines.items()):
            style, colour = STYLES[index % 4], theme["lines"][index % 4]
            steps, values, low, high = line.T
            axis.plot(
                steps, values, style, color=colour, lw=1.7, marker="o", ms=3, label=f"noise {name}"
            )
            axis.fill_between(steps, low, high, color=colour, alpha=0.15, lw=0)
        # "1e-5+1" above an axis is overlooked
        axis.ticklabel_format(useOffset=False)
        axis.set_xlabel("step")
        axis.set_ylabel(title)
        axis.legend()

    return _both(draw, (3.6, 2.5))


def viridis() -> NDArray[np.uint8]:
    """Return the map's colours, `(256, 3)`: perceptual, fit for the colour-blind."""
    from matplotlib import colormaps

    return np.asarray(colormaps["viridis"](np.arange(256), bytes=True)[:, :3], np.uint8)


def confusion_colours(shares: NDArray[np.float64]) -> list[list[tuple[str, str]]]:
    """Return (background, ink) of each cell of a table of shares in [0, 1]; map: cividis."""
    from matplotlib import colormaps
    from matplotlib.colors import to_hex

    table = colormaps["cividis"](shares)
    inks = np.where(shares > 0.55, "#000000", "#ffffff")
    return [
        [(to_hex(table[i, j]), str(inks[i, j])) for j in range(shares.shape[1])]
        for i in range(shares.shape[0])
    ]
