"""The table of `snakemake competition`: what each kind of synthetic set teaches."""

from typing import Any

from cryoetgan.report.results import Results

TABLE = "evaluation/competition/competitors.csv"
TITLES = {
    "gan_train": "trained on it",
    "above_baseline": "above the baseline",
    "mixed": "with a few real crops",
    "gan_test": "GAN-test",
}
NAMES = {
    "noise": "fitted noise, no transfer",
    "alone": "fitted physics, no neighbours",
    "pasted": "fitted physics, in real patches",
    "fitted": "fitted physics",
    "pseudo": "picks, as template matching calls them",
}


def competition(results: Results) -> list[list[str]]:
    """Return the competitors' rows, heading first; none where they did not compete."""
    if not (results.folder / TABLE).exists():
        return []
    rows = results.rows(TABLE)
    columns = [name for name in TITLES if any(row.get(name) for row in rows)]
    if not columns:
        results.gaps.append(f"{TABLE}: holds none of the columns {', '.join(TITLES)}")
        return []
    heading = ["set", "volumes", *(TITLES[name] for name in columns)]
    return [
        heading,
        *([_named(row), row.get("n_train") or "", *_cells(row, columns)] for row in rows),
    ]


def _named(row: dict[str, Any]) -> str:
    name = str(row.get("name") or "?")
    if name.startswith("typed_"):
        return f"typed physics, SNR {name.removeprefix('typed_')}"
    return NAMES.get(name, name)


def _cells(row: dict[str, Any], columns: list[str]) -> list[str]:
    return [_percent(row, name) for name in columns]


def _percent(row: dict[str, Any], name: str) -> str:
    try:
        value, low, high = (100 * float(row[key]) for key in (name, f"{name}_low", f"{name}_high"))
    except (KeyError, TypeError, ValueError):
        return ""
    return f"{value:.1f} % ({low:.1f} to {high:.1f})"
