"""Commands of the `tomograms` stage."""

from pathlib import Path
from typing import Annotated

import typer

from cryoetgan.command import Output, check_positive, command, group, log
from cryoetgan.tomograms import commands_simulation
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

app = group("")
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

    from cryoetgan.io.files import check_not_overwritten, provenance, sidecar, write_json
    from cryoetgan.io.mrc import (
        PROTEIN_BRIGHT,
        VOXEL_SIZE_TOLERANCE,
        check_mrc_name,
        contrast_sign,
        open_volume,
    )
    from cryoetgan.tomograms.importing.convert import standardise_into
    from cryoetgan.tomograms.importing.exclusion_mask import mask_of, write_mask
    from cryoetgan.tomograms.importing.normalise import grey_scale
    from cryoetgan.tomograms.importing.raw_tomogram import check_contrast, turn, voxel_size_of
    from cryoetgan.tomograms.importing.resample import check_shape, resampled_shape
    from cryoetgan.tomograms.sources.addresses import is_remote
    from cryoetgan.tomograms.sources.resolve import Transfer, open_source

    one_of(contrast, "--contrast", "dark", "bright")
    one_of(tilt_axis, "--tilt-axis", "y", "x")
    one_of(beam_axis, "--beam-axis", "z", "y")
    check_mrc_name(output)
    check_not_overwritten(Path(file), output)
    acquisition = acquisition_of(
        tilts, voltage, cs, amplitude_contrast, defocus, ctf, group, contrast=contrast
    )
    transfer = Transfer(mirror, retries, check_positive(timeout, "--timeout", " s"))
    output.parent.mkdir(parents=True, exist_ok=True)
    with open_source(file, output.parent, transfer) as found:
        check_contrast(found, contrast, file)
        size = voxel_size_of(found, input_voxel_size, file)
        wanted = (
            check_positive(voxel_size, "--voxel-size", " A") if voxel_size is not None else size
        )
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
                mask_of(output), mask, raw.data.shape, shape, step, wanted, (tilt_axis, beam_axis)
            )
            log.info("%s: leaves out %.1f %%", mask_of(output), 100 * kept_out)
        labels = [
            PROTEIN_BRIGHT + (", inverted at import" if contrast == "dark" else ""),
            f"grey values: mean 0, SD 1 (in the file {mean:.6g}, {sd:.6g})",
        ]
        with open_volume(output, shape, wanted, dtype, labels) as out:
            standardise_into(out, raw.data, step, mean, contrast_sign(contrast) / sd, file)
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


@command(app, "mask")
def mask_(
    mask: Annotated[
        Path,
        typer.Argument(help="MRC on the grid of the tomogram's file: not zero is left out."),
    ],
    output: Output,
    tomogram: Annotated[Path, typer.Option(help="The imported tomogram, MRC.")],
) -> None:
    """Bring a mask to the grid of a tomogram that was imported: MRC, 1 is left out.

    Turned and resampled as the tomogram's record (`T.mrc.json`) says; a tomogram without a
    record, or a simulated one, is taken as it is. The nearest voxel counts.
    """
    from cryoetgan.io.files import provenance, sidecar, write_json
    from cryoetgan.io.mrc import check_mrc_name
    from cryoetgan.tomograms.importing.exclusion_mask import write_mask_beside

    check_mrc_name(output)
    left_out = write_mask_beside(output, mask, tomogram)
    made = provenance("tomograms mask", [mask, tomogram], {})
    write_json(sidecar(output), {"provenance": made})
    log.info("%s: leaves out %.1f %%", output, 100 * left_out)


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
    from cryoetgan.io.files import write_text
    from cryoetgan.tomograms.sources.listing import table
    from cryoetgan.tomograms.sources.resolve import Transfer

    text = table(sources, Transfer(mirror, timeout=check_positive(timeout, "--timeout", " s")))
    write_text(output, text)
    count = sum(not line.startswith("#") for line in text.splitlines()) - 1
    log.info("%s: %d tomograms", output, count)


commands_simulation.register(app)
