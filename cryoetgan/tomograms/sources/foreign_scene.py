"""Files of a density scene of another simulator: PolNet, CryoTomoSim, data portal, or with labels."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cryoetgan.errors import UserError
from cryoetgan.io.csv_text import read_csv_text
from cryoetgan.io.files import INSTANCES, check_exists, read_text
from cryoetgan.io.mrc import read_volume
from cryoetgan.io.scene import read_label_names
from cryoetgan.io.star import CLASS_NAME, COORDINATES
from cryoetgan.tomograms.sources.motif_list import COLUMNS, read_motifs, valid_name
from cryoetgan.tomograms.sources.portal_scene import find_portal_files, read_portal_scene
from cryoetgan.tomograms.sources.scene_volumes import ForeignScene, open_scene, read_covering

MOTIFS = "_motif_list.csv"
"""Ending of PolNet's list beside `X_den.mrc`."""
ALL_MOTIFS = ("tomos_motif_list.csv", "digital_sample_motif_list.csv")
"""Lists of all tomograms of PolNet 1.0 (script, notebook), in the folder above the densities'."""
TOMOGRAMS = ("tomos", "sample")
"""Folders of its densities."""
LABELS = ("_lbl.mrc", "_labels.mrc")
"""Endings of labels beside `X.mrc` or `X_den.mrc`."""
COORDINATE_LISTS = "zcoords_"
"""Beginning of CryoTomoSim's lists: x, y, z of each particle, 1-based voxels, without heading."""

ATLAS_ORIGIN = 1.25
"""Listed minus 0-based coordinate of the middle of a particle's box: 1 if the box has an odd length, else 1.5."""


@dataclass(frozen=True)
class Given:
    """What a user says of a scene, beside its files."""

    labels: Path | None = None
    instances: Path | None = None
    names: Mapping[int, str] = field(default_factory=dict)
    """Label to name."""
    even_templates: bool = True
    """About PolNet (`read_motifs`)."""


def find_scene(source: Path, given: Given, scratch: Path | None = None) -> ForeignScene:
    """Return the scene of a folder or of a density file, from the files beside it.

    Volumes that are not MRC are unpacked to files without a name in the folder `scratch`.
    """
    check_exists(source, "file or folder")
    scene = None
    if given.labels is None and (files := find_portal_files(source)):
        scene = read_portal_scene(files, scratch)
    scene = scene or _find_beside(source, given)
    if given.instances is None:
        return scene
    instances = read_covering(given.instances, scene.density, scene.volume)
    return replace(scene, instances=instances, files=[*scene.files, given.instances])


def _find_beside(source: Path, given: Given) -> ForeignScene:
    """Return the scene of PolNet, of CryoTomoSim, or of a density with labels."""
    labels, names = given.labels, given.names
    if source.is_dir():
        source = _density_in(source)
    stem = source.stem.removesuffix("_den")
    # PolNet 1.0 keeps its list above the folder of its tomograms
    is_polnet = source.resolve().parent.name in TOMOGRAMS
    above = [f"../{name}" for name in ALL_MOTIFS] if is_polnet else []
    motifs = _beside(source, [f"{stem}{MOTIFS}", *ALL_MOTIFS, *above])
    atlas = next(iter(sorted(source.parent.glob("Atlas*.mrc"))), None)
    # PolNet 1.0: tomo_den_0.mrc, tomo_lbls_0.mrc
    candidates = [f"{stem}{end}" for end in LABELS] + [source.name.replace("_den_", "_lbls_")]
    labels = labels or _beside(source, candidates) or atlas
    if labels is None:
        raise UserError(
            f"{source}: has no labels beside it ({', '.join(candidates)}, Atlas*.mrc); name them "
            "with --labels, or make them (CryoTomoSim: helper_particleatlas)"
        )
    if motifs is not None:
        return _read_polnet(source, labels, motifs, names, given.even_templates)
    if labels == atlas:
        return _read_cryotomosim(source, labels, names)
    beside = labels.with_name(f"{labels.stem.removesuffix('_labels')}{INSTANCES}.mrc")
    instances = beside if given.instances is None and beside.exists() else None
    names = names or read_label_names(labels)
    return open_scene(source, labels, names, None, "density and labels", instances=instances)


def _density_in(folder: Path) -> Path:
    """Return the only density of a folder, or of its folder of tomograms."""
    lists = [path for path in sorted(folder.glob(f"*{MOTIFS}")) if path.name not in ALL_MOTIFS]
    found = [path.with_name(f"{path.name.removesuffix(MOTIFS)}_den.mrc") for path in lists]
    found = (
        found
        or sorted(folder.glob("*_den*.mrc"))
        or [path for name in TOMOGRAMS for path in sorted((folder / name).glob("*_den*.mrc"))]
        or [
            path
            for path in sorted(folder.glob("*.mrc"))
            if not path.name.startswith(("Atlas", "ind")) and not path.name.endswith(LABELS)
        ]
    )
    if len(found) != 1:
        listed = (
            ", ".join(path.name for path in found[:3])
            or "no density (X_den.mrc, X.mrc), and no annotations of a portal or copick project"
        )
        raise UserError(f"{folder}: holds {listed}; name the file of one density")
    return check_exists(found[0], "file")


def _beside(source: Path, names: Sequence[str]) -> Path | None:
    """Return the first existing file of these names, relative to the folder of `source`."""
    found = (source.parent / name for name in names if name != source.name)
    return next((path for path in found if path.exists()), None)


def _read_polnet(
    density: Path, labels: Path, motifs: Path, names: Mapping[int, str], even_templates: bool
) -> ForeignScene:
    """Return a scene of PolNet.

    Names come from the list of motifs. PolNet's labels_table.csv numbers components that placed
    nothing, and the volume does not.
    """
    table = read_csv_text(motifs).rename(columns=str.lower)
    if lacking := sorted((COLUMNS | {"label"}) - set(table)):
        raise UserError(f"{motifs}: has no column {', '.join(lacking)}; wanted PolNet's motif list")
    if "density" in table:
        mine = table["density"].map(lambda path: Path(str(path)).name) == density.name
        if not mine.any():
            raise UserError(f"{motifs}: has no row of {density.name} in column Density")
        table = table[mine].reset_index(drop=True)
    size = read_volume(density).voxel_size
    rows = read_motifs(table, size, motifs, even_templates)
    codes = table.assign(label=table["label"].astype(float).astype(int)).groupby("label")["code"]
    names = {int(number): valid_name(code) for number, code in codes.first().items()} | dict(names)
    rows["cryoetganClass"] = [names[number] for number in rows.pop("label")]
    return open_scene(density, labels, names, rows, "PolNet")


def _read_cryotomosim(density: Path, atlas: Path, names: Mapping[int, str]) -> ForeignScene:
    """Return a scene of CryoTomoSim: line n of the atlas' text names label n - 1.

    It lists particles that it places singly, and not the members of bundles and membranes.
    """
    listed = check_exists(atlas.with_suffix(".txt"), "names of the labels")
    lines = [line.strip() for line in read_text(listed).splitlines() if line.strip()]
    found = {number: valid_name(name) for number, name in enumerate(lines) if number}
    names = found | dict(names)
    rows = []
    for path in sorted(density.parent.glob(f"{COORDINATE_LISTS}*.csv")):
        name = valid_name(path.stem.removeprefix(COORDINATE_LISTS))
        if name not in names.values():
            raise UserError(
                f"{path}: no label is named {name}; {listed.name} has {', '.join(found.values())}"
            )
        places = _read_places(path)
        part = pd.DataFrame(places - ATLAS_ORIGIN, columns=COORDINATES)
        rows.append(part.assign(cryoetganClass=name))
    table = pd.concat(rows, ignore_index=True) if rows else None
    return open_scene(density, atlas, names, table, "CryoTomoSim", complete=False)


def _read_places(path: Path) -> NDArray[np.float64]:
    """Return x, y, z `(N, 3)` from a CSV file without heading."""
    wanted = "wanted x, y, z of a particle in each line, separated by commas"
    lines = [line for line in read_text(path).splitlines() if line.strip()]
    if not lines:
        return np.empty((0, 3))
    try:
        places = np.loadtxt(lines, delimiter=",", ndmin=2)
    except ValueError as error:
        raise UserError(f"{path}: {error}; {wanted}") from None
    if places.shape[1] < 3 or not np.isfinite(places[:, :3]).all():
        found = (
            f"{places.shape[1]} columns" if places.shape[1] < 3 else "numbers that are not finite"
        )
        raise UserError(f"{path}: has {found}; {wanted}")
    return np.asarray(places[:, :3], np.float64)


def parse_labels(items: Sequence[str]) -> dict[int, str]:
    """Return the name of each label from NAME=N."""
    names = {}
    for item in items:
        name, _, number = item.partition("=")
        if not CLASS_NAME.fullmatch(name) or not number.isdigit() or int(number) < 1:
            raise UserError(f"--label: got '{item}', wanted NAME=N with N of 1 or more")
        names[int(number)] = name
    return names
