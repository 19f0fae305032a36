"""Section: the CSV tables of the evaluation that have no section of their own."""

import csv
from collections.abc import Mapping
from typing import Any

from cryoetgan.report.evaluation_json import short
from cryoetgan.report.results import Results
from cryoetgan.report.run import Run
from cryoetgan.report.section import Section
from cryoetgan.report.sections.comparison import COMPARISON
from cryoetgan.report.sections.paper_tables import ABLATIONS_FILE
from cryoetgan.report.sections.training import EPOCHS_FILE

Rows = list[list[str]]
TEMPLATE = """
{% for name, rows in tables %}
<h3>{{ name }}</h3>
{{ m.grid(rows) }}
{% endfor %}
"""


def context(run: Run) -> Mapping[str, Any] | None:
    """Return the tables; the section is omitted if there are none."""
    tables = evaluation_tables(run.results)
    return {"tables": tables} if tables else None


def evaluation_tables(results: Results, max_rows: int = 200) -> list[tuple[str, Rows]]:
    """Return name and content of each other CSV file, heading first."""
    found = []
    for path in sorted(results.folder.glob("evaluation/**/*.csv")):
        name = path.relative_to(results.folder).as_posix()
        if path.name in (ABLATIONS_FILE, EPOCHS_FILE) or name == COMPARISON:
            continue
        rows = [row for row in csv.reader(results.text(name).splitlines()) if row]
        if len(rows) > 1:
            found.append((name, fold_intervals(rows[:max_rows])))
    return found


def fold_intervals(rows: Rows) -> Rows:
    """Return a table with the columns x, x_low and x_high in one: `value (low to high)`."""
    heading = rows[0]
    place = {name: i for i, name in enumerate(heading)}
    bounds = {
        name: (place[f"{name}_low"], place[f"{name}_high"])
        for name in heading
        if {f"{name}_low", f"{name}_high"} <= set(place)
    }
    inner = {index for pair in bounds.values() for index in pair}
    kept = [i for i in range(len(heading)) if i not in inner]
    folded = [[heading[i] for i in kept]]
    for row in rows[1:]:
        if len(row) != len(heading):
            return rows  # rows of unequal length: shown unchanged
        cells = []
        for i in kept:
            low, high = (row[j] for j in bounds.get(heading[i], (i, i)))
            has_interval = heading[i] in bounds and row[i] and low and high
            cells.append(
                f"{_shorten(row[i])} ({_shorten(low)} to {_shorten(high)})"
                if has_interval
                else row[i]
            )
        folded.append(cells)
    return folded


def _shorten(text: str) -> str:
    try:
        return short(float(text))
    except ValueError:
        return text


SECTION = Section(name="tables", title="Other tables", template=TEMPLATE, context=context)
