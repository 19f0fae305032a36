"""How a tomogram that is no file is named; light, for the tables to import."""

import re

FORMS = (
    "a file, a URL, emdb:1234, empiar:10045/data/x.rec, portal:tomogram/1234, or "
    "copick:config.json?run=R&tomogram=wbp&voxel_size=10"
)
REMOTE = re.compile(r"(https?|emdb|empiar|portal|copick):|EMD-\d+$", re.IGNORECASE)


def is_remote(source: str) -> bool:
    """Whether a source is something else than a file's path."""
    return REMOTE.match(source) is not None
