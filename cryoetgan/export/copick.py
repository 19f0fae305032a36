"""A copick project: OME-Zarr tomograms, picks, label segmentations."""

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cryoetgan.errors import UserError
from cryoetgan.export.volume_rows import acquisitions, factor, group_of
from cryoetgan.io.files import read_json, sidecar, write_text
from cryoetgan.io.mrc import read_volume
from cryoetgan.io.star import ANGLES, COORDINATES, class_name, read_star
from cryoetgan.io.volume_set import read_volume_set
from cryoetgan.physics.acquisition import read_acquisition
from cryoetgan.physics.coordinates import centre_offset
from cryoetgan.physics.geometry import rotation_from_relion
from cryoetgan.progress import track

USER, SESSION, KIND = "cryoetgan", "1", "wbp"
README = """# copick export

Open it with copick: `copick.from_file("config.json")`. Tomograms, picks and segmentations lie in
data/ (OME-Zarr 0.4, JSON). config.json names data/ by its full path: after moving the folder,
correct `overlay_root` in it.

| what | where |
|---|---|
| runs | one a tomogram, of its name; of a volume set, one a volume |
| tomograms | type `{kind}`, voxel spacing in angstrom, protein {contrast} |
| picks | user `{user}`, session `{session}`, one set a class: points in angstrom from the corner voxel's centre, x, y, z; a 4 x 4 matrix turns the class's map into the particle |
| segmentations | `labels`, multilabel; the number of each class is its `label` in config.json |

Class names are made legal for copick (underscores become hyphens):

| copick | ours | label | radius, angstrom |
|---|---|---|---|
{names}

The radius is that of a ball with the density's radius of gyration (`export copick --density`); where
it is empty, set `radius` in config.json yourself before a program that draws spheres reads it.
"""
# Okabe and Ito's, told apart by the colour-blind
COLOURS = (
    (230, 159, 0, 255),
    (86, 180, 233, 255),
    (0, 158, 115, 255),
    (240, 228, 66, 255),
    (0, 114, 178, 255),
    (213, 94, 0, 255),
    (204, 121, 167, 255),
)
Particles = Mapping[str, tuple[NDArray[np.float64], NDArray[np.float64]]]


@dataclass(frozen=True)
class Run:
    """One run of the project.

    Attributes
    ----------
    name : str
        As copick shows it.
    data : ndarray
        `(z, y, x)`, in the contrast wanted.
    voxel_size : float
        Angstrom.
    particles : mapping
        Class to places `(N, 3)` xyz in voxels and rotations `(N, 3, 3)`.
    labels : ndarray, optional
        `(z, y, x)`.
    meaning : mapping
        Number in `labels` to class.
    """

    name: str
    data: NDArray[np.float32]
    voxel_size: float
    particles: Particles
    labels: NDArray[Any] | None = None
    meaning: Mapping[int, str] = field(default_factory=dict)


def legal(names: Iterable[str]) -> dict[str, str]:
    """Return each class's name as copick allows it: letters, digits, hyphens, none twice.

    Names added at the end change no earlier one's.
    """
    found: dict[str, str] = {}
    for name in names:
        plain = re.sub(r"[^A-Za-z0-9-]+", "-", name).strip("-") or "particle"
        number, unique = 2, plain
        while unique in found.values():
            unique, number = f"{plain}-{number}", number + 1
        found[name] = unique
    return found


def tomogram_runs(
    tomograms: Sequence[Path],
    particles: Sequence[Path],
    labels: Sequence[Path],
    contrast: str | None,
) -> Iterator[Run]:
    """Yield a run a tomogram, with the particles and labels that belong to it.

    Parameters
    ----------
    tomograms : sequence of Path
        MRC, protein bright.
    particles : sequence of Path
        STAR files; rows are told apart by rlnTomoName.
    labels : sequence of Path
        `<tomogram>_labels.mrc`, with the record that says what each number means.
    contrast : str, optional
        dark or bright; each tomogram's own where None.
    """
    tables = [_particles(path) for path in particles]
    labelled = {path.stem.removesuffix("_labels"): path for path in labels}
    names = [class_name(path) for path in tomograms]
    for name, path in labelled.items():
        if name not in names:
            raise UserError(
                f"{path}: belongs to no tomogram given (wanted <tomogram>_labels.mrc with "
                f"<tomogram> one of {', '.join(names)})"
            )
    for path, name in zip(track(tomograms, "exporting"), names, strict=True):
        volume = read_volume(path)
        factored = factor(contrast, read_acquisition(path))
        found = [table[table["rlnTomoName"].astype(str) == name] for table in tables]
        label, meaning = None, {}
        if name in labelled:
            label = read_volume(labelled[name]).data
            if label.shape != volume.data.shape:
                raise UserError(
                    f"{labelled[name]}: has shape {label.shape}, {path} has {volume.data.shape}"
                )
            meaning = _meaning(labelled[name], label)
        data = np.asarray(volume.data, np.float32) * np.float32(factored)
        yield Run(name, data, volume.voxel_size, _of_classes(found), label, meaning)


def volume_runs(path: Path, contrast: str | None) -> Iterator[Run]:
    """Yield a run a volume of a set, its particle as the only pick."""
    volumes = read_volume_set(path, ["cryoetganClass"])
    groups = acquisitions(volumes)
    records = volumes.table.to_dict("records")
    for index, row in enumerate(track(records, "exporting")):
        kind = str(row["cryoetganClass"])
        place = volumes.box // 2 + centre_offset(row, volumes.voxel_size)
        angles = [float(row.get(name, 0.0)) for name in ANGLES]
        turn = rotation_from_relion(angles).as_matrix()
        data = np.asarray(volumes.volumes[index], np.float32)
        data = data * np.float32(factor(contrast, groups.get(group_of(row))))
        name = f"{path.stem}_{index + 1:06d}"
        yield Run(name, data, volumes.voxel_size, {kind: (place[None], turn[None])})


def _particles(path: Path) -> Any:
    return read_star(path, ["rlnTomoName", "cryoetganClass", *COORDINATES]).particles


def _of_classes(tables: Sequence[Any]) -> Particles:
    found: dict[str, tuple[Any, Any]] = {}
    for table in tables:
        for name, part in table.groupby(table["cryoetganClass"].astype(str)):
            turns = np.tile(np.eye(3), (len(part), 1, 1))
            if set(ANGLES) <= set(part.columns):
                turns = rotation_from_relion(part[ANGLES].to_numpy(float)).as_matrix()
            places = part[COORDINATES].to_numpy(float)
            if name in found:
                places = np.concatenate([found[name][0], places])
                turns = np.concatenate([found[name][1], turns])
            found[str(name)] = (places, turns)
    return found


def _meaning(path: Path, label: NDArray[Any]) -> dict[int, str]:
    record = read_json(sidecar(path)) if sidecar(path).exists() else {}
    meaning = {int(number): str(name) for number, name in record.get("labels", {}).items()}
    unknown = [int(n) for n in np.unique(label) if n and int(n) not in meaning]
    # numbers without a name keep one: nothing of a segmentation is lost
    return meaning | {number: f"label-{number}" for number in unknown}


@dataclass
class Objects:
    """The classes of a project, in the order they were met.

    Attributes
    ----------
    radii : mapping
        Class to radius in angstrom, where it is known.
    numbers : dict
        Class to label.
    picked : set of str
        Classes that have picks; the others are segmented only, as membranes are.
    """

    radii: Mapping[str, float]
    numbers: dict[str, int] = field(default_factory=dict)
    picked: set[str] = field(default_factory=set)

    def meet(self, run: Run) -> None:
        """Number what a run holds; earlier numbers stay."""
        for name in sorted({*run.meaning.values(), *run.particles}):
            self.numbers.setdefault(name, len(self.numbers) + 1)
        self.picked |= set(run.particles)

    def listed(self) -> list[dict[str, Any]]:
        """Return copick's pickable_objects."""
        names = legal(self.numbers)
        return [
            {
                "name": names[name],
                "is_particle": name in self.picked,
                "label": number,
                "color": COLOURS[(number - 1) % len(COLOURS)],
                "radius": self.radii.get(name),
            }
            for name, number in self.numbers.items()
        ]

    def rows(self) -> list[str]:
        """Return the README's table."""
        sizes = {name: f"{self.radii[name]:.0f}" for name in self.numbers if name in self.radii}
        return [
            f"| {new} | {old} | {self.numbers[old]} | {sizes.get(old, '')} |"
            for old, new in legal(self.numbers).items()
        ]


def export_copick(
    runs: Iterable[Run],
    folder: Path,
    final: Path,
    contrast: str | None,
    radii: Mapping[str, float] | None = None,
) -> int:
    """Write runs as a copick project; return how many particles.

    Parameters
    ----------
    runs : iterable of Run
        One after the other: only one tomogram is in memory.
    folder : Path
        Where it is written now.
    final : Path
        Where it will lie: copick's config names a full path.
    contrast : str, optional
        For the README.
    radii : mapping, optional
        Class to radius, angstrom.
    """
    import copick

    objects = Objects(radii or {})
    count = 0
    config = folder / "config.json"
    for run in runs:
        objects.meet(run)
        names = legal(objects.numbers)
        _write_config(config, folder, objects)
        opened = copick.from_file(str(config)).new_run(run.name)
        size = round(run.voxel_size, 3)
        opened.new_voxel_spacing(size).new_tomogram(KIND).from_numpy(run.data)
        for name, (places, turns) in run.particles.items():
            count += _write_picks(opened, names[name], places * run.voxel_size, turns)
        if run.labels is not None:
            meaning = {number: objects.numbers[name] for number, name in run.meaning.items()}
            segmentation = opened.new_segmentation(size, "labels", SESSION, True, user_id=USER)
            segmentation.from_numpy(renumbered(run.labels, meaning))
    _write_config(config, final, objects)
    said = contrast or "as in your own files (dark unless you said otherwise)"
    text = README.format(
        kind=KIND, user=USER, session=SESSION, contrast=said, names="\n".join(objects.rows())
    )
    write_text(folder / "README.md", text)
    return count


def renumbered(labels: NDArray[Any], meaning: Mapping[int, int]) -> NDArray[np.uint8]:
    """Return labels with one numbering for the whole project.

    Raises
    ------
    UserError
        Where a label is negative or there are more classes than a byte counts.
    """
    if min(meaning, default=0) < 0 or max(meaning.values(), default=0) > 255:
        raise UserError("labels: wanted 0 (background) to 255; a copick segmentation holds bytes")
    table = np.zeros(max(meaning, default=0) + 1, np.uint8)
    for old, new in meaning.items():
        table[old] = new
    return table[np.asarray(labels).astype(np.int64)]


def _write_config(path: Path, folder: Path, objects: Objects) -> None:
    config = {
        "config_type": "filesystem",
        "name": "cryoetgan",
        "description": "Made by cryoetgan",
        "version": "1.0.0",
        "pickable_objects": objects.listed(),
        "overlay_root": f"local://{(folder / 'data').resolve()}",
        "overlay_fs_args": {"auto_mkdir": True},
    }
    write_text(path, json.dumps(config, indent=1) + "\n")


def _write_picks(run: Any, name: str, places: NDArray[Any], turns: NDArray[Any]) -> int:
    picks = run.new_picks(name, SESSION, user_id=USER)
    matrices = np.tile(np.eye(4), (len(places), 1, 1))
    matrices[:, :3, :3] = turns
    picks.from_numpy(places, matrices)
    picks.store()
    return len(places)
