"""Header labels of MRC files."""

import mrcfile


def read_labels(path):
    with mrcfile.open(path, header_only=True) as file:
        return [str(line).strip() for line in file.get_labels()]
