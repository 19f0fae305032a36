"""Choice of the exported set: generated volumes or the fitted simulation."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cryoetgan.errors import UserError
from cryoetgan.evaluation.selection import Choice, read_choice
from cryoetgan.export.export_folder import add_to_readme
from cryoetgan.io.star import read_star


@dataclass(frozen=True)
class Source:
    """The exported files (a volume set, or tomograms), the choice they follow, and its file."""

    paths: list[Path]
    choice: Choice | None = None
    choice_file: Path | None = None

    @property
    def inputs(self) -> list[Path]:
        """Files for the provenance."""
        return [*self.paths, *([self.choice_file] if self.choice_file else [])]


def select_set(volumes: Path, fitted: Path | None, choice_file: Path | None) -> Source:
    """Return the volume set to export: `fitted` if the choice says so, else `volumes`.

    The choice is the output of `evaluation choose`. Raises `UserError` if the set is not the
    chosen one.
    """
    choice = _read_choice(choice_file, fitted)
    if choice is None:
        return Source([volumes])
    path = fitted if choice.exported == "fitted" and fitted is not None else volumes
    table = read_star(path).particles
    sources = set(table["cryoetganSource"].astype(str)) if "cryoetganSource" in table else set()
    wanted = "generated" if choice.exported == "generated" else "simulated"
    if sources and sources != {wanted}:
        hint = "give that set by --fitted" if wanted == "simulated" else "give the generated set"
        raise UserError(
            f"{choice_file}: the choice is '{choice.exported}', but cryoetganSource of {path} is "
            f"{', '.join(sorted(sources))}; {hint}"
        )
    return Source([path], choice, choice_file)


def select_tomograms(
    tomograms: Sequence[Path], fitted: Sequence[Path], choice_file: Path | None
) -> Source:
    """Return the tomograms to export or to learn from.

    If the choice is `fitted`, each file of `fitted` replaces the tomogram of the same name.
    """
    choice = _read_choice(choice_file, fitted[0] if fitted else None)
    names = {path.name for path in tomograms}
    for path in fitted:
        if path.name not in names:
            raise UserError(
                f"--fitted {path}: it must have the name of another tomogram of the command; got {path.name}, "
                f"wanted one of {', '.join(sorted(names))}"
            )
    replaced = {path.name: path for path in fitted}
    if choice is None or choice.exported == "generated":
        replaced = {}
    return Source([replaced.get(path.name, path) for path in tomograms], choice, choice_file)


def _read_choice(choice_file: Path | None, fitted: Path | None) -> Choice | None:
    if choice_file is not None:
        return read_choice(choice_file)
    if fitted is not None:
        raise UserError(
            f"--fitted {fitted}: needs --choice; give the output of `evaluation choose`"
        )
    return None


def explain_source(folder: Path, source: Source, subject: str = "") -> None:
    """Append the reason of the choice to the README of an export, if there was a choice."""
    if source.choice is not None:
        add_to_readme(folder, f"\n## Exported set\n\n{subject}{source.choice.reason}\n")
