"""Commands of the `report` stage."""

from pathlib import Path
from typing import Annotated

import typer

from cryoetgan.command import Output, check_positive, command, group, log

app = group("")


@command(app, "build")
def build(
    folder: Annotated[Path, typer.Argument(help="A run's results, results/<run>.")],
    output: Output,
    title: Annotated[str, typer.Option(help="Heading of the page.")] = "CryoETGAN",
    sample: Annotated[int, typer.Option(help="Volumes shown of each class.")] = 4,
) -> None:
    """Build the report: one self-contained HTML page with figures and the verdict.

    Shows whatever of the run is there, and says what is not. Opens in any browser, without
    a network; lengths in nanometre and angstrom, as written beside them.
    """
    from cryoetgan.io.files import provenance, sidecar, write_json, write_text
    from cryoetgan.report.page import build as page
    from cryoetgan.report.results import open_results

    check_positive(sample, "--sample")
    results = open_results(folder)
    write_text(output, page(results, title, sample))
    parameters = {"title": title, "sample": sample}
    made = provenance("report build", sorted(results.used), parameters)
    write_json(sidecar(output), {"provenance": made, "missing": sorted(set(results.gaps))})
    for gap in sorted(set(results.gaps)):
        log.warning("the report lacks %s", gap)
    log.info("%s", output)
