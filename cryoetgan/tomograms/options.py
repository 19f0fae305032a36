"""Options of the commands of the `tomograms` stage: how a tomogram was recorded, what is in it."""

from pathlib import Path
from typing import Annotated, Any

import typer

from cryoetgan.command import check_positive, parse_tilt_range
from cryoetgan.errors import UserError

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

Maps = Annotated[list[Path], typer.Argument(help="Density maps; the stem is the class.")]
Copies = Annotated[int, typer.Option("--copies", help="Particles of each class.")]
Shape = Annotated[str, typer.Option("--shape", metavar="X,Y,Z", help="Voxels.")]
ClassCopies = Annotated[
    list[str] | None,
    typer.Option("--class-copies", help="NAME=N: another number for one class; repeatable."),
]
Crowder = Annotated[
    list[Path] | None,
    typer.Option(
        "--crowder", help="Map of a background species: labelled, but not in the truth; repeatable."
    ),
]
CrowderCopies = Annotated[int, typer.Option("--crowder-copies", min=0, help="Of each crowder.")]
Vesicles = Annotated[int, typer.Option("--vesicles", min=0, help="Membrane vesicles.")]
VesicleRadius = Annotated[
    str,
    typer.Option("--vesicle-radius", metavar="LO,HI", help="Angstrom; longest half axis."),
]
Beads = Annotated[int, typer.Option("--beads", min=0, help="Gold beads.")]
BeadDiameter = Annotated[float, typer.Option("--bead-diameter", help="Angstrom.")]
Resolution = Annotated[
    float | None,
    typer.Option(
        "--resolution",
        help="Angstrom, of vesicles and beads, as the maps'; default three voxels.",
    ),
]


def acquisition_of(
    tilts: str,
    voltage: float,
    cs: float,
    amplitude_contrast: float,
    defocus: float | None,
    ctf: str,
    group: str,
    **others: Any,
) -> Any:
    """Return the `Acquisition` of typed options, or raise a `UserError` that names one."""
    from cryoetgan.io.star import CLASS_NAME
    from cryoetgan.physics.acquisition import Acquisition

    low, high, step = parse_tilt_range(tilts)
    one_of(ctf, "--ctf", "raw", "phase-flipped", "corrected")
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
        voltage=check_positive(voltage, "--voltage", " kV"),
        cs=cs,
        amplitude_contrast=amplitude_contrast,
        defocus=defocus,
        ctf=ctf,
        group=group,
        **others,
    )


def one_of(value: str, option: str, *known: str) -> None:
    """Raise a `UserError` where `value` is none of what an option takes."""
    if value not in known:
        raise UserError(f"{option}: got '{value}', wanted {', '.join(known)}")
