"""Damaged files of every kind end in one message: no traceback, no hang, bounded memory.

Each case damages a valid file (bytes changed, cut, doubled, moved; header words and numbers set
to extremes; words of the format inserted) and reads it. `make test-all` tries 10,000 cases a
reader, `make test` some dozens.
"""

import gzip
import os
import resource
import signal
import struct
import warnings

import numpy as np
import pandas as pd
import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cryoetgan import config, tables
from cryoetgan.config import Config
from cryoetgan.errors import UserError
from cryoetgan.io.mrc import read_volume, write_volume
from cryoetgan.io.star import read_star, star_text
from cryoetgan.io.volume_set import read_volume_set, write_volume_set

FEW, MANY = 60, 10_000
SECONDS = 20  # a read of some kilobytes that takes this long hangs
MEMORY = 3 << 30  # bytes a read may take on top of what the process has
EXTREMES = (0, 1, -1, 2**31 - 1, -(2**31), 255, 65536, 1 << 20)
FLOATS = (float("nan"), float("inf"), -1.0, 0.0, 1e-38, 1e38)
NUMBERS = (b"nan", b"inf", b"-1", b"0", b"1e400", b"9" * 40, b"-", b"", b"0x10", b"'", b'"', b"\t")
ZIPPED = ("mrc", "pdb", "cif")
WORDS = {
    "star": (b"loop_", b"data_", b"_rlnImageName", b"_rlnCoordinateX #1", b"#", b";", b"data_x\n"),
    "pdb": (b"ATOM  ", b"HETATM", b"MODEL ", b"ENDMDL", b"REMARK 350", b"END", b"CRYST1"),
    "cif": (
        b"loop_",
        b"data_x",
        b"_atom_site.id",
        b"_pdbx_struct_assembly_gen",
        b";\n",
        b"?",
        b".",
    ),
    "yaml": (b": ", b"- ", b"&a ", b"*a", b"!!python/object:os.system", b"{", b"[", b"|", b"null"),
    "table": (b"\t", b"\n", b"#", b"simulate", b"class", b"tomogram", b'"', b"$HOME"),
    "mrc": (b"MAP ", b"DDDD", b"\x11\x11\x00\x00"),
}

change = st.tuples(
    st.sampled_from(["byte", "cut", "drop", "twice", "swap", "int", "float", "number", "word"]),
    st.floats(0, 1, exclude_max=True),
    st.floats(0, 1, exclude_max=True),
    st.integers(0, 1 << 16),
)
changes = st.lists(change, min_size=1, max_size=4)


def damaged(whole: bytes, todo: list, kind: str) -> bytes:
    """Return the bytes of a file with each change made."""
    data = bytearray(whole)
    for what, start, end, value in todo:
        size = len(data)
        # half the damage goes to the first kilobyte: headers
        at = int(start * size) if value % 2 else int(start * min(size, 1024))
        till = min(size, at + 1 + int(end * 64))
        if what == "byte" and size:
            data[at] = value % 256
        elif what == "cut":
            del data[at:]
        elif what == "drop":
            del data[at:till]
        elif what == "twice":
            data[at:at] = data[at:till] * (1 + value % 50)
        elif what == "swap":
            data[at:till] = data[at:till][::-1]
        elif what == "int":
            data[at // 4 * 4 : at // 4 * 4 + 4] = struct.pack("<i", EXTREMES[value % len(EXTREMES)])
        elif what == "float":
            data[at // 4 * 4 : at // 4 * 4 + 4] = struct.pack("<f", FLOATS[value % len(FLOATS)])
        elif what == "number":
            data[at:till] = NUMBERS[value % len(NUMBERS)]
        else:
            words = WORDS[kind]
            data[at:at] = words[value % len(words)]
    return bytes(data)


def mrc(folder):
    path = folder / "whole.mrc"
    write_volume(path, np.arange(12**3, dtype=np.float32).reshape(12, 12, 12), 10.0)
    return path.read_bytes()


def star(folder):
    del folder
    rows = {"rlnTomoName": ["t", "t"], "rlnCoordinateX": [1.0, 2.0], "cryoetganClass": ["a", "b"]}
    return star_text(pd.DataFrame(rows)).encode()


def pdb(folder):
    del folder
    lines = [
        f"ATOM  {n:5d}  CA  ALA A{n:4d}    {n:8.3f}{-n:8.3f}{n % 7:8.3f}  1.00 20.00           C"
        for n in range(1, 30)
    ]
    return ("\n".join(["HEADER    TEST", *lines, "END"]) + "\n").encode()


def cif(folder):
    from cryoetgan.structures.phantoms import write_phantom

    path = folder / "whole.cif"
    write_phantom("tric", path)
    lines = path.read_text().splitlines(keepends=True)
    first = next(number for number, line in enumerate(lines) if line.startswith("ATOM"))
    return "".join(lines[: first + 40]).encode()


def configuration(folder):
    del folder
    return yaml.safe_dump(Config().model_dump(mode="json"), sort_keys=False).encode()


def class_table(folder):
    del folder
    return b"class\tsource\tradius\ncapsid\tphantom:tric\t100\nribosome\t4v6x\t\n"


def tomogram_table(folder):
    del folder
    return b"tomogram\tpath\ttilt_low\ttilt_high\tsplit\nt1\tsimulate\t-60\t60\ttrain\n"


def stack(folder):
    """A volume set whose stack is the file that will be damaged."""
    rows = pd.DataFrame({"cryoetganClass": ["a", "b"]})
    write_volume_set(folder / "set.star", np.ones((2, 8, 8, 8), np.float32), rows, 10.0)
    content = (folder / "set.mrcs").read_bytes()
    (folder / "set.mrcs").unlink()
    (folder / "set.mrcs").symlink_to(folder / "damaged.mrc")
    return content


def volume_set(path):
    read_volume_set(path.parent / "set.star").volumes.max()


def raw_volume(path):
    from cryoetgan.io.raw_mrc import open_raw_volume

    with open_raw_volume(path) as tomogram:
        tomogram.data[0].max()


def volume(path):
    read_volume(path).data.max()


def atoms(path):
    from cryoetgan.densities.atoms import read_atoms

    read_atoms(path)


def as_eman2(path):
    from cryoetgan.densities.eman2 import read_atoms_as_eman2

    read_atoms_as_eman2(path)


def tomogram_rows(path):
    tables.read_images(path, None)


READERS = {
    "MRC": ("mrc", mrc, volume),
    "volume set": ("mrc", stack, volume_set),
    "foreign MRC": ("mrc", mrc, raw_volume),
    "STAR": ("star", star, read_star),
    "PDB": ("pdb", pdb, atoms),
    "PDB as EMAN2": ("pdb", pdb, as_eman2),
    "mmCIF": ("cif", cif, atoms),
    "config": ("yaml", configuration, config.load),
    "classes": ("table", class_table, tables.read_classes),
    "tomograms": ("table", tomogram_table, tomogram_rows),
}


class HangError(Exception):
    """A reader hangs."""


def _alarm(*_):
    raise HangError(f"more than {SECONDS} s")


@pytest.fixture
def bounded():
    """Bound the memory and the time of a reader."""
    before = resource.getrlimit(resource.RLIMIT_AS)
    with open("/proc/self/statm") as file:
        used = int(file.read().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, before[1]))
    handler = signal.signal(signal.SIGALRM, _alarm)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, handler)
    resource.setrlimit(resource.RLIMIT_AS, before)


def try_many(name, folder, number):
    kind, make, read = READERS[name]
    whole = make(folder)
    path = folder / f"damaged.{kind}"
    path.write_bytes(whole)
    read(path)  # the valid file is read

    @settings(
        max_examples=number,
        deadline=None,
        database=None,
        derandomize=True,
        suppress_health_check=list(HealthCheck),
    )
    @given(changes, st.booleans())
    def case(todo, zipped):
        content = damaged(whole, todo, kind)
        path.write_bytes(gzip.compress(content, 1) if zipped and kind in ZIPPED else content)
        signal.alarm(SECONDS)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                read(path)
        except UserError:
            pass
        finally:
            signal.alarm(0)

    case()


@pytest.mark.parametrize("name", READERS)
def test_a_damaged_file_ends_in_a_message(name, tmp_path, bounded):
    try_many(name, tmp_path, FEW)


@pytest.mark.slow
@pytest.mark.parametrize("name", READERS)
def test_ten_thousand_damaged_files_end_in_a_message(name, tmp_path, bounded):
    try_many(name, tmp_path, MANY)
