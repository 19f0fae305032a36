"""A run as the sections of the page see it: volume sets, accuracies, metrics, configuration."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from cryoetgan.errors import UserError
from cryoetgan.evaluation.selection import Choice
from cryoetgan.evaluation.statistics.intervals import wilson
from cryoetgan.io.files import read_yaml
from cryoetgan.io.volume_set import VolumeSet
from cryoetgan.report.evaluation_json import Accuracy, HalfTest, HandTest, Metric
from cryoetgan.report.results import Results, volumes_in

TITLES = {
    "real": "real",
    "conventional": "conventional simulation",
    "fitted": "fitted simulation",
    "density": "density",
    "generated": "generated",
    "untrained": "untrained generator",
}
"""Names of the volume sets on the page."""
EXPECTED_CLASSIFIERS = ("gan_train", "conventional_train", "real_train", "gan_test")
METRIC_FILES = {
    "generated": "measure",
    "untrained": "measure_untrained",
    "conventional": "measure_conventional",
    "fitted": "measure_fitted",
}
"""Volume set to the name of its JSON file in evaluation/."""
OPTIONAL_METRICS = ("conventional", "fitted")


@dataclass(frozen=True, kw_only=True)
class Selection:
    """The evidence on the selected particles that needs no labels.

    `counts` and `rates` are the number and the estimated false discovery rate of the particles by
    class; rates require decoys. `hands` are the hand tests by tomogram and class, `halves` the tests of
    half tomograms.
    """

    counts: Mapping[str, int] = field(default_factory=dict)
    rates: Mapping[str, float] = field(default_factory=dict)
    hands: Mapping[str, Mapping[str, HandTest]] = field(default_factory=dict)
    halves: Mapping[str, Mapping[str, HalfTest]] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)

    def half(self, name: str = "") -> HalfTest | None:
        """Return the half test of all tomograms: of all classes, of one, or of `other` picks."""
        parts = [found[name] for found in self.halves.values() if name in found and found[name].n]
        if not parts:
            return None
        count, both = sum(part.n for part in parts), sum(part.n * part.share for part in parts)
        return HalfTest(both / count, *wilson(both, count), count)

    @property
    def hand(self) -> HandTest | None:
        """The hand test of all tomograms and of all classes whose map has a hand."""
        parts = [found[""] for found in self.hands.values() if found[""].n]
        if not parts:
            return None
        count = sum(part.n for part in parts)
        own = sum(part.n * part.share for part in parts)
        share, wrong = own / count, any(part.is_wrong_hand for part in parts)
        precision = max(0.0, 2 * share - 1)
        return HandTest(share, *wilson(own, count), count, precision, math.nan, wrong)


@dataclass(frozen=True, kw_only=True)
class Run:
    """The results of one run. Missing volume sets have no entry in `sets`.

    The origin of the real crops' classes, `label_source`, is `truth` (a simulation), `annotations`
    (a person) or `templates` (the best template). `preset` is "" if none was trained.
    """

    results: Results
    sample: int
    config: Mapping[str, Any]
    presets: list[str]
    preset: str
    sets: Mapping[str, VolumeSet]
    label_source: str
    simulated: bool
    accuracies: Mapping[str, Accuracy]
    metrics: Mapping[str, Mapping[str, Metric]]
    choice: Choice | None
    selection: Selection

    @property
    def exported(self) -> str:
        """Name of the exported set, `generated` or `fitted`."""
        return self.choice.exported if self.choice else "generated"

    @property
    def box(self) -> int:
        """Box length in voxels, for circles over tomograms."""
        return int(config_section(self.config, "densities").get("box") or 28)

    def classes(self) -> list[str]:
        """Return the names of all classes, sorted."""
        return sorted({str(name) for volumes in self.sets.values() for name in volumes.classes()})


def load_run(results: Results, sample: int) -> Run:
    """Read a run; files that are missing or invalid are added to `results.gaps`."""
    presets = results.presets()
    if not presets:
        results.gaps.append("translation/: holds no trained checkpoint")
    config = _read_config(results)
    # the configured preset, else the first one
    wanted = str(config_section(config, "translation").get("preset", ""))
    preset = wanted if wanted in presets else (presets or [""])[0]
    tomograms = volumes_in(results.folder / "tomograms")
    simulated = any(path.with_suffix(".star").exists() for path in tomograms)
    sets, annotated = _read_volume_sets(results, preset)
    label_source = ("truth" if simulated else "annotations") if annotated else "templates"
    return Run(
        results=results,
        sample=sample,
        config=config,
        presets=presets,
        preset=preset,
        sets=sets,
        label_source=label_source,
        simulated=simulated,
        accuracies=results.accuracies(EXPECTED_CLASSIFIERS),
        metrics={
            name: results.metrics(file, optional=name in OPTIONAL_METRICS)
            for name, file in METRIC_FILES.items()
        },
        choice=results.choice(),
        selection=_read_selection(
            results, float(config_section(config, "particles").get("fdr", 1))
        ),
    )


def _read_selection(results: Results, fdr: float) -> Selection:
    """Return the evidence on the selected particles; a q-value above `fdr` is of an accepted one."""
    table = results.table("particles/selected.star", ["cryoetganClass"])
    counts, rates = {}, {}
    for name, rows in table.groupby("cryoetganClass") if table is not None else ():
        counts[str(name)] = len(rows)
        if "cryoetganQValue" in rows:
            q = rows["cryoetganQValue"].to_numpy(float)
            rates[str(name)] = float(max(q[q <= fdr], default=fdr))
    hands: dict[str, Mapping[str, HandTest]] = {}
    named: dict[str, list[str]] = {}
    for tomogram, tests, texts in results.hand_tests():
        hands[tomogram] = tests
        for text in texts:
            named.setdefault(text, []).append(tomogram)
    halves: dict[str, Mapping[str, HalfTest]] = {}
    for tomogram, halved, texts in results.half_tests():
        halves[tomogram] = halved
        for text in texts:
            named.setdefault(text, []).append(tomogram)
    warnings = [f"{', '.join(names)}: {text}" for text, names in named.items()]
    return Selection(counts=counts, rates=rates, hands=hands, halves=halves, warnings=warnings)


def _read_config(results: Results) -> Mapping[str, Any]:
    """Return the content of config.yaml; empty if it is missing or invalid."""
    if not results.has("config.yaml"):
        return {}
    path = results.folder / "config.yaml"
    try:
        return read_yaml(path)
    except UserError as error:
        results.gaps.append(str(error).replace(str(path), path.name))
        return {}


def config_section(config: Mapping[str, Any], stage: str) -> Mapping[str, Any]:
    """Return the configuration of a stage; empty if it is missing."""
    found = config.get(stage)
    return found if isinstance(found, Mapping) else {}


def _read_volume_sets(results: Results, preset: str) -> tuple[dict[str, VolumeSet], bool]:
    """Return the volume sets by name, and whether the real crops are annotated."""
    annotated = results.volume_set("particles/annotated.star", optional=True)
    found = {
        "real": annotated or results.volume_set("particles/subtomograms.star"),
        "conventional": results.volume_set("imaging/simulated.star"),
        "fitted": results.volume_set("imaging/fitted.star", optional=True),
    }
    generator = f"translation/{preset}"
    if preset:
        found["generated"] = results.volume_set(f"{generator}/generated.star")
    found["density"] = results.volume_set("densities/poses.star")
    if preset:
        found["cycle"] = results.volume_set(f"{generator}/cycled.star", optional=True)
        for name in ("dropout_sd", "noise_sd"):
            star = f"{generator}/uncertainty/{name}.star"
            found[name] = results.volume_set(star, optional=True)
    sets = {name: volumes for name, volumes in found.items() if volumes is not None}
    return sets, annotated is not None
