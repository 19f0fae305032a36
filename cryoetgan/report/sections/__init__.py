"""The sections of the page: a function for the values and a template for the text of each."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from cryoetgan.report.run import Run
from cryoetgan.report.sections import (
    accuracy,
    data,
    detection,
    generators,
    imaging,
    provenance,
    result_tables,
    selected_particles,
    tomograms,
    training,
    volumes,
)


@dataclass(frozen=True)
class Section:
    """A section of the page; `name` is the identifier of its HTML element.

    `values` returns the variables of the template templates/NAME.html.j2; without any, the section
    is omitted. `warnings` returns sentences for the list of warnings at the top of the page.
    """

    name: str
    title: str
    values: Callable[[Run], Mapping[str, Any]]
    warnings: Callable[[Run], list[str]] = lambda run: []


SECTIONS = (
    Section("detection", "Detected particles", detection.draw_detections, detection.warnings),
    Section("generators", "Generators side by side", generators.compare_generators),
    Section("volumes", "Real and synthetic volumes", volumes.draw_volumes),
    Section(
        "selection",
        "Selected particles",
        selected_particles.judge_selection,
        selected_particles.warnings,
    ),
    Section("accuracy", "Classifier accuracy on real crops", accuracy.list_classifiers),
    Section("learning", "Number of training volumes", accuracy.draw_learning_curves),
    Section("metrics", "Metrics", result_tables.list_metrics, result_tables.metric_warnings),
    Section("comparison", "Comparison of training sets", result_tables.compare_sets),
    Section("paper", "Comparison with the paper", result_tables.compare_with_paper),
    Section("tables", "Other tables", result_tables.list_other_tables),
    Section("imaging", "Power spectra and imaging models", imaging.list_fits, imaging.warnings),
    Section("training", "Training", training.draw_training),
    Section("picks", "Picks", tomograms.draw_picks),
    Section("synthetic", "Synthetic tomograms", tomograms.draw_synthetic),
    Section("blind", "Blind test", volumes.draw_blind_test),
    Section("data", "Data", data.describe_data),
    Section("provenance", "Provenance", provenance.describe_run, provenance.warnings),
)
"""All sections, in the order of the page."""
