"""A section of the page: a title, a template, and a function that fills it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from cryoetgan.report.run import Run


def no_warnings(run: Run) -> list[str]:
    """Return no warnings."""
    return []


@dataclass(frozen=True, kw_only=True)
class Section:
    """A section of the page.

    Attributes
    ----------
    name : str
        Identifier of the HTML element.
    title : str
        Heading and navigation entry.
    template : str
        Jinja template of the HTML below the heading. It can use the macros of
        `macros.html.j2`. Every value is escaped.
    context : callable
        Returns the template's variables for a run, or None to omit the section.
    warnings : callable
        Returns sentences for the list of warnings at the top of the page.
    """

    name: str
    title: str
    template: str
    context: Callable[[Run], Mapping[str, Any] | None]
    warnings: Callable[[Run], list[str]] = no_warnings
