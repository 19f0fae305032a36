"""Command-line options from configuration values."""

import shlex
from typing import Any

from cryoetgan.config import Section


def format_options(**values: Any) -> str:
    """Return `--some-key=value` for each value, quoted for the shell.

    None and False are omitted, True gives the option alone, a list repeats the option, and a
    tuple is joined by commas. A trailing underscore of a name is dropped.
    """
    words = []
    for key, value in values.items():
        name = f"--{key.rstrip('_').replace('_', '-')}"
        for item in value if isinstance(value, list) else [value]:
            if item is True:
                words.append(name)
            elif item is not None and item is not False:
                words.append(f"{name}={quote(_format_value(item))}")
    return " ".join(words)


def quote(text: str) -> str:
    """Return text quoted for bash, without braces: Snakemake would take them for variables."""
    if not set("{}") & set(text):
        return shlex.quote(text)
    escapes = {"\\": "\\\\", "'": "\\'", "{": "\\x7b", "}": "\\x7d"}
    return "$'" + "".join(escapes.get(char, char) for char in text) + "'"


def section_options(section: Section, *keys: str, **renamed: str) -> str:
    """Return the options of some keys of a section; `option=key` renames one.

    Only the named keys reach a rule, so that an edit of another key does not run it again.
    """
    values = {key: getattr(section, key) for key in keys}
    values |= {option: getattr(section, key) for option, key in renamed.items()}
    return format_options(**values)


def _format_value(value: Any) -> str:
    if isinstance(value, tuple):
        return ",".join(_format_value(item) for item in value)
    return str(value)
