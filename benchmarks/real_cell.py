"""The real cell, from tomogram to report: one class, no labels (docs/real_data.md).

    CRYOETGAN_TEST_DATA=... python benchmarks/real_cell.py [--template MAP] [--cores 2] [--until FILE]

Writes a configuration with tables to results/real_cell_config and runs the workflow with it; run
again, it resumes. The template is a 70S ribosome (PDB file, mmCIF or map) or, without --template,
the average of other ribosomes in the test data.
"""

import argparse
import os
import subprocess
import sys
from pathlib import Path

import yaml

CONFIG = {
    "run": "real_cell",
    "densities": {"voxel_size": 10.0, "resolution": 30.0, "box": 40, "count": 400},
    # the embedded default, which this one extends, is small
    "particles": {"max_picks": None, "rotations": None, "top": 400},
    "translation": {"preset": "recommended", "steps": 200},
    "evaluation": {"network": "small", "epochs": None},
    "export": {"formats": ["relion"]},
    "detection": {"steps": 600},
}
SCENES = {"shape": [512, 512, 160], "copies": 250, "crowder_fraction": 0.04, "membranes": 4}
"""Of synthetic tomograms like a cell."""
ROOT = Path(__file__).resolve().parents[1]


def write_configuration(data: Path, template: Path, folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    tomogram = data / "experimental" / "mycoplasma_cell" / "tomogram_lower_10A_int8.mrc"
    columns = {
        "tomogram": "cell",
        "path": tomogram,
        "voxel_size": 10,
        "tilt_low": -60,
        "tilt_high": 60,
        "tilt_step": 3,
        "amplitude_contrast": 0.1,
        "defocus": 1.85,
        "ctf": "phase-flipped",
        "contrast": "dark",
    }
    rows = ["\t".join(columns), "\t".join(map(str, columns.values()))]
    (folder / "tomograms.tsv").write_text("\n".join(rows) + "\n")
    (folder / "classes.tsv").write_text(f"class\tsource\nribosome\t{template}\n")
    content = CONFIG | {
        "structures": {"table": str(folder / "classes.tsv")},
        "tomograms": {"table": str(folder / "tomograms.tsv")} | SCENES,
    }
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    return path


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--template", type=Path, help="70S ribosome: PDB, mmCIF or MRC")
    parser.add_argument("--cores", type=int, default=2)
    parser.add_argument(
        "--until", nargs="*", default=[], help="files or rules; default: the report"
    )
    args = parser.parse_args()
    data = Path(os.environ["CRYOETGAN_TEST_DATA"]).resolve()
    average = data / "experimental" / "ribosome_insitu_12A" / "reference_reconstruct.mrc"
    template = args.template.resolve() if args.template else average
    config = write_configuration(data, template, ROOT / "results" / "real_cell_config")
    words = ["--configfile", str(config), "--cores", str(args.cores), *args.until]
    sys.exit(subprocess.call([sys.executable, "-m", "snakemake", *words], cwd=ROOT))


if __name__ == "__main__":
    main()
