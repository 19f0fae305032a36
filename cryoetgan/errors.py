"""The one exception that means: the user can mend this."""

import difflib
from collections.abc import Iterable


class UserError(ValueError):
    """A mistake in the input, with the way out in its message.

    The command line prints the message alone and exits with code 2. Every other
    exception is a defect of ours: it keeps its traceback and exits with code 1.
    """


def nearest(name: str, known: Iterable[str]) -> str:
    """Return `"; did you mean 'x'?"`, or nothing where no known name is close."""
    close = difflib.get_close_matches(name, list(known), n=1)
    return f"; did you mean '{close[0]}'?" if close else ""
