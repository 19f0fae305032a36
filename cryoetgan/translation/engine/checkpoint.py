"""Checkpoints: what is in them, and whether they belong to a run."""

import logging
import os
import pickle
import shutil
import sys
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from cryoetgan import __version__
from cryoetgan.errors import UserError
from cryoetgan.io.files import atomic, check_exists
from cryoetgan.translation.engine.scaling import Scaler
from cryoetgan.translation.presets import as_plain, check_settings
from cryoetgan.translation.settings import Settings

log = logging.getLogger("cryoetgan")
FORMAT = 1
NAME, IN_PROGRESS, KEPT = "checkpoint.pt", "training.pt", "training.old.pt"
MAY_DIFFER = ("steps", "epochs", "compile")
GONE = {"pair_weight": 0.0}
"""Settings there are no more: at this value a checkpoint is what it would be without them."""
BROKEN = (
    RuntimeError, pickle.UnpicklingError, EOFError, ValueError, KeyError, IndexError, TypeError,
    AttributeError, zipfile.BadZipFile,
)  # fmt: skip
"""What torch raises of damaged files."""
PARTS = (
    "settings",
    "key",
    "scalers",
    "networks",
    "average",
    "initial",
    "imaging",
    "optics",
    "voxel_size",
    "step",
)
"""What all who read a checkpoint ask for."""


class DamagedError(UserError):
    """A file that is no whole checkpoint of ours: there is nothing in it to go on from."""


def save(path: Path, content: Mapping[str, Any]) -> None:
    """Write a checkpoint atomically."""
    # to an open file: given a path, torch writes its (random) name into the archive
    with atomic(path) as part, open(part, "wb") as file:
        torch.save(_rebuilt({"format": FORMAT, "version": __version__, **content}), file)


def _rebuilt(value: Any) -> Any:
    """Return the same content as new containers and interned strings.

    A pickle refers back to an object it has seen, so whether two equal strings or tuples
    are one object shows in the bytes: a resumed run would end in another file.
    """
    if isinstance(value, Mapping):
        return {_rebuilt(name): _rebuilt(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)([_rebuilt(item) for item in value])
    return sys.intern(value) if isinstance(value, str) else value


def read(path: Path) -> dict[str, Any]:
    """Read a checkpoint; only tensors and plain values are loaded.

    Raises
    ------
    UserError
        Where it is missing, damaged, no checkpoint of ours, or of a version that this one does
        not read.
    """
    path = check_exists(path, "checkpoint")
    try:
        _check_archive(path)
        content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        # torch's own message tells how to run what is in it
        raise DamagedError(
            f"{path}: is not a whole checkpoint (it holds more than weights and numbers, or less); "
            "train again"
        ) from error
    except BROKEN as error:
        first = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise DamagedError(f"{path}: is not a whole checkpoint ({first}); train again") from error
    except OSError as error:
        raise UserError(
            f"{path}: cannot be read ({error}); check its rights and the disk"
        ) from error
    if not isinstance(content, dict) or not {"format", "version"} <= set(content):
        raise DamagedError(f"{path}: is not a checkpoint of `translation train`")
    if not isinstance(content["format"], int):
        raise DamagedError(f"{path}: is not a checkpoint of `translation train`")
    if content["format"] > FORMAT:
        raise UserError(
            f"{path}: was written by cryoetgan {content.get('version')}, which is newer than this "
            f"({__version__}); update, or train again"
        )
    gone = [name for name in PARTS if name not in content]
    if gone:
        raise DamagedError(f"{older(content, path)}, and has no {', '.join(gone)}; train again")
    return content


def _check_archive(path: Path) -> None:
    """Raise a `ValueError` where a part of the file is not what was written: torch looks at none."""
    if not zipfile.is_zipfile(path):
        return  # torch says what it is
    with zipfile.ZipFile(path) as archive:
        part = archive.testzip()
    if part is not None:
        raise ValueError(f"its part {part} has changed since it was written")


def older(content: Mapping[str, Any], path: Path) -> str:
    """Return the beginning of a message: which version wrote a checkpoint, which this is."""
    return f"{path}: was written by cryoetgan {content['version']} (this is {__version__})"


def settings_of(content: Mapping[str, Any], path: Path) -> Settings:
    """Return the settings a checkpoint was trained with; those younger than it at their default.

    Raises
    ------
    UserError
        Where it was trained with a setting that there is no more.
    """
    settings = _without_gone(content["settings"])
    gone = sorted(set(settings) - set(as_plain(Settings())))
    if gone:
        said = f"with the setting {', '.join(gone)}, which there is no more; train again"
        raise UserError(f"{older(content, path)} {said}")
    return check_settings(settings, str(path))


def _without_gone(settings: Mapping[str, Any]) -> dict[str, Any]:
    return {k: v for k, v in settings.items() if k not in GONE or v != GONE[k]}


def scaler_of(content: Mapping[str, Any], domain: str) -> Scaler:
    """Return the scaler of `density` or `subtomogram`."""
    return Scaler(**content["scalers"][domain])


def load_weights(
    network: nn.Module, state: Mapping[str, torch.Tensor], content: Mapping[str, Any], path: Path
) -> None:
    """Put a checkpoint's weights into a network.

    Parameters
    ----------
    network : Module
        As the checkpoint's settings make it today.
    state : mapping
        Name to weights.
    content : mapping
        The checkpoint's.
    path : Path
        What messages call it.

    Raises
    ------
    UserError
        Where the network is built otherwise today.
    """
    start = network.state_dict()
    # a contrast that is younger than the checkpoint was 1 then
    state = {name: start[name] for name in start if name == "log_contrast"} | dict(state)
    wanted = {name: tuple(value.shape) for name, value in start.items()}
    found = {name: tuple(value.shape) for name, value in state.items()}
    other = sorted(name for name in {*wanted, *found} if wanted.get(name) != found.get(name))
    if other:
        name = other[0]
        raise UserError(
            f"{older(content, path)}, whose networks were built otherwise: {name} is "
            f"{found.get(name, 'not there')}, wanted {wanted.get(name, 'nothing')}; train again"
        )
    network.load_state_dict(state)


def differences(content: Mapping[str, Any], key: Mapping[str, Any]) -> list[str]:
    """Return what a checkpoint's run and this one do not share, but for how long and how quick."""
    # a switch that is younger than the checkpoint was at its default then
    # its random numbers hang on the preset's name
    told = {"preset": content.get("preset"), **content["key"]}
    old = {**as_plain(Settings()), **_without_gone(content["settings"]), **told}
    new = dict(key)
    return sorted(
        name for name in {*old, *new} if name not in MAY_DIFFER and old.get(name) != new.get(name)
    )


def find_start(folder: Path, key: Mapping[str, Any], code: str) -> dict[str, Any] | None:
    """Return the state to go on from, or None to start anew.

    Parameters
    ----------
    folder : Path
        The run's.
    key : mapping
        Settings, seed and input hashes of this run.
    code : str
        Hash of the code that trains today. What is finished is not trained anew for it while
        its checkpoint is there; what is not is gone on with.

    Raises
    ------
    UserError
        Where a finished checkpoint of other settings or inputs lies there.
    """
    finished, unfinished = folder / NAME, folder / IN_PROGRESS
    if finished.exists():
        content = read(finished)
        other = differences(content, key)
        if not other and content["step"] > key["steps"]:
            other = [f"steps ({content['step']}, not {key['steps']})"]
        if other:
            raise UserError(
                f"{finished}: was trained with other {', '.join(other)}; name another folder, or "
                "delete it to train anew"
            )
        content = _further(unfinished, key, content)
        if not _is_of(content, code):
            log.warning("%s; to train by today's, delete it", _by_other_code(finished, content))
        return content
    if not unfinished.exists():
        return None
    try:
        content = read(unfinished)
    except DamagedError as error:
        _put_aside(unfinished, str(error))
        return None
    other = differences(content, key)
    if not other and not _leads_to(content, key):
        planned = content["settings"]["steps"]
        other = [f"steps: it has done {content['step']} of {planned}, {key['steps']} are wanted"]
    if other:  # the workflow removes the finished checkpoint before it trains with an edited config
        why = f"{unfinished} belongs to a run with other {', '.join(other)}"
    elif _is_of(content, code):
        return content
    elif content["step"] < key["steps"]:
        log.warning("%s; gone on with by today's", _by_other_code(unfinished, content))
        return content
    else:  # or because the code has changed
        why = _by_other_code(unfinished, content)
    _put_aside(unfinished, why)
    return None


def _further(path: Path, key: Mapping[str, Any], content: dict[str, Any]) -> dict[str, Any]:
    """Return the state of a longer run that was killed, where it is of this one, or `content`."""
    try:
        found = read(path) if path.exists() else content
    except DamagedError:
        return content
    mine = not differences(found, key) and content["step"] < found["step"]
    if not mine or not _leads_to(found, key):
        return content
    if found["step"] == key["steps"]:  # killed before it had its final name
        finish(path.parent)
    return found


def _leads_to(content: Mapping[str, Any], key: Mapping[str, Any]) -> bool:
    """Return whether a state can be gone on from to so many steps, or has done them.

    Done is what was to end there: of a longer run, rates have not fallen as they would have.
    """
    planned, wanted = content["settings"]["steps"], key["steps"]
    if content["step"] == wanted:
        return bool(planned == wanted or key["decay_start"] >= 1)
    return bool(content["step"] < wanted)


def _is_of(content: Mapping[str, Any], code: str) -> bool:
    """Return whether a state is of this code; older ones do not say, and are taken for it."""
    return content.get("code") in (None, code)


def _by_other_code(path: Path, content: Mapping[str, Any]) -> str:
    return f"{path}: was trained by other code (cryoetgan {content['version']})"


def _put_aside(path: Path, why: str) -> None:
    log.warning("%s: kept as %s, training starts anew", why, KEPT)
    os.replace(path, path.with_name(KEPT))


def finish(folder: Path) -> None:
    """Give the last state its final name; it stays to be gone on from, too."""
    with atomic(folder / NAME) as part:
        try:
            os.link(folder / IN_PROGRESS, part)
        except OSError:  # a file system without hard links
            shutil.copyfile(folder / IN_PROGRESS, part)


def as_key(settings: Settings, seed: int, inputs: Mapping[str, str], preset: str) -> dict[str, Any]:
    """Return what must be equal for a run to be gone on with."""
    return {**as_plain(settings), "seed": seed, "inputs": dict(inputs), "preset": preset}
