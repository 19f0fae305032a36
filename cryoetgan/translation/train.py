"""Train a model on two volume sets: a folder with checkpoint, log and settings."""

import logging
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch

from cryoetgan.code_hash import code_hash
from cryoetgan.errors import UserError
from cryoetgan.imaging.model import ImagingModel
from cryoetgan.io.files import check_exists, sha256, write_text
from cryoetgan.io.volume_set import VolumeSet, check_same_boxes, stack_path
from cryoetgan.physics.acquisition import is_symmetric, read_tilt_ranges
from cryoetgan.physics.geometry import HALF_TURNS
from cryoetgan.seeds import integer_seed
from cryoetgan.translation import training_sets
from cryoetgan.translation.cyclegan.settings import CycleGANSettings
from cryoetgan.translation.cyclegan.trainer import CycleGANTrainer, count_held_out
from cryoetgan.translation.engine import checkpoint, scaling
from cryoetgan.translation.engine.distributed import launch, slurm_tasks
from cryoetgan.translation.engine.settings import TrainingSettings
from cryoetgan.translation.engine.trainer import Trainer
from cryoetgan.translation.residual.scene_bank import read_models, simulate_scene_bank
from cryoetgan.translation.residual.settings import ResidualSettings
from cryoetgan.translation.residual.trainer import ResidualTrainer
from cryoetgan.translation.residual.translator import pack_models
from cryoetgan.translation.training_run import TrainingRun, config_text, csv_text

log = logging.getLogger("cryoetgan")


@dataclass(frozen=True, kw_only=True)
class TrainingInputs:
    """Inputs of a training run.

    Attributes
    ----------
    densities, subtomograms : VolumeSet
        Posed densities, and subtomograms of the same box and voxel size.
    imaging : sequence of Path
        Imaging model of each tomogram; only the residual model reads them.
    group : str, optional
        Train on the subtomograms of this group of tomograms alone.
    """

    densities: VolumeSet
    subtomograms: VolumeSet
    imaging: Sequence[Path] = ()
    group: str | None = None

    def select(self, settings: TrainingSettings) -> "TrainingInputs":
        """Return the inputs that the settings train on, checked."""
        subtomograms, cyclegan = self.subtomograms, settings.model == "cyclegan"
        check_same_boxes(self.densities, subtomograms)
        if cyclegan and self.densities.box % 4:
            raise UserError(
                f"{self.densities.path}: boxes of {self.densities.box} voxels, wanted a multiple of 4"
            )
        if self.group is not None:
            subtomograms = training_sets.select_group(subtomograms, self.group)
        # generated volumes are recorded with the optics groups of the training rows
        optics = subtomograms.optics_of(training_sets.training_rows(subtomograms))
        subtomograms = replace(subtomograms, optics=optics)
        if cyclegan:
            training_sets.warn_of_mixed_tilts(subtomograms)
        imaging = () if cyclegan else self.imaging
        return replace(self, subtomograms=subtomograms, imaging=imaging)

    def hashes(self) -> dict[str, str]:
        """Return the hashes of files and rows, by the kind of input."""
        pair = self.densities, self.subtomograms
        found = {
            "densities": sha256(stack_path(pair[0].path)),
            "subtomograms": sha256(stack_path(pair[1].path)),
            "rows": " ".join(map(training_sets.hash_rows, pair)),
        }
        # the file of an imaging model holds the hash of its arrays
        found |= {f"imaging {i}": sha256(check_exists(p)) for i, p in enumerate(self.imaging, 1)}
        return found if self.group is None else {**found, "group": self.group}


def train(
    inputs: TrainingInputs,
    settings: TrainingSettings,
    folder: Path,
    *,
    name: str,
    device: torch.device,
    seed: int,
    devices: int = 1,
    tensorboard: bool = False,
) -> None:
    """Train, or resume training, and write `checkpoint.pt`, `log.csv` and `config.yaml`.

    The state of a running training is `training.pt`. If it is killed, the next call resumes from
    there, on a CPU to the same bits. Random numbers depend on `name`, the preset's; `devices` of
    this machine share each batch; with `tensorboard`, the log also becomes TensorBoard events.
    """
    check_preset(settings, inputs.imaging, name)
    event_writer = import_event_writer() if tensorboard else None
    inputs = inputs.select(settings)
    settings = resolve_epochs(settings, len(training_sets.training_rows(inputs.subtomograms)))
    plain = settings.plain()
    # random numbers depend on the preset's name
    key = {**plain, "seed": seed, "inputs": inputs.hashes(), "preset": name}
    count = max(devices, slurm_tasks())
    if settings.batch % count:
        raise UserError(
            f"--devices: {count} devices cannot share batches of {settings.batch}; set batch to "
            f"a multiple of {count} in a preset of your own, or use fewer devices"
        )
    processes, device = launch(devices, device)
    code = code_hash(Path(__file__).parents[1], "translation")
    state = processes.from_first(lambda: checkpoint.find_state(folder, key, code))
    if state and state["step"] == settings.steps:
        if processes.rank == 0:
            complete(folder, state)
        return
    trainer, scalers, models = build_trainer(inputs, settings, device, seed, name)
    trainer.join(processes)
    if state:
        resume(trainer, state, folder)
    about = {
        "settings": plain,
        "key": key,
        "code": code,
        "scalers": {domain: asdict(scaler) for domain, scaler in scalers.items()},
        "imaging": pack_models(models),
        "voxel_size": inputs.subtomograms.voxel_size,
        "box": inputs.subtomograms.box,
        "optics": inputs.subtomograms.optics.to_dict("records"),
    }
    rows = state.get("log", []) if state else []
    TrainingRun(trainer, folder, about, rows, event_writer).run()
    processes.close()


def check_preset(settings: TrainingSettings, imaging: Sequence[Path], name: str) -> None:
    """Refuse a residual preset without imaging models; warn of settings without effect."""
    if isinstance(settings, CycleGANSettings):
        if imaging:
            log.warning("preset %s does not use imaging models: --imaging is ignored", name)
        if settings.objective == "wgan" and settings.clip > 0 and settings.spectral_norm:
            log.warning(
                "preset %s: clip has no effect, because spectral_norm rescales the weights", name
            )
    elif not imaging:
        raise UserError(
            f"preset {name} corrects the fitted simulation and needs an imaging model of each "
            "tomogram: --imaging M.json (cryoetgan imaging fit). Or use another preset "
            "(translation.preset)"
        )


def resolve_epochs(settings: TrainingSettings, count: int) -> TrainingSettings:
    """Return the settings with `steps` for `epochs` passes over `count` subtomograms.

    Subtomograms that the settings hold out from the discriminator do not count.
    """
    if not settings.epochs:
        return settings
    if isinstance(settings, CycleGANSettings):
        count -= count_held_out(settings, count)
    steps = max(1, math.ceil(settings.epochs * count / settings.batch))
    return settings.replace(steps=steps)


def build_trainer(
    inputs: TrainingInputs, settings: TrainingSettings, device: torch.device, seed: int, name: str
) -> tuple[Trainer, dict[str, scaling.Scaler], list[ImagingModel]]:
    """Return the trainer of a run, the scalers of its domains, and its imaging models."""
    torch_seed = integer_seed(seed, "translation", name) % 2**31
    densities, subtomograms = inputs.densities, inputs.subtomograms
    d_rows = training_sets.training_rows(densities)
    d = training_sets.to_tensor(densities, d_rows)
    s = training_sets.to_tensor(subtomograms, training_sets.training_rows(subtomograms))
    s = training_sets.exclude_constant(s, subtomograms.path)
    models: list[ImagingModel] = []
    trainer: Trainer
    if isinstance(settings, ResidualSettings):
        models = read_models(inputs.imaging, densities)
        scalers = scaling.fit_density_scaler(d), scaling.fit_sd_scaler(s)
        del d
        scenes = simulate_scene_bank(
            densities, d_rows, models, settings.n_scenes, settings.class_fractions, seed
        )
        tilts = read_tilt_ranges(subtomograms.optics)
        tilts += [model.acquisition.tilts for model in models]
        half_turns = HALF_TURNS if all(map(is_symmetric, tilts)) else HALF_TURNS[:2]
        trainer = ResidualTrainer(settings, scenes, s, scalers, half_turns, device, torch_seed)
    else:
        assert isinstance(settings, CycleGANSettings)
        scalers = scaling.fit_scalers(d, s, settings.scaling, settings.scale_clip)
        d, s = scalers[0].forward(d), scalers[1].forward(s)
        trainer = CycleGANTrainer(settings, d, s, device, torch_seed)
        smallest = trainer.networks["D_s"].smallest_box()
        if smallest > densities.box:
            raise UserError(
                f"boxes of {densities.box} voxels are too small for this discriminator; wanted "
                f"{smallest} or more (densities.box)"
            )
    log.info("%d densities, %d subtomograms, preset %s, %s", len(d_rows), len(s), name, device)
    return trainer, dict(zip(("density", "subtomogram"), scalers, strict=True)), models


def resume(trainer: Trainer, state: dict[str, Any], folder: Path) -> None:
    """Load a state into a trainer; raise a `UserError` if this version builds it differently."""
    try:
        trainer.load(state)
    except torch.OutOfMemoryError:
        raise
    except (KeyError, RuntimeError, ValueError) as error:
        raise UserError(
            f"{folder}: the networks or optimisers of cryoetgan {state['version']} do not fit this "
            f"version ({str(error)[:150]}); delete the folder to train anew, or give another"
        ) from error
    log.info("%s: resumes from step %d", folder, trainer.step)


def complete(folder: Path, state: dict[str, Any]) -> None:
    """Write the files that a finished run lacks."""
    log.info("%s: is trained already (%d steps)", folder, state["step"])
    finished = folder / checkpoint.NAME
    if not finished.exists() or checkpoint.read(finished)["step"] != state["step"]:
        checkpoint.finish(folder)
    if not (folder / "config.yaml").exists():
        write_text(folder / "config.yaml", config_text(state["key"]))
    if not (folder / "log.csv").exists():
        write_text(folder / "log.csv", csv_text(state.get("log", [])))


def import_event_writer() -> Any:
    """Return TensorBoard's writer class."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise UserError(
            "--tensorboard: TensorBoard is not installed; pip install 'cryoetgan[tensorboard]', or "
            "omit the option: log.csv holds the same numbers"
        ) from error
    return SummaryWriter
