"""Command-line options of a search with templates."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import typer

from cryoetgan.command import Device, check_positive, parse_tilt_range
from cryoetgan.physics.acquisition import Acquisition, read_acquisition

Rotations = Annotated[
    int | None,
    typer.Option(
        help="Orientations searched; default: 1856, or more for large maps (score).", min=8
    ),
]
Shells = Annotated[int, typer.Option(help="Lowest Fourier shells excluded.", min=0)]


@dataclass(frozen=True, kw_only=True)
class SearchSettings:
    """Options of a search with templates, without templates and tilts."""

    rotations: Rotations = None
    lowpass: Annotated[float | None, typer.Option(help="Angstrom; default: three voxels.")] = None
    highpass_shells: Shells = 3
    defocus: Annotated[
        float | None, typer.Option(help="Micrometres; default: from the record.")
    ] = None
    ctf: Annotated[
        str | None,
        typer.Option(
            metavar="raw|phase-flipped|corrected", help="Default: from the record, or raw."
        ),
    ] = None
    device: Device = "auto"

    def resolve_with(self, tilts: str, tomogram: Path, voxel_size: float) -> dict[str, Any]:
        """Return the fields of `SearchOptions`; the tomogram's record gives missing values."""
        low, high, _ = parse_tilt_range(tilts)
        record = read_acquisition(tomogram) or Acquisition()
        record = replace(record, tilt_low=low, tilt_high=high, ctf=self.ctf or record.ctf)
        if self.defocus is not None:
            record = replace(record, defocus=check_positive(self.defocus, "--defocus", " um"))
        lowpass = 3 * voxel_size if self.lowpass is None else self.lowpass
        return {
            "acquisition": record,
            "lowpass": check_positive(lowpass, "--lowpass", " A"),
            "rotations": self.rotations,
            "highpass_shells": self.highpass_shells,
            "device": self.device,
        }


@dataclass(frozen=True, kw_only=True)
class TemplateSearch(SearchSettings):
    """Options of a search with templates."""

    template: Annotated[
        list[Path], typer.Option(help="Density map named by its class; repeatable.")
    ]
    tilts: Annotated[str, typer.Option(metavar="LO,HI", help="Degrees about y.")]

    def resolve(self, tomogram: Path, voxel_size: float) -> dict[str, Any]:
        """Return the fields of `SearchOptions`; see `resolve_with`."""
        return self.resolve_with(self.tilts, tomogram, voxel_size)
