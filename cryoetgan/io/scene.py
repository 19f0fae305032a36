"""Files of a density scene and of its tomogram: volume, labels, instances, truth."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cryoetgan.errors import UserError, shown
from cryoetgan.io.files import INSTANCES, LABELS, check_not_overwritten, read_record, sidecar
from cryoetgan.io.memmap import iterate_sections
from cryoetgan.io.mrc import Volume, open_volume, read_volume
from cryoetgan.io.star import COORDINATES, class_name, particle_id, read_star, write_star
from cryoetgan.physics.acquisition import Acquisition

LABEL_TYPES = (np.int8, np.uint8, np.int16, np.uint16, np.float32, np.float16)
CROWDER = "crowder"
"""Beginning of the labels of unnamed density."""


def beside(tomogram: Path, ending: str) -> Path:
    """Return the path of a volume beside a tomogram: `T_labels.mrc` beside `T.mrc`."""
    return tomogram.with_name(f"{class_name(tomogram)}{ending}.mrc")


@dataclass(frozen=True)
class SceneFiles:
    """A density scene: its volume, volumes of labels on its grid, class and pose of each particle."""

    path: Path
    volume: Volume
    labels: dict[str, tuple[Path, NDArray[np.generic]]] = field(default_factory=dict)
    """Ending (`_labels`, `_instances`) to file and values."""
    particles_path: Path | None = None
    particles: pd.DataFrame | None = None

    def label_names(self) -> dict[int, str]:
        """Return the name of each label, from the records beside labels and scene."""
        if LABELS not in self.labels:
            return {}
        return read_label_names(self.labels[LABELS][0], self.path)

    def has_crowders(self) -> bool:
        """Return whether the scene holds unnamed density, as cells do between named particles."""
        return any(name.startswith(CROWDER) for name in self.label_names().values())

    def paths(self) -> Iterator[Path]:
        """Yield the files that were read."""
        yield self.path
        yield from (path for path, _ in self.labels.values())
        if self.particles_path is not None:
            yield self.particles_path


def read_label_names(*volumes: Path) -> dict[int, str]:
    """Return the name of each label from the first record beside `volumes` that has them."""
    for record in filter(Path.exists, map(sidecar, volumes)):
        if "labels" in (content := read_record(record)):
            try:
                return {int(number): str(name) for number, name in content["labels"].items()}
            except (AttributeError, TypeError, ValueError):
                raise UserError(
                    f"{record}: its labels are {shown(content['labels'])}, not a mapping of numbers "
                    "to names; correct or delete it"
                ) from None
    return {}


def open_scene(path: Path, labels: Path | None = None, particles: Path | None = None) -> SceneFiles:
    """Open a scene with its labels and instances, which must cover it, and its truth.

    Files that are not given are taken from beside the scene, if they exist.
    """
    volume = read_volume(path)
    found = {LABELS: labels or beside(path, LABELS), INSTANCES: beside(path, INSTANCES)}
    opened = {
        ending: (file, read_labels(file, path, volume))
        for ending, file in found.items()
        if file == labels or file.exists()
    }
    truth = path.with_suffix(".star") if particles is None else particles
    if particles is None and not truth.exists():
        return SceneFiles(path, volume, opened)
    return SceneFiles(path, volume, opened, truth, read_star(truth, COORDINATES).particles)


def read_labels(file: Path, path: Path, volume: Volume) -> NDArray[np.generic]:
    """Return the values of labels, which have the shape and voxel size of the scene."""
    data = read_volume(file, volume.voxel_size).data
    if data.shape != volume.data.shape:
        raise UserError(
            f"{file}: has {data.shape} voxels (zyx), but {path} {volume.data.shape}; "
            "labels and scene must cover each other"
        )
    if data.dtype.newbyteorder("=") not in LABEL_TYPES:
        raise UserError(f"{file}: holds {data.dtype}; MRC labels are integers or float16/32")
    return data


def check_outputs(scene: SceneFiles, output: Path) -> None:
    """Raise `UserError` if a tomogram would replace a file of its scene, or get another's truth."""
    targets = [output, output.with_suffix(".star")]
    targets += [beside(output, ending) for ending in (LABELS, INSTANCES)]
    for target in targets:
        for path in scene.paths():
            check_not_overwritten(path, target)
    foreign = [
        beside(output, ending) for ending in (LABELS, INSTANCES) if ending not in scene.labels
    ]
    foreign += [] if scene.particles is not None else [output.with_suffix(".star")]
    for target in filter(Path.exists, foreign):
        raise UserError(
            f"{target}: exists, but {scene.path} has no such truth, so it would seem to belong to "
            f"{output.name}; move it, or give another -o"
        )


def write_truth(
    output: Path, scene: SceneFiles, acquisition: Acquisition, source: str
) -> tuple[list[Path], dict[str, Any]]:
    """Write the labels, instances and truth of a scene beside the tomogram `output`.

    `source` is the cryoetganSource of the rows: simulated or generated. Returns the volumes that
    get a record, and the entries of the record: acquisition, names of the labels.
    """
    voxel_size, outputs = scene.volume.voxel_size, []
    about: dict[str, Any] = {"acquisition": acquisition.to_json()}
    for ending, (_, labels) in scene.labels.items():
        outputs.append(beside(output, ending))
        # MRC has no unsigned bytes
        kind = np.dtype(np.int16) if labels.dtype == np.uint8 else labels.dtype.newbyteorder("=")
        with open_volume(outputs[-1], labels.shape, voxel_size, kind) as out:
            for plane, given in zip(iterate_sections(out), iterate_sections(labels), strict=True):
                plane[:] = given
    if names := scene.label_names():
        about["labels"] = {str(number): label for number, label in names.items()}
    if scene.particles is not None:
        name = class_name(output)
        optics = pd.DataFrame([acquisition.to_optics(1, name)])
        places = scene.particles[COORDINATES].to_numpy(float)
        rows = scene.particles.assign(
            rlnTomoName=name,
            cryoetganId=[particle_id(name, *xyz) for xyz in places],
            cryoetganSource=source,
            rlnOpticsGroup=1,
        )
        write_star(output.with_suffix(".star"), rows, optics, voxel_size)
    return outputs, about
