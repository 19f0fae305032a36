"""The exception for mistakes in the input, and hints for its messages."""

import difflib
from collections.abc import Iterable, Mapping, Sequence


class UserError(ValueError):
    """A mistake in the input; the message says how to correct it.

    The command line prints the message alone and exits with code 2. Every other exception is a
    defect of the program: it keeps its traceback and exits with code 1.
    """


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
