"""Which of two sets an export holds, and the lines that say so in its README."""

from collections.abc import Sequence
from pathlib import Path

from cryoetgan.errors import UserError
from cryoetgan.evaluation.selection import Choice, read_choice
from cryoetgan.io.files import write_text
from cryoetgan.io.star import read_star

NOTE = "\n## Which set this is\n\n{}\n"


def shipped_set(
    volumes: Path, fitted: Path | None, choice: Path | None
) -> tuple[Path, Choice | None]:
    """Return the volume set that is exported, and the choice it follows.

    Parameters
    ----------
    volumes : Path
        The generated set, or whatever was named.
    fitted : Path, optional
        The same by fitted physics.
    choice : Path, optional
        What `evaluation choose` wrote.

    Raises
    ------
    UserError
        Where one of the last two lacks the other, or the set is not what the choice says.
    """
    chosen = _read(choice, fitted)
    if chosen is None:
        return volumes, None
    path = fitted if chosen.exported == "fitted" and fitted is not None else volumes
    table = read_star(path).particles
    sources = set(table["cryoetganSource"].astype(str)) if "cryoetganSource" in table else set()
    wanted = "generated" if chosen.exported == "generated" else "simulated"
    if sources and sources != {wanted}:
        way = "name that set by --fitted" if wanted == "simulated" else "name the generated set"
        raise UserError(
            f"{choice}: says {chosen.exported}, but cryoetganSource of {path} is "
            f"{', '.join(sorted(sources))}; {way}"
        )
    return path, chosen


def shipped_tomograms(
    tomograms: Sequence[Path], fitted: Sequence[Path], choice: Path | None
) -> tuple[list[Path], Choice | None]:
    """Return the tomograms that are exported, and the choice they follow.

    Where the choice says so, each of `fitted` takes the place of that of its name.

    Raises
    ------
    UserError
        Where one of `fitted` is named like none of `tomograms`, or the choice lacks.
    """
    chosen = _read(choice, fitted[0] if fitted else None)
    names = {path.name for path in tomograms}
    for path in fitted:
        if path.name not in names:
            raise UserError(f"--fitted {path}: no tomogram to export is called {path.name}")
    others = {path.name: path for path in fitted}
    if chosen is None or chosen.exported == "generated":
        others = {}
    return [others.get(path.name, path) for path in tomograms], chosen


def _read(choice: Path | None, fitted: Path | None) -> Choice | None:
    if choice is not None:
        return read_choice(choice)
    if fitted is not None:
        raise UserError(
            f"--fitted {fitted}: is exported where --choice says so; name what `evaluation choose` "
            "wrote"
        )
    return None


def say(folder: Path, chosen: Choice | None, of: str = "") -> None:
    """Add to the README of an export which set it holds and why; nothing without a choice."""
    if chosen is not None:
        readme = folder / "README.md"
        text = readme.read_text(encoding="utf-8")
        write_text(readme, text + NOTE.format(f"{of}{chosen.reason}"))
