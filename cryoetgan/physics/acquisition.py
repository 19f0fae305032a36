"""Acquisition of a tomogram: tilt range, optics, state of the CTF; stored in optics blocks."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from math import inf
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cryoetgan.errors import UserError
from cryoetgan.io.files import read_record, sidecar

if TYPE_CHECKING:
    import pandas as pd

COLUMNS = {
    "tilt_low": "cryoetganTiltLow",
    "tilt_high": "cryoetganTiltHigh",
    "tilt_step": "cryoetganTiltStep",
    "voltage": "rlnVoltage",
    "cs": "rlnSphericalAberration",
    "amplitude_contrast": "rlnAmplitudeContrast",
    "defocus": "cryoetganDefocus",
    "ctf": "cryoetganCtfState",
    "group": "cryoetganGroup",
    "contrast": "cryoetganContrast",
}
"""Columns of the optics block, by attribute of `Acquisition`."""
CTF_STATES = ("raw", "phase-flipped", "corrected")


@dataclass(frozen=True, kw_only=True)
class Acquisition:
    """Parameters of a tilt series (degrees); the tilt axis is y, the beam runs along z."""

    tilt_low: float = -60.0
    tilt_high: float = 60.0
    tilt_step: float = 3.0
    voltage: float = 300.0
    cs: float = 2.7
    """Spherical aberration in millimetres; the voltage in kilovolts."""
    amplitude_contrast: float = 0.07
    """Fraction in [0, 1]."""
    defocus: float | None = None
    """Micrometres, underfocus positive; None if unknown."""
    ctf: str = "raw"
    """State of the contrast transfer function: raw, phase-flipped or corrected."""
    group: str = "all"
    """Microscope session, shared by its tomograms."""
    contrast: str = "dark"
    """Protein contrast of the file before import, dark or bright; exports restore it."""

    def __post_init__(self) -> None:
        if not -90 <= self.tilt_low < self.tilt_high <= 90:
            raise UserError(
                f"tilts {self.tilt_low:g} to {self.tilt_high:g} degrees: wanted -90 <= low < high <= 90"
            )
        if self.ctf not in CTF_STATES:
            raise UserError(f"ctf is '{self.ctf}', wanted {', '.join(CTF_STATES)}")
        for name, value, unit, good in (
            ("voltage", self.voltage, " kV", 0 < self.voltage < inf),
            ("cs", self.cs, " mm", 0 <= self.cs < inf),
            ("amplitude_contrast", self.amplitude_contrast, "", 0 <= self.amplitude_contrast <= 1),
            ("defocus", self.defocus, " um", self.defocus is None or 0 <= self.defocus < inf),
        ):
            if not good:
                others = {"amplitude_contrast": "a fraction", "voltage": "a number above zero"}
                wanted = others.get(name, "a number, zero or more")
                raise UserError(f"{name} is {value:g}{unit}, wanted {wanted}")

    @property
    def tilts(self) -> tuple[float, float]:
        """Lowest and highest tilt, degrees."""
        return self.tilt_low, self.tilt_high

    def to_optics(self, number: int, name: str) -> dict[str, Any]:
        """Return one row of an optics block; unknown values have no column."""
        row = {"rlnOpticsGroup": number, "rlnOpticsGroupName": name}
        known = {COLUMNS[key]: value for key, value in asdict(self).items() if value is not None}
        return row | known

    @classmethod
    def from_optics(cls, row: Mapping[str, Any]) -> "Acquisition":
        """Read a row of an optics block; columns that are absent or empty keep their defaults."""
        found = {key: row[name] for key, name in COLUMNS.items() if name in row}
        known = {key: value for key, value in found.items() if value == value and value != "<NA>"}
        numeric: dict[str, Any] = {
            key: value if key in ("ctf", "group", "contrast") else float(value)
            for key, value in known.items()
        }
        return replace(cls(), **numeric)

    def to_json(self) -> dict[str, Any]:
        """Return a mapping for the record beside a tomogram (key `acquisition`)."""
        return asdict(self)


def optics_row(acquisition: Acquisition | None, number: int, name: str) -> dict[str, Any]:
    """Return one row of an optics block; only number and name if the acquisition is unknown."""
    if acquisition is None:
        return {"rlnOpticsGroup": number, "rlnOpticsGroupName": name}
    return acquisition.to_optics(number, name)


def read_tilt_ranges(optics: "pd.DataFrame") -> list[tuple[float, float]]:
    """Return the tilt range of each optics group that states one, degrees."""
    ends = [COLUMNS["tilt_low"], COLUMNS["tilt_high"]]
    rows = optics.to_dict("records") if set(ends) <= set(optics) else []
    return [
        Acquisition.from_optics(row).tilts
        for row in rows
        if all(row[end] == row[end] and row[end] != "<NA>" for end in ends)
    ]


def mirror_tilts(low: float, high: float) -> tuple[float, float]:
    """Return the tilt range of the mirror image along z, degrees: each tilt has the other sign.

    Examples
    --------
    >>> mirror_tilts(-40, 60)
    (-60, 40)
    """
    return -high, -low


def is_symmetric(tilts: tuple[float, float], tolerance: float = 1.0) -> bool:
    """Return whether a tilt range reaches equally far on both sides, within `tolerance` degrees."""
    return abs(tilts[0] + tilts[1]) <= tolerance


def read_acquisition(tomogram: Path) -> Acquisition | None:
    """Return the acquisition from the record beside a tomogram, or the optics block of a set.

    None if they state no tilts.
    """
    if Path(tomogram).suffix == ".star":
        from cryoetgan.io.star import read_star

        rows = read_star(tomogram).optics.to_dict("records")
        found = [Acquisition.from_optics({str(k): v for k, v in row.items()}) for row in rows]
        known = rows and all(
            {COLUMNS["tilt_low"], COLUMNS["tilt_high"]} <= set(row) for row in rows
        )
        if len({one.tilts for one in found}) > 1:
            raise UserError(
                f"{tomogram}: its optics groups have different tilt ranges; keep boxes of each range "
                "in a set of its own"
            )
        return found[0] if known else None
    record = sidecar(tomogram)
    if not record.exists():
        return None
    content = read_record(record).get("acquisition")
    try:
        return None if content is None else Acquisition(**content)
    except TypeError as error:
        raise UserError(
            f"{record}: has unexpected content ({error}); import {tomogram} again"
        ) from error
