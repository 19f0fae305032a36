"""The report: one self-contained HTML page, with a verdict and the sections."""

import base64
import hashlib

from markupsafe import Markup

from cryoetgan import __version__
from cryoetgan.report.html import ENVIRONMENT, FOLDER
from cryoetgan.report.label_free import checks_by_set, summarise
from cryoetgan.report.results import Results
from cryoetgan.report.run import Run, load_run
from cryoetgan.report.sections import SECTIONS
from cryoetgan.report.sections.provenance import failed_jobs
from cryoetgan.report.verdict import compare_with_choice, conclude


def build(results: Results, title: str, sample: int) -> str:
    """Return the HTML of the page; missing files are listed on it and in `results.gaps`.

    Parameters
    ----------
    results : Results
        Results of one run.
    title : str
        Heading.
    sample : int
        Number of volumes shown of each class.
    """
    run = load_run(results, sample)
    rendered = [(section, Markup("").join(section.render(run))) for section in SECTIONS]
    verdict = conclude(run.accuracies, run.label_source, run.simulated, run.exported)
    checks = next(iter(checks_by_set(run).values()))
    warnings = [line for section in SECTIONS for line in section.warnings(run)]
    missing = [*failed_jobs(results), *sorted(set(results.gaps))]
    script = (FOLDER / "page.js").read_text(encoding="utf-8")
    return ENVIRONMENT.get_template("page.html.j2").render(
        title=title,
        version=__version__,
        run=results.folder.resolve().name,
        preset=run.preset,
        other_presets=[name for name in run.presets if name != run.preset],
        verdict=verdict,
        summary=summarise(checks) if run.label_source == "templates" else "",
        choice=explain_choice(run),
        notes=[
            ("warnings", "Warnings", [*verdict.caveats, *warnings]),
            ("gaps", "Missing results", missing),
        ],
        sections=[(section, html) for section, html in rendered if html],
        style=(FOLDER / "page.css").read_text(encoding="utf-8"),
        script=script,
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode("ascii"),
    )


def explain_choice(run: Run) -> list[str]:
    """Return the reason of the exported set, and its agreement with annotated crops."""
    if run.choice is None:
        return []
    agreement = compare_with_choice(run.exported, run.accuracies, run.label_source)
    return [f"Exported set: {run.choice.reason}", *([agreement] if agreement else [])]
