"""A run of the paper's size, 2,000 volumes a domain of 28^3, and what each step of it cost.

    python benchmarks/full_size.py [--cores N] [--folder F]

Runs benchmarks/full_size/config.yaml (phantoms, ten simulated tomograms, 20 steps of the preset
`recommended`); a killed run goes on. Costs are Snakemake's own benchmark files: seconds and CPU seconds
of all jobs of a step together, and the largest memory of one.
"""

import argparse
import re
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

from cryoetgan.report.results import Results
from cryoetgan.tables import read_classes, read_images

ROOT = Path(__file__).resolve().parents[1]
CONFIG = "benchmarks/full_size/config.yaml"
RUN = "full_size"


def steps(folder):
    """Return (step, jobs, seconds, CPU seconds, MB) in the order in which steps ended."""
    names = [row.class_ for row in read_classes(ROOT / "config/classes.tsv")]
    names += [
        row.tomogram for row in read_images(ROOT / "benchmarks/full_size/tomograms.tsv", None)
    ]
    ended = defaultdict(float)
    found = defaultdict(list)
    for row in Results(folder).timings():
        text = row["step"]
        for name in sorted(names, key=len, reverse=True):
            text = re.sub(rf"(?<=/){name}(?=_|$)", "*", text)
        path = folder / "benchmarks" / f"{row['step']}.tsv"
        ended[text] = max(ended[text], path.stat().st_mtime)
        found[text].append(row)
    for step in sorted(found, key=ended.get):
        rows = found[step]
        total = [sum(row[key] for row in rows) for key in ("seconds", "cpu")]
        yield step, len(rows), *total, max(row["memory"] for row in rows)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--cores", default="1")
    parser.add_argument("--folder", type=Path, default=Path("results/full_size_run"))
    given = parser.parse_args()
    given.folder.mkdir(parents=True, exist_ok=True)
    subprocess.run(
        [
            sys.executable, "-m", "snakemake", "--cores", given.cores, "-s", ROOT / "workflow/Snakefile",
            "--directory", given.folder, "--configfile", ROOT / CONFIG, "--quiet",
        ],
        check=True,
    )  # fmt: skip
    results = given.folder / "results" / RUN
    print("| step | jobs | seconds | CPU seconds | MB |\n|---|---|---|---|---|")
    for step, jobs, seconds, cpu, memory in steps(results):
        print(f"| {step} | {jobs} | {seconds:.0f} | {cpu:.0f} | {memory:.0f} |")
    size = sum(path.stat().st_size for path in results.rglob("*") if path.is_file())
    print(f"\n{size / 1e9:.2f} GB in {results}")


if __name__ == "__main__":
    main()
