"""The CryoET Data Portal, asked through its own client."""

from typing import TYPE_CHECKING, Any

from cryoetgan.errors import UserError

if TYPE_CHECKING:
    from cryoet_data_portal import Client, Tomogram


def _client(url: str | None) -> "Client":
    try:
        from cryoet_data_portal import Client
    except ImportError as error:
        raise UserError(
            "the CryoET Data Portal's client is not installed; pip install cryoet-data-portal"
        ) from error
    return Client(url=url)


def _ask(kind: Any, client: "Client", *conditions: Any) -> list[Any]:
    """Ask the portal; whatever the network or server does becomes one message."""
    from gql.transport.exceptions import TransportError
    from requests.exceptions import RequestException

    try:
        return list(kind.find(client, conditions))
    except (TransportError, RequestException) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(
            f"the CryoET Data Portal at {client.url} does not answer ({reason}); try again later"
        ) from error


def tomogram_file(number: int, url: str | None) -> tuple[str, float]:
    """Return the address of a tomogram's MRC file, and its voxel size in angstrom.

    Raises
    ------
    UserError
        Where the portal has no such tomogram, or no MRC file of it.
    """
    from cryoet_data_portal import Tomogram

    client = _client(url)
    found = _ask(Tomogram, client, Tomogram.id == number)
    if not found:
        raise UserError(
            f"the CryoET Data Portal has no tomogram {number}; "
            "`cryoetgan tomograms list portal:dataset/ID` names those of a dataset"
        )
    if not found[0].https_mrc_file:
        raise UserError(f"the CryoET Data Portal holds no MRC file of tomogram {number}")
    return found[0].https_mrc_file, float(found[0].voxel_spacing)


def rows(kind: str, number: int, url: str | None) -> list[dict[str, Any]]:
    """Return rows of the table of tomograms: those of a dataset, a run, or one.

    Parameters
    ----------
    kind : str
        dataset, run or tomogram.
    number : int
        The portal's id.
    url : str, optional
        Its GraphQL address, where that is another.

    Raises
    ------
    UserError
        Where the portal has none.
    """
    client = _client(url)
    from cryoet_data_portal import Run, Tomogram

    conditions = {
        "dataset": Tomogram.run.dataset_id == number,
        "run": Tomogram.run_id == number,
        "tomogram": Tomogram.id == number,
    }
    found = _ask(Tomogram, client, conditions[kind])
    if not found:
        raise UserError(f"the CryoET Data Portal has no tomogram of {kind} {number}")
    wanted = sorted({tomogram.run_id for tomogram in found})
    names = {run.id: run.name for run in _ask(Run, client, Run.id._in(wanted))}
    series = _series(client, wanted)
    return [
        _row(tomogram, names.get(tomogram.run_id, "run"), series.get(tomogram.run_id), kind)
        for tomogram in sorted(_one_a_run(found, kind), key=lambda item: item.id)
    ]


def _one_a_run(found: "list[Tomogram]", kind: str) -> "list[Tomogram]":
    """A dataset holds several versions of a tomogram: take what its curators show."""
    if kind == "tomogram":
        return found
    best: dict[int, Tomogram] = {}
    for tomogram in sorted(found, key=lambda item: (not item.is_visualization_default, item.id)):
        best.setdefault(tomogram.run_id, tomogram)
    return list(best.values())


def _series(client: "Client", runs: list[int]) -> dict[int, Any]:
    from cryoet_data_portal import TiltSeries

    return {item.run_id: item for item in _ask(TiltSeries, client, TiltSeries.run_id._in(runs))}


def _row(tomogram: "Tomogram", run: str, series: Any, kind: str) -> dict[str, Any]:
    row = {
        "tomogram": run if kind == "dataset" else f"{run}_{tomogram.id}",
        "path": f"portal:tomogram/{tomogram.id}",
        "voxel_size": tomogram.voxel_spacing,
        # how it was corrected is not told; phase flipping is what most programs do
        "ctf": "phase-flipped" if tomogram.ctf_corrected else "raw",
    }
    if series is None:
        return row
    known = {
        "tilt_low": series.tilt_min,
        "tilt_high": series.tilt_max,
        "tilt_step": series.tilt_step,
        "voltage": _kilovolts(series.acceleration_voltage),
        "cs": series.spherical_aberration_constant,
    }
    return row | {key: value for key, value in known.items() if value is not None}


def _kilovolts(volts: float | None) -> float | None:
    """The portal counts volts; a microscope of less than 2000 must mean kilovolts."""
    return None if not volts else volts / 1e3 if volts > 2000 else volts
