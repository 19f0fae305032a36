"""Structural similarity, power, grey-value spread and pose recovery, with baselines and intervals."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cryoetgan.evaluation.labelled_sets import Labelled
from cryoetgan.evaluation.measurement.record import Result, entry, number
from cryoetgan.evaluation.metrics import ssim
from cryoetgan.evaluation.metrics.pose_recovery import Recovery, Templates, physics_alike, recovered
from cryoetgan.evaluation.metrics.spectra import power_ratio, shell_powers, worst
from cryoetgan.evaluation.statistics.intervals import (
    Z,
    around,
    clustered,
    clusters,
    grouped_variance,
    halves,
    wilson,
)
from cryoetgan.imaging import GOOD_POWER_RATIO
from cryoetgan.io.star import ANGLES

PAIRS = 60
SPECTRA = 400
POSES, REALIGNED = 400, 24
DRAWS = 50
RANGE_SD = 6.0
"""Structural similarity takes six standard deviations of the real set as its grey range."""
SSIM_LEAST = 8
Floats = NDArray[np.floating]
Rows = NDArray[np.int_]


def structure(
    real: Labelled,
    generated: Labelled,
    baselines: Mapping[str, Floats],
    numbers: np.random.Generator,
) -> Result:
    """Return ssim_class and ssim_best.

    The first compares with a real volume of the same class drawn at random, the second
    with the real volume that correlates best. Two real volumes of one class differ in
    pose and noise: compare with the null `real`.
    """
    common = sorted(set(real.names) & set(generated.names))
    if real.volumes.shape[-1] < SSIM_LEAST or len(real.names) < 2:
        return {}
    span = RANGE_SD * float(real.volumes.std())
    # real against real: halves that share no block of space
    first, second = halves(clusters(real.table), numbers)
    a, names = real.volumes[first], real.names[first]
    groups = clusters(real.table)[first]
    candidates = {
        "value": (generated.volumes, generated.names),
        "real": (real.volumes[second], real.names[second]),
        **{name: (volumes, None) for name, volumes in baselines.items()},
    }
    result: Result = {}
    found: dict[str, tuple[Floats, Rows]] = {}
    if set(common) & set(names):
        for key, (volumes, classes) in candidates.items():
            found[key] = _class_paired(a, names, volumes, classes, span, numbers)
        result["ssim_class"] = _mean_entry(found, groups)
    found = {}
    for key, (volumes, _) in candidates.items():
        found[key] = _best(a, volumes, span, numbers)
    result["ssim_best"] = _mean_entry(found, groups)
    return result


def _class_paired(
    real: Floats,
    real_names: NDArray[np.str_],
    volumes: Floats,
    names: NDArray[np.str_] | None,
    span: float,
    numbers: np.random.Generator,
) -> tuple[Floats, Rows]:
    """Return the similarities, and the real volume of each."""
    values, chosen = [], []
    for row in numbers.permutation(len(volumes))[:PAIRS]:
        same = np.arange(len(real)) if names is None else np.flatnonzero(real_names == names[row])
        if len(same):
            chosen.append(int(numbers.choice(same)))
            values.append(ssim(real[chosen[-1]], volumes[row], span))
    return np.array(values), np.array(chosen, int)


def _best(
    real: Floats, volumes: Floats, span: float, numbers: np.random.Generator
) -> tuple[Floats, Rows]:
    """Return the similarities, and the real volume of each."""
    rows = numbers.permutation(len(volumes))[:PAIRS]
    a = real.reshape(len(real), -1)
    a = a - a.mean(axis=1, keepdims=True)
    a /= np.maximum(np.linalg.norm(a, axis=1, keepdims=True), 1e-12)
    b = volumes[rows].reshape(len(rows), -1)
    nearest = (a @ (b - b.mean(axis=1, keepdims=True)).T).argmax(axis=0)
    pairs = zip(nearest, rows, strict=True)
    return np.array([ssim(real[i], volumes[j], span) for i, j in pairs]), nearest


def _mean_entry(
    found: Mapping[str, tuple[Floats, Rows]], groups: NDArray[np.str_]
) -> dict[str, Any]:
    """Return a mean; similarities with real volumes of one group (`groups`) go together."""
    values, rows = found["value"]
    means = {
        name: v.mean() if len(v) else np.nan for name, (v, _) in found.items() if name != "value"
    }
    if not len(values):
        return entry(np.nan, None, means)
    mean = float(values.mean())
    alone = len(np.unique(groups[rows])) < 2 <= len(values)  # how it varies cannot be seen
    half = np.nan if alone else Z * np.sqrt(grouped_variance(values, groups[rows]))
    return entry(mean, (mean - half, mean + half), means)


def cycle(originals: Floats, cycled: Floats, numbers: np.random.Generator) -> Result:
    """Return ssim_cycle: of volumes with what comes back from a translation there and back.

    Parameters
    ----------
    originals, cycled : ndarray
        `(N, z, y, x)`, row by row.
    numbers : numpy.random.Generator
        For the pairs of the baselines.
    """
    rows = numbers.permutation(len(originals))[: 2 * PAIRS]
    span = RANGE_SD * float(originals.std())
    others = np.roll(rows, 1)
    noise = numbers.normal(originals.mean(), originals.std(), originals.shape[1:])
    constant = np.full(originals.shape[1:], originals.mean())
    found = {
        "value": [ssim(originals[i], cycled[i], span) for i in rows],
        "other": [
            ssim(originals[i], originals[j], span) for i, j in zip(rows, others, strict=True)
        ],
        "constant": [ssim(originals[i], constant, span) for i in rows],
        "noise": [ssim(originals[i], noise, span) for i in rows],
    }
    of = {name: (np.array(values), np.arange(len(rows))) for name, values in found.items()}
    return {"ssim_cycle": _mean_entry(of, np.arange(len(rows)).astype(str))}


def spectra(
    real: Labelled,
    generated: Labelled,
    baselines: Mapping[str, Floats],
    tilts: tuple[float, float] | None,
    numbers: np.random.Generator,
) -> Result:
    """Return power_ratio and sd_ratio; 1 is right in both.

    power_ratio is the ratio of the worst shell inside the tilt range; `shells` holds all
    of them, `outside` and `outside_shells` those beyond the range (the missing wedge).
    """
    a, b = _some(real, numbers), _some(generated, numbers)
    result: Result = {}
    found: dict[bool, Any] = {}
    for inside in (True, False) if tilts is not None else (True,):
        p, q = (shell_powers(s.volumes, tilts, inside) for s in (a, b))
        found[inside] = p, q, power_ratio(p.mean(axis=0), q.mean(axis=0))
    p, q, ratio = found[True]
    groups = clusters(a.table), clusters(b.table)
    log_ratios, floors = [], []
    for _ in range(DRAWS):
        first, second = halves(groups[0], numbers)
        made = halves(groups[1], numbers)[0]
        log_ratios.append(np.log(power_ratio(p[first].mean(axis=0), q[made].mean(axis=0))))
        floors.append(worst(power_ratio(p[first].mean(axis=0), p[second].mean(axis=0))))
    value = worst(ratio)
    at = int(np.argmin(np.abs(ratio - value)))
    low, high = around(np.log(value), [float(row[at]) for row in log_ratios])
    warning = ""
    if not GOOD_POWER_RATIO[0] <= value <= GOOD_POWER_RATIO[1]:
        warning = f"shell {at + 1} has {value:.3g} times the real power"
    others = {
        name: worst(power_ratio(p.mean(axis=0), shell_powers(v[:100], tilts).mean(axis=0)))
        for name, v in baselines.items()
    }
    more: dict[str, Any] = {"shells": _plain(ratio)}
    if False in found:
        outside = found[False][2]
        more |= {"outside": number(worst(outside)), "outside_shells": _plain(outside)}
    result["power_ratio"] = entry(
        value,
        (float(np.exp(low)), float(np.exp(high))),
        {"real_half": float(np.exp(np.median(np.abs(np.log(floors))))), **others},
        warning,
        **more,
    )
    result["sd_ratio"] = _sd(real, generated, baselines, numbers)
    return result


def _plain(values: Floats) -> list[float | None]:
    return [float(v) if np.isfinite(v) else None for v in values]


def _some(volumes: Labelled, numbers: np.random.Generator) -> Labelled:
    return volumes.rows(np.sort(numbers.permutation(len(volumes.names))[:SPECTRA]))


def _sd(
    real: Labelled,
    generated: Labelled,
    baselines: Mapping[str, Floats],
    numbers: np.random.Generator,
) -> dict[str, Any]:
    a, b = _moments(real.volumes), _moments(generated.volumes)
    groups = clusters(real.table), clusters(generated.table)
    values, floors = [], []
    for _ in range(DRAWS):
        first, second = halves(groups[0], numbers)
        values.append(_spread(b[halves(groups[1], numbers)[0]]) / _spread(a[first]))
        floors.append(_spread(a[second]) / _spread(a[first]))
    value = _spread(b) / _spread(a)
    warning = ""
    if not GOOD_POWER_RATIO[0] <= value <= GOOD_POWER_RATIO[1]:
        warning = f"grey values spread {value:.3g} times as wide as the real ones"
    return entry(
        value,
        around(value, values),
        {
            "real_half": float(np.exp(np.median(np.abs(np.log(floors))))),
            **{name: _spread(_moments(v)) / _spread(a) for name, v in baselines.items()},
        },
        warning,
    )


def _moments(volumes: Floats) -> Floats:
    """Return mean and mean square of each volume, `(N, 2)`."""
    return np.array([[v.mean(), np.square(v).mean()] for v in map(np.float64, volumes)])


def _spread(moments: Floats) -> float:
    mean, square = moments.mean(axis=0)
    return float(np.sqrt(max(square - mean**2, 0.0)))


def poses(
    real: Labelled,
    generated: Labelled,
    maps: Mapping[str, Floats],
    tilts: tuple[float, float],
    voxel_size: float,
    numbers: np.random.Generator,
    realign: bool = True,
) -> dict[str, Any]:
    """Return pose_recovery, beside plain physics at the same signal-to-noise ratio.

    `rotation_error` (degrees) and `shift_error` (angstrom) are medians after realignment
    near the known pose, of generated volumes, physics, noise (and real crops, where their
    angles are known); without `realign` they are left out.
    """
    templates = Templates(maps, tilts)
    chosen = _posed(generated, maps, numbers)
    made = [templates.spectrum(volume) for volume in chosen.volumes]
    shape = chosen.volumes.shape[1:]
    noise = (numbers.standard_normal(shape) for _ in made)
    tried = {
        "value": (made, chosen.table),
        "physics": (
            list(physics_alike(made, chosen.table, templates, voxel_size, numbers)),
            chosen.table,
        ),
        "noise": ([templates.spectrum(volume) for volume in noise], chosen.table),
    }
    if set(ANGLES) <= set(real.table) and set(real.names) & set(maps):
        crops = _posed(real, maps, numbers)
        tried["real"] = ([templates.spectrum(v) for v in crops.volumes], crops.table)
    found: dict[str, Recovery] = {
        name: recovered(volumes, table, templates, voxel_size, REALIGNED if realign else 0)
        for name, (volumes, table) in tried.items()
    }
    right = found["value"].right
    value, chance = float(right.mean()), 1 / len(maps)
    baselines = {name: float(f.right.mean()) for name, f in found.items() if name != "value"}
    warning = ""
    if len(maps) < 2:
        warning = "one map alone is always the best: it tells nothing; give --map of each class"
    elif clustered(right, clusters(chosen.table))[0] <= chance:
        warning = "no better than chance: the generated volumes do not show their own particle"
    elif value < wilson(baselines["physics"] * len(right), len(right))[0]:
        warning = (
            f"physics at the same signal-to-noise ratio keeps {baselines['physics']:.0%} of the "
            "classes: the translation alters its particles"
        )
    errors = {"rotation_error": "angle", "shift_error": "shift"} if realign else {}
    return entry(
        value,
        clustered(right, clusters(chosen.table)),
        {"chance": chance, **baselines},
        warning,
        **{key: _medians(found, what) for key, what in errors.items()},
    )


def _posed(volumes: Labelled, maps: Mapping[str, Floats], numbers: np.random.Generator) -> Labelled:
    rows = np.flatnonzero(np.isin(volumes.names, list(maps)))
    return volumes.rows(numbers.permutation(rows)[:POSES])


def _medians(found: Mapping[str, Recovery], what: str) -> dict[str, float]:
    return {
        "generated" if name == "value" else name: float(np.nanmedian(getattr(recovery, what)))
        for name, recovery in found.items()
    }
