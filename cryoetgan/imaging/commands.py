"""Commands of the `imaging` stage."""

from pathlib import Path
from typing import Annotated

import typer

from cryoetgan.command import Output, Seed, command, group, log, positive, tilt_range
from cryoetgan.errors import UserError

app = group("")


@command(app, "simulate")
def simulate(
    densities: Annotated[Path, typer.Argument(help="Volume set of posed densities (STAR).")],
    output: Output,
    snr: Annotated[float, typer.Option(help="Signal over noise variance, of each volume.")],
    tilts: Annotated[str, typer.Option(metavar="LO,HI", help="Degrees about y.")],
    defocus: Annotated[float, typer.Option(help="Micrometres, underfocus positive.")] = 4.0,
    voltage: Annotated[float, typer.Option(help="Kilovolts.")] = 300.0,
    cs: Annotated[float, typer.Option(help="Millimetres.")] = 2.7,
    amplitude_contrast: Annotated[float, typer.Option(help="Fraction.")] = 0.07,
    ctf: Annotated[str, typer.Option(help="raw, phase-flipped or corrected.")] = "raw",
    lowpass: Annotated[float, typer.Option(help="Angstrom.")] = 40.0,
    seed: Seed = 0,
) -> None:
    """Densities to subtomograms by physics with typed parameters: a volume set.

    The traditional baseline: contrast transfer, missing wedge, noise before and after the
    transfer, low-pass. Rows keep class, angles (degrees) and origin (angstrom); protein
    bright; the whole set has mean 0 and standard deviation 1.
    """
    import numpy as np
    import pandas as pd

    from cryoetgan.acquisition import Acquisition
    from cryoetgan.files import provenance, sidecar, write_json
    from cryoetgan.imaging.typed import Physics, Simulator, simulated
    from cryoetgan.progress import track
    from cryoetgan.star import item_names
    from cryoetgan.volumes import VolumeSetWriter, read_volume_set

    low, high, _ = tilt_range(tilts)
    if ctf not in ("raw", "phase-flipped", "corrected"):
        raise UserError(f"--ctf: got '{ctf}', wanted raw, phase-flipped or corrected")
    physics = Physics(
        snr=positive(snr, "--snr"),
        tilts=(low, high),
        defocus=defocus,
        voltage=positive(voltage, "--voltage", " kV"),
        cs=cs,
        amplitude_contrast=amplitude_contrast,
        ctf=ctf,
        lowpass=positive(lowpass, "--lowpass", " A"),
    )
    source = read_volume_set(densities, ["cryoetganClass"])
    simulator = Simulator(physics, source.box, source.voxel_size)
    acquisition = Acquisition(
        tilt_low=low,
        tilt_high=high,
        voltage=voltage,
        cs=cs,
        amplitude_contrast=amplitude_contrast,
        defocus=defocus,
        ctf=ctf,
    )
    rows = source.table.drop(columns="rlnOpticsGroup", errors="ignore")
    rows["cryoetganSource"] = "simulated"
    made = simulated(source.volumes, simulator, seed, item_names(rows["cryoetganClass"]))
    optics = pd.DataFrame([acquisition.to_optics(1, "simulated")])
    total = square = 0.0
    with VolumeSetWriter(output, len(source), source.box, source.voxel_size, optics) as writer:
        for volume, row in track(
            zip(made, rows.to_dict("records"), strict=True), "simulating", len(source)
        ):
            writer.add(volume, row)
            total += float(volume.sum(dtype=np.float64))
            square += float((volume.astype(np.float64) ** 2).sum())
        # one grey scale for the set: contrast between light and heavy particles is information
        mean = total / writer.data.size
        sd = np.sqrt(square / writer.data.size - mean**2)
        for volume in writer.data:
            volume[:] = (volume - mean) / sd
    parameters = {"snr": snr, "tilts": [low, high], "defocus": defocus, "ctf": ctf}
    record = provenance("imaging simulate", [densities], parameters, seed)
    write_json(sidecar(output), {"provenance": record})
    log.info("%s: %d volumes", output, len(source))
