"""Curves as PNG images, one for light pages and one for dark pages."""

import io
import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from matplotlib import colormaps, rc_context
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_hex, to_rgba
from matplotlib.figure import Figure
from numpy.typing import NDArray

from cryoetgan.images import data_uri
from cryoetgan.report.evaluation_json import Accuracy

LIGHT = {"ink": "#1c1f24", "line": "#c9cdd4", "lines": ("#0072B2", "#D55E00", "#009E73", "#CC79A7")}
DARK = {"ink": "#e7e9ec", "line": "#4a505a", "lines": ("#56B4E9", "#F0A35E", "#2FCFA0", "#E9A6CC")}
LINE_STYLES = ("-", "--", "-.", ":")
Theme = Mapping[str, Any]


@dataclass(frozen=True)
class TrainingPlot:
    """Columns of log.csv that share a plot, with legend entries; `reference` is a level line."""

    title: str
    columns: Mapping[str, str] = field(default_factory=dict)
    is_log: bool = False
    reference: float | None = None


TEXTURE_COLUMNS = {
    "voxels": "grey values",
    "filters": "filter responses",
    "strengths": "local response strength",
}
TRAINING_PLOTS = (
    TrainingPlot("discriminator losses", {"loss_D_s": "subtomograms", "loss_D_d": "densities"}),
    TrainingPlot("adversarial loss of the generators", {"adversarial": ""}),
    TrainingPlot("cycle loss", {"cycle_d": "density", "cycle_s": "subtomogram"}),
    TrainingPlot("texture distance", TEXTURE_COLUMNS, is_log=True),
    TrainingPlot("spectrum distance", {"spectrum": ""}, is_log=True),
    TrainingPlot("SD ratio: generated / real", {"sd_ratio": ""}, reference=1.0),
    TrainingPlot(
        "discriminator scores of subtomograms",
        {"D_s_train": "training", "D_s_held_out": "held out"},
    ),
    TrainingPlot("noise ratio: fraction of the variation", {"noise_ratio": ""}),
    TrainingPlot("signal distance: 1 - cosine with the density", {"signal_cosine_distance": ""}),
    TrainingPlot("inception score", {"is": ""}),
    TrainingPlot("FID", {"fid": ""}),
    TrainingPlot("KID", {"kid": ""}),
)
RATIO_TICKS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100)


@dataclass(frozen=True)
class Plot:
    """A figure as `data:` URIs, for a light and for a dark page."""

    light: str
    dark: str


def _draw(draw: Callable[[Figure, Theme], None], size: tuple[float, float], dpi: int = 150) -> Plot:
    """Return a figure of `size` inches in both themes; `draw` adds its content.

    It is laid out once, in light colours; dark colours then take their place.
    """
    text = ("text.color", "axes.labelcolor", "xtick.color", "ytick.color")
    settings: Any = {
        **dict.fromkeys(text, LIGHT["ink"]),
        "axes.edgecolor": LIGHT["line"],
        "axes.facecolor": "none",
        "legend.frameon": False,
        "font.size": 9,
        "axes.spines.top": False,
        "axes.spines.right": False,
    }
    with rc_context(settings):
        figure = Figure(figsize=size, dpi=dpi, facecolor="none", layout="constrained")
        canvas = FigureCanvasAgg(figure)
        draw(figure, LIGHT)
        light = _png(canvas)
        figure.set_layout_engine("none")
        _recolour(figure)
        return Plot(light, _png(canvas))


def _png(canvas: FigureCanvasAgg) -> str:
    out = io.BytesIO()
    canvas.print_png(out, metadata={"Software": None})
    return data_uri(out.getvalue())


def _recolour(figure: Figure) -> None:
    """Replace each colour of the light theme by its colour in the dark theme."""
    pairs: list[tuple[Any, Any]] = [(LIGHT[name], DARK[name]) for name in ("ink", "line")]
    pairs += zip(LIGHT["lines"], DARK["lines"], strict=True)
    dark = {to_hex(light): to_rgba(other)[:3] for light, other in pairs}

    def swap(colour: Any) -> tuple[float, ...]:
        rgba = to_rgba(colour)
        return (*dark.get(to_hex(rgba), rgba[:3]), rgba[3])

    for artist in figure.findobj():
        for name in ("color", "edgecolor", "facecolor", "markeredgecolor", "markerfacecolor"):
            if not hasattr(artist, f"get_{name}") or not hasattr(artist, f"set_{name}"):
                continue
            colours = getattr(artist, f"get_{name}")()
            several = isinstance(colours, np.ndarray) and colours.ndim == 2
            new = list(map(swap, colours)) if several else swap(colours)
            getattr(artist, f"set_{name}")(new)


def plot_training(log: Mapping[str, Sequence[float]]) -> list[tuple[str, Plot]]:
    """Return the title and plot of each group of columns of log.csv against the step."""
    steps = np.asarray(log.get("step", ()), float)
    shown = []
    for panel in TRAINING_PLOTS:
        present = [n for n in panel.columns if n in log and np.isfinite(log[n]).any()]
        if present and len(steps):
            curves = {panel.columns[name]: np.asarray(log[name], float) for name in present}
            shown.append((panel.title, _draw(_training_curves(steps, curves, panel), (3.6, 2.3))))
    return shown


def _training_curves(
    steps: NDArray[np.float64], curves: Mapping[str, NDArray[np.float64]], panel: TrainingPlot
) -> Callable[[Figure, Theme], None]:
    def draw(figure: Figure, theme: Theme) -> None:
        axis = figure.subplots()
        for index, (name, values) in enumerate(curves.items()):
            colour = theme["lines"][index]
            good = np.isfinite(values)
            axis.plot(steps[good], values[good], color=colour, lw=0.7, alpha=0.35)
            smooth = _moving_average(values[good])
            axis.plot(steps[good], smooth, LINE_STYLES[index], color=colour, lw=1.7, label=name)
        if panel.reference is not None:
            axis.axhline(panel.reference, color=theme["line"], lw=1)
        if panel.is_log:
            axis.set_yscale("log")
        axis.set_xlabel("step")
        axis.margins(x=0.01)
        if len(curves) > 1:
            axis.legend()

    return draw


def _moving_average(values: NDArray[np.float64], window: float = 0.05) -> NDArray[np.float64]:
    """Return the moving average; `window` is a fraction of the length."""
    kernel = np.ones(max(1, int(len(values) * window)))
    weight = np.convolve(np.ones(len(values)), kernel, "same")
    return np.convolve(values, kernel, "same") / weight


def plot_power_spectra(
    power: Mapping[str, NDArray[np.float64]], voxel_size: float, box: int
) -> Plot:
    """Return the mean power of each set by Fourier shell, and its ratio to the first set.

    The power of a set is `(box // 2,)`, from shell 1 on; the voxel size is in angstrom.
    """

    def draw(figure: Figure, theme: Theme) -> None:
        above, below = figure.subplots(2, sharex=True, height_ratios=(2, 1))
        first = next(iter(power.values()))
        k = np.arange(1, len(first) + 1) / (box * voxel_size) * 10  # per nanometre
        for index, (name, values) in enumerate(power.items()):
            style, colour = LINE_STYLES[index % 4], theme["lines"][index % 4]
            floor = np.maximum(values, first[first > 0].min() * 1e-6 if (first > 0).any() else 1)
            above.semilogy(k, floor, style, color=colour, lw=1.7, label=name)
            if index:
                ratio = floor / np.maximum(first, 1e-30)
                below.semilogy(k, ratio, style, color=colour, lw=1.7)
        below.axhline(1, color=theme["line"], lw=1)
        low, high = below.get_ylim()
        low, high = min(low, 0.45), max(high, 2.2)
        below.set_yticks([r for r in RATIO_TICKS if low <= r <= high], minor=False)
        below.yaxis.set_major_formatter("{x:g}")
        below.minorticks_off()
        below.set_ylim(low, high)
        above.set_ylabel("mean power")
        below.set_ylabel(f"relative to {next(iter(power))}")
        below.set_xlabel("spatial frequency (1/nm)")
        above.legend()

    return _draw(draw, (5.2, 3.9))


def plot_learning_curve(
    curves: Mapping[str, Sequence[tuple[int, Accuracy]]], levels: Mapping[str, Accuracy]
) -> Plot:
    """Return accuracy against the number of training volumes, one line per set.

    Points are in order of size; `levels` are other training sets, drawn as horizontal lines.
    """

    def draw(figure: Figure, theme: Theme) -> None:
        axis = figure.subplots()
        colours = iter(theme["lines"])
        for name, points in curves.items():
            sizes = np.array([size for size, _ in points])
            value, low, high = np.array([[a.value, a.low, a.high] for _, a in points]).T * 100
            style = {"marker": "o", "ms": 4, "capsize": 3, "lw": 1.7, "color": next(colours)}
            axis.errorbar(sizes, value, [value - low, high - value], label=name, **style)
        for index, (name, accuracy) in enumerate(levels.items(), start=1):
            style = {"ls": LINE_STYLES[index % 4], "lw": 1.4, "color": next(colours)}
            axis.axhline(100 * accuracy.value, label=name, **style)
        majority = 100 * next(iter(curves.values()))[-1][1].majority
        axis.axhline(majority, color=theme["ink"], lw=0.8, ls=":", label="majority class")
        axis.set_xscale("log")
        ticks = sorted({size for points in curves.values() for size, _ in points})
        # labels of sizes within a factor of 1.25 would overlap
        labelled = [s for s, after in itertools.pairwise(ticks) if after > 1.25 * s]
        labelled.append(ticks[-1])
        axis.set_xticks(labelled, [f"{size:,}" for size in labelled])
        axis.minorticks_off()
        axis.set_ylim(0, 102)
        axis.set_xlabel("training volumes")
        axis.set_ylabel("accuracy on real crops (%)")
        figure.legend(loc="outside lower center", ncols=2, fontsize=8)

    return _draw(draw, (5.2, 3.6))


@dataclass(frozen=True)
class Method:
    """A row of the chart of methods: its value with the ends of the interval, and emphasis."""

    name: str
    value: float
    low: float
    high: float
    is_exported: bool = False


def plot_methods(methods: Sequence[Method], axis_title: str, levels: Mapping[str, float]) -> Plot:
    """Return a chart with one row a method, and vertical lines at the levels by name."""

    def draw(figure: Figure, theme: Theme) -> None:
        axis = figure.subplots()
        places = np.arange(len(methods))[::-1]
        for place, method in zip(places, methods, strict=True):
            colour = theme["lines"][1 if method.is_exported else 0]
            sides = [[method.value - method.low], [method.high - method.value]]
            style: Any = {"marker": "D" if method.is_exported else "o", "ms": 7, "lw": 2.5}
            axis.errorbar(
                [method.value], [place], xerr=np.maximum(sides, 0), color=colour, capsize=4, **style
            )
        for (name, value), style in zip(levels.items(), (":", "--"), strict=False):
            axis.axvline(value, color=theme["ink"], lw=1, ls=style, label=name)
        axis.set_yticks(places, [method.name for method in methods])
        for label, method in zip(axis.get_yticklabels(), methods, strict=True):
            label.set_fontweight("bold" if method.is_exported else "normal")
        axis.set_ylim(-0.6, len(methods) - 0.4)
        axis.grid(axis="x", color=theme["line"], lw=0.5)
        axis.set_axisbelow(True)
        axis.tick_params(axis="y", length=0)
        axis.set_xlabel(axis_title)
        if levels:
            figure.legend(loc="outside lower center", ncols=2, fontsize=8)

    return _draw(draw, (5.2, 1.3 + 0.36 * len(methods)))


def plot_scores(lines: Mapping[str, NDArray[np.float64]], title: str) -> Plot:
    """Return a score against the training step, one line per noise level.

    A line is `(N, 4)`: step, score, low and high end of its interval (or NaN).
    """

    def draw(figure: Figure, theme: Theme) -> None:
        axis = figure.subplots()
        for index, (name, line) in enumerate(lines.items()):
            style, colour = LINE_STYLES[index % 4], theme["lines"][index % 4]
            steps, values, low, high = line.T
            options: Any = {"color": colour, "lw": 1.7, "marker": "o", "ms": 3}
            axis.plot(steps, values, style, label=f"noise {name}", **options)
            axis.fill_between(steps, low, high, color=colour, alpha=0.15, lw=0)
        # readers overlook an offset such as "1e-5+1" above an axis
        axis.ticklabel_format(useOffset=False)
        axis.set_xlabel("step")
        axis.set_ylabel(title)
        axis.legend()

    return _draw(draw, (3.6, 2.5))


def viridis() -> NDArray[np.uint8]:
    """Return the colours of viridis, `(256, 3)`: perceptually uniform and colour-blind safe."""
    return np.asarray(colormaps["viridis"](np.arange(256), bytes=True)[:, :3], np.uint8)


def confusion_colours(fractions: NDArray[np.float64]) -> list[list[tuple[str, str]]]:
    """Return the background (cividis) and ink of each cell of a table of fractions in [0, 1]."""
    table = colormaps["cividis"](fractions)
    inks = np.where(fractions > 0.55, "#000000", "#ffffff")
    return [
        [(to_hex(colour), str(ink)) for colour, ink in zip(*row, strict=True)]
        for row in zip(table, inks, strict=True)
    ]
