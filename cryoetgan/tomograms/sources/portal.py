"""Tomograms of the CryoET Data Portal, through its own client."""

from typing import TYPE_CHECKING, Any

from cryoetgan.errors import UserError

if TYPE_CHECKING:
    from cryoet_data_portal import Client, Tomogram

MIN_VOLTS = 2000
"""A smaller acceleration voltage must be in kilovolts."""


def _connect(url: str | None) -> "Client":
    try:
        from cryoet_data_portal import Client
    except ImportError as error:
        raise UserError(
            "the CryoET Data Portal's client is not installed; pip install cryoet-data-portal"
        ) from error
    return Client(url=url)


def _query(kind: Any, client: "Client", *conditions: Any) -> list[Any]:
    """Query the portal; every fault of network or server is reported as one message."""
    from gql.transport.exceptions import TransportError
    from requests.exceptions import RequestException

    try:
        return list(kind.find(client, conditions))
    except (TransportError, RequestException) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(
            f"the CryoET Data Portal at {client.url} does not answer ({reason}); try again later"
        ) from error


def find_tomogram_file(number: int, url: str | None) -> tuple[str, float]:
    """Return the address of a tomogram's MRC file, and its voxel size in angstrom."""
    client = _connect(url)
    from cryoet_data_portal import Tomogram

    found = _query(Tomogram, client, Tomogram.id == number)
    if not found:
        raise UserError(
            f"the CryoET Data Portal has no tomogram {number}; "
            "`cryoetgan tomograms list portal:dataset/ID` lists the tomograms of a dataset"
        )
    if not found[0].https_mrc_file:
        raise UserError(f"the CryoET Data Portal holds no MRC file of tomogram {number}")
    return found[0].https_mrc_file, float(found[0].voxel_spacing)


def list_tomograms(kind: str, number: int, url: str | None) -> list[dict[str, Any]]:
    """Return rows of the table of tomograms for a dataset, a run or one tomogram (`kind`).

    `url` is the GraphQL address, if it is not the portal's own.
    """
    client = _connect(url)
    from cryoet_data_portal import Run, TiltSeries, Tomogram

    conditions = {
        "dataset": Tomogram.run.dataset_id == number,
        "run": Tomogram.run_id == number,
        "tomogram": Tomogram.id == number,
    }
    found = _query(Tomogram, client, conditions[kind])
    if not found:
        raise UserError(f"the CryoET Data Portal has no tomogram of {kind} {number}")
    runs = sorted({tomogram.run_id for tomogram in found})
    names = {run.id: run.name for run in _query(Run, client, Run.id._in(runs))}
    series = {item.run_id: item for item in _query(TiltSeries, client, TiltSeries.run_id._in(runs))}
    if kind != "tomogram":  # one a run: of several versions, the curators' default
        found.sort(key=lambda item: (item.is_visualization_default, -item.id))
        found = list({tomogram.run_id: tomogram for tomogram in found}.values())
    return [
        _to_row(tomogram, names.get(tomogram.run_id, "run"), series.get(tomogram.run_id), kind)
        for tomogram in sorted(found, key=lambda item: item.id)
    ]


def _to_row(tomogram: "Tomogram", run: str, series: Any, kind: str) -> dict[str, Any]:
    row = {
        "tomogram": run if kind == "dataset" else f"{run}_{tomogram.id}",
        "path": f"portal:tomogram/{tomogram.id}",
        "voxel_size": tomogram.voxel_spacing,
        # the kind of correction is unknown; most programs flip phases
        "ctf": "phase-flipped" if tomogram.ctf_corrected else "raw",
    }
    if series is None:
        return row
    volts = series.acceleration_voltage or None
    known = {
        "tilt_low": series.tilt_min,
        "tilt_high": series.tilt_max,
        "tilt_step": series.tilt_step,
        "voltage": volts / 1e3 if volts and volts > MIN_VOLTS else volts,
        "cs": series.spherical_aberration_constant,
    }
    return row | {key: value for key, value in known.items() if value is not None}
