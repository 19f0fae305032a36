"""The page: one self-contained HTML file."""

import base64
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, FileSystemLoader, select_autoescape

from cryoetgan import __version__
from cryoetgan.evaluation.metrics.spectra import shell_power
from cryoetgan.progress import track
from cryoetgan.report import figures
from cryoetgan.report.results import ACCURACIES, Results
from cryoetgan.report.verdict import Verdict, conclude
from cryoetgan.star import COORDINATES, read_star
from cryoetgan.volumes import VolumeSet, read_volume

SPECTRUM_SAMPLE = 150
EXPLAINED = {
    "gan_train": "trained on generated, tested on real",
    "physics_train": "trained on typed-in physics, tested on real",
    "ceiling": "trained on labelled real crops, tested on real",
    "gan_test": "trained on real, tested on generated",
}
COLUMNS = {"measure": "generated", "measure_untrained": "untrained", "measure_physics": "physics"}


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
    preset = (results.presets() or [""])[0]
    real = results.volume_set("particles/marked.star")
    marked = _kind_of_marks(results, real)
    real = real or results.volume_set("particles/subtomograms.star")
    sets = {
        "real": real,
        "physics": results.volume_set("imaging/simulated.star"),
        "generated": results.volume_set(f"translation/{preset}/generated.star") if preset else None,
        "density": results.volume_set("densities/poses.star"),
    }
    there = {name: volumes for name, volumes in sets.items() if volumes is not None}
    accuracies = {n: f for n in ACCURACIES if (f := results.json(f"evaluation/{n}.json"))}
    verdict = conclude(accuracies, marked, _is_simulated(results))
    measures = {c: results.json(f"evaluation/{n}.json") for n, c in COLUMNS.items()}
    content = {
        "title": title,
        "version": __version__,
        "run": results.folder.name,
        "preset": preset,
        "verdict": verdict,
        "accuracies": _accuracy_rows(accuracies),
        "slices": _slices(there, sample),
        "picks": _picks(results),
        "losses": _losses(results, preset),
        "spectra": _spectra(there),
        "confusions": _confusions(accuracies),
        "metrics": _metric_rows(measures),
        "untrained": _untrained(measures),
        "counts": results.counts(),
        "timings": results.timings(),
        "provenance": list(results.provenance()),
        "config": _config(results),
        "gaps": sorted(set(results.gaps)),
        "warnings": _warnings(measures, verdict),
    }
    folder = Path(__file__).parent
    templates = Environment(
        loader=FileSystemLoader(folder), autoescape=select_autoescape(["html", "j2"])
    )
    style = (folder / "page.css").read_text(encoding="utf-8")
    return templates.get_template("page.html.j2").render(style=style, **content)


def _image(png: bytes | None) -> str | None:
    return None if png is None else "data:image/png;base64," + base64.b64encode(png).decode()


def _kind_of_marks(results: Results, marked: VolumeSet | None) -> str:
    if marked is None:
        results.gaps = [gap for gap in results.gaps if not gap.startswith("particles/marked.star")]
        return "template"
    return "truth" if _is_simulated(results) else "marked"


def _is_simulated(results: Results) -> bool:
    return any(path.with_suffix(".star").exists() for path in results.tomograms())


def _accuracy_rows(found: Mapping[str, dict[str, Any]]) -> list[dict[str, Any]]:
    return [
        {
            "name": name,
            "explained": EXPLAINED[name],
            "accuracy": 100 * result["accuracy"],
            "low": 100 * result["interval"][0],
            "high": 100 * result["interval"][1],
            "n_train": result["n_train"],
            "n_test": result["n_test"],
            "network": result.get("network", ""),
        }
        for name, result in found.items()
    ]


def _slices(sets: Mapping[str, VolumeSet], sample: int) -> list[tuple[str, str | None]]:
    classes: set[str] = set()
    for volumes in sets.values():
        if "cryoetganClass" in volumes.table:
            classes |= set(volumes.classes())
    return [
        (name, _image(figures.class_slices(sets, name, sample)))
        for name in track(sorted(classes), "drawing classes")
    ]


def _picks(results: Results) -> list[tuple[str, str | None]]:
    path = results.folder / "particles" / "selected.star"
    if not path.exists():
        return []
    table = read_star(path, ["rlnTomoName", *COORDINATES]).particles
    shown = []
    for tomogram in results.tomograms():
        part = table[table["rlnTomoName"].astype(str) == tomogram.stem]
        volume = read_volume(tomogram)
        png = figures.picks_over_slice(volume.data, volume.voxel_size, part, tomogram.stem)
        shown.append((tomogram.stem, _image(png)))
    return shown


def _losses(results: Results, preset: str) -> str | None:
    rows = results.training_log(preset) if preset else []
    return _image(figures.loss_curves(rows)) if rows else None


def _spectra(sets: Mapping[str, VolumeSet]) -> str | None:
    shown = {name: sets[name] for name in ("real", "physics", "generated") if name in sets}
    if not shown:
        return None
    power = {}
    for name, volumes in shown.items():
        chosen = np.linspace(0, len(volumes) - 1, min(SPECTRUM_SAMPLE, len(volumes))).astype(int)
        power[name] = shell_power(np.asarray(volumes.volumes[np.unique(chosen)], np.float32))
    first = next(iter(shown.values()))
    return _image(figures.power_spectra(power, first.voxel_size, first.box))


def _confusions(found: Mapping[str, dict[str, Any]]) -> list[tuple[str, str | None]]:
    return [
        (EXPLAINED[n], _image(figures.confusion(f["classes"], f["confusion"], n)))
        for n, f in found.items()
    ]


def _metric_rows(measures: Mapping[str, dict[str, Any]]) -> list[dict[str, Any]]:
    names = sorted({name for found in measures.values() for name in found})
    return [
        {
            "name": name,
            "values": {column: found.get(name) for column, found in measures.items()},
            "nulls": (measures["generated"].get(name) or {}).get("nulls", {}),
        }
        for name in names
    ]


def _untrained(measures: Mapping[str, dict[str, Any]]) -> str | None:
    """Return what training changed, by KID."""
    trained, before = (measures[c].get("kid") for c in ("generated", "untrained"))
    if not trained or not before:
        return None
    change = "lower" if trained["value"] < before["value"] else "NOT lower"
    return (
        f"KID to real crops is {trained['value']:.3g} after training and {before['value']:.3g} "
        f"before: {change}."
    )


def _warnings(measures: Mapping[str, dict[str, Any]], verdict: Verdict) -> list[str]:
    said = list(verdict.caveats)
    for column in ("generated", "physics"):
        texts: dict[str, list[str]] = {}
        for name, found in measures[column].items():
            if found.get("warning"):
                texts.setdefault(found["warning"], []).append(name)
        said += [f"{column}, {', '.join(names)}: {text}" for text, names in texts.items()]
    return said


def _config(results: Results) -> str:
    path = results.folder / "config.yaml"
    return path.read_text(encoding="utf-8") if path.exists() else ""
