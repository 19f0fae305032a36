"""What a run will cost, roughly: time on this machine, disk, memory."""

import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cryoetgan.config import Config
from cryoetgan.tables import ClassRow, TomogramRow

SETS = 6
"""Volume sets of one size: poses, typed and fitted physics, generated, untrained, back again."""
# seconds of one core, measured on the embedded default (two cores of 2026, no GPU)
SIMULATE, IMPORT, PICK = 1.3e-6, 2e-7, 7e-7  # a voxel of a tomogram
SYNTHESIZE = 1e-6  # a voxel of a synthetic tomogram: scene and physics
OVERLAP = 2.0
"""So many voxels a network makes for one of a synthetic tomogram: its tiles overlap."""
MATCH = 4e-6  # a voxel of a tomogram; rotations and classes hardly count
SCORE, TURN = 1.7e-7, 4e-11  # a voxel of a box, class and pick; and for each rotation
POSE, PHYSICS = 3e-7, 7e-7  # a voxel of a volume
CLASSIFY = 3e-7  # a voxel of a volume seen
MEASURE = 45.0  # a set
# of 1e9 multiplications of a generator, forth and back, all passes of a step
TRAIN = {"cycle": 0.42, "residual": 0.75}
GPU = 50.0
"""A GPU counts as so many cores, for networks; a guess on the careful side."""
START = 2.0  # of a job
PICKS = 500
"""Picks of a tomogram where the configuration does not bound them."""
SAMPLES = {"small": 16_000, "cb3d": 30_000}
CB3D = 60.0
"""So many times dearer than the small network."""
MOST_CORES = 8


def estimate(
    config: Config,
    classes: Sequence[ClassRow],
    tomograms: Sequence[TomogramRow],
    gpu: bool = False,
    cores: int | None = None,
) -> dict[str, Any]:
    """Return minutes, disk and memory of a run, within a factor of three or so.

    Parameters
    ----------
    config : Config
        Of the run.
    classes, tomograms : sequence
        Rows of its tables.
    gpu : bool
        Whether networks run on one.
    cores : int, optional
        This machine's where None.
    """
    cores = cores or os.cpu_count() or 1
    box, poses = config.densities.box**3, _poses(config, classes)
    groups = _groups(config, tomograms)
    made = poses * config.translation.draws * groups
    sizes = [_voxels(config, row) for row in tomograms]
    crops = config.particles.top * len(classes)
    disk = 4 * box * (SETS * made + 2 * crops + _exported(config, made))
    disk += 2 * 4 * sum(sizes) * (2 if "copick" in config.export.formats else 1)
    synthetic = config.tomograms.synthetic * math.prod(config.tomograms.shape)
    # scene and tomogram, each with labels; the export holds the tomogram's once more
    disk += synthetic * (4 + 2) * (3 if "copick" in config.export.formats else 2)
    chain = POSE * box * poses + PHYSICS * box * poses + SYNTHESIZE * synthetic
    chain += START * 2 * config.tomograms.synthetic
    pick = PICK if config.particles.picker == "dog" else MATCH
    for row, size in zip(tomograms, sizes, strict=True):
        picks = config.particles.max_picks or PICKS
        chain += size * ((SIMULATE if row.is_simulated else IMPORT) + pick)
        each = SCORE + TURN * config.particles.rotations
        chain += each * picks * len(classes) * box
    chain += START * (12 * len(tomograms) + 3 * len(classes) + 20)
    workers = GPU if gpu else min(cores, MOST_CORES)
    training = groups * training_seconds(config) / workers
    drawing = drawing_seconds(config, synthetic) / workers
    marked = any(row.is_simulated or row.annotations for row in tomograms)
    evaluation = _classifiers(config, made, box, marked) / workers + 3 * MEASURE / min(cores, 3)
    return {
        "classes": len(classes),
        "tomograms": len(tomograms),
        "poses": poses,
        "disk_gb": disk / 1e9,
        "memory_gb": 2.0 + 4 * max(sizes, default=0) / 1e9,
        "minutes": (chain / cores + training + drawing + evaluation) / 60,
        "minutes_training": training / 60,
    }


def training_seconds(config: Config) -> float:
    """Return the seconds of one core that training takes."""
    from cryoetgan.translation.presets import read_preset

    settings = read_preset(config.translation.preset)
    steps = config.translation.steps or settings.steps
    frame = getattr(settings, "frame", "cycle")
    per_voxel = multiplications(settings) * config.densities.box**3
    return TRAIN[frame] * steps * settings.batch * per_voxel / 1e9


def drawing_seconds(config: Config, voxels: int) -> float:
    """Return the seconds of one core that a residual network takes for synthetic tomograms."""
    from cryoetgan.translation.presets import read_preset

    settings = read_preset(config.translation.preset)
    if getattr(settings, "frame", "cycle") != "residual":
        return 0.0
    return TRAIN["residual"] / 3 * OVERLAP * multiplications(settings) * voxels / 1e9


def multiplications(settings: Any) -> float:
    """Return the generator's multiplications a voxel of its input."""
    if getattr(settings, "frame", "cycle") == "residual":
        return 54.0 * settings.stages * settings.filters  # there and back
    first, second, third = settings.widths
    outer = 2 * 343 * first
    down = 27 * (first * second / 8 + second * third / 64)
    blocks = 2 * settings.blocks * 27 * third**2 / 64
    up = 27 * ((third + settings.noise_channels) * second / 64 + second * first / 8)
    return float(outer + down + blocks + up)


def _poses(config: Config, classes: Sequence[ClassRow]) -> int:
    return sum(row.count or config.densities.count for row in classes)


def _groups(config: Config, tomograms: Sequence[TomogramRow]) -> int:
    """Return how many networks are trained: one, or one a group of training tomograms."""
    if not config.translation.per_group:
        return 1
    return max(1, len({row.group for row in tomograms if row.split in ("train", None)}))


def _exported(config: Config, made: int) -> int:
    return made * len({"relion", "plain"} & set(config.export.formats))


def _voxels(config: Config, row: TomogramRow) -> int:
    """Return the voxels of a tomogram after import; 0 where its file is not there."""
    if row.is_simulated:
        x, y, z = config.tomograms.shape
        return x * y * z
    path = Path(os.path.expandvars(row.path)).expanduser()
    if row.is_remote or not path.exists():
        return 0
    import mrcfile

    try:
        with mrcfile.open(path, header_only=True, permissive=True) as file:
            header = file.header
            count = int(header.nx) * int(header.ny) * int(header.nz)
            size = row.voxel_size or float(file.voxel_size.x)
    except (ValueError, OSError):
        return path.stat().st_size // 4
    wanted = config.densities.voxel_size
    return int(count * (size / wanted) ** 3) if size > 0 else count


def _classifiers(config: Config, made: int, box: int, marked: bool) -> float:
    """Return the seconds of one core that all classifiers take."""
    # where crops are marked, one more learns from the picks: labels have no part in the choice
    fitted = ["fitted"] if config.imaging.fit else []
    curves = 1 + len(fitted)
    points = sum(size < made for size in config.evaluation.learning_curve)
    whole = 4 + len(fitted) + marked
    counts = {config.evaluation.network: whole + curves * points}
    if config.evaluation.second_network:
        counts[config.evaluation.second_network] = whole
    epochs, total = config.evaluation.epochs, 0.0
    for network, count in counts.items():
        seen = min(SAMPLES[network], 60 * made) if epochs is None else epochs * made
        total += count * seen * box * CLASSIFY * (CB3D if network == "cb3d" else 1)
    return total
