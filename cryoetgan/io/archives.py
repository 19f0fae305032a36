"""Zip archives of networks and arrays: whole, unchanged, and of bounded size."""

import errno
import os
import zipfile
from typing import IO

from cryoetgan.errors import shown

MAX_PARTS = 100_000


def check_archive(file: IO[bytes], limit: int | None = None) -> None:
    """Raise `ValueError` if a file is not a whole archive, or unpacks to more than `limit` bytes.

    The sums of all parts are checked. `limit` is the size of the file if None: its parts must then
    be stored as they are. Raises `OSError` if the disk cannot be read.
    """
    size = file.seek(0, os.SEEK_END)
    try:
        if not zipfile.is_zipfile(file):
            raise ValueError("it is cut short, or another file")
        with zipfile.ZipFile(file) as archive:
            parts = archive.infolist()
            if sum(part.file_size for part in parts) > (limit or size) or len(parts) > MAX_PARTS:
                raise ValueError("it would unpack to more than it may hold")
            changed = archive.testzip()
    except Exception as error:  # damage raises one of many kinds
        if isinstance(error, OSError) and error.errno not in (None, errno.EINVAL):
            raise  # the disk's fault; a negative position in a damaged archive is EINVAL
        if type(error) is ValueError and str(error).startswith("it "):
            raise
        raise ValueError("its table of contents is damaged") from error
    if changed is not None:
        raise ValueError(f"its part {shown(changed)} has changed since it was written")
    file.seek(0)
