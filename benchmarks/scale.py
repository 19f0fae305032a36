"""How time and memory grow: with tomogram size, with particles, with the number of tomograms.

    python benchmarks/scale.py [--quick] [--folder F] [-o docs/scale.png]

Each command in a process of its own: its CPU seconds and largest memory. The exponent is the
slope of log time against log size over the upper half of the sizes: 1 is linear, 2 quadratic. The
workflow is asked for a dry run with 1 to 64 tomograms. What is there in the folder is kept.
"""

import argparse
import json
import os
import sys
from pathlib import Path

import numpy as np

BOX, VOXEL = 28, 13.68
TILTS = "--tilts=-60,60,3"


def run(folder, words):
    """Return CPU seconds and megabytes of a command; kept beside its output, the last word."""
    output = folder / str(words[-1])
    record = output.with_name(output.name + ".cost")
    if not record.exists():
        record.write_text(json.dumps(cost("-m", "cryoetgan", *words)))
    return json.loads(record.read_text())


def cost(*words):
    """Return CPU seconds and megabytes of python called with these words."""
    folders = os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"]))
    pid = os.posix_spawn(
        sys.executable,
        [sys.executable, *map(str, words)],
        {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1]), "PATH": folders},
    )
    _, status, used = os.wait4(pid, 0)
    if status:
        raise SystemExit(f"{' '.join(map(str, words))}: ended with {status}")
    return [used.ru_utime + used.ru_stime, used.ru_maxrss / 1024]


def maps(folder):
    out = []
    for name in ("proteasome", "ribosome"):
        path = folder / f"{name}.mrc"
        run(folder, ["structures", "phantom", name, "-o", folder / f"{name}.cif"])
        words = ["--voxel-size", VOXEL, "--resolution", 40, "--box", BOX, "-o", path]
        run(folder, ["densities", "simulate", folder / f"{name}.cif", *words])
        out.append(path)
    return out


def with_tomogram_size(folder, edges):
    """Simulating and picking, by the number of voxels."""
    found = {"tomograms simulate": {}, "particles pick": {}, "particles pick --fast": {}}
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
        for name, more in (("particles pick", []), ("particles pick --fast", ["--fast"])):
            star = folder / f"picks{edge}{'f' * bool(more)}.star"
            words = ["particles", "pick", tomogram, "--sigma", 80, *more, "-o", star]
            found[name][voxels] = run(folder, words)
    return found


def with_particles(folder, counts):
    """What is done to each particle, by their number."""
    found = {"densities pose": {}, "imaging simulate": {}, "evaluation measure": {}}
    real = folder / "poses300.star"
    run(folder, ["densities", "pose", *maps(folder), "--count", 150, "-o", real])
    physics = ["--snr", 0.1, TILTS]
    run(folder, ["imaging", "simulate", real, *physics, "--seed", 5, "-o", folder / "real.star"])
    for count in counts:
        poses, made = folder / f"poses{count}.star", folder / f"made{count}.star"
        found["densities pose"][count] = run(
            folder, ["densities", "pose", *maps(folder), "--count", count // 2, "-o", poses]
        )
        found["imaging simulate"][count] = run(
            folder, ["imaging", "simulate", poses, *physics, "-o", made]
        )
        found["evaluation measure"][count] = run(
            folder,
            ["evaluation", "measure", "--real", folder / "real.star", "--generated", made, "-o",
             folder / f"measure{count}.json"],
        )  # fmt: skip
    return found


def with_tomograms(folder, counts):
    """A dry run of the workflow, by the number of simulated tomograms."""
    root = Path(__file__).parents[1]
    found = {"snakemake -n": {}}
    heading, *rows = (root / "config/tomograms.tsv").read_text().splitlines()
    columns = heading.split("\t")
    for count in counts:
        lines = [heading]
        for index in range(count):
            row = dict(zip(columns, rows[0].split("\t"), strict=False))
            row |= {"tomogram": f"t{index}", "split": "" if "split" in row else None}
            lines.append("\t".join(str(row.get(name) or "") for name in columns))
        table = folder / f"tomograms{count}.tsv"
        table.write_text("\n".join(lines) + "\n")
        words = ["-m", "snakemake", "-n", "-q", "all", "--cores", "2", "--directory", folder / f"n{count}",
                 "-s", root / "workflow/Snakefile", "--config", f"tomograms={{table: {table}}}"]  # fmt: skip
        (folder / f"n{count}").mkdir(exist_ok=True)
        found["snakemake -n"][count] = cost(*words)
    return found


def exponent(costs):
    """Slope of log time against log size, over the upper half."""
    sizes = np.array(sorted(costs), float)
    seconds = np.array([costs[int(size)][0] for size in sizes])
    half = len(sizes) // 2
    return float(np.polyfit(np.log(sizes[half:]), np.log(seconds[half:]), 1)[0])


def draw(parts, path):
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(2, len(parts), figsize=(11, 5.5), sharex="col", squeeze=False)
    for column, (title, found) in zip(axes.T, parts.items(), strict=True):
        for name, costs in found.items():
            sizes = sorted(costs)
            for axis, index in zip(column, (0, 1), strict=True):
                axis.loglog(sizes, [costs[size][index] for size in sizes], "o-", label=name)
        column[0].set_ylabel("CPU seconds")
        column[1].set_ylabel("memory, MB")
        column[1].set_xlabel(title)
        column[0].legend(fontsize=7, frameon=False)
        for axis in column:
            axis.grid(alpha=0.3)
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
    counts = (100, 300, 1000) if given.quick else (100, 300, 1000, 3000, 10_000)
    parts = {
        "voxels of a tomogram": with_tomogram_size(folder, edges),
        "particles": with_particles(folder, counts),
        "tomograms": with_tomograms(folder, (1, 4, 16) if given.quick else (1, 4, 16, 64)),
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
