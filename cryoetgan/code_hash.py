"""What a stage's code is, so that a change in it runs the stage again."""

import ast
import functools
import hashlib
from collections.abc import Iterator
from pathlib import Path

PLUMBING = {"cli", "command", "config", "errors", "progress", "tables"}
"""Top-level modules that say things but compute nothing a result holds."""
BODIES = ("body", "orelse", "handlers", "finalbody", "cases")
"""Where a statement holds others."""


@functools.cache
def code_hash(package: Path, stage: str) -> str:
    """Return a hash of the bytes of all files a stage's code consists of.

    Parameters
    ----------
    package : Path
        The folder `cryoetgan`.
    stage : str
        The stage's word.
    """
    digest = hashlib.sha256()
    for name in code_files(package, stage):
        digest.update(name.encode() + b"\0" + (package / name).read_bytes() + b"\0")
    return digest.hexdigest()[:12]


@functools.cache
def code_files(package: Path, stage: str) -> list[str]:
    """Return the stage's own files and all modules they import, relative to the package."""
    own = sorted(
        path.relative_to(package).as_posix()
        for path in (package / stage).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts and path.suffix != ".pyc"
    )
    found, todo = set(own), [name for name in own if name.endswith(".py")]
    while todo:
        for name in _imported(package, todo.pop()):
            if name not in found:
                found.add(name)
                todo.append(name)
    return sorted(found)


@functools.cache
def _imported(package: Path, name: str) -> list[str]:
    modules: set[str] = set()
    for node in _statements(ast.parse((package / name).read_bytes())):
        if isinstance(node, ast.Import):
            modules |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            modules |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    files = []
    for module in modules:
        head, *parts = module.split(".")
        if head != package.name or not parts or parts[0] in PLUMBING:
            continue
        path = Path(*parts)
        # importing a module runs the __init__ of every package above it
        packages = [parent / "__init__.py" for parent in (path, *path.parents) if parent.parts]
        for candidate in (path.with_suffix(".py"), *packages):
            if (package / candidate).is_file():
                files.append(candidate.as_posix())
    return files


def _statements(tree: ast.AST) -> Iterator[ast.AST]:
    """Yield all statements; expressions, most of a tree's nodes, hold no imports."""
    todo = [tree]
    while todo:
        node = todo.pop()
        yield node
        for part in BODIES:
            todo += getattr(node, part, ())
