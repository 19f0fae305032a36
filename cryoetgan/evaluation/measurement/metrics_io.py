"""Inputs of the metrics, which metrics they allow, and the record of a metric."""

import logging
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cryoetgan.errors import UserError, suggest
from cryoetgan.evaluation.classifiers.classifier import Classifier
from cryoetgan.evaluation.labelled_sets import LabelledSet
from cryoetgan.io.mrc import check_same_voxel_size, read_map
from cryoetgan.io.star import ANGLES, paths_by_class
from cryoetgan.io.volume_set import VolumeSet, read_volume_set

log = logging.getLogger("cryoetgan")
FEATURES = ("is", "fid", "kid", "precision", "recall", "density", "coverage")
SIMILARITY, SPECTRUM = ("ssim_class", "ssim_best"), ("power_ratio", "sd_ratio")
METRICS = (*FEATURES, *SIMILARITY, "ssim_cycle", *SPECTRUM, "pose_recovery", "c2st_auc")
Floats = NDArray[np.floating]
MetricRecords = dict[str, dict[str, Any]]
"""Metric to its record."""


@dataclass(frozen=True)
class MetricInputs:
    """Inputs of the metrics; a metric is computed if its inputs are given."""

    real: LabelledSet
    generated: LabelledSet
    voxel_size: float  # angstrom
    classifier: Classifier | None = None  # trained on real volumes that are not in `real`
    layer: str | None = None  # layer of the features; None: the network's own
    maps: Mapping[str, Floats] = field(default_factory=dict)  # class to density (n, n, n)
    tilts: tuple[float, float] | None = None  # degrees about y; None: the real set's own
    cycle: tuple[Floats, Floats] | None = None  # volumes (N, z, y, x), and translated twice

    @property
    def tilt_range(self) -> tuple[float, float] | None:
        """Lowest and highest tilt, degrees; None if unknown."""
        return self.tilts or self.real.tilts

    def missing(self) -> dict[str, str]:
        """Return, for each metric that cannot be computed, the input that it needs."""
        found: dict[str, str] = {}
        if self.classifier is None:
            found |= dict.fromkeys(FEATURES, "--features, of `evaluation classify --checkpoint`")
        if self.cycle is None:
            found["ssim_cycle"] = "--cycle, volumes translated there and back"
        if not self.maps:
            found["pose_recovery"] = "--map of each class"
        elif not set(self.generated.names) & set(self.maps):
            found["pose_recovery"] = "a map that is named like a generated class"
        elif not set(ANGLES) <= set(self.generated.table):
            found["pose_recovery"] = f"the generated set's poses ({', '.join(ANGLES)})"
        elif self.tilt_range is None:
            found["pose_recovery"] = "--tilts, because the real set has no tilt range"
        return found

    def check(self, metrics: Collection[str] | None) -> None:
        """Raise `UserError` if a named metric is unknown or lacks an input, or a set is too small."""
        for name, volumes in (("real", self.real), ("generated", self.generated)):
            if len(volumes) < 2:
                raise UserError(
                    f"the {name} set has {len(volumes)} volume; metrics need at least two: "
                    "name a set with more, or another --real-split"
                )
        missing = self.missing()
        for name in metrics or ():
            if name not in METRICS:
                hint = suggest(name, METRICS)
                raise UserError(
                    f"--metric: got '{name}'{hint}, wanted some of {', '.join(METRICS)}"
                )
            if name in missing:
                raise UserError(f"--metric {name}: needs {missing[name]}")
        if self.maps and metrics is None and "pose_recovery" in missing:
            log.warning("no pose recovery: it needs %s", missing["pose_recovery"])


def read_class_maps(paths: Sequence[Path], real: VolumeSet) -> dict[str, Floats]:
    """Read density maps, class (the stem of a file) to density `(n, n, n)`, with the set's box."""
    maps = {}
    for name, path in paths_by_class(paths).items():
        volume = read_map(path)
        check_same_voxel_size(real.voxel_size, volume.voxel_size, real.path, path)
        if set(volume.data.shape) != {real.box}:
            raise UserError(
                f"{path}: has shape {volume.data.shape}, but boxes are of {real.box} voxels; "
                "make the map with that --box"
            )
        maps[name] = volume.data
    return maps


def read_cycle(path: Path, real: VolumeSet, densities: Path | None) -> tuple[Floats, Floats]:
    """Return originals and their translations there and back, `(N, z, y, x)`, row by row.

    The originals are `densities` if the set holds densities, otherwise `real`. Rows are matched
    by cryoetganId (crops), otherwise by class and angles (densities).
    """
    cycled, originals = read_volume_set(path, ["cryoetganSource"]), real
    if (cycled.table["cryoetganSource"] == "density").all():
        if densities is None:
            raise UserError(f"{path}: holds densities; name the original set by --densities")
        originals = read_volume_set(densities)
    keys, rows = _keys(cycled.table), {key: i for i, key in enumerate(_keys(originals.table))}
    missing = [key for key in keys if key not in rows]
    if missing:
        raise UserError(
            f"{cycled.path}: {len(missing)} of {len(cycled)} volumes have no row in "
            f"{originals.path}; name the set that was translated"
        )
    return np.asarray(originals.volumes)[[rows[key] for key in keys]], np.asarray(cycled.volumes)


def _keys(table: Any) -> list[tuple[Any, ...]]:
    columns = [name for name in ("cryoetganClass", *ANGLES) if name in table]
    if "cryoetganId" in table and table["cryoetganId"].notna().all():
        columns = ["cryoetganId"]
    return list(table[columns].round(3).itertuples(index=False, name=None))


def metric_record(
    value: float,
    interval: tuple[float, float] | None,
    baselines: Mapping[str, float],
    warning: str = "",
    **extra: Any,
) -> dict[str, Any]:
    """Return the record of one metric; numbers that are not finite become None (JSON null).

    The interval is the 95 % confidence interval. The baselines are the same metric of reference
    sets: half of the real set, a constant volume, noise. The warning is the reason why the value
    is unreliable.
    """
    known = interval is not None and np.isfinite(interval).all()
    return {
        "value": finite_or_none(value),
        "interval": [float(side) for side in interval] if interval and known else None,
        "baselines": {name: finite_or_none(value) for name, value in baselines.items()},
        "warning": warning or None,
        **extra,
    }


def finite_or_none(value: float) -> float | None:
    """Return a plain float, or None if it is not finite: JSON has no NaN."""
    return float(value) if np.isfinite(value) else None
