"""The files of a running training: state, log, settings, snapshots, TensorBoard events."""

import logging
import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

import pandas as pd
import yaml

from cryoetgan import __version__
from cryoetgan.io.files import write_text
from cryoetgan.progress import track
from cryoetgan.translation.engine import checkpoint
from cryoetgan.translation.engine.trainer import (
    COLLAPSED,
    DivergedError,
    TooLargeError,
    Trainer,
)

log = logging.getLogger("cryoetgan")
LOG_ROWS = 200
"""Rows of log.csv in one run."""
SAVE_EVERY_SECONDS = 60.0
"""Seconds between two saved states; CRYOETGAN_SAVE_EVERY_STEPS replaces them by steps."""


class TrainingRun:
    """Run a trainer; log its losses and save its state.

    `about` is the content of the checkpoint beside the trainer's state and the rows of the log,
    `rows` the log of a resumed run, `event_writer` the class of TensorBoard's writer.
    """

    def __init__(
        self,
        trainer: Trainer,
        folder: Path,
        about: Mapping[str, Any],
        rows: Sequence[dict[str, Any]] = (),
        event_writer: Any = None,
    ) -> None:
        self.trainer, self.settings = trainer, trainer.settings
        self.folder, self.about = folder, about
        self.processes = trainer.processes
        self.writes = self.processes.rank == 0
        self.log_every = max(1, self.settings.steps // LOG_ROWS)
        self.save_every_steps = int(os.environ.get("CRYOETGAN_SAVE_EVERY_STEPS", "0"))
        self.saved_at = time.monotonic()
        self.rows = list(rows)
        self.events: Any = None
        if self.writes:
            folder.mkdir(parents=True, exist_ok=True)
            write_text(folder / "config.yaml", config_text(about["key"]))
            if event_writer is not None:
                # later numbers of a resumed run replace those that no saved state includes
                self.events = event_writer(str(folder / "tensorboard"), purge_step=trainer.step + 1)

    def run(self) -> None:
        """Train to the end and leave `checkpoint.pt`."""
        steps = self.settings.steps
        self.bar = track(range(self.trainer.step, steps), "training")
        next(self.bar, None)
        try:
            self.trainer.run(steps, self.after_step)
            self.save()
            ratio = self.trainer.numbers().get("back_sd_ratio", 1.0)
            if self.writes and ratio < COLLAPSED:
                log.warning(
                    "%s: G_sd(s) has %.2g times the standard deviation of densities: the way back "
                    "has collapsed; train with another --seed, or for more steps", self.folder, ratio,
                )  # fmt: skip
        except DivergedError as error:
            self.stop_diverged(error)
        except TooLargeError as error:
            self.processes.abort(
                f"{self.folder}: {error}; use a smaller box (densities.box), narrower networks "
                "(a preset of your own), or --device cpu"
            )
        if self.writes:
            checkpoint.finish(self.folder)
        if self.events is not None:
            self.events.close()

    def after_step(self) -> None:
        """Log, keep a snapshot and save the state, if they are due."""
        next(self.bar, None)
        step = self.trainer.step
        if step % self.log_every == 0 or step == self.settings.steps:
            self.log_numbers()
        self.save_snapshot()
        due = time.monotonic() - self.saved_at > SAVE_EVERY_SECONDS
        if self.save_every_steps:
            due = step % self.save_every_steps == 0
        # clocks differ: all processes save when process 0 does
        if self.processes.any(due and self.writes) and step < self.settings.steps:
            self.save()

    def log_numbers(self) -> None:
        """Add a row to the log; new columns are empty in earlier rows."""
        step, numbers = self.trainer.step, self.trainer.numbers()
        self.rows.append({"step": step, **{k: f"{v:.6g}" for k, v in numbers.items()}})
        if self.events is not None:
            for name, value in numbers.items():
                self.events.add_scalar(name, value, step)

    def save_snapshot(self) -> None:
        """Save the generators as a checkpoint of its own, if an epoch of the preset's ended."""
        every, trainer = self.settings.snapshot_every, self.trainer
        if not every:
            return
        previous, epoch = (
            int(step * self.settings.batch / trainer.real_count)
            for step in (trainer.step - 1, trainer.step)
        )
        if epoch // every == previous // every:
            return
        trainer.check(weights=True)
        state = trainer.state()
        kept = {name: state[name] for name in ("step", "average", "initial")}
        kept |= {"noise_sd": state["noise_sd"]} if "noise_sd" in state else {}
        if self.writes:
            path = self.folder / "snapshots" / f"epoch_{epoch // every * every:05d}.pt"
            checkpoint.save(path, {**self.about, **kept})

    def save(self) -> None:
        """Save log and state, unless the weights are not finite."""
        self.trainer.check(weights=True)
        state = self.trainer.state()
        self.saved_at = time.monotonic()
        if self.writes:
            write_text(self.folder / "log.csv", csv_text(self.rows))
            # the state holds the log, too: a lost or edited log.csv is written again
            content = {**self.about, **state, "log": self.rows}
            checkpoint.save(self.folder / checkpoint.IN_PROGRESS, content)

    def stop_diverged(self, error: DivergedError) -> NoReturn:
        """Write the log and end the run with a message."""
        if self.writes:
            write_text(self.folder / "log.csv", csv_text(self.rows))
        state = self.folder / checkpoint.IN_PROGRESS
        kept = f"the last good state is {state}" if state.exists() else "no state was saved"
        self.processes.abort(
            f"{self.folder}: training diverged: {error}; {kept}. Lower the learning rates "
            "(lr_generator, lr_discriminator) in the preset"
        )


def config_text(key: Mapping[str, Any]) -> str:
    """Return config.yaml of a run's key: a preset, and in comments seed and input hashes."""
    settings = {k: v for k, v in key.items() if k not in ("preset", "seed", "inputs")}
    lines = [f"# preset {key['preset']}, seed {key['seed']}, cryoetgan {__version__}"]
    lines += [f"# {kind}: {value}" for kind, value in key["inputs"].items()]
    return "\n".join([*lines, yaml.safe_dump(settings, sort_keys=False)])


def csv_text(rows: list[dict[str, Any]]) -> str:
    """Return rows as CSV, with the columns of all rows."""
    return pd.DataFrame(rows).to_csv(index=False, lineterminator="\n") if rows else ""
