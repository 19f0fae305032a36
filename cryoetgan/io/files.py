"""Atomic writing of files, and the provenance record beside each result."""

import codecs
import contextlib
import fcntl
import hashlib
import json
import os
import re
import shutil
import uuid
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from cryoetgan import __version__
from cryoetgan.errors import UserError, shown

COMPRESSED_SUFFIXES = (".gz", ".bz2", ".xz")
LABELS, INSTANCES, MASK = COMPANIONS = ("_labels", "_instances", "_mask")
"""Endings of the stems of volumes that belong to a scene or tomogram."""

ODD_NUMBER = r"[-+]?0[0-7]*[1-7][0-7]+|[-+]?\d+(:[0-5]?\d)+(\.\d*)?"
MAX_YAML_VALUES = 100_000
"""Values in a YAML file; an anchor's values count at each use."""


@contextlib.contextmanager
def atomic(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; rename it on success, remove it on failure.

    The temporary name keeps the suffix, because some writers depend on it. The path may be a
    file or a directory; an existing directory is replaced as a whole.
    """
    named = path = Path(path)
    if path.name in ("", ".."):
        raise UserError(f"{path}: invalid output path; give the name of a file or folder")
    if path.is_symlink():  # a link stays; its target is written
        path = Path(os.path.realpath(path))
    if path.exists() and not (path.is_file() or path.is_dir()):
        # renaming onto it would replace the device itself
        raise UserError(f"{path}: is a device or pipe; give the name of a file")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError) as error:
        raise UserError(f"{path}: cannot be written: {error.filename} is not a folder") from error
    part = path.with_name(f".{path.stem}.{uuid.uuid4().hex[:8]}.part{path.suffix}")
    try:
        yield part
        if part.is_dir() and path.is_dir():
            old = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.old")
            path.rename(old)
            part.rename(path)
            shutil.rmtree(old)
        elif path.is_dir():
            raise UserError(f"{path}: is a folder; give the name of a file")
        else:
            os.replace(part, path)
    except OSError as error:
        if error.errno is None or error.filename not in (None, str(part)):
            raise
        # report the requested name, not the temporary one
        raise OSError(error.errno, error.strerror, str(named)) from error
    finally:
        if part.is_dir():
            shutil.rmtree(part, ignore_errors=True)
        else:
            part.unlink(missing_ok=True)


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold a folder's lock, for programs that read and rewrite a file in it."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        # some network file systems have no locks; a change is then as safe as without one
        with contextlib.suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def write_text(path: Path, text: str) -> None:
    """Write a text file atomically (UTF-8)."""
    with atomic(path) as part:
        part.write_text(text, encoding="utf-8")


def write_json(path: Path, content: Any) -> None:
    """Write JSON atomically, with sorted keys: equal content gives equal bytes.

    The record of a file (`x.star.json`, with a key `provenance`) also gets the hashes of the
    files that it describes, so that `cryoetgan validate` detects any change.
    """
    if isinstance(content, dict) and isinstance(content.get("provenance"), dict):
        outputs = {part.name: sha256(part) for part in recorded_files(path)}
        if outputs:
            content = content | {"provenance": content["provenance"] | {"outputs": outputs}}
    text = json.dumps(content, indent=1, sort_keys=True, allow_nan=False, default=str)
    write_text(path, text + "\n")


def decode_text(content: bytes, name: object) -> str:
    """Return the text of a file: UTF-8, or UTF-16 with a byte order mark, as Windows writes it.

    The mark is removed.
    """
    is_wide = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    try:
        return content.decode("utf-16" if is_wide else "utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"{name}: is not a text file ({error}); save it as UTF-8") from error


def read_text(path: Path) -> str:
    """Return the text of a file of a user; see `decode_text`."""
    path = check_exists(path)
    if path.is_dir():
        raise UserError(f"{path}: is a folder, not a text file")
    return decode_text(path.read_bytes(), path)


def read_json(path: Path) -> Any:
    """Read a JSON file; raise `UserError` if it is missing or broken."""
    path = check_exists(path)
    try:
        return json.loads(read_text(path))
    except (ValueError, RecursionError) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(
            f"{path}: is not valid JSON ({error}); delete it and create it again"
        ) from error


def read_record(path: Path) -> dict[str, Any]:
    """Read a JSON file of keys and values, such as the record beside a result."""
    content = read_json(path)
    if not isinstance(content, dict):
        raise UserError(
            f"{path}: holds a {type(content).__name__}, wanted keys and values; create it again"
        )
    return content


def read_yaml(path: Path) -> dict[str, Any]:
    """Return the keys and values of a YAML file; an empty file has none.

    Raises `UserError` if the file is not a mapping, repeats a key, or has anchors that stand for
    more than `MAX_YAML_VALUES` values.
    """
    import yaml

    path = check_exists(path, "YAML file")
    try:
        loader = yaml.SafeLoader(path.read_text(encoding="utf-8-sig"))
        node = loader.get_single_node()
        if node is not None:
            _check_yaml(node, {}, path)
        content = None if node is None else loader.construct_document(node)
    except RecursionError as error:
        raise UserError(f"{path}: its values are nested too deeply") from error
    except (yaml.YAMLError, ValueError) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(f"{path}: not valid YAML: {error}") from error
    if content is None:
        content = {}
    if not isinstance(content, dict):
        raise UserError(f"{path}: expected keys and values, got {type(content).__name__}")
    return content


def _check_yaml(node: Any, sizes: dict[int, int], path: Path) -> int:
    """Return the number of values below a YAML node; an anchor's values count at each use."""
    if id(node) in sizes:
        if not sizes[id(node)]:
            raise UserError(f"{path}: an anchor refers to itself; write its values out")
        return sizes[id(node)]
    sizes[id(node)], total = 0, 1
    if isinstance(node.value, str) and re.fullmatch(ODD_NUMBER, node.value) and node.style is None:
        raise UserError(
            f"{path}: YAML reads {shown(node.value)} in base 8 or 60, as another number; write it "
            "without zeros in front, or in quotes if it is text"
        )
    if isinstance(node.value, list):
        pairs = [pair if isinstance(pair, tuple) else (pair,) for pair in node.value]
        if node.tag.endswith(":map"):
            keys = Counter(pair[0].value for pair in pairs if isinstance(pair[0].value, str))
            twice = [key for key, count in keys.items() if count > 1 and key != "<<"]
            if twice:
                raise UserError(f"{path}: key {shown(twice[0])} stands twice; remove one")
        for pair in pairs:
            total += sum(_check_yaml(part, sizes, path) for part in pair)
    if total > MAX_YAML_VALUES:
        raise UserError(
            f"{path}: has more than {MAX_YAML_VALUES} values, which its anchors repeat; write them out"
        )
    sizes[id(node)] = total
    return total


def check_exists(path: Path, what: str = "file") -> Path:
    """Return `path`; raise `UserError` if it does not exist. `what` names it in the message."""
    path = Path(path)
    if not path.exists():
        raise UserError(f"{path}: no such {what}; check the path, or run the step that writes it")
    return path


def relative_names(paths: Sequence[Path]) -> list[str]:
    """Return the paths relative to the folder that holds all of them, with `/`.

    They stay the same if that folder is moved or renamed.

    Examples
    --------
    >>> relative_names([Path("x/TS_1/1.mrc"), Path("x/TS_2/1.mrc")])
    ['TS_1/1.mrc', 'TS_2/1.mrc']
    """
    full = [Path(os.path.abspath(path)) for path in paths]
    if not full:
        return []
    top = os.path.commonpath({path.parent for path in full})
    return [path.relative_to(top).as_posix() for path in full]


def strip_compression(name: str) -> str:
    """Return a file name without the suffix of its compression.

    Examples
    --------
    >>> strip_compression("emd_1234.map.gz")
    'emd_1234.map'
    """
    for suffix in COMPRESSED_SUFFIXES:
        name = name.removesuffix(suffix)
    return name


def check_mrc_name(path: Path) -> Path:
    """Return the path of an output volume; raise `UserError` if it does not end in .mrc."""
    if Path(path).suffix != ".mrc":
        raise UserError(f"{path}: volumes are written in MRC format; let the name end in .mrc")
    return path


def check_not_overwritten(source: Path, output: Path) -> None:
    """Raise `UserError` if the output would overwrite an input."""
    # the output may not exist yet: `x/../set.star` is set.star once x exists
    same = os.path.realpath(source) == os.path.realpath(output)
    if source.exists() and (same or (output.exists() and source.samefile(output))):
        raise UserError(f"{output}: the output would overwrite an input; choose another name")


def check_disk_space(output: Path, needed: int, advice: str) -> None:
    """Raise `UserError` if the disk has no room for an output of `needed` bytes."""
    folder = next(parent for parent in Path(output).absolute().parents if parent.is_dir())
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise UserError(
            f"{output}: needs {needed / 1e9:.3g} GB of disk, but {free / 1e9:.3g} GB are free; "
            f"{advice}, or make room"
        )


def sha256(path: Path) -> str:
    """Return the hexadecimal SHA-256 of a file's bytes."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sidecar(path: Path) -> Path:
    """Return the path of the record of a file: `x.star.json` beside `x.star`."""
    path = Path(path)
    return path.with_name(path.name + ".json")


def recorded_files(record: Path) -> list[Path]:
    """Return the existing files that a record describes.

    `x.star.json` describes x.star and its stack x.mrcs; `t.mrc.json` describes t.mrc and, if the
    tomogram was simulated, its ground truth t.star.
    """
    file = Path(record).with_suffix("")
    companion = {".star": ".mrcs", ".mrc": ".star"}.get(file.suffix)
    files = [file, file.with_suffix(companion)] if companion else [file]
    return [path for path in files if path.is_file()] if file.is_file() else []


def provenance(
    command: str,
    inputs: Sequence[Path] = (),
    parameters: Mapping[str, Any] | None = None,
    seed: int | None = None,
) -> dict[str, Any]:
    """Return the provenance of a result: command, version, seed, parameters, hashes of inputs.

    It holds no time stamps and no absolute paths, so that equal runs give equal bytes. If an
    input is a volume set, its stack is an input too. Inputs are named by their files' names, and by
    the folders in which they differ if files of several folders have one name.
    """
    stacks = [Path(path).with_suffix(".mrcs") for path in inputs if Path(path).suffix == ".star"]
    inputs = [Path(path) for path in (*inputs, *stacks) if Path(path).is_file()]
    return {
        "command": command,
        "version": __version__,
        "seed": seed,
        "parameters": {key: _to_json(value) for key, value in (parameters or {}).items()},
        "inputs": dict(zip(_input_names(inputs), map(sha256, inputs), strict=True)),
    }


def _input_names(paths: Sequence[Path]) -> list[str]:
    """Return the file's name of each path; of files with one name, `relative_names`."""
    folders: dict[str, set[Path]] = {}
    for path in paths:
        folders.setdefault(path.name, set()).add(Path(os.path.abspath(path)))
    shared = [path for path in paths if len(folders[path.name]) > 1]
    longer = dict(zip(shared, relative_names(shared), strict=True))
    return [longer.get(path, path.name) for path in paths]


def _to_json(value: Any) -> Any:
    """Return a parameter as it is recorded: paths by name, tuples as lists."""
    if isinstance(value, Path):
        return value.name
    if isinstance(value, list | tuple):
        return [_to_json(item) for item in value]
    return value
