"""The exception for mistakes in the input, and hints for its messages."""

import difflib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

LINES = "\n\t"
"""Control characters that a message may hold."""
LONGEST_VALUE = 80
"""Characters of a value in a message."""
FEW = 10
"""Values of a list in a message; a longer list is counted."""
LONGEST_MESSAGE = 4000
"""Characters of a message."""


class UserError(ValueError):
    """A mistake in the input; the message says how to correct it.

    The command line prints the message alone and exits with code 2. Every other exception is a
    defect of the program: it keeps its traceback and exits with code 1. Control characters, which
    could rewrite the terminal, are escaped, and a long message is shortened.
    """

    def __init__(self, message: str) -> None:
        super().__init__(shorten(escape_controls(message, keep=LINES), LONGEST_MESSAGE))


def escape_controls(text: str, keep: str = "") -> str:
    r"""Return the text with `\x1b` for each character that cannot be printed, such as ESC.

    Characters that reverse the direction of text and halves of surrogate pairs count as well.
    """
    if text.isprintable():
        return text
    return "".join(
        char
        if char in keep or char.isprintable()
        else char.encode("unicode_escape", "surrogatepass").decode("ascii")
        for char in text
    )


def shorten(text: str, longest: int) -> str:
    """Return the text, or its beginning and end around `...` if it is longer than `longest`."""
    if len(text) <= longest:
        return text
    end = longest // 4
    return f"{text[: longest - end - 5]} ... {text[-end:]}"


def shown(value: Any) -> str:
    """Return a value of the user for a message: in quotes, on one line, at most `LONGEST_VALUE`.

    Examples
    --------
    >>> shown("ribosome"), shown([1, 2.5]), shown([[1], [2]])
    ("'ribosome'", '[1, 2.5]', 'a list of 2 values')
    """
    if isinstance(value, str):
        return f"'{shorten(escape_controls(value), LONGEST_VALUE)}'"
    if isinstance(value, list | tuple | dict | set):
        items = value.values() if isinstance(value, dict) else value
        if len(items) > FEW or not all(isinstance(v, str | int | float | None) for v in items):
            # the text of nested values may be long beyond all memory
            return f"a {type(value).__name__} of {len(value)} values"
    return shorten(escape_controls(str(value)), LONGEST_VALUE)


def suggest(name: str, known: Iterable[str], renamed: Mapping[str, str] | None = None) -> str:
    """Return a hint for an unknown name, to be appended to a message.

    Parameters
    ----------
    name : str
        The unknown name.
    known : iterable of str
        Valid names.
    renamed : mapping, optional
        Earlier name to present name.

    Returns
    -------
    str
        `"; its name is now 'x'"`, `"; did you mean 'x'?"`, or nothing if no valid name is similar.
    """
    if renamed and name in renamed:
        return f"; its name is now '{renamed[name]}'"
    similar = difflib.get_close_matches(name, list(known), n=1)
    return f"; did you mean '{similar[0]}'?" if similar else ""


def format_shape(shape: Sequence[int]) -> str:
    """Return the shape of an array `(z, y, x)` in the order x, y, z: `20x16x12`."""
    return "x".join(map(str, shape[::-1]))
