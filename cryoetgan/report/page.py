"""The report: one self-contained HTML page, with a verdict and the sections."""

import base64
import functools
import hashlib
import re
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined, select_autoescape
from markupsafe import Markup, escape

from cryoetgan import __version__
from cryoetgan.report.evaluation_json import short
from cryoetgan.report.label_free import checks_by_set, headline_checks, summarise
from cryoetgan.report.results import Results
from cryoetgan.report.run import Run, load_run
from cryoetgan.report.sections import SECTIONS, Section
from cryoetgan.report.sections.accuracy import draw_methods
from cryoetgan.report.sections.provenance import failed_jobs
from cryoetgan.report.verdict import compare_with_choice, conclude, find_level

TEMPLATES = Path(__file__).parent / "templates"


def build(results: Results, title: str, sample: int) -> str:
    """Return the HTML of the page; missing files are listed on it and in `results.gaps`.

    At most `sample` volumes of each class are shown.
    """
    run = load_run(results, sample)
    rendered = [(section, render_section(section, run)) for section in SECTIONS]
    verdict = conclude(run.accuracies, run.label_source, run.simulated, run.exported)
    checks = headline_checks(run)
    level = find_level(verdict, checks, run.label_source)
    others = next(iter(checks_by_set(run).values()))
    warnings = [line for section in SECTIONS for line in section.warnings(run)]
    missing = [*failed_jobs(results), *sorted(set(results.gaps))]
    script = (TEMPLATES / "page.js").read_text(encoding="utf-8")
    return (
        _environment()
        .get_template("page.html.j2")
        .render(
            title=title,
            version=__version__,
            run=results.folder.resolve().name,
            preset=run.preset,
            other_presets=[name for name in run.presets if name != run.preset],
            verdict=verdict,
            level=level,
            checks=checks,
            chart=draw_methods(run),
            summary=summarise(others) if run.label_source == "templates" else "",
            choice=_explain_choice(run),
            notes=[
                ("warnings", "Warnings", [*verdict.caveats, *warnings]),
                ("gaps", "Missing results", missing),
            ],
            sections=[(section, html) for section, html in rendered if html],
            style=(TEMPLATES / "page.css").read_text(encoding="utf-8"),
            script=script,
            script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode("ascii"),
        )
    )


def render_section(section: Section, run: Run) -> Markup:
    """Return the HTML of a section below its heading; empty if there is nothing to show."""
    values = section.values(run)
    template = _environment().get_template(f"{section.name}.html.j2")
    return Markup(template.render(values)) if values else Markup("")


@functools.cache
def _environment() -> Environment:
    """Return the template environment; every value is escaped, every variable must exist."""
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=select_autoescape(["html", "j2"], default_for_string=True),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["short"] = short
    environment.filters["backticks"] = _mark_code
    return environment


def _mark_code(text: str) -> Markup:
    """Return escaped text; parts in backticks become code."""
    return Markup(re.sub(r"`([^`]*)`", r"<code>\1</code>", str(escape(text))))


def _explain_choice(run: Run) -> list[str]:
    """Return the reason of the exported set, and its agreement with annotated crops."""
    if run.choice is None:
        return []
    agreement = compare_with_choice(run.exported, run.accuracies, run.label_source)
    return [f"Exported set: {run.choice.reason}", *([agreement] if agreement else [])]
