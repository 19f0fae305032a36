"""The ladder from the paper's CycleGAN to one that learns, with set 2 of the test data.

    CRYOETGAN_TEST_DATA=... python benchmarks/ladder.py [--folder F] [--rungs NAME ...]
        [--seeds 0 1 2] [--minutes 20] [--test 2] [--count 200] [--measured 200] [--quick]
        [--stop HH:MM] [--table] [--ensemble]

Each rung changes one group of settings of the rung before it. Domain S is dev_set2_1's own picks, without
labels; domain D the densities in random poses; no imaging model is used. Every rung trains for the
same CPU time of one thread (`--minutes`), then densities in other poses, `--measured` of each
class, are translated and measured on the true crops of dev_set2_2 (for decisions) or dev_set2_3 (to
report). An interrupted run resumes. `ladder.md`, `ladder.json` and a picture of each rung are
written to the folder: the same particles in the same poses, real, by fitted physics, and by the
rung. With `--ensemble`, the spread of G_sd's output over the seeds of the last rung is compared with
its error on the true crops, and with the error that simulated crops predict.
"""

import argparse
import json
import os
import resource
import time
from pathlib import Path

import numpy as np
import pandas as pd
import yaml
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from scipy import stats
from set2 import BOX, MAPS, VOXEL, Set2

from cryoetgan.densities.poses import Poser
from cryoetgan.io.mrc import read_map
from cryoetgan.io.star import ANGLES, ORIGINS
from cryoetgan.io.volume_set import read_volume_set, write_volume_set
from cryoetgan.physics.geometry import centre_distance, rotation_from_relion
from cryoetgan.physics.optics import fourier_shells, missing_wedge
from cryoetgan.translation.presets import read_preset

NARROW = {
    "widths": [8, 16, 32], "blocks": 3, "discriminator_widths": [16, 32, 64], "epochs": 0.0,
    "steps": 10_000,
}  # fmt: skip
"""A quarter of the paper's width, for 10,000 steps on one core."""
RUNGS = {
    "paper": ({}, "as printed, at a quarter of the width"),
    "no_norm": (
        {"discriminator_norm": "none"},
        "instance norm hides contrast and noise level from the discriminator",
    ),
    "hinge": (
        {"objective": "hinge", "clip": 0.0},
        "a mean score has no bound; a hinge stops at a margin",
    ),
    "adam": (
        {
            "optimiser": "adam", "betas": [0.5, 0.99], "lr_generator": 2e-3,
            "lr_discriminator": 1e-3, "ema": 0.99, "batch": 4, "replay_pool": 0, "dropout": 0.0,
        },
        "larger batches, Adam with two rates, an averaged generator",
    ),
    "small_field": (
        {"discriminator_kernel": 3, "discriminator_widths": [16, 32]},
        "sees 15 voxels instead of 46: texture, hardly class or pose",
    ),
    "noise": (
        {
            "noise_at": "last", "noise_generators": "ds", "input_noise": 0.0, "output": "linear",
            "scaling": "sd",
        },
        "noise at full resolution, before the last layer; nothing is cut",
    ),
    "resize": ({"upsampling": "resize"}, "no grid of transposed convolutions"),
    "cycle": (
        {"cycle_lowpass": 1.5, "cycle_weight": 2.0},
        "an exact cycle of S asks for its noise",
    ),
    "cosine": (
        {"identity_kind": "cosine", "identity_weight": 2.0, "identity_lowpass": 1.5},
        "keeps the particle in its place",
    ),
    "filters": (
        {"generator": "filters", "widths": [8, 8, 8], "blocks": 0},
        "learned filters of density and noise, then a correction that starts at zero",
    ),
    "spectrum": ({"spectrum_weight": 0.3}, "mean log power spectrum, by radius and angle"),
    "neighbours": ({"neighbours": 4.0}, "real boxes hold parts of four neighbours"),
}  # fmt: skip
"""Rung to its changes and their reason."""
QUARTER = {
    "widths": [16, 32, 32], "blocks": 3, "noise_channels": 32,
    "discriminator_widths": [16, 32, 64, 128],
}  # fmt: skip
PRESETS = {
    "paper_whole": ("paper", {}),
    "released_quarter": ("released", QUARTER),
    "released_whole": ("released", {}),
}
"""Not rungs: name to the preset and its changes; the whole ones have their full width."""
METRICS = ("kid", "c2st_auc", "pose_recovery", "power_ratio", "sd_ratio", "recall", "density")
LOGGED = ("noise_ratio", "signal_cosine_distance", "cycle_hidden", "centre_shift")
CHUNK_SECONDS = 120.0
"""CPU time between two states of a training."""
FIRST_RATE = {"resnet": 1.8, "filters": 0.3}
"""CPU seconds a step by generator, before any is measured."""


def cpu_seconds():
    """Return the CPU time of all finished commands."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def write_preset(work, rung):
    """Write the preset of a rung, with all changes up to it; or one of `PRESETS`."""
    if rung in PRESETS:
        preset, changes = PRESETS[rung]
        settings = read_preset(preset).replace(epochs=0.0, steps=10_000, **changes)
    else:
        settings, names = read_preset("paper").replace(**NARROW), list(RUNGS)
        for name in names[: names.index(rung) + 1]:
            settings = settings.replace(**RUNGS[name][0])
    path = work.folder / f"{rung}.yaml"
    path.write_text(yaml.safe_dump(settings.plain(), sort_keys=False))
    return path


def train(work, rung, preset, seed, seconds, stop):
    """Train until the CPU time is used; return steps and seconds, or None at `stop`."""
    folder = work.folder / f"{rung}_{seed}"
    folder.mkdir(exist_ok=True)
    clock = folder / "time.json"
    done = json.loads(clock.read_text()) if clock.exists() else {"steps": 0, "seconds": 0.0}
    while done["seconds"] < seconds:
        if time.strftime("%H:%M") >= stop:
            return None
        first = FIRST_RATE[read_preset(str(work.folder / preset)).generator]
        rate = done["seconds"] / done["steps"] if done["steps"] else first
        left = min(CHUNK_SECONDS, seconds - done["seconds"] + rate)
        steps = done["steps"] + max(20, int(left / rate) // 20 * 20)
        before = cpu_seconds()
        # what an earlier state made
        made = work.folder.glob(f"*_{rung}_{seed}.star")
        for old in (folder / "checkpoint.pt", *folder.glob("*_[23].json"), *made):
            old.unlink(missing_ok=True)
        work.run(
            f"{rung}_{seed}/checkpoint.pt", "translation", "train", "--densities", "poses.star",
            "--subtomograms", "own.star", "--preset", preset, "--seed", seed, "--steps", steps,
        )  # fmt: skip
        done = {"steps": steps, "seconds": done["seconds"] + cpu_seconds() - before}
        clock.write_text(json.dumps(done))
    return done


def measure(work, name, made, test, quick):
    """Return the figures of a set of volumes on the true crops of tomogram `test`."""
    pair = ("--train", "real1.star", "--test")
    work.run(f"{name}/test_{test}.json", "evaluation", "classify", *pair, made,
             "--reuse", "features.pt")  # fmt: skip
    if not quick:
        work.run(f"{name}/train_{test}.json", "evaluation", "classify", "--train", made,
                 "--test", f"real{test}.star")  # fmt: skip
    maps = [word for path in work.maps for word in ("--map", path)]
    metrics = [word for metric in METRICS for word in ("--metric", metric)]
    work.run(f"{name}/measure_{test}.json", "evaluation", "measure", "--real", f"real{test}.star",
             "--generated", made, "--features", "features.pt", *maps, *metrics)  # fmt: skip
    classified = {"gan_test": f"test_{test}"} | ({} if quick else {"gan_train": f"train_{test}"})
    files = classified | {"m": f"measure_{test}"}
    read = {k: json.loads((work.folder / name / f"{v}.json").read_text()) for k, v in files.items()}
    found = {k: read[k]["accuracy"] for k in classified}
    found |= {key: read["m"][key]["value"] for key in METRICS}
    physics = read["m"]["pose_recovery"]["baselines"]["physics"]
    return found | {"pose_over_physics": found["pose_recovery"] / physics}


def pose_maps(work, table):
    """Return the densities `(N, z, y, x)` of a table's rows, in their poses."""
    posers = {name: Poser(read_map(work.folder / f"maps/{name}.mrc").data) for name in MAPS}
    return np.stack([
        posers[row["cryoetganClass"]](
            rotation_from_relion(row[ANGLES].to_numpy(float)),
            -row[ORIGINS].to_numpy(float) / VOXEL,
        )
        for _, row in table.iterrows()
    ])  # fmt: skip


def write_twins(work, test):
    """Write densities in the poses of true crops, one of each class; return the crops' rows."""
    real = read_volume_set(work.folder / f"real{test}.star")
    rows = real.table.groupby("cryoetganClass", sort=True).head(3).groupby("cryoetganClass").tail(1)
    rows = rows.sort_values("cryoetganClass")
    if not (work.folder / f"twins{test}.star").exists():
        table = rows[["cryoetganClass", *ANGLES, *ORIGINS]].reset_index(drop=True)
        table["cryoetganSource"] = "density"
        write_volume_set(work.folder / f"twins{test}.star", pose_maps(work, table), table, VOXEL)
    physics = f"twins{test}_physics.star"
    work.run(physics, "imaging", "simulate", f"twins{test}.star", "--model", "M.json")
    return np.asarray(real.volumes[rows.index.to_numpy()])


def way_back(work, made, test):
    """Return the mean correlation of G_sd's output with the true density, and the Wiener filter's.

    Over the central ball, on the true crops of tomogram `test`. The Wiener filter, one value for
    each shell inside and outside the wedge, is that of fitted physics: cov(d, s) / var(s).
    """
    names = (f"real{test}", made, "measured", "fitted")
    real, back, densities, fitted = (read_volume_set(work.folder / f"{n}.star") for n in names)
    d, s, r = (np.fft.rfftn(v.volumes, axes=(1, 2, 3)) for v in (densities, fitted, real))
    groups = fourier_shells(BOX) + 100 * missing_wedge((BOX,) * 3, (-60, 60))
    cross, power = (d * s.conj()).real.mean(axis=0), (abs(s) ** 2).mean(axis=0)
    gain = np.zeros(groups.shape)
    for group in np.unique(groups):
        gain[groups == group] = cross[groups == group].sum() / power[groups == group].sum()
    wiener = np.fft.irfftn(r * gain, s=(BOX,) * 3, axes=(1, 2, 3))
    ball = centre_distance(BOX) < 0.4 * BOX
    truth = pose_maps(work, real.table)[:, ball]
    return {
        name: float(
            np.mean([np.corrcoef(a, b)[0, 1] for a, b in zip(v[:, ball], truth, strict=True)])
        )
        for name, v in (("density_cc", np.asarray(back.volumes)), ("wiener_cc", wiener))
    }


def outputs(work, name, seeds, truth):
    """Return the mean of G_sd's outputs, their spread and the absolute error, `(N, V)` each.

    Voxels of the central ball; the mean is scaled to the truth by one number.
    """
    ball = centre_distance(BOX) <= 0.3 * BOX
    made = [read_volume_set(work.folder / f"{name}_{seed}.star").volumes for seed in seeds]
    made, truth = np.stack([np.asarray(v)[:, ball] for v in made]), truth[:, ball]
    mean = made.mean(axis=0)
    scale = (mean * truth).sum() / (mean**2).sum()
    return scale * mean, scale * made.std(axis=0, ddof=1), abs(scale * mean - truth)


def rms_by(value, error, edges):
    """Return the root mean square of the errors whose value lies in each interval."""
    at = np.digitize(value, edges)
    return np.array([np.sqrt(np.mean(error[at == i] ** 2)) for i in range(len(edges) + 1)])


def ensemble(work, seeds, test):
    """Print what the spread over trainings says of G_sd's error on true crops."""
    last = list(RUNGS)[-1]
    for seed in seeds:
        work.run(f"simulated_{last}_{seed}.star", "translation", "translate",
                 f"{last}_{seed}/checkpoint.pt", "fitted.star", "--seed", seed,
                 "--direction", "sd")  # fmt: skip
    truth = pose_maps(work, read_volume_set(work.folder / f"real{test}.star").table)
    densities = np.asarray(read_volume_set(work.folder / "measured.star").volumes)
    mean, spread, error = outputs(work, f"back_{last}", seeds, truth)
    seen = outputs(work, f"simulated_{last}", seeds, densities)
    rho = np.array(stats.spearmanr(np.stack([spread, abs(mean), error]).reshape(3, -1), axis=1)[0])
    rest = (rho[0, 2] - rho[0, 1] * rho[1, 2]) / np.sqrt(
        (1 - rho[0, 1] ** 2) * (1 - rho[1, 2] ** 2)
    )
    print(f"{len(seeds)} trainings, rank correlation with the error: spread {rho[0, 2]:.2f}, mean "
          f"output {rho[1, 2]:.2f}, spread if the output is accounted for {rest:.2f}")  # fmt: skip
    size = np.sqrt(np.mean(spread**2) / np.mean(error**2))
    print(f"spread over error, root mean squares: {size:.2f}")
    edges = np.quantile(mean, np.linspace(0, 1, 11)[1:-1])
    ratios = rms_by(mean, error, edges) / rms_by(seen[0], seen[2], edges)
    print(f"error over that of simulated crops with the same output: {ratios.round(2)}")


def draw(work, lines, path):
    """Draw central slices, a line a set: title to volumes `(N, z, y, x)`."""
    names = sorted(MAPS)
    figure = Figure(figsize=(1.3 * len(names), 1.35 * len(lines)), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(len(lines), len(names), squeeze=False)
    for index, (line, (title, volumes)) in enumerate(zip(panels, lines.items(), strict=True)):
        for panel, volume, name in zip(line, volumes, names, strict=True):
            scaled = (volume - volume.mean()) / max(volume.std(), 1e-9)
            panel.imshow(scaled[len(scaled) // 2], cmap="gray", vmin=-2.5, vmax=2.5)
            panel.set(xticks=[], yticks=[])
            if index == 0:
                panel.set_title(name.split("_")[0], size=8)
        line[0].set_ylabel(title, size=8)
    figure.savefig(path, dpi=110)


def run(work, rung, seed, given, real):
    """Train, translate, measure and draw one rung with one seed; or measure fitted physics."""
    if rung == "physics":
        (work.folder / rung).mkdir(exist_ok=True)
        made = work.run("fitted.star", "imaging", "simulate", "measured.star", "--model", "M.json")
        found = measure(work, rung, made, given.test, given.quick)
        (work.folder / rung / f"result_{given.test}.json").write_text(json.dumps(found, indent=1))
        return
    name, preset = f"{rung}_{seed}", write_preset(work, rung)
    done = train(work, rung, preset.name, seed, 60 * given.minutes, given.stop)
    if done is None:
        return
    result = work.folder / name / f"result_{given.test}.json"
    old = json.loads(result.read_text()) if result.exists() else {"steps": 0}
    if old["steps"] == done["steps"] and (given.quick or "gan_train" in old):
        return
    crops = f"real{given.test}"
    for source, made, way in (
        (f"twins{given.test}", f"twins{given.test}", "ds"),
        ("measured", "made", "ds"),
        (crops, "back", "sd"),
    ):
        work.run(f"{made}_{name}.star", "translation", "translate", f"{name}/checkpoint.pt",
                 f"{source}.star", "--seed", seed, "--direction", way)  # fmt: skip
    draw_rungs(work, [name], real, given.test, work.folder / f"{name}.png")
    found = done | measure(work, name, f"made_{name}.star", given.test, given.quick)
    work.run("fitted.star", "imaging", "simulate", "measured.star", "--model", "M.json")
    found |= way_back(work, f"back_{name}", given.test)
    log = pd.read_csv(work.folder / name / "log.csv")
    last = log.tail(max(1, len(log) // 5))
    found |= {key: float(last[key].mean()) for key in LOGGED if key in log}
    result.write_text(json.dumps(found, indent=1))
    print(name, json.dumps(found), flush=True)


def draw_rungs(work, names, real, test, path):
    """Draw real crops, fitted physics and rungs."""
    lines = {"real": real} | {
        name.removesuffix("_0"): np.asarray(
            read_volume_set(work.folder / f"twins{test}_{name}.star").volumes
        )
        for name in ("physics", *names)
    }
    draw(work, lines, path)


def write_table(work, test, real):
    """Write ladder.json and ladder.md, from the results so far; draw all rungs with seed 0."""
    rows = []
    for rung in ("physics", *RUNGS, *PRESETS):
        paths = sorted(work.folder.glob(f"{rung}_[0-9]*/result_{test}.json"))
        if rung == "physics":
            paths = [work.folder / "physics" / f"result_{test}.json"]
        results = [json.loads(path.read_text()) for path in paths if path.exists()]
        if results:
            rows.append({"rung": rung, "seeds": len(results), "results": results})
    (work.folder / "ladder.json").write_text(json.dumps(rows, indent=1))
    keys = ("seconds", "steps", "gan_test", "gan_train", "kid", "c2st_auc", "pose_over_physics", "sd_ratio",
            "noise_ratio", "signal_cosine_distance", "density_cc", "wiener_cc")  # fmt: skip
    lines = [f"| rung | seeds | {' | '.join(keys)} |", "|---" * (len(keys) + 2) + "|"]
    for row in rows:
        cells = []
        for key in keys:
            values = [result[key] for result in row["results"] if key in result]
            digits = 0 if key in ("seconds", "steps") else 3
            cells.append(" ".join(f"{value:.{digits}f}" for value in values))
        lines.append(f"| `{row['rung']}` | {row['seeds']} | {' | '.join(cells)} |")
    (work.folder / "ladder.md").write_text("\n".join(lines) + "\n")
    print("\n".join(lines))
    pictured = [
        f"{r}_0" for r in (*RUNGS, *PRESETS) if (work.folder / f"twins{test}_{r}_0.star").exists()
    ]
    draw_rungs(work, pictured, real, test, work.folder / "ladder.png")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--folder", type=Path, default=Path("results/ladder"))
    parser.add_argument(
        "--rungs", nargs="+", choices=["physics", *RUNGS, *PRESETS], default=["physics", *RUNGS]
    )
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--minutes", type=float, default=20.0, help="CPU time of each training")
    parser.add_argument("--test", type=int, default=2, choices=(2, 3))
    parser.add_argument("--count", type=int, default=200, help="training densities of each class")
    parser.add_argument("--measured", type=int, default=200, help="volumes of each class")
    parser.add_argument("--stop", default="99", help="HH:MM after which no training goes on")
    parser.add_argument("--quick", action="store_true", help="no GAN-train, the slowest figure")
    parser.add_argument("--ensemble", action="store_true", help="spread and error of the seeds")
    parser.add_argument("--table", action="store_true", help="only write the table")
    given = parser.parse_args()
    if "CRYOETGAN_TEST_DATA" not in os.environ:
        print("CRYOETGAN_TEST_DATA names no folder: nothing to measure on")
        return
    work = Set2(given.folder, Path(os.environ["CRYOETGAN_TEST_DATA"]), "plain", given.count)
    work.prepare((1, given.test))
    work.run("measured.star", "densities", "pose", *work.maps, "--count", given.measured,
             "--max-shift", work.shift, "--seed", 1)  # fmt: skip
    real = write_twins(work, given.test)
    if given.ensemble:
        ensemble(work, given.seeds, given.test)
        return
    if not given.table:
        work.run("features.json", "evaluation", "classify", "--train", "real1.star",
                 "--test", f"real{given.test}.star", "--checkpoint", "features.pt")  # fmt: skip
        for seed in given.seeds:
            for rung in given.rungs:
                run(work, rung, seed, given, real)
    write_table(work, given.test, real)


if __name__ == "__main__":
    main()
