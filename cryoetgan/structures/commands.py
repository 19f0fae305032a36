"""Commands of the `structures` stage."""

from pathlib import Path
from typing import Annotated

from typer import Argument, Option

from cryoetgan.command import Output, Record, check_positive, command, group, log
from cryoetgan.errors import UserError

app = group("")


@command(app, "fetch")
def fetch(
    ids: Annotated[list[str], Argument(help="PDB ids: 4v6x, or pdb_00004v6x.")],
    output: Output,
    mirror: Annotated[
        str, Option(help="URL or folder that holds ID.cif.gz.")
    ] = "https://files.rcsb.org/download",
    name: Annotated[str | None, Option(help="File name without suffix, for a single id.")] = None,
    retries: Annotated[int, Option(min=0, max=20, help="Further attempts of a download.")] = 4,
    timeout: Annotated[float, Option(help="Seconds without a byte.")] = 60.0,
) -> None:
    """Download structures by PDB id, as mmCIF with their biological assemblies.

    Writes `DIR/<id>.cif` once the download is complete, parses, and is that entry. If one
    entry fails, the others are still downloaded.
    """
    from cryoetgan.io.files import provenance, sidecar, write_json
    from cryoetgan.io.star import CLASS_NAME
    from cryoetgan.progress import track
    from cryoetgan.structures.fetch import fetch as download
    from cryoetgan.structures.fetch import parse_pdb_id

    check_positive(timeout, "--timeout", " s")
    entries = list(dict.fromkeys(parse_pdb_id(entry) for entry in ids))
    if name is not None and (len(entries) != 1 or not CLASS_NAME.fullmatch(name)):
        raise UserError(
            f"--name: got '{name}' for {len(entries)} ids; wanted one plain name and one id"
        )
    failed = []
    for entry in track(entries, "fetching"):
        path = output / f"{name or entry}.cif"
        try:
            download(entry, path, mirror, retries, timeout)
        except UserError as error:
            failed.append(str(error))
            continue
        record = provenance("structures fetch", [path], {"id": entry, "mirror": mirror})
        write_json(sidecar(path), {"provenance": record})
        log.info("wrote %s", path)
    if failed:
        raise UserError("; ".join(failed))


@command(app, "import")
def import_(
    file: Annotated[Path, Argument(help="PDB or mmCIF, gzipped or not.")], output: Output
) -> Record:
    """Convert a structure file to mmCIF and check it: atoms, finite coordinates.

    Coordinates in angstrom. Models, alternate locations and assemblies are kept.
    """
    from cryoetgan.io.files import atomic
    from cryoetgan.structures.read_structure import count_atoms, read_structure

    structure = read_structure(file)
    structure.setup_entities()
    with atomic(output) as part:
        structure.make_mmcif_document().write_file(str(part))
    log.info("%s: %d atoms", output, count_atoms(structure))
    return Record()


@command(app, "phantom")
def phantom(
    name: Annotated[str, Argument(help="proteasome, ribosome, tric or apoferritin.")],
    output: Output,
) -> Record:
    """Write a pseudo-atom phantom of published symmetry and size, as mmCIF in angstrom.

    A phantom is for trying the workflow without a network. It is not a structure, and its
    file says so.
    """
    from cryoetgan.structures.phantoms import write_phantom

    count = write_phantom(name, output)
    log.info("%s: phantom of %s, %d pseudo-atoms", output, name, count)
    return Record(about={"phantom": True})
