"""The page: one self-contained HTML file, made from what the sections below return."""

import base64
import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined, select_autoescape

from cryoetgan import __version__
from cryoetgan.progress import track
from cryoetgan.report import plots, sections, slices
from cryoetgan.report.numbers import Accuracy, Metric
from cryoetgan.report.results import Results
from cryoetgan.report.verdict import checks, conclude, in_short

EXPECTED = ("gan_train", "physics_train", "ceiling", "gan_test")
EXPLAINED = {
    "gan_train": "trained on generated, tested on real",
    "physics_train": "trained on physics with typed-in parameters, tested on real",
    "physics_fitted_train": "trained on physics fitted to the tomograms, tested on real",
    "ceiling": "trained on labelled real crops, tested on real",
    "gan_test": "trained on real, tested on generated",
}
MEASURED = {"measure": "generated", "measure_untrained": "untrained", "measure_physics": "physics"}
TOMOGRAMS_SHOWN = 6


def build(results: Results, title: str, sample: int) -> str:
    """Return the page's HTML.

    Parameters
    ----------
    results : Results
        Of one run; what is missing is said on the page.
    title : str
        Heading.
    sample : int
        Volumes shown of each class.
    """
    presets = results.presets()
    if not presets:
        results.gaps.append("translation/: holds no trained checkpoint")
    config = sections.configuration(results)
    preset = sections.chosen_preset(presets, config)
    sets, marks = sections.volume_sets(results, preset)
    accuracies = results.accuracies(EXPECTED)
    measures = {
        column: results.metrics(name, optional=name == "measure_physics")
        for name, column in MEASURED.items()
    }
    verdict = conclude(accuracies, marks, sections.is_simulated(results))
    unlabelled = checks(measures["generated"], measures["untrained"])
    if marks == "template":
        verdict = replace(verdict, sentence=f"{verdict.sentence} {in_short(unlabelled)}".strip())
    content = {
        "title": title,
        "version": __version__,
        "run": results.folder.resolve().name,
        "preset": preset,
        "others": [name for name in presets if name != preset],
        "verdict": verdict,
        "checks": unlabelled,
        "accuracies": _accuracy_rows(accuracies),
        "classes": [
            (name, slices.panels(sets, name, sample))
            for name in track(sections.classes(sets), "drawing classes")
        ],
        "blind": sections.blind_test(sets),
        "tomograms": sections.tomogram_sections(results, config, TOMOGRAMS_SHOWN),
        "agreement": sections.agreement(results, config),
        "tables": sections.tables(results),
        "purity": sections.purity(results),
        "training": plots.training_curves(results.training_log(preset) if preset else {}),
        "spectra": sections.spectra(sets),
        "confusions": [(EXPLAINED.get(n, n), _confusion(a)) for n, a in accuracies.items()],
        "metrics": _metric_rows(measures),
        "counts": sections.counts(results),
        "sets": sections.set_rows(sets),
        "timings": sections.timings(results),
        "provenance": list(results.provenance()),
        "config": results.text("config.yaml"),
        "machine": sections.machine(),
        "gaps": sorted(set(results.gaps)),
        "warnings": [*verdict.caveats, *_warnings(measures)],
    }
    return render(content)


def render(content: Mapping[str, Any]) -> str:
    """Return the template filled in; every value is escaped, no address outside is allowed."""
    folder = Path(__file__).parent
    environment = Environment(
        loader=FileSystemLoader(folder),
        autoescape=select_autoescape(["html", "j2"]),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["short"] = short
    style = (folder / "page.css").read_text(encoding="utf-8")
    script = (folder / "page.js").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode("ascii")
    template = environment.get_template("page.html.j2")
    return template.render(style=style, script=script, script_hash=digest, **content)


def short(value: float, digits: int = 3) -> str:
    """Return a number as a reader wants it: few digits, no exponent for common sizes."""
    if value is None or not math.isfinite(value):
        return "-"
    if abs(value) < 1e-9:
        return "0"
    if not 1e-3 <= abs(value) < 1e5:
        return f"{value:.{digits - 1}e}"
    return f"{value:.{max(0, digits - 1 - math.floor(math.log10(abs(value))))}f}"


def _accuracy_rows(found: Mapping[str, Accuracy]) -> list[dict[str, Any]]:
    return [
        {"name": name, "explained": EXPLAINED.get(name, ""), "result": accuracy}
        for name, accuracy in found.items()
    ]


def _confusion(found: Accuracy) -> dict[str, Any]:
    import numpy as np

    table = np.asarray(found.confusion, float)
    shares = table / np.maximum(table.sum(axis=1, keepdims=True), 1)
    colours = plots.confusion_colours(shares)
    rows = [
        (name, [(count, *cell) for count, cell in zip(counts, line, strict=True)])
        for name, counts, line in zip(found.classes, found.confusion, colours, strict=True)
    ]
    return {"classes": found.classes, "rows": rows}


def _metric_rows(measures: Mapping[str, Mapping[str, Metric]]) -> list[dict[str, Any]]:
    names = dict.fromkeys(n for n in sections.METRICS if any(n in m for m in measures.values()))
    names |= dict.fromkeys(sorted({n for m in measures.values() for n in m}))
    rows = []
    for name in names:
        values = {column: found.get(name) for column, found in measures.items()}
        first = next(metric for metric in values.values() if metric)
        better, meaning = sections.METRICS.get(name, ("", ""))
        rows.append(
            {"name": name, "values": values, "nulls": first.nulls, "better": better, "is": meaning}
        )
    return rows


def _warnings(measures: Mapping[str, Mapping[str, Metric]]) -> Sequence[str]:
    said: list[str] = []
    for column in ("generated", "physics"):
        texts: dict[str, list[str]] = {}
        for name, found in measures[column].items():
            if found.warning:
                texts.setdefault(found.warning, []).append(name)
        said += [f"{column}, {', '.join(names)}: {text}" for text, names in texts.items()]
    return said
