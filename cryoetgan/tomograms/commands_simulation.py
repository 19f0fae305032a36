"""The command that simulates a tomogram."""

from pathlib import Path
from typing import Annotated, Any

import typer

from cryoetgan.command import Output, Seed, command, log, numbers, positive
from cryoetgan.errors import UserError
from cryoetgan.tomograms.options import (
    AmplitudeContrast,
    Cs,
    Ctf,
    Defocus,
    Group,
    Tilts,
    Voltage,
    acquisition_of,
    one_of,
)

BYTES_A_VOXEL = 20
"""Of a simulated tomogram: density, labels, what is taken, gold, signal, noise."""


def register(app: typer.Typer) -> None:
    """Add the command to its stage's group."""
    command(app, "simulate")(simulate)


def simulate(
    maps: Annotated[list[Path], typer.Argument(help="Density maps; the stem is the class.")],
    output: Output,
    copies: Annotated[int, typer.Option(help="Particles of each class.")],
    shape: Annotated[str, typer.Option(metavar="X,Y,Z", help="Voxels.")],
    snr: Annotated[float, typer.Option(help="Signal over noise variance, tomogram-wide.")],
    class_copies: Annotated[
        list[str] | None, typer.Option(help="NAME=N: another number for one class; repeatable.")
    ] = None,
    crowder: Annotated[
        list[Path] | None,
        typer.Option(help="Map of a background species: labelled, but not in the truth."),
    ] = None,
    crowder_copies: Annotated[int, typer.Option(min=0, help="Of each crowder.")] = 100,
    vesicles: Annotated[int, typer.Option(min=0, help="Membrane vesicles.")] = 0,
    vesicle_radius: Annotated[
        str, typer.Option(metavar="LO,HI", help="Angstrom; longest half axis.")
    ] = "200,500",
    beads: Annotated[int, typer.Option(min=0, help="Gold beads.")] = 0,
    bead_diameter: Annotated[float, typer.Option(help="Angstrom.")] = 100.0,
    resolution: Annotated[
        float | None,
        typer.Option(help="Angstrom, of vesicles and beads, as the maps'; default three voxels."),
    ] = None,
    tilts: Tilts = "-60,60,3",
    voltage: Voltage = 300.0,
    cs: Cs = 2.7,
    amplitude_contrast: AmplitudeContrast = 0.07,
    defocus: Defocus = None,
    ctf: Ctf = "raw",
    group: Group = "all",
    dose: Annotated[
        float, typer.Option(help="Electrons per square angstrom, the series; 0: no damage.")
    ] = 100.0,
    b_factor: Annotated[float, typer.Option(help="Square angstrom, of every image.")] = 300.0,
    misalignment: Annotated[float, typer.Option(help="Pixels, standard deviation.")] = 0.4,
    mtf: Annotated[
        float, typer.Option(help="Detector's transfer at the images' highest frequency, to 1.")
    ] = 1.0,
    reconstruction: Annotated[
        str, typer.Option(metavar="wbp|sirt", help="Weighted back-projection, or SIRT.")
    ] = "wbp",
    iterations: Annotated[int, typer.Option(min=1, help="Of SIRT.")] = 20,
    seed: Seed = 0,
) -> None:
    """Simulate a tomogram with ground truth: `T.mrc`, `T.star`, `T_labels.mrc`.

    Particles are packed without overlap, projected over the tilt series, imaged with
    contrast transfer (4 micrometres underfocus where none is given), dose, noise and
    misalignment, and reconstructed. Protein bright, mean 0, standard deviation 1;
    coordinates are 0-based voxels, angles degrees (RELION's); the names of the labels are
    in `T.mrc.json`.
    """
    from cryoetgan.command import counts_by_class
    from cryoetgan.files import provenance, sidecar, write_json
    from cryoetgan.star import class_name, paths_by_class, write_star
    from cryoetgan.tomograms.simulation import simulate_tomogram, with_defocus
    from cryoetgan.tomograms.surroundings import Surroundings
    from cryoetgan.tomograms.tilt_series import Microscope
    from cryoetgan.tomograms.truth import build_scene, truth_tables
    from cryoetgan.volumes import check_mrc_name, write_volume

    check_mrc_name(output)
    one_of(reconstruction, "--reconstruction", "wbp", "sirt")
    x, y, z = _voxels(shape)
    positive(snr, "--snr")
    microscope = Microscope(dose=dose, b_factor=b_factor, misalignment=misalignment, mtf=mtf)
    acquisition = with_defocus(
        acquisition_of(tilts, voltage, cs, amplitude_contrast, defocus, ctf, group)
    )
    crowders = crowder or []
    named, voxel_size = _read_maps([*maps, *crowders], (x, y, z))
    classes = {name: named[path] for name, path in paths_by_class(maps).items()}
    background = {f"crowder_{name}": named[path] for name, path in paths_by_class(crowders).items()}
    counts = counts_by_class(list(classes), copies, class_copies, "--copies", "--class-copies")
    low, high = numbers(vesicle_radius, "--vesicle-radius", ("LO", "HI"))
    surroundings = Surroundings(
        resolution=3 * voxel_size if resolution is None else resolution,
        vesicles=vesicles,
        vesicle_radii=(low, high),
        beads=beads,
        bead_diameter=bead_diameter,
    )
    shortest, longest = min(x, y, z) * voxel_size, max(x, y, z) * voxel_size
    if beads and bead_diameter > shortest:
        raise UserError(f"--bead-diameter: got {bead_diameter:g} A, wanted {shortest:g} or less")
    if vesicles and high > longest:
        raise UserError(f"--vesicle-radius: got {high:g} A, wanted HI of {longest:g} or less")
    name = class_name(output)
    scene = build_scene(
        classes,
        counts,
        background,
        crowder_copies,
        surroundings,
        (z, y, x),
        voxel_size,
        name,
        seed,
    )
    wanted = counts | dict.fromkeys(background, crowder_copies)
    wanted |= {key: n for key, n in (("vesicle", vesicles), ("bead", beads)) if n}
    for key, missing in scene.missing.items():
        log.warning(
            "%s: no place for %d of %d %s; go on without", output, missing, wanted[key], key
        )
    tomogram = simulate_tomogram(
        scene.density,
        voxel_size,
        acquisition,
        snr,
        name,
        seed,
        microscope,
        scene.beads,
        iterations if reconstruction == "sirt" else 0,
    )
    parameters = {
        "copies": wanted,
        "missing": scene.missing,
        "shape": [x, y, z],
        "snr": snr,
        "microscope": vars(microscope),
        "reconstruction": f"sirt {iterations}" if reconstruction == "sirt" else "wbp",
    }
    made = provenance("tomograms simulate", [*maps, *crowders], parameters, seed)
    particles, optics = truth_tables(scene, classes, acquisition, voxel_size, name)
    labels = output.with_name(f"{name}_labels.mrc")
    meaning = {str(number): key for key, number in scene.names.items()}
    record = {"provenance": made, "labels": meaning}
    write_volume(labels, scene.labels, voxel_size, [f"labels: see {name}.mrc.json"])
    write_json(sidecar(labels), record)
    write_star(output.with_suffix(".star"), particles, optics)
    write_volume(output, tomogram, voxel_size, ["contrast: protein bright", "simulated"])
    write_json(sidecar(output), record | {"acquisition": acquisition.to_json()})
    log.info("%s: %d particles of %d classes", output, len(particles), len(classes))


def _voxels(shape: str) -> tuple[int, int, int]:
    """Return `X,Y,Z` as whole numbers of which a tomogram fits into this machine's memory."""
    import os

    sides = numbers(shape, "--shape", ("X", "Y", "Z"))
    if any(side < 1 or side != int(side) for side in sides):
        raise UserError(f"--shape: got '{shape}', wanted whole numbers of voxels above zero")
    x, y, z = (int(side) for side in sides)
    needed = BYTES_A_VOXEL * x * y * z
    there = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    if needed > there:
        raise UserError(
            f"--shape: {x},{y},{z} voxels take some {needed / 1e9:.3g} GB of memory to simulate, "
            f"and this machine has {there / 1e9:.3g}; lower it (tomograms.shape)"
        )
    return x, y, z


def _read_maps(paths: list[Path], shape: tuple[int, int, int]) -> tuple[dict[Path, Any], float]:
    """Return the maps' densities and their one voxel size."""
    from cryoetgan.volumes import read_volume, same_voxel_size

    volumes = {path: read_volume(path) for path in paths}
    first = volumes[paths[0]].voxel_size
    for path, volume in volumes.items():
        same_voxel_size(first, volume.voxel_size, paths[0], path)
        if min(shape) < min(volume.data.shape):
            sizes = ",".join(map(str, shape))
            raise UserError(
                f"--shape: {sizes} voxels are too small for {path} ({volume.data.shape[0]}^3)"
            )
        if not volume.data.max() > 0:
            raise UserError(f"{path}: has no voxel above zero; make the map again")
    return {path: volume.data for path, volume in volumes.items()}, first
