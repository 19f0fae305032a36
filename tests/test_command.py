"""A parameter of a command whose type is a dataclass stands for the options that are its fields."""

import json
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import pytest
import typer
from typer.testing import CliRunner

from cryoetgan.command import Output, Record, command, group
from cryoetgan.errors import UserError


@dataclass(frozen=True, kw_only=True)
class Blur:
    width: Annotated[float, typer.Option(help="Angstrom.")]
    mask: Annotated[Path | None, typer.Option(help="MRC.")] = None
    rounds: Annotated[int, typer.Option(help="Number.")] = 3

    def __post_init__(self) -> None:
        if self.width < 0:
            raise UserError("--width: wanted zero or more")


app = group("")


@command(app, "blur")
def blur(output: Output, settings: Blur, count: Annotated[int, typer.Option()] = 1) -> Record:
    """Write the settings."""
    output.write_text(f"{settings.width:g} {settings.rounds} {count}")
    return Record()


@command(app, "other")
def other() -> None:
    """Do nothing: an application with one command has no command names."""


@pytest.fixture
def run(tmp_path):
    logger = logging.getLogger("cryoetgan")
    propagates = logger.propagate
    words = ("blur", "-o", str(tmp_path / "o.txt"))
    yield lambda *more: CliRunner().invoke(app, [*words, *map(str, more)])
    logging.captureWarnings(False)
    logger.propagate = propagates


def test_fields_are_options_with_their_defaults(run, tmp_path):
    run("--width", 2.5)
    assert (tmp_path / "o.txt").read_text() == "2.5 3 1"
    run("--count", 2, "--rounds", 7, "--width", 1)
    assert (tmp_path / "o.txt").read_text() == "1 7 2"
    assert run("--rounds", 7).exit_code == 2
    assert isinstance(run("--width", -1).exception, UserError)


def test_the_record_holds_each_field_and_the_hash_of_each_file(run, tmp_path):
    (tmp_path / "m.mrc").write_bytes(b"mask")
    run("--width", 2, "--mask", tmp_path / "m.mrc")
    made = json.loads((tmp_path / "o.txt.json").read_text())["provenance"]
    assert made["parameters"] == {"width": 2.0, "rounds": 3, "count": 1}
    assert list(made["inputs"]) == ["m.mrc"]


def test_an_output_may_not_overwrite_a_file_that_a_field_names(run, tmp_path):
    (tmp_path / "o.txt").write_text("input")
    refused = run("--width", 2, "--mask", tmp_path / "o.txt").exception
    assert isinstance(refused, UserError)
    assert (tmp_path / "o.txt").read_text() == "input"
