"""Commands of the `particles` stage for a person's eyes: the gallery, and what marking tells."""

from pathlib import Path
from typing import Annotated

import typer

from cryoetgan.command import Seed, check_positive, command, log
from cryoetgan.errors import UserError


def register(app: typer.Typer) -> None:
    """Add `gallery` and `purity` to the stage's commands."""
    command(app, "gallery")(gallery)
    command(app, "purity")(purity)


def gallery(
    volumes: Annotated[Path, typer.Argument(help="Volume set (STAR).")],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="The page, HTML.", show_default=False)
    ] = None,
    sample: Annotated[
        int | None, typer.Option(help="Blind: this many boxes, without scores and classes.")
    ] = None,
    class_: Annotated[
        list[str] | None, typer.Option("--class", help="One more name to give; repeatable.")
    ] = None,
    serve: Annotated[
        bool, typer.Option("--serve", help="Serve the page here; it saves decisions itself.")
    ] = False,
    curation: Annotated[
        Path, typer.Option(help="Folder of decisions; --serve writes <set>.csv into it.")
    ] = Path("config/curation"),
    port: Annotated[int, typer.Option(help="Of --serve; 0: any free one.")] = 0,
    seed: Seed = 0,
) -> None:
    """Make a page on which a person accepts, rejects and names particles: one HTML file.

    Mouse and keyboard; hundreds of boxes in minutes. The page downloads its decisions as CSV
    with the columns id,accepted,class: put it into the folder that particles.curation names.
    With --sample, boxes drawn over all classes and scores, which are not in the page: with
    `particles purity` they give an unbiased estimate of the set's purity.
    """
    from cryoetgan.io.files import provenance, sidecar, write_json, write_text
    from cryoetgan.io.star import CLASS_NAME
    from cryoetgan.io.volume_set import read_volume_set
    from cryoetgan.particles.curation import gallery as pages
    from cryoetgan.particles.curation.server import earlier, make_server

    if output is None and not serve:
        raise UserError("give -o G.html, or --serve")
    if sample is not None:
        check_positive(sample, "--sample")
    for name in class_ or []:
        if not CLASS_NAME.fullmatch(name):
            raise UserError(f"--class: got '{name}', wanted letters, digits, '_' and '-'")
    opened = read_volume_set(volumes)
    found = pages.boxes(opened)
    classes = sorted({*(box.kind for box in found if box.kind), *(class_ or [])})
    blind = sample is not None
    shown = pages.draw(found, sample, seed) if sample else found
    decided = curation / f"{volumes.stem}{'_blind' if blind else ''}.csv"
    ids = [box.id for box in shown]
    before = {name: said for name, said in earlier(decided).items() if name in set(ids)}

    def make(save: str | None) -> str:
        # a served page gets them from the server, as they are when it is opened
        return pages.page(opened, shown, classes, blind, None if save else before, save)

    if output is not None:
        write_text(output, make(None))
        made = provenance("particles gallery", [volumes], {"sample": sample}, seed)
        drawn = [
            {
                "id": box.id,
                "class": box.kind,
                "score": box.score,
                "weight": box.weight,
                "tomogram": box.tomogram,
                "place": box.place,
            }
            for box in shown
        ]
        record = {"provenance": made, "classes": classes, "sample": drawn}
        write_json(sidecar(output), record if blind else {"provenance": made})
        log.info("%s: %d boxes", output, len(shown))
    if serve:
        server, address = make_server(make, decided, ids, classes, port)
        log.info("open %s in a browser; decisions go to %s; stop with Ctrl-C", address, decided)
        with server:
            server.serve_forever()


def purity(
    decisions: Annotated[Path, typer.Argument(help="CSV of the blind gallery.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="JSON.", show_default=False)],
    sample: Annotated[Path, typer.Option(help="The record beside the gallery, G.html.json.")],
    marks: Annotated[Path | None, typer.Option(help="STAR of the named boxes, to test on.")] = None,
) -> None:
    """Say from a blindly marked sample how pure the whole set is: JSON.

    Keys: purity and its 95 % interval, the same for each class, confusion. --marks writes the
    boxes a person named as particles with 0-based voxel coordinates: a small test set that no
    score has chosen.
    """
    import pandas as pd

    from cryoetgan.io.files import check_exists, provenance, read_json, sidecar, write_json
    from cryoetgan.io.star import write_star
    from cryoetgan.particles.curation.purity import estimate, marked_rows
    from cryoetgan.particles.curation.server import earlier

    record = read_json(sample)
    if "sample" not in record:
        raise UserError(f"{sample}: names no sample; give the record of a gallery with --sample")
    said = earlier(check_exists(decisions, "CSV file"))
    answers = {
        name: (answer["class"] or "*") if answer["accepted"] == "yes" else ""
        for name, answer in said.items()
    }
    result = estimate(record["sample"], answers)
    made = provenance("particles purity", [decisions, sample])
    if marks is not None:
        rows = marked_rows(record["sample"], answers)
        if not rows:
            raise UserError(f"{decisions}: names no box with a place in a tomogram")
        write_star(marks, pd.DataFrame(rows))
        write_json(sidecar(marks), {"provenance": made})
    write_json(output, {**result, "provenance": made})
    if result["n_marked"] < result["n_sample"]:
        log.warning(
            "%d of %d boxes are marked: the estimate holds only if those left out are like the rest",
            result["n_marked"],
            result["n_sample"],
        )
    low, high = result["interval"]
    log.info("%s: purity %.2f (%.2f to %.2f)", output, result["purity"], low, high)
