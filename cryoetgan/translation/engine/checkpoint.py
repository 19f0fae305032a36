"""Checkpoints: their content, and whether a run can resume from them.

`training.pt` is the newest state of a run, `checkpoint.pt` the state at its end. Two rules: the
same settings resume; other settings are refused while `checkpoint.pt` exists. The workflow deletes
`checkpoint.pt` before it trains with other settings; training then starts anew.
"""

import logging
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cryoetgan.errors import UserError
from cryoetgan.io.files import atomic
from cryoetgan.io.weights import DamagedError, read_weights, write_weights

log = logging.getLogger("cryoetgan")
KIND = "checkpoint"
NAME, IN_PROGRESS = "checkpoint.pt", "training.pt"
MAY_DIFFER = ("steps", "epochs", "compile")
"""Settings that do not change the result of a step."""
KEYS = {
    "settings", "key", "code", "scalers", "average", "initial",
    "imaging", "optics", "voxel_size", "step",
}  # fmt: skip
"""Keys of every checkpoint."""


def save(path: Path, content: Mapping[str, Any]) -> None:
    """Write a checkpoint atomically."""
    write_weights(path, KIND, content)


def read(path: Path) -> dict[str, Any]:
    """Read a checkpoint; raise `DamagedError` if the file is damaged or not a checkpoint."""
    return read_weights(path, KIND, KEYS, "train again")


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
    checkpoint = None
    if finished.exists():
        try:
            checkpoint = read(finished)
        except DamagedError as error:
            _set_aside(finished, str(error))
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
        _set_aside(newest, f"{reason}; training starts anew")
    return state


def _set_aside(path: Path, reason: str) -> None:
    """Rename a file that cannot be used, and say so."""
    backup = path.with_name(f"{path.stem}.old.pt")
    log.warning("%s; the file is kept as %s", reason, backup.name)
    os.replace(path, backup)


def finish(folder: Path) -> None:
    """Give the newest state its final name; it also stays, for a run with more steps."""
    with atomic(folder / NAME) as part:
        try:
            os.link(folder / IN_PROGRESS, part)
        except OSError:  # a file system without hard links
            shutil.copyfile(folder / IN_PROGRESS, part)
