"""Rough cost of a run: time on this machine, disk space, memory.

Times were measured on the demo (two cores of 2026, no GPU), in seconds of one core.
"""

import math
import os
from collections.abc import Mapping, Sequence
from typing import Any

from cryoetgan.config import Config
from cryoetgan.errors import UserError
from cryoetgan.io.mrc import read_header
from cryoetgan.setup.input_files import expand_path
from cryoetgan.tables import ClassRow, Image, TomogramRow

TOMOGRAM_SECONDS = {
    "simulate": 1.3e-6,
    "import": 2e-7,
    "dog": 7e-7,
    "match": 4e-6,  # the number of rotations and classes hardly matters
    "synthesize": 1e-6,
}
"""Per voxel of a tomogram. Synthesis includes the scene and the physics."""
VOLUME_SECONDS = {"pose": 3e-7, "physics": 7e-7, "classify": 3e-7}
"""Per voxel of a volume; classification per volume that the small network sees in training."""
SCORE_SECONDS, ROTATION_SECONDS = 1.1e-6, 3e-10
"""Scoring with decoys: per voxel of a box, class and pick, plus the same again per rotation."""
FIT_SECONDS, HAND_SECONDS = 20.0, 10.0
"""Imaging model and hand test of a tomogram."""
DETECTOR_SECONDS = {"train": 1.1, "run": 3e-6}
"""A training step of the detector; its run, per voxel of a tomogram, with the poses of its picks."""
DETECTOR_STEPS = 1500
"""Steps if the configuration does not limit them: the default of `detection train`."""
METRICS_SECONDS, N_MEASURED = 45.0, 6
"""All metrics of one set, and the number of sets."""
JOB_SECONDS = 2.0
"""Start of a job."""
TRAINING_SECONDS = {"cyclegan": 0.42, "residual": 0.48}
"""A training step, all passes forward and backward, per 1e9 multiplications of the generator."""
CB3D_FACTOR = 60.0
"""Time of CB3D over the time of the small network."""
GPU_CORES = 50.0
"""Cores that a GPU replaces for networks; a conservative guess."""
WITH_OTHER = 1.5
"""Volumes of a training set with the class `other`, over the volumes without it."""
MAX_CORES = 8
"""Cores that a network can use."""
TILE_OVERLAP = 2.0
"""Voxels that a network computes per voxel of a synthetic tomogram, since tiles overlap."""
DEFAULT_PICKS, DEFAULT_ROTATIONS = 500, 1856
"""Picks of a tomogram, and orientations of the search, if the configuration gives none."""
TRAINING_SAMPLES = {"small": 16_000, "cb3d": 30_000}
"""Volumes that a classifier sees in training if the configuration gives no epochs."""
N_SETS = 6
"""Volume sets of one size: poses, conventional, fitted, generated, untrained, cycle."""
FLOAT_BYTES = 4
SCENE_BYTES, LABEL_BYTES = 4, 6
"""Per voxel of a synthetic tomogram; labels and instances."""


def estimate(
    config: Config,
    classes: Sequence[ClassRow],
    images: Sequence[Image],
    gpu: bool = False,
    cores: int | None = None,
    set_voxels: Mapping[str, int] | None = None,
) -> dict[str, Any]:
    """Return minutes, disk space and memory of a run, correct within a factor of about three.

    The default number of cores is this machine's. `set_voxels` are the voxels of each set of
    subtomograms (`inspect_sets`); a set that is not in it counts for nothing.
    """
    from cryoetgan.translation.presets import read_preset

    settings = read_preset(config.translation.preset)
    cores = cores or os.cpu_count() or 1
    box = config.densities.box**3
    poses = sum(row.count or config.densities.count for row in classes)
    networks = _count_networks(config, images)
    generated = poses * config.translation.draws * networks
    sizes = [
        _count_voxels(config, row)
        if isinstance(row, TomogramRow)
        else (set_voxels or {}).get(row.name, 0)
        for row in images
    ]
    whole = [size for size, row in zip(sizes, images, strict=True) if not row.is_set]
    # half tomograms are as large as their tomogram
    imported = sum(size * (1 + len(row.halves)) for size, row in zip(sizes, images, strict=True))
    synthetic = config.synthetic_tomograms * math.prod(config.tomograms.shape)
    workers = GPU_CORES if gpu else min(cores, MAX_CORES)
    training = networks * _training_seconds(config, settings) / workers
    synthesis = 0.0
    if settings.makes_tomograms_of(config.export.source):
        synthesis = _network_synthesis_seconds(settings, synthetic) / workers
    detection = 0.0
    steps = DETECTOR_STEPS if config.detection.steps is None else config.detection.steps
    if synthetic and steps:
        detection = DETECTOR_SECONDS["train"] * steps + DETECTOR_SECONDS["run"] * sum(whole)
        detection /= workers
    annotated = any(row.is_simulated or row.annotations for row in images)
    evaluation = _classifier_seconds(config, generated, box, annotated) / workers
    evaluation += N_MEASURED * METRICS_SECONDS / min(cores, N_MEASURED)
    chain = (VOLUME_SECONDS["pose"] + VOLUME_SECONDS["physics"]) * box * poses
    chain += TOMOGRAM_SECONDS["synthesize"] * synthetic
    chain += _particle_seconds(config, len(classes), images, sizes)
    n_jobs = 12 * len(images) + 3 * len(classes) + 20 + 2 * config.synthetic_tomograms
    chain += JOB_SECONDS * n_jobs
    return {
        "classes": len(classes),
        "tomograms": sum(not row.is_set for row in images),
        "sets": sum(row.is_set for row in images),
        "poses": poses,
        "disk_gb": _disk_bytes(config, len(classes), generated, imported, synthetic) / 1e9,
        "memory_gb": 2.0 + FLOAT_BYTES * max(whole, default=0) / 1e9,
        "minutes": (chain / cores + training + synthesis + detection + evaluation) / 60,
        "minutes_training": training / 60,
    }


def _disk_bytes(
    config: Config, n_classes: int, generated: int, imported: int, synthetic: int
) -> float:
    """Return the disk space of all volumes, tomograms and exports."""
    formats = set(config.export.formats)
    copick, plain = "copick" in formats, "plain" in formats
    exported = generated * len({"relion", "plain"} & formats)
    subtomograms = config.particles.top * n_classes
    volumes = N_SETS * generated + 2 * subtomograms + exported
    disk = FLOAT_BYTES * config.densities.box**3 * volumes
    disk += 2 * FLOAT_BYTES * imported * (2 if copick else 1)
    # scene and tomogram, each with labels; exports hold the tomogram and its labels once more
    return disk + synthetic * (SCENE_BYTES + LABEL_BYTES) * (2 + copick + plain)


def _particle_seconds(
    config: Config, n_classes: int, images: Sequence[Image], sizes: Sequence[int]
) -> float:
    """Return the time of import or simulation, picking and scoring."""
    box = config.densities.box**3
    per_pick = SCORE_SECONDS + ROTATION_SECONDS * (config.particles.rotations or DEFAULT_ROTATIONS)
    total = 0.0
    for row, size in zip(images, sizes, strict=True):
        picks: float = config.particles.max_picks or DEFAULT_PICKS
        source = TOMOGRAM_SECONDS["simulate" if row.is_simulated else "import"]
        if row.is_set:
            picks = size / box  # all boxes
        else:
            source += TOMOGRAM_SECONDS[config.particles.picker]
        total += size * source + per_pick * picks * n_classes * box
        total += HAND_SECONDS + FIT_SECONDS * config.imaging.fit
    return total


def _training_seconds(config: Config, settings: Any) -> float:
    steps = config.translation.steps or settings.steps
    per_step = count_multiplications(settings) * config.densities.box**3 * settings.batch
    return TRAINING_SECONDS[settings.model] * steps * per_step / 1e9


def _network_synthesis_seconds(settings: Any, voxels: int) -> float:
    """Return the time of a network for synthetic tomograms."""
    per_voxel = TRAINING_SECONDS[settings.model] / 3 * count_multiplications(settings) / 1e9
    return per_voxel * TILE_OVERLAP * voxels


def count_multiplications(settings: Any) -> float:
    """Return the multiplications of the generator per voxel of its input."""
    if settings.model == "residual":
        return 2.0 * 27 * settings.diffusion_steps * settings.filters  # each filter and its adjoint
    first, second, third = settings.widths
    outer = 2 * 343 * first
    down = 27 * (first * second / 8 + second * third / 64)
    blocks = 2 * settings.blocks * 27 * third**2 / 64
    up = 27 * ((third + settings.noise_channels) * second / 64 + second * first / 8)
    return float(outer + down + blocks + up)


def _count_networks(config: Config, images: Sequence[Image]) -> int:
    """Return the number of trained networks: one, or one per group of training data."""
    if not config.translation.per_group:
        return 1
    return max(1, len({row.group for row in images if row.split in ("train", None)}))


def _count_voxels(config: Config, row: TomogramRow) -> int:
    """Return the voxels of a tomogram after import; 0 if its file does not exist."""
    if row.is_simulated:
        return math.prod(config.tomograms.shape)
    path = expand_path(row.path)
    if row.is_remote or not path.exists():
        return 0
    try:
        header = read_header(path)
    except UserError:
        return path.stat().st_size // FLOAT_BYTES
    count, size = math.prod(header.shape), row.voxel_size or header.voxel_size
    return int(count * (size / config.densities.voxel_size) ** 3) if size > 0 else count


def _classifier_seconds(config: Config, generated: int, box: int, annotated: bool) -> float:
    """Return the training time of all classifiers."""
    n_sources = 2 if config.imaging.fit else 1  # generated, fitted
    n_points = sum(size < generated for size in config.evaluation.learning_curve)
    # if particles are annotated, one more classifier learns from the picks
    n_whole = 3 + n_sources + annotated
    counts = {config.evaluation.network: n_whole + n_sources * n_points}
    if config.evaluation.second_network:
        counts[config.evaluation.second_network] = n_whole
    epochs, total = config.evaluation.epochs, 0.0
    for network, count in counts.items():
        default = min(TRAINING_SAMPLES[network], 60 * generated)
        samples = default if epochs is None else WITH_OTHER * epochs * generated
        factor = CB3D_FACTOR if network == "cb3d" else 1
        total += count * samples * box * VOLUME_SECONDS["classify"] * factor
    return total
