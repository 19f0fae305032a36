"""A hash of the code of a stage: if it changes, Snakemake runs the stage again."""

import functools
import hashlib
import re
from pathlib import Path

UNTRACKED = {"cli", "command", "config", "errors", "progress", "tables"}
"""Top-level modules that print or check, but compute no result."""
IMPORT = re.compile(
    r"^[ \t]*(?:import[ \t]+(cryoetgan.*)"
    r"|from[ \t]+(cryoetgan[\w.]*)[ \t]+import[ \t]+(\([^)]*\)|.*))",
    re.MULTILINE,
)
"""An import at the start of a line: a syntax tree of the whole package takes seconds."""


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
        for name in imported(package, todo.pop()):
            if name not in found:
                found.add(name)
                todo.append(name)
    return sorted(found)


@functools.cache
def imported(package: Path, name: str) -> list[str]:
    """Return the files of the package that one of its files imports, relative to it."""
    modules: set[str] = set()
    code = re.sub(r"#.*", "", (package / name).read_text(encoding="utf-8"))
    for plain, module, names in IMPORT.findall(code):
        modules |= {alias.split()[0] for alias in plain.split(",") if alias.strip()}
        members = [alias.split()[0] for alias in names.strip("()").split(",") if alias.strip()]
        modules |= {module, *(f"{module}.{member}" for member in members)}
    files, known = set(), _modules(package)
    for module in modules:
        head, *parts = module.split(".")
        if head != package.name or not parts or parts[0] in UNTRACKED:
            continue
        # importing a module runs the __init__ of every package above it
        above = ["/".join([*parts[:depth], "__init__"]) for depth in range(1, len(parts) + 1)]
        files |= {f"{path}.py" for path in ("/".join(parts), *above)} & known
    return sorted(files)


@functools.cache
def _modules(package: Path) -> frozenset[str]:
    """Return the Python files of the package, relative to it."""
    return frozenset(path.relative_to(package).as_posix() for path in package.rglob("*.py"))
