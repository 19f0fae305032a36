"""A hash of the code of a stage: if it changes, Snakemake runs the stage again."""

import ast
import functools
import hashlib
from collections.abc import Iterator
from pathlib import Path

UNTRACKED = {"cli", "command", "config", "errors", "progress", "tables"}
"""Top-level modules that print or check, but compute no result."""
BODIES = ("body", "orelse", "handlers", "finalbody", "cases")
"""Fields of a syntax node that hold statements."""


@functools.cache
def code_hash(package: Path, stage: str) -> str:
    """Return a hash of the files of a stage and of every module that they import.

    Parameters
    ----------
    package : Path
        The folder `cryoetgan`.
    stage : str
        Name of the stage.
    """
    digest = hashlib.sha256()
    for name in code_files(package, stage):
        digest.update(name.encode() + b"\0" + (package / name).read_bytes() + b"\0")
    return digest.hexdigest()[:12]


@functools.cache
def code_files(package: Path, stage: str) -> list[str]:
    """Return the files of a stage and the modules that they import, relative to the package."""
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
        if head != package.name or not parts or parts[0] in UNTRACKED:
            continue
        path = Path(*parts)
        # importing a module runs the __init__ of every package above it
        packages = [parent / "__init__.py" for parent in (path, *path.parents) if parent.parts]
        for candidate in (path.with_suffix(".py"), *packages):
            if (package / candidate).is_file():
                files.append(candidate.as_posix())
    return files


def _statements(tree: ast.AST) -> Iterator[ast.AST]:
    """Yield all statements. Expressions are most of the nodes, and hold no imports."""
    todo = [tree]
    while todo:
        node = todo.pop()
        yield node
        for part in BODIES:
            todo += getattr(node, part, ())
