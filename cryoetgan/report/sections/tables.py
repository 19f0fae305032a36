"""Section: the CSV tables of the evaluation that have no section of their own."""

from collections.abc import Iterator

from markupsafe import Markup

from cryoetgan.report.evaluation_json import with_interval
from cryoetgan.report.html import Section, macros
from cryoetgan.report.results import Results
from cryoetgan.report.run import Run
from cryoetgan.report.sections.comparison import COMPARISON
from cryoetgan.report.sections.paper_tables import ABLATIONS_FILE
from cryoetgan.report.sections.training import EPOCHS_FILE


def render(run: Run) -> Iterator[Markup]:
    """Yield the tables under the names of their files."""
    for name, rows in evaluation_tables(run.results):
        yield macros.heading(name) + macros.grid(rows)


def evaluation_tables(
    results: Results, max_rows: int = 200
) -> Iterator[tuple[str, list[list[str]]]]:
    """Yield name and rows of each other CSV file; an interval is shown behind its value."""
    for path in sorted(results.folder.glob("evaluation/**/*.csv")):
        name = path.relative_to(results.folder).as_posix()
        if path.name in (ABLATIONS_FILE, EPOCHS_FILE) or name == COMPARISON:
            continue
        rows = results.rows(name)[:max_rows]
        if not rows:
            continue
        columns = [column for column in rows[0] if column]
        bounded = [c for c in columns if {f"{c}_low", f"{c}_high"} <= set(columns)]
        bounds = {f"{column}_{end}" for column in bounded for end in ("low", "high")}
        kept = [column for column in columns if column not in bounds]
        cells = [
            [with_interval(row, c) if c in bounded else row.get(c) or "" for c in kept]
            for row in rows
        ]
        yield name, [kept, *cells]


SECTION = Section("tables", "Other tables", render)
