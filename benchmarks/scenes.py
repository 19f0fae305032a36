"""Packing: CPU seconds, occupancy and memory of scenes.

    CRYOETGAN_TEST_DATA=... python benchmarks/scenes.py [--shape 250,250,125] [--fill 0.3]

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
from cryoetgan.io.mrc import read_volume
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


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--shape", default="250,250,125")
    parser.add_argument("--fill", type=float, action="append")
    parser.add_argument("--maps", type=Path, help="folder that keeps the maps")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        of = maps(args.maps or folder)
        for fill in args.fill or [0.25, 0.3, 0.4]:
            pack(
                folder, f"six classes, {args.shape}, --fill {fill}", of, args.shape, "--fill", fill
            )
        pack(folder, "ribosomes until full, 250,250,125", of[:1], "250,250,125", "--fill", 0.99)
        pack(folder, "71 ribosomes, 250,250,125", of[:1], "250,250,125", "--copies", 71)


if __name__ == "__main__":
    main()
