"""Scenes: CPU seconds, occupancy and memory of packing; CPU seconds of filaments and membranes.

    CRYOETGAN_TEST_DATA=... python benchmarks/scenes.py [--shape 250,250,125] [--fill 0.3]
    python benchmarks/scenes.py --cell

One core, start-up included. Six species of 10 A voxels and 30 A resolution.
Occupancy: fraction of the voxels at or above 15 % of a particle's maximum.
"""

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

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


def cryoetgan(*words: object) -> tuple[float, float]:
    """Run a command; return its CPU seconds and its largest memory in MB."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        [sys.executable, "-m", "cryoetgan", *map(str, words)], env=environment
    )
    _, status, used = os.wait4(process.pid, 0)
    assert status == 0, words
    return used.ru_utime + used.ru_stime, used.ru_maxrss / 1024


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
    print(f"{what:44} {seconds:7.1f} s {len(rows):6} particles {share:7.3f} {memory:6.0f} MB")


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
    """Make a scene of filaments or membranes alone; print its seconds for the issue's units."""
    scene = folder / "cell.mrc"
    words = ("--copies", 0, f"--shape={shape}", *words, "-q", "-o", scene)
    seconds, memory = cryoetgan("tomograms", "scene", of, *words)
    record = read_json(sidecar(scene))
    if "filament_um" in record:
        (amount,) = record["filament_um"].values()
        unit, wanted = "um", 100
    else:
        amount, unit, wanted = record["membrane_area_um2"], "um^2", 1
    print(
        f"{what + ', ' + shape:44} {seconds:7.1f} s {amount:8.2f} {unit:5} "
        f"{seconds * wanted / amount:7.1f} s for {wanted} {unit} {memory:6.0f} MB"
    )


def cell(folder: Path) -> None:
    actin, tubulin = write_monomers(folder)
    plain = folder / "class.mrc"
    plain.write_bytes(actin.read_bytes())
    words = ("--filament-length", 100)
    build_cell(folder, "actin", plain, "800,800,300", "--filament", actin, *words)
    # more have no place there: they are straight
    words = ("--filament-length", 40)
    build_cell(folder, "microtubules", plain, "800,800,300", "--filament", tubulin, *words)
    for shape in ("vesicle", "tube", "torus", "fold", "double"):
        words = ("--membranes", 6, "--membrane-shape", shape)
        build_cell(folder, f"membranes, {shape}", plain, "500,500,200", *words)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--shape", default="250,250,125")
    parser.add_argument("--fill", type=float, action="append")
    parser.add_argument("--maps", type=Path, help="folder that keeps the maps")
    parser.add_argument("--cell", action="store_true", help="filaments and membranes instead")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if args.cell:
            cell(folder)
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
