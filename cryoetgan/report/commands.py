"""Commands of the `report` stage."""

from pathlib import Path
from typing import Annotated

import typer

from cryoetgan.command import Output, Record, check_positive, command, group, log

app = group("")


@command(app, "build")
def build(
    folder: Annotated[Path, typer.Argument(help="Results of a run, results/NAME.")],
    output: Output,
    title: Annotated[str, typer.Option(help="Heading of the page.")] = "CryoETGAN",
    sample: Annotated[int, typer.Option(help="Number of volumes shown of each class.")] = 4,
) -> Record:
    """Build the report: one self-contained HTML page with figures and the verdict.

    The page shows the available results and lists the missing ones. It opens in any browser,
    without a network. Lengths are in nanometre or angstrom, as written beside them.
    """
    from cryoetgan.io.files import write_text
    from cryoetgan.report.page import build as build_page
    from cryoetgan.report.results import open_results

    check_positive(sample, "--sample")
    results = open_results(folder)
    write_text(output, build_page(results, title, sample))
    missing = sorted(set(results.gaps))
    for gap in missing:
        log.warning("missing in the report: %s", gap)
    log.info("%s", output)
    return Record(inputs=sorted(results.used), about={"missing": missing})
