"""The commands that make a tomogram with ground truth, and the scene one is made of."""

from typing import Annotated

import typer

from cryoetgan.command import Output, Seed, check_positive, command, log
from cryoetgan.errors import UserError
from cryoetgan.tomograms.options import (
    AmplitudeContrast,
    BeadDiameter,
    Beads,
    ClassCopies,
    Copies,
    Crowder,
    CrowderCopies,
    Cs,
    Ctf,
    Defocus,
    Group,
    Maps,
    Resolution,
    Shape,
    Tilts,
    VesicleRadius,
    Vesicles,
    Voltage,
    acquisition_of,
    one_of,
)

BYTES_A_VOXEL = 20
"""Of a simulated tomogram: density, labels, what is taken, gold, signal, noise."""


def register(app: typer.Typer) -> None:
    """Add the commands to their stage's group."""
    command(app, "simulate")(simulate)
    command(app, "scene")(scene)


def simulate(
    maps: Maps,
    output: Output,
    copies: Copies,
    shape: Shape,
    snr: Annotated[float, typer.Option(help="Signal over noise variance, tomogram-wide.")],
    class_copies: ClassCopies = None,
    crowder: Crowder = None,
    crowder_copies: CrowderCopies = 100,
    vesicles: Vesicles = 0,
    vesicle_radius: VesicleRadius = "200,500",
    beads: Beads = 0,
    bead_diameter: BeadDiameter = 100.0,
    resolution: Resolution = None,
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
    from cryoetgan.io.files import provenance, sidecar, write_json
    from cryoetgan.io.mrc import PROTEIN_BRIGHT, check_mrc_name, write_volume
    from cryoetgan.io.star import class_name, write_star
    from cryoetgan.tomograms.simulation.contents import read_contents, whole_voxels
    from cryoetgan.tomograms.simulation.scene_files import labels_path
    from cryoetgan.tomograms.simulation.simulate_tomogram import simulate_tomogram, with_defocus
    from cryoetgan.tomograms.simulation.tilt_series import Microscope
    from cryoetgan.tomograms.simulation.truth import build_scene, truth_tables

    check_mrc_name(output)
    one_of(reconstruction, "--reconstruction", "wbp", "sirt")
    sides = whole_voxels(shape)
    _fits_memory(sides)
    check_positive(snr, "--snr")
    microscope = Microscope(dose=dose, b_factor=b_factor, misalignment=misalignment, mtf=mtf)
    acquisition = with_defocus(
        acquisition_of(tilts, voltage, cs, amplitude_contrast, defocus, ctf, group)
    )
    contents = read_contents(
        maps,
        crowder or [],
        shape=sides,
        copies=copies,
        class_copies=class_copies,
        crowder_copies=crowder_copies,
        vesicles=vesicles,
        vesicle_radius=vesicle_radius,
        beads=beads,
        bead_diameter=bead_diameter,
        resolution=resolution,
    )
    name, voxel_size = class_name(output), contents.voxel_size
    scene = build_scene(contents, name, seed)
    contents.warn_of_missing(scene, output)
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
        "copies": contents.wanted(),
        "missing": scene.missing,
        "shape": list(sides),
        "snr": snr,
        "microscope": vars(microscope),
        "reconstruction": f"sirt {iterations}" if reconstruction == "sirt" else "wbp",
    }
    made = provenance("tomograms simulate", [*maps, *(crowder or [])], parameters, seed)
    particles, optics = truth_tables(scene, contents, acquisition, name)
    record = {"provenance": made, "labels": _meaning(scene.names)}
    write_volume(labels_path(output), scene.labels, voxel_size, [f"labels: see {name}.mrc.json"])
    write_json(sidecar(labels_path(output)), record)
    write_star(output.with_suffix(".star"), particles, optics)
    write_volume(output, tomogram, voxel_size, [PROTEIN_BRIGHT, "simulated"])
    write_json(sidecar(output), record | {"acquisition": acquisition.to_json()})
    log.info("%s: %d particles of %d classes", output, len(particles), len(contents.classes))


def scene(
    maps: Maps,
    output: Output,
    copies: Copies,
    shape: Shape,
    class_copies: ClassCopies = None,
    crowder: Crowder = None,
    crowder_copies: CrowderCopies = 100,
    vesicles: Vesicles = 0,
    vesicle_radius: VesicleRadius = "200,500",
    beads: Beads = 0,
    bead_diameter: BeadDiameter = 100.0,
    resolution: Resolution = None,
    seed: Seed = 0,
) -> None:
    """Pack a density scene with ground truth: `SCENE.mrc`, `SCENE_labels.mrc`, `SCENE.star`.

    What `imaging synthesize` and `translation synthesize` turn into a tomogram. Particles are
    packed without overlap, as in `tomograms simulate`; densities are those of the maps, gold
    among them. Coordinates are 0-based voxels, angles degrees (RELION's); the names of the
    labels are in `SCENE.mrc.json`. Memory does not grow with the shape.
    """
    from cryoetgan.io.files import provenance, sidecar, write_json
    from cryoetgan.io.mrc import check_mrc_name
    from cryoetgan.tomograms.simulation.contents import read_contents, whole_voxels
    from cryoetgan.tomograms.simulation.scene_files import labels_path, write_scene

    check_mrc_name(output)
    sides = whole_voxels(shape)
    contents = read_contents(
        maps,
        crowder or [],
        shape=sides,
        copies=copies,
        class_copies=class_copies,
        crowder_copies=crowder_copies,
        vesicles=vesicles,
        vesicle_radius=vesicle_radius,
        beads=beads,
        bead_diameter=bead_diameter,
        resolution=resolution,
    )
    made = write_scene(output, contents, seed)
    contents.warn_of_missing(made, output)
    parameters = {"copies": contents.wanted(), "missing": made.missing, "shape": list(sides)}
    inputs = [*maps, *(crowder or [])]
    record = {
        "provenance": provenance("tomograms scene", inputs, parameters, seed),
        "labels": _meaning(made.names),
    }
    write_json(sidecar(labels_path(output)), record)
    write_json(sidecar(output), record)
    placed = sum(row["cryoetganClass"] in contents.classes for row in made.rows)
    log.info("%s: %d particles of %d classes", output, placed, len(contents.classes))


def _meaning(names: dict[str, int]) -> dict[str, str]:
    """Return what each number of a label volume stands for."""
    return {str(number): name for name, number in names.items()}


def _fits_memory(sides: tuple[int, int, int]) -> None:
    """Refuse a tomogram that this machine's memory does not hold while it is simulated."""
    import os

    x, y, z = sides
    needed = BYTES_A_VOXEL * x * y * z
    there = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    if needed > there:
        raise UserError(
            f"--shape: {x},{y},{z} voxels take some {needed / 1e9:.3g} GB of memory to simulate, "
            f"and this machine has {there / 1e9:.3g}; lower it (tomograms.shape)"
        )
