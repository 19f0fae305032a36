"""Commands of the `structures` stage."""

from pathlib import Path
from typing import Annotated

import typer

from cryoetgan.command import Output, check_positive, command, group, log
from cryoetgan.errors import UserError

app = group("")
MOST_RETRIES = 20


@command(app, "fetch")
def fetch(
    ids: Annotated[list[str], typer.Argument(help="PDB ids: 4v6x, or pdb_00004v6x.")],
    output: Output,
    mirror: Annotated[
        str, typer.Option(help="URL or folder that holds <id>.cif.gz.")
    ] = "https://files.rcsb.org/download",
    name: Annotated[
        str | None, typer.Option(help="Name of the file, where one id is given; else the id.")
    ] = None,
    retries: Annotated[int, typer.Option(help="Further tries after a passing fault.")] = 4,
    timeout: Annotated[float, typer.Option(help="Seconds without a byte.")] = 60.0,
) -> None:
    """Download structures by PDB id, as mmCIF with their biological assemblies.

    Writes `DIR/<id>.cif`, each when it is whole, parses, and is that entry. An entry
    that cannot be had does not keep the others from coming.
    """
    from cryoetgan.io.files import provenance, sidecar, write_json
    from cryoetgan.io.star import CLASS_NAME
    from cryoetgan.progress import track
    from cryoetgan.structures.fetch import fetch as download
    from cryoetgan.structures.fetch import pdb_id

    check_positive(timeout, "--timeout", " s")
    if not 0 <= retries <= MOST_RETRIES:
        raise UserError(f"--retries: got {retries}, wanted 0 to {MOST_RETRIES}")
    entries = list(dict.fromkeys(pdb_id(entry) for entry in ids))
    if name is not None and (len(entries) != 1 or not CLASS_NAME.fullmatch(name)):
        raise UserError(
            f"--name: got '{name}' for {len(entries)} ids; wanted one plain name, one id"
        )
    failed = []
    for entry in track(entries, "fetching"):
        path = output / f"{name or entry}.cif"
        try:
            download(entry, path, mirror, retries, timeout)
        except UserError as error:
            failed.append(str(error))
            continue
        made = provenance("structures fetch", [path], {"id": entry, "mirror": mirror})
        write_json(sidecar(path), {"provenance": made})
        log.info("wrote %s", path)
    if failed:
        raise UserError("; ".join(failed))


@command(app, "import")
def import_(
    file: Annotated[Path, typer.Argument(help="PDB or mmCIF, gzipped or not.")],
    output: Output,
) -> None:
    """Convert a structure file to mmCIF, checked: atoms, finite coordinates.

    Coordinates in angstrom; models, alternate locations and assemblies are kept.
    """
    from cryoetgan.io.files import atomic, provenance, sidecar, write_json
    from cryoetgan.structures.verify import count_atoms, read_structure

    structure = read_structure(file)
    structure.setup_entities()
    with atomic(output) as part:
        structure.make_mmcif_document().write_file(str(part))
    write_json(sidecar(output), {"provenance": provenance("structures import", [file])})
    log.info("%s: %d atoms", output, count_atoms(structure))


@command(app, "phantom")
def phantom(
    name: Annotated[str, typer.Argument(help="proteasome, ribosome, tric or apoferritin.")],
    output: Output,
) -> None:
    """Write a pseudo-atom phantom of published symmetry and size, as mmCIF in angstrom.

    A body to try the workflow with, not a structure; the file says so.
    """
    from cryoetgan.io.files import provenance, sidecar, write_json
    from cryoetgan.structures.phantoms import write_phantom

    count = write_phantom(name, output)
    made = provenance("structures phantom", parameters={"name": name})
    write_json(sidecar(output), {"provenance": made, "phantom": True})
    log.info("%s: phantom of %s, %d pseudo-atoms", output, name, count)
