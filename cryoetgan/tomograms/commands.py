"""Commands of the `tomograms` stage."""

from pathlib import Path
from typing import Annotated, Any

import typer

from cryoetgan.command import Output, Seed, command, group, log, numbers, positive, tilt_range
from cryoetgan.errors import UserError

app = group("")
BYTES_A_VOXEL = 20
"""Of a simulated tomogram: density, labels, what is taken, gold, signal, noise."""
Tilts = Annotated[str, typer.Option("--tilts", metavar="LO,HI[,STEP]", help="Degrees about y.")]
Voltage = Annotated[float, typer.Option("--voltage", help="Kilovolts.")]
Cs = Annotated[float, typer.Option("--cs", help="Spherical aberration, millimetres.")]
AmplitudeContrast = Annotated[float, typer.Option("--amplitude-contrast", help="Fraction.")]
Defocus = Annotated[
    float | None, typer.Option("--defocus", help="Micrometres, underfocus positive.")
]
Ctf = Annotated[
    str, typer.Option("--ctf", metavar="raw|phase-flipped|corrected", help="State of the CTF.")
]
Group = Annotated[str, typer.Option("--group", help="Microscope session.")]
Mirror = Annotated[
    str | None,
    typer.Option("--mirror", help="URL or folder asked instead of the archive's own address."),
]
Retries = Annotated[int, typer.Option("--retries", min=0, help="Further tries of a download.")]
Timeout = Annotated[float, typer.Option("--timeout", help="Seconds without a byte.")]


@command(app, "import")
def import_(
    file: Annotated[
        str,
        typer.Argument(
            help="MRC or REC, any mode, gzipped or not; or a URL, emdb:1234, "
            "empiar:10045/data/x.rec, portal:tomogram/1234, copick:config.json?run=R."
        ),
    ],
    output: Output,
    input_voxel_size: Annotated[
        float | None, typer.Option(help="Angstrom; wins over the header.")
    ] = None,
    voxel_size: Annotated[
        float | None, typer.Option(help="Angstrom; the tomogram is resampled to it.")
    ] = None,
    contrast: Annotated[
        str, typer.Option(metavar="dark|bright", help="How protein looks in the file.")
    ] = "dark",
    tilts: Tilts = "-60,60,3",
    tilt_axis: Annotated[
        str, typer.Option(metavar="y|x", help="Where the tilt axis lies in the file.")
    ] = "y",
    beam_axis: Annotated[
        str, typer.Option(metavar="z|y", help="Where the beam runs in the file; y: IMOD's raw.")
    ] = "z",
    voltage: Voltage = 300.0,
    cs: Cs = 2.7,
    amplitude_contrast: AmplitudeContrast = 0.07,
    defocus: Defocus = None,
    ctf: Ctf = "raw",
    group: Group = "all",
    float16: Annotated[bool, typer.Option("--float16", help="Half the disk.")] = False,
    mask: Annotated[
        Path | None,
        typer.Option(help="MRC on the file's own grid: not zero where nothing is to be picked."),
    ] = None,
    mirror: Mirror = None,
    retries: Retries = 4,
    timeout: Timeout = 60.0,
) -> None:
    """Bring a tomogram in: MRC, protein bright, mean 0, standard deviation 1.

    Resampled to --voxel-size (angstrom), inverted once where protein is dark, turned so
    that the tilt axis lies along y and the beam along z; how it was recorded is kept
    beside it, in `T.mrc.json`. A --mask goes the same way, to `T_mask.mrc` (1: left out).
    Memory is bounded whatever the size.
    """
    import numpy as np

    from cryoetgan.files import provenance, sidecar, write_json
    from cryoetgan.tomograms.addresses import is_remote
    from cryoetgan.tomograms.importing import standardise_into
    from cryoetgan.tomograms.masks import mask_of, write_mask
    from cryoetgan.tomograms.normalising import grey_scale
    from cryoetgan.tomograms.reading import turn, voxel_size_of
    from cryoetgan.tomograms.resampling import check_shape, resampled_shape
    from cryoetgan.tomograms.sources import Transfer, open_source
    from cryoetgan.volumes import (
        VOXEL_SIZE_TOLERANCE,
        check_mrc_name,
        invert_if_needed,
        open_volume,
    )

    _one_of(contrast, "--contrast", "dark", "bright")
    _one_of(tilt_axis, "--tilt-axis", "y", "x")
    _one_of(beam_axis, "--beam-axis", "z", "y")
    check_mrc_name(output)
    acquisition = _acquisition(
        tilts, voltage, cs, amplitude_contrast, defocus, ctf, group, contrast=contrast
    )
    transfer = Transfer(mirror, retries, positive(timeout, "--timeout", " s"))
    output.parent.mkdir(parents=True, exist_ok=True)
    with open_source(file, output.parent, transfer) as found:
        size = voxel_size_of(found, input_voxel_size, file)
        wanted = positive(voxel_size, "--voxel-size", " A") if voxel_size is not None else size
        step = wanted / size
        if abs(step - 1) < VOXEL_SIZE_TOLERANCE:
            step = 1.0
        raw = turn(found, tilt_axis, beam_axis)
        shape = resampled_shape(raw.data.shape, step)
        dtype = np.float16 if float16 else np.float32
        check_shape(shape, wanted, np.dtype(dtype).itemsize, output.parent, file)
        mean, sd = grey_scale(raw.data, file)
        if mask is not None:
            kept_out = write_mask(
                mask_of(output), mask, raw, shape, step, wanted, (tilt_axis, beam_axis)
            )
            log.info("%s: leaves out %.1f %%", mask_of(output), 100 * kept_out)
        labels = [
            "contrast: protein bright" + (", inverted at import" if contrast == "dark" else ""),
            f"grey values: mean 0, SD 1 (in the file {mean:.6g}, {sd:.6g})",
        ]
        with open_volume(output, shape, wanted, dtype, labels) as out:
            standardise_into(out, raw.data, step, mean, invert_if_needed(contrast) / sd, file)
    parameters = {
        "source": file if is_remote(file) else Path(file),
        "input_voxel_size": size,
        "input_shape": list(raw.data.shape[::-1]),
        "input_mean": mean,
        "input_sd": sd,
        "voxel_size": wanted,
        "contrast": contrast,
        "tilt_axis": tilt_axis,
        "beam_axis": beam_axis,
        "mask": mask,
    }
    made = provenance("tomograms import", [Path(file), *([mask] if mask else [])], parameters)
    write_json(sidecar(output), {"provenance": made, "acquisition": acquisition.to_json()})
    x, y, z = shape[::-1]
    log.info("%s: %d x %d x %d voxels of %.4g A", output, x, y, z, wanted)


@command(app, "list")
def list_(
    sources: Annotated[
        list[str],
        typer.Argument(
            help="portal:dataset/10001, portal:run/1, empiar:10045[/data/folder], emdb:1234, "
            "copick:config.json"
        ),
    ],
    output: Output,
    mirror: Mirror = None,
    timeout: Timeout = 60.0,
) -> None:
    """Write a table of tomograms (tab-separated, for config) of what an archive holds.

    Voxel size (angstrom), tilts (degrees), voltage and Cs as the archive tells them; a
    row's path is what `tomograms import` takes. A data set's row is the version its
    curators show.
    """
    from cryoetgan.files import write_text
    from cryoetgan.tomograms.listing import table
    from cryoetgan.tomograms.sources import Transfer

    text = table(sources, Transfer(mirror, timeout=positive(timeout, "--timeout", " s")))
    write_text(output, text)
    count = sum(not line.startswith("#") for line in text.splitlines()) - 1
    log.info("%s: %d tomograms", output, count)


@command(app, "simulate")
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
    _one_of(reconstruction, "--reconstruction", "wbp", "sirt")
    x, y, z = _voxels(shape)
    positive(snr, "--snr")
    microscope = Microscope(dose=dose, b_factor=b_factor, misalignment=misalignment, mtf=mtf)
    acquisition = with_defocus(
        _acquisition(tilts, voltage, cs, amplitude_contrast, defocus, ctf, group)
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


def _acquisition(
    tilts: str,
    voltage: float,
    cs: float,
    amplitude_contrast: float,
    defocus: float | None,
    ctf: str,
    group: str,
    **others: Any,
) -> Any:
    from cryoetgan.acquisition import Acquisition
    from cryoetgan.star import CLASS_NAME

    low, high, step = tilt_range(tilts)
    _one_of(ctf, "--ctf", "raw", "phase-flipped", "corrected")
    for value, option, unit in ((cs, "--cs", "mm"), (defocus, "--defocus", "micrometres")):
        if value is not None and not 0 <= value < float("inf"):
            raise UserError(f"{option}: got {value:g} {unit}, wanted zero or more")
    if not CLASS_NAME.fullmatch(group):
        raise UserError(f"--group: got '{group}', wanted letters, digits, _ and -")
    if not 0 <= amplitude_contrast < 1:
        raise UserError(
            f"--amplitude-contrast: got {amplitude_contrast:g}, wanted a fraction, 0 to below 1"
        )
    return Acquisition(
        tilt_low=low,
        tilt_high=high,
        tilt_step=step,
        voltage=positive(voltage, "--voltage", " kV"),
        cs=cs,
        amplitude_contrast=amplitude_contrast,
        defocus=defocus,
        ctf=ctf,
        group=group,
        **others,
    )


def _one_of(value: str, option: str, *known: str) -> None:
    if value not in known:
        raise UserError(f"{option}: got '{value}', wanted {', '.join(known)}")
