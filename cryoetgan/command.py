"""Declaration of commands: common options, log lines, provenance records, option values.

`cryoetgan/<stage>/commands.py` declares the commands of a stage with the decorator `command`. It
imports slow packages inside the functions, so that `--help` stays fast.
"""

import functools
import inspect
import logging
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, is_dataclass
from pathlib import Path
from typing import Annotated, Any, ParamSpec, TypeVar

import typer

from cryoetgan.errors import LINES, UserError, escape_controls
from cryoetgan.io.files import (
    check_mrc_name,
    check_not_overwritten,
    provenance,
    sidecar,
    write_json,
)

log = logging.getLogger("cryoetgan")
MAX_TILT_IMAGES = 1000
"""Images of a tilt series; a larger number is a typing mistake in the step."""
P = ParamSpec("P")
R = TypeVar("R")

Output = Annotated[
    Path, typer.Option("--output", "-o", help="Path of the result.", show_default=False)
]
MrcOutput = Annotated[
    Path,
    typer.Option(
        "--output", "-o", help="Path of the result.", show_default=False, callback=check_mrc_name
    ),
]
Seed = Annotated[int, typer.Option("--seed", help="Seed of all random numbers.")]
Device = Annotated[
    str, typer.Option("--device", help="auto, cpu or cuda.", metavar="auto|cpu|cuda")
]


@dataclass(frozen=True, kw_only=True)
class Record:
    """Returned by a command: its provenance is written beside its outputs.

    The decorator `command` records the command, the seed, every option, and the hash of every
    file that an option names. The attributes add to that.

    Attributes
    ----------
    outputs : sequence of Path
        Files that get a record; the option `output` if empty.
    inputs : sequence of Path
        Input files that no option names, such as the members of a folder.
    parameters : mapping
        Resolved values; they replace the options as typed.
    about : mapping
        Other keys of the record, beside `provenance`.
    """

    outputs: Sequence[Path] = ()
    inputs: Sequence[Path] = ()
    parameters: Mapping[str, Any] = field(default_factory=dict)
    about: Mapping[str, Any] = field(default_factory=dict)


def command(app: typer.Typer, name: str) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Register a function as command `name`, with -v and -q added.

    The docstring of the function is the help text; it states units and formats. If the function
    returns a `Record`, its provenance is written beside the output. Every command accepts
    --seed; the option is hidden if the command draws no random numbers. A parameter whose type
    is a dataclass stands for the options that are its fields, shared by several commands.

        @command(app, "simulate")
        def simulate(file: Annotated[Path, typer.Argument(help="...")], output: Output) -> Record:
            ...
            return Record()
    """

    def register(function: Callable[P, R]) -> Callable[P, R]:
        signature, bundles = _expand_bundles(inspect.signature(function, eval_str=True))
        random = "seed" in signature.parameters

        @functools.wraps(function)
        def run(*args: Any, verbose: bool = False, quiet: bool = False, **kwargs: Any) -> R:
            configure_logging(verbose=verbose, quiet=quiet)
            if not random:
                del kwargs["seed"]
            _check_inputs_are_kept(kwargs)
            bundled = dict(kwargs)
            for parameter, (kind, names) in bundles.items():
                bundled[parameter] = kind(**{option: bundled.pop(option) for option in names})
            returned = function(*args, **bundled)
            if isinstance(returned, Record):
                stage = function.__module__.split(".")[1]
                _write_records(f"{stage} {name}", kwargs, returned)
            return returned

        parameters = [*signature.parameters.values(), *_common_options(random)]
        run.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
        run.__annotations__ = {item.name: item.annotation for item in parameters}
        app.command(name, help=inspect.cleandoc(function.__doc__ or ""))(run)
        return function

    return register


def _common_options(random: bool) -> Iterator[inspect.Parameter]:
    """Yield -v, -q and, if the command draws no random numbers itself, a hidden --seed."""
    options: list[tuple[str, object, Any]] = [
        (
            "verbose",
            False,
            Annotated[bool, typer.Option("--verbose", "-v", help="More log lines.")],
        ),
        ("quiet", False, Annotated[bool, typer.Option("--quiet", "-q", help="Warnings only.")]),
        ("seed", 0, Annotated[int, typer.Option("--seed", hidden=True)]),
    ]
    for name, default, kind in options[: 2 if random else 3]:
        keyword = inspect.Parameter.KEYWORD_ONLY
        yield inspect.Parameter(name, keyword, default=default, annotation=kind)


def _expand_bundles(
    signature: inspect.Signature,
) -> tuple[inspect.Signature, dict[str, tuple[type, list[str]]]]:
    """Replace each dataclass parameter by its fields; return the class and fields of each."""
    plain, expanded = [], []
    bundles: dict[str, tuple[type, list[str]]] = {}
    for parameter in signature.parameters.values():
        kind = parameter.annotation
        if not (isinstance(kind, type) and is_dataclass(kind)):
            plain.append(parameter)
            continue
        options = inspect.signature(kind, eval_str=True).parameters.values()
        bundles[parameter.name] = (kind, [option.name for option in options])
        expanded += [option.replace(kind=option.KEYWORD_ONLY) for option in options]
    return signature.replace(parameters=plain + expanded), bundles


def _write_records(command: str, options: Mapping[str, Any], record: Record) -> None:
    """Write the provenance beside each output. The outputs exist, so it can hold their hashes."""
    inputs, parameters = [], {}
    for option, value in options.items():
        items = value if isinstance(value, list) else [value]
        if any(isinstance(item, Path) for item in items):
            inputs += [item for item in items if option != "output" and item not in record.outputs]
        elif option not in ("seed", "device"):
            parameters[option.rstrip("_")] = value
    made = provenance(
        command,
        [*inputs, *record.inputs],
        {**parameters, **record.parameters},
        options.get("seed"),
    )
    for path in record.outputs or [options["output"]]:
        write_json(sidecar(path), {"provenance": made, **record.about})


def _check_inputs_are_kept(options: dict[str, Any]) -> None:
    """Raise `UserError` if the output of a command is one of its inputs."""
    output = options.get("output")
    if not isinstance(output, Path) or output.is_dir():
        return
    for name, value in options.items():
        for path in value if isinstance(value, list) else [value]:
            if name != "output" and isinstance(path, Path):
                check_not_overwritten(path, output)


def group(help_text: str) -> typer.Typer:
    """Return an empty group of commands."""
    return typer.Typer(
        help=help_text,
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        rich_markup_mode="markdown",
        context_settings={"help_option_names": ["-h", "--help"]},
    )


class PrintableFormatter(logging.Formatter):
    """Log lines without control characters, which names in files may hold."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the text of a record."""
        return escape_controls(super().format(record), keep=LINES)


def configure_logging(verbose: bool = False, quiet: bool = False) -> None:
    """Send log lines to stderr, with colours if it is a terminal."""
    level = logging.DEBUG if verbose else logging.WARNING if quiet else logging.INFO
    handler: logging.Handler
    if sys.stderr.isatty():
        from rich.console import Console
        from rich.logging import RichHandler

        handler = RichHandler(console=Console(stderr=True), show_path=False, show_time=False)
        handler.setFormatter(PrintableFormatter("%(message)s"))
    else:
        handler = logging.StreamHandler(sys.stderr)
        handler.setFormatter(PrintableFormatter("%(levelname)s %(message)s"))
    log.handlers[:] = [handler]
    log.setLevel(level)
    log.propagate = False
    logging.captureWarnings(True)
    logging.getLogger("py.warnings").handlers[:] = [handler]


def parse_numbers(
    text: str | None, option: str, names: Sequence[str], optional: int = 0
) -> list[float]:
    """Parse a list of numbers such as `-60,60,3`.

    Parameters
    ----------
    text : str or None
        Value of the option.
    option : str
        Name of the option, for messages.
    names : sequence of str
        Names of the numbers, in order.
    optional : int
        Number of names at the end that may be missing.

    Raises
    ------
    UserError
        If a number is not finite, or there are too few or too many.
    """
    wanted = f"{option}={','.join(names)}"
    if text is None:
        raise UserError(f"{option} is missing; give {wanted}")
    try:
        values = [float(part) for part in text.split(",")]
    except ValueError:
        raise UserError(
            f"{option}: got '{text}', wanted numbers separated by commas: {wanted}"
        ) from None
    if not len(names) - optional <= len(values) <= len(names):
        raise UserError(f"{option}: got {len(values)} numbers ('{text}'), wanted {wanted}")
    if not all(abs(value) < float("inf") for value in values):
        raise UserError(f"{option}: got '{text}', wanted finite numbers: {wanted}")
    return values


def parse_tilt_range(
    text: str | None, option: str = "--tilts", step: float = 3.0
) -> tuple[float, ...]:
    """Parse a tilt range `LO,HI` or `LO,HI,STEP`; return (low, high, step) in degrees."""
    low, high, *rest = parse_numbers(text, option, ("LO", "HI", "STEP"), optional=1)
    step = rest[0] if rest else step
    if not -90 <= low < high <= 90 or not 0 < step <= high - low:
        raise UserError(
            f"{option}: got {low:g} to {high:g} by {step:g} degrees; "
            "wanted -90 <= LO < HI <= 90 and 0 < STEP <= HI - LO"
        )
    if (high - low) / step > MAX_TILT_IMAGES:
        raise UserError(
            f"{option}: {low:g} to {high:g} by {step:g} degrees are {(high - low) / step:.3g} images; "
            f"wanted at most {MAX_TILT_IMAGES}; raise STEP (1 to 3 is usual)"
        )
    return low, high, step


def check_positive(value: float, option: str, unit: str = "") -> float:
    """Return `value`; raise `UserError` if it is not a finite number above zero."""
    if not 0 < value < float("inf"):
        raise UserError(f"{option}: got {value:g}{unit}, wanted a number above zero")
    return value


def parse_by_tomogram(items: Sequence[str] | None, option: str) -> dict[str, str]:
    """Return the value of each tomogram from options `TOMOGRAM=VALUE`."""
    found = {}
    for item in items or []:
        name, equals, value = item.partition("=")
        if not (name and equals and value):
            raise UserError(f"{option}: got '{item}', wanted TOMOGRAM=VALUE")
        found[name] = value
    return found


def parse_counts(
    names: Sequence[str],
    count: int,
    others: Sequence[str] | None,
    option: str,
    other_option: str,
    least: int = 1,
) -> dict[str, int]:
    """Return the count of each class.

    Parameters
    ----------
    names : sequence of str
        Classes.
    count : int
        Count of a class that `others` does not name.
    others : sequence of str, optional
        Counts of single classes, `NAME=N`; 0 leaves a class out.
    option, other_option : str
        Options of `count` and `others`, for messages.
    least : int
        Smallest `count` without `others`.
    """
    counts = dict.fromkeys(names, count)
    for item in others or []:
        name, _, number = item.partition("=")
        if name not in counts or not number.isdigit():
            raise UserError(
                f"{other_option}: got '{item}', wanted NAME=N with NAME of {', '.join(names)}"
            )
        counts[name] = int(number)
    for name, value in counts.items():
        if value < (0 if others else least):
            raise UserError(f"{option}: got {value} for class {name}, wanted {least} or more")
    return counts
