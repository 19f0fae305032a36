"""Addresses of tomograms that are not local files (a light module: the tables import it)."""

import re

FORMS = (
    "a file, a URL, emdb:1234, empiar:10045/data/x.rec, portal:tomogram/1234, or "
    "copick:config.json?run=R&tomogram=wbp&voxel_size=10"
)
REMOTE = re.compile(r"(https?|emdb|empiar|portal|copick):|EMD-\d+$", re.IGNORECASE)


def is_remote(source: str) -> bool:
    """Return whether a source is an address and not the path of a file.

    Examples
    --------
    >>> is_remote("emdb:1234"), is_remote("folder/EMD-1234.mrc")
    (True, False)
    """
    return REMOTE.match(source) is not None
