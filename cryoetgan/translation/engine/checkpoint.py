"""Checkpoints: their content, and whether a run can resume from them.

`training.pt` is the newest state of a run, `checkpoint.pt` the state at its end. Two rules: the
same settings resume; other settings are refused while `checkpoint.pt` exists. The workflow deletes
`checkpoint.pt` before it trains with other settings; training then starts anew.
"""

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

from cryoetgan import __version__
from cryoetgan.errors import UserError
from cryoetgan.io.files import atomic, check_exists

log = logging.getLogger("cryoetgan")
FORMAT = 1
NAME, IN_PROGRESS, BACKUP = "checkpoint.pt", "training.pt", "training.old.pt"
MAY_DIFFER = ("steps", "epochs", "compile")
"""Settings that do not change the result of a step."""
DAMAGE = (
    RuntimeError, pickle.UnpicklingError, EOFError, ValueError, KeyError, IndexError, TypeError,
    AttributeError, zipfile.BadZipFile,
)  # fmt: skip
"""Errors that torch raises if a file is damaged."""
KEYS = {
    "format", "version", "settings", "key", "code", "scalers", "networks", "average", "initial",
    "imaging", "optics", "voxel_size", "step",
}  # fmt: skip
"""Keys of every checkpoint."""


class DamagedError(UserError):
    """A file is not a complete checkpoint."""


def save(path: Path, content: Mapping[str, Any]) -> None:
    """Write a checkpoint atomically."""
    # given a path, torch writes its (random) name into the archive
    with atomic(path) as part, open(part, "wb") as file:
        torch.save(_rebuild({"format": FORMAT, "version": __version__, **content}), file)


def _rebuild(value: Any) -> Any:
    """Return the same content in new containers, with interned strings.

    A pickle refers to an object that it holds already. The bytes therefore depend on whether two
    equal strings are one object, and the file of a resumed run would differ.
    """
    if isinstance(value, Mapping):
        return {_rebuild(name): _rebuild(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)([_rebuild(item) for item in value])
    return sys.intern(value) if isinstance(value, str) else value


def read(path: Path) -> dict[str, Any]:
    """Read a checkpoint; only tensors and plain values are loaded.

    Raises `DamagedError` if the file is damaged or not a checkpoint.
    """
    path = check_exists(path, "checkpoint")
    try:
        if zipfile.is_zipfile(path):  # torch does not check the sums of its parts
            with zipfile.ZipFile(path) as archive:
                part = archive.testzip()
            if part is not None:
                raise ValueError(f"its part {part} has changed since it was written")
        content = torch.load(path, map_location="cpu", weights_only=True)
    except DAMAGE as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        if isinstance(error, pickle.UnpicklingError):
            # torch's message explains how to run code from the file: it must not be shown
            reason = "unexpected content"
        raise DamagedError(f"{path}: is not a valid checkpoint ({reason}); train again") from error
    if not isinstance(content, dict) or not isinstance(content.get("version"), str):
        raise DamagedError(f"{path}: is not a checkpoint of `translation train`")
    if content.get("format") != FORMAT:
        raise UserError(
            f"{path}: has format {content.get('format')} of cryoetgan {content['version']}, this "
            f"version ({__version__}) reads format {FORMAT}; update, or train again"
        )
    if missing := sorted(KEYS - set(content)):
        raise DamagedError(f"{path}: is not a valid checkpoint (no {', '.join(missing)})")
    return content


def find_differences(content: Mapping[str, Any], key: Mapping[str, Any]) -> list[str]:
    """Return the reasons why the run of a `key` cannot resume from a checkpoint's content.

    A run may have more steps than the checkpoint's, or fewer, if the state is the same as in one
    unbroken run: no learning rate may have fallen before it.
    """
    old = content["key"]
    names = {*old, *key} - set(MAY_DIFFER)
    different = sorted(name for name in names if old.get(name) != key.get(name))
    done, planned, wanted = content["step"], old["steps"], key["steps"]
    decay_start = key["decay_start"] * min(planned, wanted)
    if done > wanted or (planned != wanted and done - 1 > decay_start):
        different.append(f"steps ({done} of {planned} are done, {wanted} wanted)")
    return different


def find_state(folder: Path, key: Mapping[str, Any], code: str) -> dict[str, Any] | None:
    """Return the state to resume from, or None to train from the start.

    `key` holds settings, seed, input hashes and preset of the run; a finished checkpoint of another
    run in the folder is a `UserError`. `code` is the hash of the training code: a finished run is
    trained anew by other code only once its checkpoint is gone; an unfinished run resumes.
    """
    finished, newest = folder / NAME, folder / IN_PROGRESS
    checkpoint = read(finished) if finished.exists() else None
    if checkpoint and (different := find_differences(checkpoint, key)):
        raise UserError(
            f"{finished}: was trained with other {', '.join(different)}; delete the folder to train "
            "anew, or give another folder"
        )
    state, reason = checkpoint, ""
    if newest.exists() and not (checkpoint and newest.samefile(finished)):
        try:
            found = read(newest)
        except DamagedError as error:
            reason = str(error)
        else:
            if different := find_differences(found, key):
                reason = f"{newest}: belongs to a run with other {', '.join(different)}"
            elif found["code"] != code and found["step"] == key["steps"] and not checkpoint:
                reason = f"{newest}: was trained by other code"
            else:
                state = found
    if state and state["code"] != code:
        log.warning(
            "%s: was trained by other code (cryoetgan %s); delete the folder to train by today's",
            folder,
            state["version"],
        )
    if reason and not state:
        log.warning("%s; kept as %s, training starts anew", reason, BACKUP)
        os.replace(newest, newest.with_name(BACKUP))
    return state


def finish(folder: Path) -> None:
    """Give the newest state its final name; it also stays, for a run with more steps."""
    with atomic(folder / NAME) as part:
        try:
            os.link(folder / IN_PROGRESS, part)
        except OSError:  # a file system without hard links
            shutil.copyfile(folder / IN_PROGRESS, part)
