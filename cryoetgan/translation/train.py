"""A training run: volume sets in, a folder with checkpoint, log and config out."""

import csv
import logging
import math
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, NoReturn

import torch
import yaml

from cryoetgan import __version__
from cryoetgan.code_hash import code_hash
from cryoetgan.errors import UserError
from cryoetgan.io.files import check_exists, sha256, write_text
from cryoetgan.io.volume_set import VolumeSet, stack_path
from cryoetgan.progress import track
from cryoetgan.translation.cyclegan.trainer import held_out
from cryoetgan.translation.engine import checkpoint
from cryoetgan.translation.engine.distributed import join_team
from cryoetgan.translation.engine.process_group import Team
from cryoetgan.translation.engine.trainer import DivergedError, Loop, TooLargeError
from cryoetgan.translation.recipes import (
    check_recipe,
    check_sets,
    make_trainer,
    of_group,
    of_training,
    rows_hash,
    training_rows,
)
from cryoetgan.translation.residual.scene_simulation import packed
from cryoetgan.translation.settings import Settings

log = logging.getLogger("cryoetgan")
LOG_ROWS = 200
SAVE_EVERY_S = 60.0
SAVE_EVERY_STEPS = int(os.environ.get("CRYOETGAN_SAVE_EVERY_STEPS", "0"))
"""For tests: save after so many steps, whatever the clock says."""


def train(
    densities: VolumeSet,
    subtomograms: VolumeSet,
    settings: Settings,
    folder: Path,
    device: torch.device,
    seed: int,
    name: str,
    imaging: Sequence[Path] = (),
    group: str | None = None,
    devices: int = 1,
    tensorboard: bool = False,
) -> None:
    """Train, or go on training, and leave `checkpoint.pt`, `log.csv` and `config.yaml`.

    While it runs, the state lies in `training.pt`: killed at any moment, the next call
    goes on from it, on a CPU to the same bits. With a `group`, subtomograms of its tomograms
    alone are learnt from. Several `devices` share each batch; the first process writes. With
    `tensorboard`, the numbers of the log go into `tensorboard/`, too.

    Raises
    ------
    UserError
        Where the sets do not fit, a finished run of other settings is in the way, or a
        loss stops being a number.
    """
    check_recipe(settings, imaging, name)
    check_sets(densities, subtomograms, settings)
    writer = _event_writer() if tensorboard else None
    subtomograms = subtomograms if group is None else of_group(subtomograms, group)
    subtomograms = of_training(subtomograms, settings)
    # passes are over what is learnt from, not over what the critic is kept from
    count = len(training_rows(subtomograms))
    settings = _counted(settings, count - held_out(settings, count))
    imaging = imaging if settings.frame == "residual" else ()
    hashes = {
        kind: sha256(stack_path(volumes.path))
        for kind, volumes in (("densities", densities), ("subtomograms", subtomograms))
    }
    hashes |= {"rows": f"{rows_hash(densities)} {rows_hash(subtomograms)}"}
    # a model's file holds the hash of its arrays
    hashes |= {f"imaging {i}": sha256(check_exists(path)) for i, path in enumerate(imaging, 1)}
    hashes |= {} if group is None else {"group": group}
    key = checkpoint.as_key(settings, seed, hashes, name)
    _check_share(settings, devices)
    team, device = join_team(devices, device)
    _check_share(settings, team.count)
    code = code_hash(Path(__file__).parents[1], "translation")
    found = team.first(lambda: checkpoint.find_start(folder, key, code))
    if found and found["step"] >= settings.steps and (folder / checkpoint.NAME).exists():
        log.info("%s: is trained already (%d steps)", folder, found["step"])
        if team.rank == 0:
            _complete(folder, found)
        return
    if found and found["step"] == settings.steps:
        log.info("%s: was trained to the end; only its checkpoint was gone", folder)
        if team.rank == 0:
            checkpoint.finish(folder)
        return
    trainer, scalers, models = make_trainer(
        densities, subtomograms, settings, imaging, device, seed, name
    )
    trainer.join(team)
    if found:
        _go_on(trainer, found, folder)
    about = {
        "preset": name,
        "settings": {k: v for k, v in key.items() if k not in ("seed", "inputs", "preset")},
        "key": {"seed": seed, "inputs": hashes, "preset": name},
        "code": code,
        "scalers": {domain: asdict(scaler) for domain, scaler in scalers.items()},
        "imaging": packed(models),
        "voxel_size": subtomograms.voxel_size,
        "box": subtomograms.box,
        "optics": _plain_rows(subtomograms.optics),
    }
    _Run(trainer, settings, folder, about, team, writer).go()
    team.leave()


def _go_on(trainer: Loop, found: Mapping[str, Any], folder: Path) -> None:
    checkpoint.load_weights(trainer.networks, found["networks"], found, folder)
    try:
        trainer.load(found)
    except torch.OutOfMemoryError:
        raise
    except (KeyError, RuntimeError, ValueError) as error:
        raise UserError(
            f"{checkpoint.older(found, folder)}, and its optimisers do not fit "
            f"({str(error).splitlines()[0]}); delete it, or name another folder, to train anew"
        ) from error
    log.info("%s: goes on from step %d", folder, trainer.step)
    settings, before = trainer.settings, found["settings"]["steps"]
    fallen = trainer.step > settings.decay_start * before
    if settings.steps != before and fallen:
        log.warning(
            "%s: was to end at step %d, towards which its learning rates fell; gone on with to "
            "step %d it is not what one training of as many steps would be",
            folder,
            before,
            settings.steps,
        )


class _Run:
    """Logs, saves and reports while a trainer works."""

    def __init__(
        self,
        trainer: Loop,
        settings: Settings,
        folder: Path,
        about: Mapping[str, Any],
        team: Team,
        writer: Any = None,
    ) -> None:
        self.trainer, self.settings, self.folder, self.about = trainer, settings, folder, about
        self.team, self.writes = team, team.rank == 0
        self.every = max(1, settings.steps // LOG_ROWS)
        self.saved = time.monotonic()
        self.rows = _earlier_rows(folder / "log.csv", trainer.step)
        self.events: Any = None
        if not self.writes:
            return
        folder.mkdir(parents=True, exist_ok=True)
        write_text(folder / "config.yaml", _config(about))
        if writer is not None:
            # a resumed run's later numbers replace those that no state knew of
            self.events = writer(str(folder / "tensorboard"), purge_step=trainer.step + 1)

    def go(self) -> None:
        steps = self.settings.steps
        bar = track(range(self.trainer.step, steps), "training", steps - self.trainer.step)
        next(bar, None)
        try:
            self.trainer.run(steps, lambda: self._after_step(bar))
            self._save()
        except DivergedError as error:
            self._stop(error)
        except TooLargeError as error:
            self.team.fail(
                UserError(
                    f"{self.folder}: {error}; take a smaller box (densities.box), narrower "
                    "networks (a preset of your own), or --device cpu"
                )
            )
        if self.writes:
            checkpoint.finish(self.folder)
        if self.events is not None:
            self.events.close()

    def _stop(self, error: DivergedError) -> NoReturn:
        if self.writes:
            write_text(self.folder / "log.csv", _csv(self.rows))  # what led there
        good = self.folder / checkpoint.IN_PROGRESS
        kept = f"the last good state is {good}" if good.exists() else "no state was saved yet"
        self.team.fail(
            UserError(
                f"{self.folder}: training diverged: {error}; {kept}; lower the learning rates "
                "(lr_generator, lr_critic) in the preset"
            )
        )

    def _after_step(self, bar: Any) -> None:
        step, now = self.trainer.step, time.monotonic()
        next(bar, None)
        if step % self.every == 0 or step == self.settings.steps:
            self._note(step)
        self._snapshot()
        due = step % SAVE_EVERY_STEPS == 0 if SAVE_EVERY_STEPS else now - self.saved > SAVE_EVERY_S
        # clocks differ: all save when the first process does
        if self.team.anyone(due and self.writes) and step < self.settings.steps:
            self._save()

    def _note(self, step: int) -> None:
        """Add a row to the log; a column that comes late is empty before."""
        numbers = self.trainer.numbers()
        self.rows.append({"step": step, **{k: f"{v:.6g}" for k, v in numbers.items()}})
        if self.events is not None:
            for name, value in numbers.items():
                self.events.add_scalar(name, value, step)

    def _snapshot(self) -> None:
        """Keep the generator of this epoch, where the recipe wants it: a checkpoint of its own."""
        every, batch = self.settings.snapshot_every, self.settings.batch
        if not every:
            return
        epoch = int(self.trainer.epoch())
        before = int((self.trainer.step - 1) * batch / self.trainer.real_count)
        if epoch // every == before // every:
            return
        self.trainer.check(weights=True)
        state = self.trainer.state()
        kept = {name: state[name] for name in ("step", "average", "initial")}
        # to translate with: its critics are not needed
        nets = state["networks"].items()
        kept["networks"] = {name: value for name, value in nets if name.startswith("G_")}
        kept |= {"noise_sd": state["noise_sd"]} if "noise_sd" in state else {}
        path = self.folder / "snapshots" / f"epoch_{epoch // every * every:05d}.pt"
        if self.writes:
            checkpoint.save(path, {**self.about, **kept})

    def _save(self) -> None:
        self.trainer.check(weights=True)  # what is kept last is good
        state = self.trainer.state()
        self.saved = time.monotonic()
        if not self.writes:
            return
        # the log first: a state never knows of rows that are not on disk
        write_text(self.folder / "log.csv", _csv(self.rows))
        checkpoint.save(self.folder / checkpoint.IN_PROGRESS, {**self.about, **state})


def _config(about: Mapping[str, Any]) -> str:
    """Return a run's settings: a preset that can be given again, with what it was run on."""
    key = about["key"]
    lines = [f"# preset {about['preset']}, seed {key['seed']}, cryoetgan {__version__}"]
    lines += [f"# {kind}: {value}" for kind, value in key["inputs"].items()]
    return "\n".join([*lines, yaml.safe_dump(dict(about["settings"]), sort_keys=False)])


def _complete(folder: Path, content: Mapping[str, Any]) -> None:
    """Write the settings of a finished run again, where they are gone; the log cannot be."""
    if not (folder / "config.yaml").exists():
        write_text(folder / "config.yaml", _config(content))
    if not (folder / "log.csv").exists():
        log.warning(
            "%s: its log.csv is gone: there are no training curves; delete the folder to train anew",
            folder,
        )


def _earlier_rows(path: Path, step: int) -> list[dict[str, Any]]:
    if step == 0 or not path.exists():
        return []
    try:
        with open(path, newline="", encoding="utf-8") as file:
            return [row for row in csv.DictReader(file) if int(row["step"]) <= step]
    except (KeyError, TypeError, ValueError, csv.Error) as error:
        log.warning("%s: is no log of a training (%s): it starts anew", path, error)
        return []


def _csv(rows: list[dict[str, Any]]) -> str:
    import io

    out = io.StringIO()
    if rows:
        names = list(dict.fromkeys(name for row in rows for name in row))
        writer = csv.DictWriter(out, names, lineterminator="\n", restval="")
        writer.writeheader()
        writer.writerows(rows)
    return out.getvalue()


def _plain_rows(table: Any) -> list[dict[str, Any]]:
    return [
        {k: v.item() if hasattr(v, "item") else v for k, v in row.items()}
        for row in table.to_dict("records")
    ]


def with_steps(settings: Settings, steps: int | None) -> Settings:
    """Return the settings with another number of steps, where one is given."""
    return settings if steps is None else replace(settings, steps=steps, epochs=0.0)


def _check_share(settings: Settings, devices: int) -> None:
    if settings.batch % devices:
        raise UserError(
            f"--devices: {devices} devices cannot share batches of {settings.batch}; set batch to "
            f"a multiple of {devices} in a preset of your own, or take fewer"
        )


def _counted(settings: Settings, volumes: int) -> Settings:
    """Return the settings with the steps that `epochs` passes over the volumes take."""
    if not settings.epochs:
        return settings
    return replace(settings, steps=max(1, math.ceil(settings.epochs * volumes / settings.batch)))


def _event_writer() -> Any:
    """Return TensorBoard's writer class."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise UserError(
            "--tensorboard: TensorBoard is not installed; pip install 'cryoetgan[tensorboard]', or "
            "leave the option out: log.csv holds the same numbers"
        ) from error
    return SummaryWriter
