"""Sections of the page, and their HTML elements: macros.html.j2 as Python functions."""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined, select_autoescape
from markupsafe import Markup, escape

from cryoetgan.report.evaluation_json import short
from cryoetgan.report.run import Run

FOLDER = Path(__file__).parent


def make_environment() -> Environment:
    """Return the template environment; every value is escaped, every variable must exist."""
    environment = Environment(
        loader=FileSystemLoader(FOLDER),
        autoescape=select_autoescape(["html", "j2"], default_for_string=True),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["short"] = short
    environment.filters["backticks"] = code_in_backticks
    return environment


def code_in_backticks(text: str) -> Markup:
    """Return escaped text; parts in backticks become code."""
    return Markup(re.sub(r"`([^`]*)`", r"<code>\1</code>", str(escape(text))))


@dataclass(frozen=True)
class Section:
    """A section of the page.

    Attributes
    ----------
    name : str
        Identifier of the HTML element.
    title : str
        Heading and navigation entry.
    render : callable
        Returns the HTML below the heading for a run; without elements the section is omitted.
    warnings : callable
        Returns sentences for the list of warnings at the top of the page.
    """

    name: str
    title: str
    render: Callable[[Run], Iterable[Markup]]
    warnings: Callable[[Run], list[str]] = lambda run: []


ENVIRONMENT = make_environment()
macros: Any = ENVIRONMENT.get_template("macros.html.j2").module
"""Each macro is a function that returns escaped HTML, such as `macros.grid(rows)`."""
