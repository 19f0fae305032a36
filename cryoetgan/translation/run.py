"""A training run: volume sets in, a folder with checkpoint, log and config out."""

import csv
import logging
import os
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml

from cryoetgan.errors import UserError
from cryoetgan.files import sha256, write_text
from cryoetgan.progress import track
from cryoetgan.seeds import integer
from cryoetgan.translation import checkpoint
from cryoetgan.translation.scaling import Scaler, fit_density, fit_subtomogram
from cryoetgan.translation.settings import Settings
from cryoetgan.translation.training import DivergedError, Trainer, scalers_to_dict
from cryoetgan.volumes import VolumeSet, same_voxel_size, stack_of

log = logging.getLogger("cryoetgan")
LOG_ROWS = 200
SAVE_EVERY_S = 60.0
SAVE_EVERY_STEPS = int(os.environ.get("CRYOETGAN_SAVE_EVERY_STEPS", "0"))
"""For tests: save after so many steps, whatever the clock says."""


def training_rows(volumes: VolumeSet) -> np.ndarray:
    """Return indices of the rows to train on: split train, or all where none is named."""
    if "cryoetganSplit" not in volumes.table:
        return np.arange(len(volumes))
    split = volumes.table["cryoetganSplit"].astype(str)
    if not split.isin(["train", "validation", "test"]).any():
        return np.arange(len(volumes))
    rows = np.flatnonzero(split == "train")
    if not len(rows):
        raise UserError(
            f"{volumes.path}: no row has cryoetganSplit train; what is to be learnt from?"
        )
    return rows


def to_tensor(volumes: VolumeSet, rows: np.ndarray) -> torch.Tensor:
    """Return `(N, 1, z, y, x)` float32 of the chosen rows; refuses what is not finite."""
    data = torch.from_numpy(np.ascontiguousarray(volumes.volumes[rows], np.float32))[:, None]
    if not torch.isfinite(data).all():
        raise UserError(f"{volumes.path}: holds voxels that are not finite numbers")
    return data


def check_sets(densities: VolumeSet, subtomograms: VolumeSet) -> None:
    """Raise a `UserError` where the two domains do not fit each other."""
    same_voxel_size(
        densities.voxel_size, subtomograms.voxel_size, densities.path, subtomograms.path
    )
    if densities.box != subtomograms.box:
        raise UserError(
            f"{densities.path} has boxes of {densities.box} voxels, {subtomograms.path} of "
            f"{subtomograms.box}; set densities.box once and make both again"
        )
    if densities.box % 4:
        raise UserError(
            f"{densities.path}: boxes of {densities.box} voxels; wanted a multiple of 4"
        )


def train(
    densities: VolumeSet,
    subtomograms: VolumeSet,
    settings: Settings,
    folder: Path,
    device: torch.device,
    seed: int,
    name: str,
) -> None:
    """Train, or go on training, and leave `checkpoint.pt`, `log.csv` and `config.yaml`.

    While it runs, the state lies in `training.pt`: killed at any moment, the next call
    goes on from it, on a CPU to the same bits.

    Raises
    ------
    UserError
        Where the sets do not fit, a finished run of other settings is in the way, or a
        loss stops being a number.
    """
    check_sets(densities, subtomograms)
    hashes = {
        kind: sha256(stack_of(volumes.path))
        for kind, volumes in (("densities", densities), ("subtomograms", subtomograms))
    }
    key = checkpoint.as_key(settings, seed, hashes)
    found = checkpoint.find_start(folder, key)
    if found and found["step"] >= settings.steps and (folder / checkpoint.NAME).exists():
        log.info("%s: is trained already (%d steps)", folder, found["step"])
        return
    if found and found["step"] == settings.steps:
        log.info("%s: was trained to the end; only its checkpoint was gone", folder)
        checkpoint.finish(folder)
        return
    d, s = (to_tensor(v, training_rows(v)) for v in (densities, subtomograms))
    scale_d, scale_s = fit_density(d), fit_subtomogram(s, settings.scale_clip)
    trainer = Trainer(
        settings,
        scale_d.forward(d).to(device),
        scale_s.forward(s).to(device),
        device,
        integer(seed, "translation", name) % 2**31,
    )
    if trainer.networks["D_s"].smallest_box() > densities.box:
        raise UserError(
            f"boxes of {densities.box} voxels are too small for this discriminator; wanted "
            f"{trainer.networks['D_s'].smallest_box()} or more (densities.box)"
        )
    if found:
        trainer.load(found)
        log.info("%s: goes on from step %d", folder, trainer.step)
    log.info("%d densities, %d subtomograms, preset %s, %s", len(d), len(s), name, device)
    about = {
        "preset": name,
        "settings": {k: v for k, v in key.items() if k not in ("seed", "inputs")},
        "key": {"seed": seed, "inputs": hashes},
        "scalers": scalers_to_dict(scale_d, scale_s),
        "voxel_size": subtomograms.voxel_size,
        "box": subtomograms.box,
        "optics": _plain_rows(subtomograms.optics),
    }
    _Run(trainer, settings, folder, about, (scale_d, scale_s)).go()


class _Run:
    """Logs, saves and reports while a trainer works."""

    def __init__(
        self,
        trainer: Trainer,
        settings: Settings,
        folder: Path,
        about: Mapping[str, Any],
        scalers: tuple[Scaler, Scaler],
    ) -> None:
        self.trainer, self.settings, self.folder, self.about = trainer, settings, folder, about
        self.every = max(1, settings.steps // LOG_ROWS)
        self.saved = time.monotonic()
        self.rows = _earlier_rows(folder / "log.csv", trainer.step)
        folder.mkdir(parents=True, exist_ok=True)
        plain = yaml.safe_dump({"preset": about["preset"], **about["settings"]}, sort_keys=False)
        write_text(folder / "config.yaml", plain)

    def go(self) -> None:
        steps = self.settings.steps
        bar = track(range(self.trainer.step, steps), "training", steps - self.trainer.step)
        next(bar, None)
        try:
            self.trainer.run(steps, lambda: self._after_step(bar))
        except DivergedError as error:
            good = self.folder / checkpoint.IN_PROGRESS
            kept = f"the last good state is {good}" if good.exists() else "no state was saved yet"
            raise UserError(
                f"{self.folder}: training diverged: {error}; {kept}; lower the learning rates "
                "(lr_generator, lr_critic) in the preset"
            ) from error
        self._save()
        checkpoint.finish(self.folder)

    def _after_step(self, bar: Any) -> None:
        step, now = self.trainer.step, time.monotonic()
        next(bar, None)
        if step % self.every == 0 or step == self.settings.steps:
            self.rows.append(
                {"step": step, **{k: f"{v:.6g}" for k, v in self.trainer.last.items()}}
            )
        due = step % SAVE_EVERY_STEPS == 0 if SAVE_EVERY_STEPS else now - self.saved > SAVE_EVERY_S
        if due and step < self.settings.steps:
            self._save()

    def _save(self) -> None:
        # the log first: a state never knows of rows that are not on disk
        text = _csv(self.rows)
        write_text(self.folder / "log.csv", text)
        checkpoint.save(
            self.folder / checkpoint.IN_PROGRESS, {**self.about, **self.trainer.state()}
        )
        self.saved = time.monotonic()


def _earlier_rows(path: Path, step: int) -> list[dict[str, Any]]:
    if step == 0 or not path.exists():
        return []
    with open(path, newline="") as file:
        return [row for row in csv.DictReader(file) if int(row["step"]) <= step]


def _csv(rows: list[dict[str, Any]]) -> str:
    import io

    out = io.StringIO()
    if rows:
        writer = csv.DictWriter(out, list(rows[0]), lineterminator="\n", restval="")
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
    return settings if steps is None else replace(settings, steps=steps)
