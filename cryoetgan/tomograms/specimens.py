"""The specimen that a file shows, by its name: one specimen is used once.

A laboratory's folder holds several volumes of one specimen: half tomograms, denoised and corrected
copies, other binnings, segmentations, tilt series. In training and test, they are one.
`same_specimen` compares their contents.
"""

import re
import urllib.parse
from collections.abc import Iterable, Sequence
from pathlib import Path

from cryoetgan.tomograms.sources.addresses import is_remote

FILE_SUFFIX = re.compile(
    r"(\.(mrcs?|rec|map|st|ali|preali|em|hdf|zarr|ome|tomostar|star|nii|tiff?|npy|gz|bz2|xz))+$",
    re.I,
)
"""Suffixes of images; a dot elsewhere (`TS.1`) belongs to the name."""
UNITS = re.compile(
    r"(?<![A-Za-z0-9])\d+(\.\d+|_0\d)?_?(apx|apix|angpix|angstroms?|ang)(?![A-Za-z0-9])", re.I
)
"""A voxel size in a name, as Warp writes it: `TS_1_10.00Apx`; `TS_1_10_00Apx` in our tables."""
FRACTION = re.compile(r"(?<=\d)_(?=\d\d_?(apx|apix|angpix)(?![A-Za-z0-9]))", re.I)
"""The `_` in `TS_1_13_48Apx`, which may stand for 13.48; or the tomogram is `TS_1_13`."""
HALF = re.compile(
    r"(?<![a-z0-9])(half|halfmap|halfset|halftomo)[_.-]?(map|set|tomo)?[_.-]?([12ab])?(?![a-z0-9])|"
    r"(?<![a-z])(evn|even|odd)(?![a-z])",
    re.I,
)
KINDS = {
    "segmentation": r"seg|segs|segm|segment(ed|ation|ations)?|labels?|masks?|membrain|tardis|"
    r"semantic|instances?|prob(ability|abilities)?|predictions?|confidence",
    "denoised or corrected copy": r"denoised?|dn|cryocare|isonet\d*|ddw|deconv(olved|olution)?|n2n|"
    r"noise2noise|noise2map|topaz|filt(ered)?|lowpass|lp\d*|nad|bilateral|median|gauss(ian)?|"
    r"corrected|corr|smooth(ed)?|wiener|sharpened",
    "tilt series": r"ali|aligned|preali|newst|tilt(series|stack)?",
    "": r"rec|recon(struct(ed|ion|ions)?)?|full|wbp|fbp|s[ai]rt(-?like)?\d*|iter\d*|bin\d+|2nd|fid|"
    r"\d+xbin|flip(ped)?|rot([xyz]|ated)?(\d+)?|trim(med)?|crop(ped)?|resampled|rescaled|inv|"
    r"invert(ed)?|norm(ali[sz]ed)?|novactf|ctf(corr)?(ected)?|phaseflip(ped)?|aretomo\d?|imod|"
    r"etomo|tomo3d|warp|relion\d?|eman\d?|dw|dosefilt(ered)?|weighted|copy|final",
}
"""Words that say how a volume was made, not which specimen it shows; by the kind of volume."""
KIND_ORDER = ("", "denoised or corrected copy", "half tomogram")
"""Kinds of volumes of one specimen, best first."""
SOFT = r"tomo(gram|grams)?|vol(ume|umes)?|st|stack|raw|orig(inal)?"
"""Words that are often the name itself (`tomo_1`): dropped if another word has letters."""


def plain_name(name: object) -> str:
    """Return a tomogram's name from a path or file name: no folder, no suffix.

    Examples
    --------
    >>> plain_name("tomograms/TS.01_10.00Apx.mrc"), plain_name("TS_01.tomostar")
    ('TS.01_10.00Apx', 'TS_01')
    """
    return FILE_SUFFIX.sub("", re.split(r"[/\\]", str(name).strip())[-1])


def volume_kind(name: str) -> str:
    """Return the kind of volume that a name states: `half tomogram`, a key of `KINDS`, or nothing.

    Examples
    --------
    >>> volume_kind("TS_1_EVN"), volume_kind("TS_1_denoised"), volume_kind("TS_1_rec")
    ('half tomogram', 'denoised or corrected copy', '')
    """
    words = _words(name)
    for kind in ("segmentation", "tilt series"):
        if any(re.fullmatch(KINDS[kind], word) for word in words):
            return kind
    if HALF.search(name):
        return "half tomogram"
    copy = "denoised or corrected copy"
    return copy if any(re.fullmatch(KINDS[copy], word) for word in words) else ""


def _words(name: str) -> list[str]:
    return [word for word in re.split(r"[_.\- ()]+", name.lower()) if word]


def specimen_name(name: object) -> str:
    """Return the name of the specimen: a file's name without words of its processing.

    Examples
    --------
    >>> specimen_name("rec_Position_2_half1.mrc"), specimen_name("Position_2_10.00Apx_denoised.mrc")
    ('position_2', 'position_2')
    >>> specimen_name("tomo_1.rec"), specimen_name("rec.mrc")
    ('tomo_1', 'rec')
    """
    plain = plain_name(name)
    words = _words(HALF.sub("_", UNITS.sub("_", plain)))
    processing = "|".join(KINDS.values())
    kept = [word for word in words if not re.fullmatch(processing, word)]
    hard = [word for word in kept if not re.fullmatch(SOFT, word)]
    if any(re.search("[a-z]", word) for word in hard):
        kept = hard
    return "_".join(kept or _words(plain))


def tomogram_number(name: object) -> int | None:
    """Return the number at the end of a specimen's name; None without one, or if it is unclear.

    Examples
    --------
    >>> tomogram_number("TS_03_bin4"), tomogram_number("TS_3_10_00Apx.mrc"), tomogram_number("cell")
    (3, 3, None)
    """
    found = [re.search(r"\d+$", specimen_name(n)) for n in (name, FRACTION.sub(".", str(name)))]
    numbers = {int(match[0]) if match else None for match in found}
    return numbers.pop() if len(numbers) == 1 else None


def specimen_of(path: str) -> str:
    """Return the specimen of a path or address in the table of tomograms.

    Folders count, since `TS_1/rec.mrc` and `TS_2/rec.mrc` differ; folders named by a kind of
    volume (`even`, `denoised`) do not. Of a copick project the run counts.
    """
    if is_remote(path):
        kind, _, rest = path.partition(":")
        address, _, query = rest.partition("?")
        if kind == "copick":
            query = urllib.parse.parse_qs(query).get("run", [""])[0]
        elif "/" in address and kind != "portal":
            folder, _, name = address.rpartition("/")
            address = f"{_drop_processing(folder.split('/'))}/{specimen_name(name)}"
        return f"{kind}:{address}?{query}".lower()
    file = Path(path).expanduser().absolute()
    return f"{_drop_processing(file.parent.parts)}/{specimen_name(file.name)}"


def _drop_processing(folders: Sequence[str]) -> str:
    """Return a path without the folders that name a kind of volume."""
    processing = "|".join([*KINDS.values(), SOFT])
    return "/".join(
        part
        for part in folders
        if not all(re.fullmatch(processing, word) for word in _words(HALF.sub("_", part)))
    )


def preference(name: str) -> tuple[int, int, str]:
    """Return the sort key of a volume among volumes of its specimen: the best comes first.

    Examples
    --------
    >>> sorted(["TS_1_EVN.mrc", "TS_1_denoised.mrc", "TS_1_rec.mrc"], key=preference)
    ['TS_1_rec.mrc', 'TS_1_denoised.mrc', 'TS_1_EVN.mrc']
    """
    kind = volume_kind(plain_name(name))
    rank = KIND_ORDER.index(kind) if kind in KIND_ORDER else len(KIND_ORDER)
    return rank, len(name), name


def match_tomogram(names: Iterable[object], tomogram: str) -> set[object]:
    """Return the names in a file that stand for a tomogram; several if they are ambiguous.

    The first rule that any name satisfies decides: the same name; the same characters, since a
    table's names hold only letters, digits, `_` and `-`; the same specimen; the same specimen with
    numbers of another width (`TS_1`, `TS_001`). A number that is the only name stands for the
    tomogram whose specimen ends in it.

    Examples
    --------
    >>> sorted(match_tomogram(["x/TS.1.mrc", "TS.2"], "TS_1"))
    ['x/TS.1.mrc']
    >>> sorted(match_tomogram(["TS_01_rec", "TS_11_rec"], "TS_1"))
    ['TS_01_rec']
    """
    unique = set(names)
    rules = (
        plain_name,
        lambda name: re.sub(r"[^A-Za-z0-9_-]", "_", plain_name(name)).lower(),
        specimen_name,
        lambda name: re.sub(r"(?<!\d)0+(?=\d)", "", specimen_name(name)),
        lambda name: specimen_name(FRACTION.sub(".", str(name))),
    )
    for rule in rules:
        found = {name for name in unique if rule(name) == rule(tomogram)}
        if found:
            return found
    only = plain_name(next(iter(unique))) if len(unique) == 1 else ""
    return unique if only.isdecimal() and int(only) == tomogram_number(tomogram) else set()
