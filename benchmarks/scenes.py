"""Scenes: CPU seconds, occupancy and memory of packing; CPU seconds of filaments and membranes.

    CRYOETGAN_TEST_DATA=... python benchmarks/scenes.py [--shape 250,250,125] [--fill 0.3]
    python benchmarks/scenes.py --cell
    python benchmarks/scenes.py --polnet SOURCE --python PYTHON

The last runs PolNet 1.1 beside it, from PolNet's own templates; PYTHON has PolNet's requirements.
One core, start-up included. Six species of 10 A voxels and 30 A resolution.
Occupancy: fraction of the voxels at or above 15 % of a particle's maximum.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd

from cryoetgan.io.files import read_json, sidecar
from cryoetgan.io.mrc import read_volume, write_volume
from cryoetgan.io.star import read_star

SPECIES = {
    "ribosome": ("ribosome_4v6x.cif.gz", 66),
    "tric": ("TRiC_4v8r_complex1.cif.gz", 52),
    "proteasome": ("proteasome_4r3o.pdb.gz", 46),
    "T20S": ("T20S_3j9i.pdb.gz", 46),
    "hsp90": ("hsp90_2cg9.pdb.gz", 32),
    "apoferritin": ("apoferritin_6z6u.pdb.gz", 40),
}
"""File among the structures, box in voxels (PolNet's templates have large boxes, too)."""


def measure(*words: object, **environment: str) -> tuple[float, float]:
    """Run a program; return its CPU seconds and its largest memory in MB."""
    settings = {**os.environ, "OMP_NUM_THREADS": "1", **environment}
    process = subprocess.Popen(list(map(str, words)), env=settings)
    _, status, used = os.wait4(process.pid, 0)
    assert status == 0, words
    return used.ru_utime + used.ru_stime, used.ru_maxrss / 1024


def cryoetgan(*words: object) -> tuple[float, float]:
    return measure(sys.executable, "-m", "cryoetgan", *words)


def maps(folder: Path) -> list[Path]:
    structures = Path(os.environ["CRYOETGAN_TEST_DATA"]) / "structures"
    made = []
    for name, (file, box) in SPECIES.items():
        made.append(folder / f"{name}.mrc")
        if not made[-1].exists():
            options = ("--voxel-size", 10, "--resolution", 30, "--box", box, "-q")
            cryoetgan("densities", "simulate", structures / file, *options, "-o", made[-1])
    return made


def pack(folder: Path, what: str, of: list[Path], shape: str, *words: object) -> None:
    scene = folder / "scene.mrc"
    seconds, memory = cryoetgan(
        "tomograms", "scene", *of, f"--shape={shape}", *words, "-q", "-o", scene
    )
    rows = read_star(scene.with_suffix(".star")).particles
    filled = np.count_nonzero(read_volume(scene.with_name("scene_labels.mrc")).data)
    share = read_json(sidecar(scene))["filled"]
    assert abs(share - filled / np.prod([int(n) for n in shape.split(",")])) < 1e-3
    print(
        f"{what:44} {seconds:7.1f} s {len(rows):6} particles {share:7.3f} {memory:6.0f} MB",
        flush=True,
    )


def write_monomers(folder: Path) -> list[Path]:
    """Write maps of a monomer of actin and a dimer of tubulin: Gaussians of their sizes."""
    z, y, x = 10 * (np.indices((16, 16, 16)) - 8.0)
    made = []
    # across to the axis of the filament, along it: angstrom
    for name, middle, across, along in (("actin", 15, 14, 16), ("microtubule", 0, 13, 22)):
        density = np.exp(-((x - middle) ** 2 + y**2) / (2 * across**2) - z**2 / (2 * along**2))
        made.append(folder / f"{name}.mrc")
        write_volume(made[-1], (4500 * density).astype(np.float32), 10.0)
    return made


def build_cell(folder: Path, what: str, of: Path, shape: str, *words: object) -> None:
    """Make a scene of filaments or membranes alone; print its seconds, content and memory."""
    scene = folder / "cell.mrc"
    words = ("--copies", 0, f"--shape={shape}", *words, "-q", "-o", scene)
    seconds, memory = cryoetgan("tomograms", "scene", of, *words)
    record = read_json(sidecar(scene))
    amount = sum(record.get("filament_um", {}).values()) or record.get("membrane_area_um2", 0.0)
    unit = "um" if "filament_um" in record else "um^2"
    print(
        f"{what + ', ' + shape:44} {seconds:7.1f} s {amount:8.3f} {unit:5} {memory:6.0f} MB",
        flush=True,
    )


CELL_SHAPE = "1000,1000,300"
"""Voxels that hold 100 micrometres of a filament and 1 square micrometre of each membrane."""
MEMBRANES = {"vesicle": 30, "tube": 18, "torus": 26, "fold": 12, "double": 12}


def cell(folder: Path) -> None:
    """Print the cost of 100 um of each filament, and of 1 um^2 or more of membranes."""
    actin, tubulin = write_monomers(folder)
    plain = folder / "class.mrc"
    plain.write_bytes(actin.read_bytes())
    build_cell(folder, "an empty scene", plain, CELL_SHAPE)
    for name, monomer in (("actin", actin), ("microtubules", tubulin)):
        words = ("--filament", monomer, "--filament-length", 100)
        build_cell(folder, name, plain, CELL_SHAPE, *words)
    for shape, count in MEMBRANES.items():
        words = ("--membranes", count, "--membrane-shape", shape)
        build_cell(folder, f"membranes, {shape}", plain, CELL_SHAPE, *words)


POLNET_PROTEINS = ("4v4r", "3j9i", "2cg9")
"""Templates of PolNet: 70S ribosome, 20S proteasome, Hsp90."""
POLNET_SHAPE = (160, 160, 80)


def polnet(folder: Path, source: Path, python: Path, **components: dict[str, str]):
    """Run PolNet; return CPU seconds, MB, the density of proteins, labels, and its motif list.

    `components`: kind (membranes, filaments, pns) to name of a file in PolNet's data and its
    changed lines.
    """
    data = folder / "polnet"
    shutil.rmtree(data, ignore_errors=True)
    data.mkdir()
    (data / "templates").symlink_to(source / "data" / "templates")
    lists = {kind: [] for kind in ("membranes", "filaments", "pns", "pms")}
    for kind, files in components.items():
        for name, changes in files.items():
            lines = (source / "data" / name).read_text().splitlines()
            lines = [line for line in lines if line.split(" =")[0] not in changes]
            lines += [f"{key} = {value}" for key, value in changes.items()]
            (data / Path(name).name).write_text("\n".join(lines) + "\n")
            lists[kind].append(Path(name).name)
    config = {
        "metadata": {"version": "1.0"},
        "folders": {"root": None, "input": str(data), "output": str(data / "out")},
        "global": {"ntomos": 1, "seed": 42},
        "sample": {"voi_shape": list(POLNET_SHAPE), "voi_offset": [4, 4, 4], "v_size": 10.0}
        | lists,
        "tem": {"config": None},
    }
    (data / "config.yaml").write_text(json.dumps(config))  # JSON is YAML
    words = (python, "-m", "polnet", data / "config.yaml")
    seconds, memory = measure(*words, PYTHONPATH=str(source / "src"))
    stem = data / "out" / "Tomo001" / "tomo_001"
    density, labels = (read_volume(Path(f"{stem}_{end}.mrc")).data for end in ("den", "lbl"))
    return seconds, memory, density, labels, pd.read_csv(f"{stem}_motif_list.csv", sep="\t")


def compare(folder: Path, source: Path, python: Path) -> None:
    """Print PolNet beside ours: proteins until full, membranes, actin; PolNet's templates."""
    shape, size = ",".join(map(str, POLNET_SHAPE)), float(np.prod(POLNET_SHAPE))
    # as many as PolNet places: it stops by its own number of misses
    proteins = {f"in_10A/{name}_10A.pns": {"PMER_OCC": "60"} for name in POLNET_PROTEINS}
    seconds, memory, density, _, rows = polnet(folder, source, python, pns=proteins)
    share = np.count_nonzero(density >= 0.15) / size
    print(
        f"{'PolNet, three proteins until full, ' + shape:44} {seconds:7.1f} s {len(rows):6} particles "
        f"{share:7.3f} {memory:6.0f} MB"
    )
    templates = source / "data" / "templates" / "mrcs_10A"
    of = [templates / f"{name}.mrc" for name in POLNET_PROTEINS]
    pack(folder, "ours, to PolNet's occupancy", of, shape, "--fill", round(share, 3))
    pack(folder, "ours, until full", of, shape, "--fill", 0.99)
    actin = {"in_flms/actin.flms": {"HX_PMER_OCC": "(2, 2)"}}
    seconds, memory, _, _, rows = polnet(folder, source, python, filaments=actin)
    length = len(rows) * 60 / 1e4  # 1.2 times the diameter of a ball of 25 A
    print(f"{'PolNet, actin, ' + shape:44} {seconds:7.1f} s {length:8.3f} um    {memory:6.0f} MB")
    monomer, _ = write_monomers(folder)
    plain = folder / "class.mrc"
    plain.write_bytes(monomer.read_bytes())
    words = ("--filament", monomer, "--filament-length", round(length, 2))
    build_cell(folder, "ours, actin", plain, shape, *words)
    spheres = {"in_mbs/sphere.mbs": {"MB_OCC_RG": "(0.03, 0.03)", "MB_MAX_RAD": "400"}}
    seconds, memory, _, labels, _ = polnet(folder, source, python, membranes=spheres)
    area = np.count_nonzero(labels) * 1000 / 30 / 1e8  # thickness of 25 to 35 A
    print(f"{'PolNet, spheres, ' + shape:44} {seconds:7.1f} s {area:8.3f} um^2  {memory:6.0f} MB")
    words = ("--membranes", 4, "--membrane-shape", "vesicle", "--membrane-radius", "100,400")
    build_cell(folder, "ours, vesicles", plain, shape, *words)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--shape", default="250,250,125")
    parser.add_argument("--fill", type=float, action="append")
    parser.add_argument("--maps", type=Path, help="folder that keeps the maps")
    parser.add_argument("--cell", action="store_true", help="filaments and membranes instead")
    parser.add_argument("--polnet", type=Path, help="source of PolNet 1.1, to run beside ours")
    parser.add_argument("--python", type=Path, help="Python with PolNet's requirements")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if args.cell:
            cell(folder)
            return
        if args.polnet:
            compare(folder, args.polnet.resolve(), args.python or Path(sys.executable))
            return
        of = maps(args.maps or folder)
        for fill in args.fill or [0.25, 0.3, 0.4]:
            pack(
                folder, f"six classes, {args.shape}, --fill {fill}", of, args.shape, "--fill", fill
            )
        pack(folder, "ribosomes until full, 250,250,125", of[:1], "250,250,125", "--fill", 0.99)
        pack(folder, "71 ribosomes, 250,250,125", of[:1], "250,250,125", "--copies", 71)


if __name__ == "__main__":
    main()
