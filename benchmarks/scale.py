"""How time and memory grow: with tomogram size, with particles, with the number of tomograms.

    python benchmarks/scale.py [--quick] [--folder F] [-o docs/images/scale.png]

Each command in a process of its own: its CPU seconds and largest memory. The exponent is the
slope of log time against log size over the upper half of the sizes: 1 is linear, 2 quadratic.
Tomograms are counted twice: the workflow run from structures to both domains and fitted physics
with up to 16, and its plan alone with up to ten thousand jobs. What is there in the folder is kept.
"""

import argparse
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import yaml

from cryoetgan.io.star import write_star

ROOT = Path(__file__).resolve().parents[1]
BOX, VOXEL = 28, 13.68
LITTLE = 16
"""Box of the sets counted up to 100,000: 1.6 GB each."""
REAL = 10_000
"""So many real crops at most: generated volumes can be made without end, picks cannot."""
TILTS = "--tilts=-60,60,3"
CLASSES = ("proteasome", "ribosome")
PHYSICS = ["--snr", 0.1, "--lowpass", 72, TILTS]
TARGETS = ("particles_extract", "particles_extract_annotated", "imaging_simulate_fitted")


def run(folder, words):
    """Return CPU seconds and megabytes of a command; kept beside its output, the last word."""
    output = folder / str(words[-1])
    record = output.with_name(output.name + ".cost")
    if not record.exists():
        record.write_text(json.dumps(cost("-m", "cryoetgan", *words)))
    return json.loads(record.read_text())


def cost(*words, cwd=None, quiet=False):
    """Return CPU seconds and megabytes (of the largest process) of python called with these words.

    Its children's seconds are counted too.
    """
    folders = os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"]))
    running = subprocess.Popen(
        [sys.executable, *map(str, words)],
        env={**os.environ, "PYTHONPATH": str(ROOT), "PATH": folders},
        cwd=cwd,
        stdout=subprocess.DEVNULL if quiet else None,
        stderr=subprocess.DEVNULL if quiet else None,
    )
    _, status, used = os.wait4(running.pid, 0)
    running.returncode = status
    if status:
        raise SystemExit(f"{' '.join(map(str, words))}: ended with {status}")
    return [used.ru_utime + used.ru_stime, used.ru_maxrss / 1024]


def maps(folder, box=BOX, voxel=VOXEL):
    out = []
    for name in CLASSES:
        path = folder / f"{name}_{box}.mrc"
        run(folder, ["structures", "phantom", name, "-o", folder / f"{name}.cif"])
        words = ["--voxel-size", voxel, "--resolution", 3 * voxel, "--box", box, "-o", path]
        run(folder, ["densities", "simulate", folder / f"{name}.cif", *words])
        out.append(path)
    return out


def with_tomogram_size(folder, edges):
    """Simulating, importing and picking, by the number of voxels."""
    names = ("tomograms simulate", "tomograms import", "particles pick", "particles pick --fast")
    found = {name: {} for name in names}
    for edge in edges:
        shape = f"{edge},{edge},{max(48, edge // 3)}"
        voxels = edge * edge * max(48, edge // 3)
        tomogram = folder / f"t{edge}.mrc"
        copies = max(4, voxels // 90_000)
        found["tomograms simulate"][voxels] = run(
            folder,
            ["tomograms", "simulate", *maps(folder), "--copies", copies, "--shape", shape, TILTS,
             "--snr", 0.3, "-o", tomogram],
        )  # fmt: skip
        found["tomograms import"][voxels] = run(
            folder,
            ["tomograms", "import", tomogram, TILTS, "--contrast", "bright", "-o",
             folder / f"imported{edge}.mrc"],
        )  # fmt: skip
        for name, more in (("particles pick", []), ("particles pick --fast", ["--fast"])):
            star = folder / f"picks{edge}{'f' * bool(more)}.star"
            words = ["particles", "pick", tomogram, "--sigma", 80, *more, "-o", star]
            found[name][voxels] = run(folder, words)
    return found


def scored(folder, count, edge):
    """A table of scores with `count` particles of two classes on a grid, as STAR."""
    path = folder / f"scores{count}.star"
    if not path.exists():
        rng = np.random.default_rng(0)
        side = int(np.ceil((count / 3) ** (1 / 3) * 3))
        low, high = LITTLE, np.array([edge, edge, max(48, edge // 3)]) - LITTLE
        shape = np.array([side, side, -(-count // side**2)])
        at = np.stack(np.unravel_index(np.arange(count), shape), axis=1)
        xyz = low + (at + rng.uniform(0.2, 0.8, at.shape)) / shape * (high - low)
        rows = pd.DataFrame(xyz, columns=[f"rlnCoordinate{axis}" for axis in "XYZ"])
        rows["rlnTomoName"] = f"t{edge}"
        rows["cryoetganId"] = [f"p{number}" for number in range(count)]
        both = []
        for name in CLASSES:
            angles = {
                f"rlnAngle{key}": rng.uniform(-90, 90, count) for key in ("Rot", "Tilt", "Psi")
            }
            score = rng.uniform(0, 1, count)
            both.append(rows.assign(cryoetganClass=name, cryoetganScore=score, **angles))
        write_star(path, pd.concat(both, ignore_index=True))
    return path


def with_particles(folder, counts, edge):
    """What is done to each particle, by their number; in a tomogram of `edge`."""
    names = ("densities pose", "imaging simulate", "particles select", "particles extract")
    names += ("evaluation measure", "export relion")
    found = {name: {} for name in names}
    templates = maps(folder, LITTLE, 24.0)
    for count in counts:
        poses, made = folder / f"poses{count}.star", folder / f"made{count}.star"
        again = folder / f"again{min(count, REAL)}.star"
        found["densities pose"][count] = run(
            folder, ["densities", "pose", *templates, "--count", count // 2, "-o", poses]
        )
        simulate = ["imaging", "simulate", poses, *PHYSICS]
        found["imaging simulate"][count] = run(folder, [*simulate, "-o", made])
        if count <= REAL:
            run(folder, [*simulate, "--seed", 5, "-o", again])
        found["evaluation measure"][count] = run(
            folder,
            ["evaluation", "measure", "--real", again, "--generated", made, "-o",
             folder / f"measure{count}.json"],
        )  # fmt: skip
        chosen, crops = folder / f"selected{count}.star", folder / f"crops{count}.star"
        found["particles select"][count] = run(
            folder,
            ["particles", "select", scored(folder, count, edge), "--top", count, "--box", LITTLE // 4,
             "-o", chosen],
        )  # fmt: skip
        found["particles extract"][count] = run(
            folder,
            ["particles", "extract", chosen, "--tomogram", folder / f"t{edge}.mrc", "--box", LITTLE,
             "-o", crops],
        )  # fmt: skip
        found["export relion"][count] = run(
            folder, ["export", "relion", made, "-o", folder / f"relion{count}"]
        )
    return found


def tables(folder, count, config):
    """A configuration like `config` with `count` simulated tomograms; its path."""
    content = yaml.safe_load((ROOT / config).read_text())
    rows = [f"t{index}\tsimulate\t-60\t60\t20" for index in range(count)]
    table = folder / f"tomograms{count}.tsv"
    heading = "tomogram\tpath\ttilt_low\ttilt_high\ttilt_step"
    table.write_text("\n".join([heading, *rows]) + "\n")
    content["tomograms"]["table"] = str(table)
    content["structures"]["table"] = str(ROOT / content["structures"]["table"])
    path = folder / f"config{count}.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


def with_tomograms(folder, counts):
    """From structures to both domains and fitted physics, by the number of tomograms."""
    found = {"structures to domains": {}}
    for count in counts:
        place = folder / f"run{count}"
        record = place.with_suffix(".cost")
        if not record.exists():
            place.mkdir(exist_ok=True)
            words = ["-m", "snakemake", "--cores", 1, "--directory", place, "--until", *TARGETS]
            config = tables(folder, count, "tests/workflow/tiny.yaml")
            more = ["-s", ROOT / "workflow/Snakefile", "--configfile", config]
            record.write_text(json.dumps(cost(*words, *more, quiet=True)))
        found["structures to domains"][count] = json.loads(record.read_text())
    return found


def with_jobs(folder, counts):
    """A dry run of the workflow, by the number of its jobs."""
    found = {"snakemake -n": {}}
    for count in counts:
        record, place = folder / f"plan{count}.json", folder / f"plan{count}"
        if not record.exists():
            place.mkdir(exist_ok=True)
            config = tables(folder, count, "tests/workflow/tiny.yaml")
            words = ["-m", "snakemake", "--cores", 1, "--directory", place, "-n", "-q", "rules"]
            words += ["-s", ROOT / "workflow/Snakefile", "--configfile", config]
            said = place / "said.txt"
            with open(said, "w") as file:
                running = subprocess.Popen(
                    [sys.executable, *map(str, words)],
                    env={**os.environ, "PYTHONPATH": str(ROOT)}, stdout=file, stderr=file,
                )  # fmt: skip
                _, status, used = os.wait4(running.pid, 0)
                running.returncode = status
            jobs = re.search(r"^total\s+(\d+)", said.read_text(), re.MULTILINE)
            if status or not jobs:
                raise SystemExit(said.read_text()[-3000:])
            seconds = used.ru_utime + used.ru_stime
            record.write_text(json.dumps([int(jobs[1]), seconds, used.ru_maxrss / 1024]))
        jobs, *costs = json.loads(record.read_text())
        found["snakemake -n"][jobs] = costs
    return found


def exponent(costs):
    """Slope of log time against log size, over the upper half."""
    sizes = np.array(sorted(costs), float)
    seconds = np.array([costs[int(size)][0] for size in sizes])
    half = min(len(sizes) // 2, len(sizes) - 2)
    return float(np.polyfit(np.log(sizes[half:]), np.log(seconds[half:]), 1)[0])


def draw(parts, path):
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(
        2, len(parts), figsize=(13, 7), sharex="col", sharey="row", squeeze=False
    )
    for column, (title, found) in zip(axes.T, parts.items(), strict=True):
        for name, costs in found.items():
            sizes = sorted(costs)
            label = f"{name}  ({exponent(costs):.2f})"
            for axis, index in zip(column, (0, 1), strict=True):
                axis.loglog(sizes, [costs[size][index] for size in sizes], "o-", ms=3, label=label)
        column[1].set_xlabel(title)
        # all of them start together: names beside the lines would lie on each other
        column[0].legend(fontsize=8, frameon=False, loc="lower left", bbox_to_anchor=(0, 1))
        for axis in column:
            axis.grid(alpha=0.3)
            if title == "tomograms":
                sizes = sorted(next(iter(found.values())))
                axis.set_xticks(sizes, [str(size) for size in sizes])
                axis.minorticks_off()
    axes[0, 0].set_ylabel("CPU seconds")
    axes[1, 0].set_ylabel("largest memory, MB")
    for axis, unit in zip(axes[:, 0], ("{x:g}", "{x:,.0f}"), strict=True):
        axis.yaxis.set_major_formatter(unit)
    axes[0, 0].set_ylim(top=2 * axes[0, 0].get_ylim()[1])
    figure.tight_layout()
    figure.savefig(path, dpi=80)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--folder", type=Path, default=Path("results/scale"))
    parser.add_argument("-o", "--output", type=Path)
    given = parser.parse_args()
    folder = given.folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    edges = (96, 144, 192) if given.quick else (96, 144, 192, 288, 384, 512)
    counts = (100, 300, 1000) if given.quick else (100, 1000, 10_000, 100_000)
    parts = {
        "voxels of a tomogram": with_tomogram_size(folder, edges),
        "particles": with_particles(folder, counts, edges[min(3, len(edges) - 1)]),
        "tomograms": with_tomograms(folder, (1, 4) if given.quick else (1, 4, 16)),
        "jobs of a plan": with_jobs(folder, (1, 16) if given.quick else (1, 16, 160, 2000)),
    }
    for title, found in parts.items():
        for name, costs in found.items():
            print(f"{name}, by {title}: exponent {exponent(costs):.2f}")
            for size in sorted(costs):
                print(f"  {size:>12,} {costs[size][0]:9.1f} s {costs[size][1]:8.0f} MB")
    if given.output:
        draw(parts, given.output)


if __name__ == "__main__":
    main()
