"""The page: one self-contained HTML file, made from what the sections below return."""

import base64
import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined, select_autoescape
from markupsafe import Markup, escape

from cryoetgan import __version__
from cryoetgan.io.volume_set import VolumeSet
from cryoetgan.progress import track
from cryoetgan.report import imaging_fit, learning_curves, paper, plots, sections, slices
from cryoetgan.report.comparison import comparison
from cryoetgan.report.evaluation_results import Accuracy, Metric, short
from cryoetgan.report.hardware import machine
from cryoetgan.report.results import Results
from cryoetgan.report.verdict import checks, conclude, in_short

EXPECTED = ("gan_train", "conventional_train", "real_train", "gan_test")
EXPLAINED = {
    "gan_train": "trained on generated, tested on real",
    "conventional_train": "trained on physics with typed-in parameters, tested on real",
    "fitted_train": "trained on physics fitted to the tomograms, tested on real",
    "real_train": "trained on labelled real crops, tested on real",
    "pseudo_label_train": "trained on picks named by their best template, tested on real",
    "gan_test": "trained on real, tested on generated",
}
PSEUDO = {
    "real_train": "trained on picks named by their best template, tested on others named so",
    "gan_test": "trained on picks named by their best template, tested on generated",
}
"""What is another thing where no crop is marked."""
MEASURED = {
    "measure": "generated",
    "measure_untrained": "untrained",
    "measure_conventional": "physics",
    "measure_fitted": "fitted physics",
}
OPTIONAL = ("measure_conventional", "measure_fitted")
COLUMNS = {
    "generated": "generated",
    "untrained": "untrained generator",
    "physics": "physics, typed in",
    "fitted physics": "physics, fitted",
}
PANELS = {
    "real": ("real", "particles: no crops yet"),
    "physics": ("physics, typed in", "imaging/simulated.star: not made"),
    "fitted physics": ("physics, fitted", "imaging/fitted.star: not made"),
    "density": ("density d", "densities/poses.star: not made"),
    "generated": ("generated G(d)", "generated.star: not made"),
    "back": ("back again G(G(d))", "cycled.star: not made"),
}
BLIND = {"generated": "generated", "fitted": "fitted physics"}
"""Which set the reader is to tell from real crops: the one that is exported."""
WARNINGS_SHOWN = 30
TOMOGRAMS_SHOWN = 6
SYNTHETIC_SHOWN = 2


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
    found = results.accuracies(EXPECTED)
    explained = _explained(found, marks)
    order = dict.fromkeys([*(name for name in explained if name in found), *found])
    accuracies = {name: found[name] for name in order if not learning_curves.is_point(name)}
    measures = {
        column: results.metrics(name, optional=name in OPTIONAL)
        for name, column in MEASURED.items()
    }
    fits, doubts = imaging_fit.fits(results)
    ablated = sections.ablation_rows(results)
    shipped, why = sections.choice(results)
    blind = BLIND[shipped] if BLIND[shipped] in sets else "generated"
    verdict = conclude(accuracies, marks, sections.is_simulated(results), shipped)
    unlabelled = {"generated": checks(measures["generated"], measures["untrained"])}
    if shipped == "fitted":
        said = checks(measures["fitted physics"], measures["physics"], fitted=True)
        unlabelled = {"fitted physics, which is exported": said} | unlabelled
    if marks == "template":
        exported = in_short(next(iter(unlabelled.values())))
        verdict = replace(verdict, sentence=f"{verdict.sentence} {exported}".strip())
    content = {
        "title": title,
        "version": __version__,
        "run": results.folder.resolve().name,
        "preset": preset,
        "others": [name for name in presets if name != preset],
        "verdict": verdict,
        "shipped": sections.reasons(shipped, why, accuracies, marks),
        "checks": unlabelled,
        "accuracies": _accuracy_rows(accuracies, explained),
        "classes": _pictures(sets, sample),
        "uncertainty": [(n, slices.uncertainty(sets, n)) for n in sections.classes(sets)],
        "blind": sections.blind_test(sets, blind),
        "blind_of": sections.SPECTRA[blind],
        "tomograms": sections.tomogram_sections(results, config, TOMOGRAMS_SHOWN),
        "synthetic": sections.synthetic_sections(results, preset, config, SYNTHETIC_SHOWN),
        "agreement": sections.agreement(results, config),
        "tables": sections.tables(results),
        "comparison": comparison(results),
        "table_2": paper.table_2(measures, accuracies),
        "ablations": paper.ablation_tables(ablated),
        "ablated": bool(ablated),
        "purity": sections.purity(results),
        "training": sections.training(results, preset, config),
        "by_step": learning_curves.by_step(results),
        "learning": learning_curves.learning(found),
        "spectra": sections.spectra(sets),
        "fits": fits,
        "confusions": [
            (f"{explained.get(n, n)} ({a.network})", _confusion(a)) for n, a in accuracies.items()
        ],
        "metrics": _metric_rows(measures),
        "columns": {c: label for c, label in COLUMNS.items() if measures[c]},
        "dataset": sections.dataset(results, sets),
        "boxes": sections.boxes(sets),
        "recorded": sections.tomogram_rows(results),
        "timings": sections.timings(results),
        "provenance": list(results.provenance()),
        "config": results.text("config.yaml"),
        "machine": machine(),
        "gaps": [*sections.failed(results), *sorted(set(results.gaps))],
        "warnings": [
            *verdict.caveats,
            *doubts,
            *_warnings(measures),
            *sections.warned(results)[:WARNINGS_SHOWN],
        ],
    }
    return render(content)


def _pictures(
    sets: Mapping[str, VolumeSet], sample: int
) -> list[tuple[str, list[tuple[str, slices.Panel | str]]]]:
    """Return for each class its panels, or why one is not there."""
    wanted = {name: sets[name] for name in PANELS if name in sets}
    found = []
    for name in track(sections.classes(wanted), "drawing classes"):
        panels = {panel.name: panel for panel in slices.panels(wanted, name, sample)}
        said = [
            (label, panels.get(key) or (f"no {name} in it" if key in sets else absent))
            for key, (label, absent) in PANELS.items()
        ]
        found.append((name, said))
    return found


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
    environment.filters["ticked"] = _ticked
    style = (folder / "page.css").read_text(encoding="utf-8")
    script = (folder / "page.js").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode("ascii")
    template = environment.get_template("page.html.j2")
    return template.render(style=style, script=script, script_hash=digest, **content)


def _ticked(text: str) -> Markup:
    """Return a sentence escaped, with what stands in backticks as code."""
    return Markup(re.sub(r"`([^`]*)`", r"<code>\1</code>", str(escape(text))))


def _explained(found: Mapping[str, Accuracy], marks: str) -> dict[str, str]:
    """Return what each classifier learnt from and was tested on, the second network's after all."""
    said = EXPLAINED | (PSEUDO if marks == "template" else {})
    networks = dict.fromkeys(accuracy.network for accuracy in found.values())
    return said | {f"{of}_{network}": said[of] for network in networks for of in said}


def _accuracy_rows(
    found: Mapping[str, Accuracy], explained: Mapping[str, str]
) -> list[dict[str, Any]]:
    return [
        {"name": name, "explained": explained.get(name, ""), "result": accuracy}
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
            {
                "name": name,
                "values": values,
                "baselines": first.baselines,
                "better": better,
                "is": meaning,
            }
        )
    return rows


def _warnings(measures: Mapping[str, Mapping[str, Metric]]) -> Sequence[str]:
    said: list[str] = []
    for column in ("generated", "physics", "fitted physics"):
        texts: dict[str, list[str]] = {}
        for name, found in measures[column].items():
            if found.warning:
                texts.setdefault(found.warning, []).append(name)
        said += [f"{column}, {', '.join(names)}: {text}" for text, names in texts.items()]
    return said
