"""Files of trained networks (.pt): one writer, and one reader that runs no code from a file."""

import errno
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, Any

import torch
from torch import Tensor, nn

from cryoetgan import __version__
from cryoetgan.errors import UserError, shown
from cryoetgan.io.archives import check_archive
from cryoetgan.io.files import atomic, check_exists

FORMAT = 1


class DamagedError(UserError):
    """A file is cut short, changed, or not of the wanted kind."""


class _Writer:
    """A file that remembers its error: torch replaces it by one of its own."""

    def __init__(self, file: IO[bytes]) -> None:
        self.file, self.flush = file, file.flush
        self.error: OSError | None = None

    def write(self, part: bytes) -> int:
        try:
            return self.file.write(part)
        except OSError as error:
            self.error = error
            raise


def write_weights(path: Path, kind: str, content: Mapping[str, Any]) -> None:
    """Write tensors and plain values atomically; `kind` names the file, such as `checkpoint`.

    Equal content gives equal bytes. Raises `OSError` if the disk is full.
    """
    head = {"format": FORMAT, "kind": kind, "version": __version__}
    # given a path, torch writes its (random) name into the archive
    with atomic(path) as part, open(part, "wb") as file:
        writer = _Writer(file)
        try:
            torch.save(_rebuild({**head, **content}), writer)  # type: ignore[arg-type]
        except (RuntimeError, OSError) as error:
            reason = writer.error or error
            if isinstance(reason, OSError):
                raise OSError(reason.errno, reason.strerror, str(path)) from error
            raise


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


def read_weights(path: Path, kind: str, keys: set[str], advice: str) -> dict[str, Any]:
    """Read a file of a kind; `keys` is its content, `advice` the way out if it is damaged.

    Raises `DamagedError` if the file is damaged or another one, `UserError` if it has the format of
    another version, `OSError` if it cannot be read.
    """
    path = check_exists(path, kind)
    try:
        with open(path, "rb") as file:
            check_archive(file)  # torch does not check the sums of its parts
            content = torch.load(file, map_location="cpu", weights_only=True)
        _check_values(content, set())
        if not isinstance(content, dict) or not isinstance(content.get("version"), str):
            raise ValueError("it lacks its version")
        found = content.get("kind")
        if found != kind:
            raise ValueError(f"it is a {found}" if isinstance(found, str) else "it has no kind")
    except Exception as error:  # damage raises one of many kinds
        if isinstance(error, MemoryError) or "can't allocate memory" in str(error):
            raise MemoryError(f"{path} does not fit") from error
        if isinstance(error, OSError) and error.errno not in (None, errno.EINVAL):
            raise  # the disk's fault; a negative position in a damaged archive is EINVAL
        # torch's own messages explain how to run code from the file: they must not be shown
        reason = str(error) if type(error) is ValueError else "unexpected content"
        raise DamagedError(f"{path}: is not a valid {kind} ({reason}); {advice}") from error
    if content.get("format") != FORMAT:
        raise UserError(
            f"{path}: has format {shown(content.get('format'))} of cryoetgan "
            f"{shown(content['version'])}, this version ({__version__}) reads format {FORMAT}; "
            f"update, or {advice}"
        )
    if missing := sorted(keys - set(content)):
        raise DamagedError(f"{path}: is not a valid {kind} (no {', '.join(missing)}); {advice}")
    return content


def _check_values(value: Any, seen: set[int]) -> None:
    """Raise `ValueError` if a tensor stands for more numbers than the file holds."""
    if id(value) in seen:
        return
    seen.add(id(value))
    if isinstance(value, Tensor):
        dense = value.layout == torch.strided and not value.is_quantized
        if not dense or value.untyped_storage().nbytes() < value.numel() * value.element_size():
            raise ValueError("a tensor holds fewer numbers than its shape")
    elif isinstance(value, Mapping):
        for item in value.values():
            _check_values(item, seen)
    elif isinstance(value, list | tuple):
        for item in value:
            _check_values(item, seen)


def find_difference(build: Callable[[], nn.Module], state: Any) -> str:
    """Return the first difference between a network's weights and a file's, empty if none.

    The network is built without memory, so that settings of a changed file cannot exhaust it.
    """
    with torch.device("meta"):
        wanted = {name: tuple(value.shape) for name, value in build().state_dict().items()}
    if not isinstance(state, Mapping) or not all(isinstance(v, Tensor) for v in state.values()):
        return "it holds no weights"
    found = {str(name): tuple(value.shape) for name, value in state.items()}
    for name in sorted(set(wanted) | set(found)):
        if wanted.get(name) != found.get(name):
            shapes = [str(side.get(name, "nothing")) for side in (found, wanted)]
            return f"{shown(name)} is {shapes[0]}, wanted {shapes[1]}"
    for name, value in state.items():
        if value.is_complex() or not torch.isfinite(value).all():
            return f"{shown(name)} holds values that are not finite real numbers"
    return ""
