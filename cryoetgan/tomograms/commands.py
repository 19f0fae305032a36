"""Commands of the `tomograms` stage."""

from pathlib import Path
from typing import Annotated, Any

import typer

from cryoetgan.command import Output, Seed, command, group, log, numbers, positive, tilt_range
from cryoetgan.errors import UserError

app = group("")
Tilts = Annotated[str, typer.Option("--tilts", metavar="LO,HI[,STEP]", help="Degrees about y.")]
Voltage = Annotated[float, typer.Option("--voltage", help="Kilovolts.")]
Cs = Annotated[float, typer.Option("--cs", help="Spherical aberration, millimetres.")]
AmplitudeContrast = Annotated[float, typer.Option("--amplitude-contrast", help="Fraction.")]
Defocus = Annotated[
    float | None, typer.Option("--defocus", help="Micrometres, underfocus positive.")
]
Ctf = Annotated[str, typer.Option("--ctf", help="raw, phase-flipped or corrected.")]
Group = Annotated[str, typer.Option("--group", help="Microscope session.")]


@command(app, "import")
def import_(
    file: Annotated[Path, typer.Argument(help="MRC or REC, any mode, gzipped or not.")],
    output: Output,
    input_voxel_size: Annotated[
        float | None, typer.Option(help="Angstrom; wins over the header.")
    ] = None,
    voxel_size: Annotated[
        float | None, typer.Option(help="Angstrom; the tomogram is resampled to it.")
    ] = None,
    contrast: Annotated[str, typer.Option(help="How protein looks: dark or bright.")] = "dark",
    tilts: Tilts = "-60,60,3",
    voltage: Voltage = 300.0,
    cs: Cs = 2.7,
    amplitude_contrast: AmplitudeContrast = 0.07,
    defocus: Defocus = None,
    ctf: Ctf = "raw",
    group: Group = "all",
    float16: Annotated[bool, typer.Option("--float16", help="Half the disk.")] = False,
) -> None:
    """Bring a tomogram in: MRC, protein bright, mean 0, standard deviation 1.

    Resampled to --voxel-size (angstrom), inverted once where protein is dark; how it was
    recorded is kept beside it, in `T.mrc.json`.
    """
    import numpy as np

    from cryoetgan.acquisition import Acquisition
    from cryoetgan.files import provenance, sidecar, write_json
    from cryoetgan.progress import track
    from cryoetgan.tomograms.normalising import grey_scale, resample_into, resampled_shape
    from cryoetgan.tomograms.reading import open_tomogram, voxel_size_of
    from cryoetgan.volumes import VOXEL_SIZE_TOLERANCE, invert_if_needed, open_volume

    if contrast not in ("dark", "bright"):
        raise UserError(f"--contrast: got '{contrast}', wanted dark or bright")
    acquisition = Acquisition(
        **_tilts(tilts),
        voltage=positive(voltage, "--voltage", " kV"),
        cs=cs,
        amplitude_contrast=amplitude_contrast,
        defocus=defocus,
        ctf=_ctf_state(ctf),
        group=group,
        contrast=contrast,
    )
    with open_tomogram(file) as raw:
        size = voxel_size_of(raw, input_voxel_size, file)
        wanted = positive(voxel_size, "--voxel-size", " A") if voxel_size is not None else size
        mean, sd = grey_scale(raw.data, file)
        factor = invert_if_needed(contrast) / sd
        step = wanted / size
        same = abs(step - 1) < VOXEL_SIZE_TOLERANCE
        shape = raw.data.shape if same else resampled_shape(raw.data.shape, step)
        labels = [
            "contrast: protein bright" + (", inverted at import" if contrast == "dark" else ""),
            f"grey values: mean 0, SD 1 (were {mean:.6g}, {sd:.6g})",
        ]
        dtype = np.float16 if float16 else np.float32
        with open_volume(output, shape, wanted, dtype, labels) as out:
            if same:
                for index, section in enumerate(track(raw.data, "normalising")):
                    out[index] = (np.asarray(section, np.float32) - mean) * factor
            else:
                resample_into(out, raw.data, step)
                for section in out:
                    section[:] = (np.asarray(section, np.float32) - mean) * factor
    made = provenance(
        "tomograms import",
        [file],
        {"input_voxel_size": size, "voxel_size": wanted, "contrast": contrast},
    )
    write_json(sidecar(output), {"provenance": made, "acquisition": acquisition.to_json()})
    x, y, z = shape[::-1]
    log.info("%s: %d x %d x %d voxels of %.4g A", output, x, y, z, wanted)


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
    tilts: Tilts = "-60,60,3",
    voltage: Voltage = 300.0,
    cs: Cs = 2.7,
    amplitude_contrast: AmplitudeContrast = 0.07,
    defocus: Defocus = None,
    ctf: Ctf = "raw",
    group: Group = "all",
    seed: Seed = 0,
) -> None:
    """Simulate a tomogram with ground truth: `T.mrc`, `T.star`, `T_labels.mrc`.

    Particles are packed without overlap, projected over the tilt series, imaged with
    contrast transfer, noise and misalignment, and reconstructed by weighted
    back-projection. Protein bright, mean 0, standard deviation 1; coordinates are 0-based
    voxels, angles degrees (RELION's).
    """
    import pandas as pd

    from cryoetgan.acquisition import Acquisition
    from cryoetgan.command import counts_by_class
    from cryoetgan.files import provenance, sidecar, write_json
    from cryoetgan.star import class_name, write_star
    from cryoetgan.tomograms.packing import pack
    from cryoetgan.tomograms.simulation import simulate_tomogram
    from cryoetgan.volumes import read_volume, same_voxel_size, write_volume

    x, y, z = (int(number) for number in numbers(shape, "--shape", ("X", "Y", "Z")))
    positive(snr, "--snr")
    acquisition = Acquisition(
        **_tilts(tilts),
        voltage=positive(voltage, "--voltage", " kV"),
        cs=cs,
        amplitude_contrast=amplitude_contrast,
        defocus=defocus,
        ctf=_ctf_state(ctf),
        group=group,
    )
    named = {class_name(path): read_volume(path) for path in maps}
    first = next(iter(named.values()))
    for path, volume in zip(maps, named.values(), strict=True):
        same_voxel_size(first.voxel_size, volume.voxel_size, maps[0], path)
        if min(x, y, z) < min(volume.data.shape):
            raise UserError(
                f"--shape: {x},{y},{z} voxels are too small for {path} ({volume.data.shape[0]}^3)"
            )
    counts = counts_by_class(list(named), copies, class_copies, "--copies", "--class-copies")
    name = class_name(output)
    scene = pack({key: v.data for key, v in named.items()}, counts, (z, y, x), name, seed)
    for key, missing in scene.missing.items():
        log.warning("%s: %d of %d %s found no place", output, missing, counts[key], key)
    tomogram = simulate_tomogram(scene.density, first.voxel_size, acquisition, snr, name, seed)
    made = provenance(
        "tomograms simulate",
        maps,
        {"copies": counts, "shape": [x, y, z], "snr": snr},
        seed,
    )
    table = pd.DataFrame(scene.rows).assign(rlnOpticsGroup=1)
    optics = pd.DataFrame([acquisition.to_optics(1, name)])
    optics["rlnImagePixelSize"] = first.voxel_size
    labels = output.with_name(f"{name}_labels.mrc")
    classes = {str(index): key for index, key in enumerate(named, start=1)}
    write_volume(labels, scene.labels, first.voxel_size, [f"labels {classes}"])
    write_json(sidecar(labels), {"provenance": made, "labels": classes})
    write_star(output.with_suffix(".star"), table, optics)
    write_json(sidecar(output), {"provenance": made, "acquisition": acquisition.to_json()})
    write_volume(output, tomogram, first.voxel_size, ["contrast: protein bright", "simulated"])
    log.info("%s: %d particles of %d classes", output, len(table), len(named))


def _tilts(text: str) -> dict[str, Any]:
    low, high, step = tilt_range(text)
    return {"tilt_low": low, "tilt_high": high, "tilt_step": step}


def _ctf_state(text: str) -> str:
    known = ("raw", "phase-flipped", "corrected")
    if text not in known:
        raise UserError(f"--ctf: got '{text}', wanted {', '.join(known)}")
    return text
