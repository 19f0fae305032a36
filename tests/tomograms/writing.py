"""MRC files as other programs write them."""

import warnings

import mrcfile
import numpy as np


def write_mrc(path, data, voxel_size=10.0):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # mrcfile warns of the NaN that a test plants
        with mrcfile.new(path, overwrite=True) as file:
            file.set_data(data)
            file.voxel_size = voxel_size
    return path


def as_big_endian(raw):
    """The bytes of a little-endian MRC file of 16-bit integers, words turned round."""
    words = bytearray(np.frombuffer(raw[:1024], "<i4").byteswap().tobytes())
    words[208:216] = b"MAP " + bytes([0x11, 0x11, 0, 0])
    words[224:1024] = raw[224:1024]
    return bytes(words) + np.frombuffer(raw[1024:], "<i2").byteswap().tobytes()


def patched(raw, **words):
    """The bytes of an MRC file with header words changed: `w18=b"...."` sets word 18."""
    out = bytearray(raw)
    for name, content in words.items():
        start = 4 * int(name[1:])
        out[start : start + len(content)] = content
    return bytes(out)
