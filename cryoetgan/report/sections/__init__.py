"""The sections of the page: one module each. Add a section by a module and an entry here."""

from cryoetgan.report.html import Section
from cryoetgan.report.sections import (
    accuracy,
    blind_test,
    comparison,
    dataset,
    imaging,
    learning_curve,
    metrics,
    paper_tables,
    picks,
    provenance,
    synthetic_tomograms,
    tables,
    training,
    volumes,
)

SECTIONS: tuple[Section, ...] = (
    volumes.SECTION,
    accuracy.SECTION,
    learning_curve.SECTION,
    metrics.SECTION,
    comparison.SECTION,
    paper_tables.SECTION,
    tables.SECTION,
    imaging.SECTION,
    training.SECTION,
    picks.SECTION,
    synthetic_tomograms.SECTION,
    blind_test.SECTION,
    dataset.SECTION,
    provenance.SECTION,
)
"""All sections, in the order of the page."""
