"""Two-sample AUC of generated and real ribosomes of the cell, as it is and denoised.

    CRYOETGAN_TEST_DATA=... python benchmarks/real_cell_auc.py [--folder F] [--scores S.star]
        [--look raw nlm topaz=DENOISED.mrc ...] [--steps recommended=300 cyclegan=600]

The tomogram is divided by a plane. Physics and networks are fitted to crops before the plane. A
new classifier tells the crops beyond it (held out) from the volumes of each generator; the crops
before the plane, as if they were generated, are the reference. `particles pick` and `particles
score` ran on the raw tomogram (`--scores`; made if absent), so all looks show the same particles in
the same places. `nlm` is non-local means of scikit-image. A denoised tomogram of another program is
named by its file, protein dark, of the whole tomogram:

    topaz denoise3d tomogram_lower_10A_int8.mrc -m unet-3d -o DIR

Of scenes without a particle in the centre (`_empty`) are shown: how much the network brightens the
centre, in standard deviations of a voxel, and the share that fits the map better than its mirror
image. An interrupted run resumes.
"""

import argparse
import json
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from cryoetgan import seeds
from cryoetgan.cli import build
from cryoetgan.evaluation.labelled_sets import load_labelled
from cryoetgan.evaluation.measurement.c2st import c2st_auc
from cryoetgan.evaluation.measurement.metrics_io import MetricInputs
from cryoetgan.imaging.model import crop_centre
from cryoetgan.imaging.storage import load_model
from cryoetgan.io.mrc import read_volume, write_volume
from cryoetgan.io.star import ANGLES, COORDINATES, item_names, read_star, write_star
from cryoetgan.io.volume_set import read_volume_set, write_volume_set
from cryoetgan.physics.coordinates import centre_offset
from cryoetgan.physics.geometry import centre_distance

BOX, VOXEL = 28, 10.0
FIRST, PLANE, LAST = 32, 299, 560
"""Voxels along x: the particles lie between the first and the last; the plane halves them."""
OPTICS = ("--tilts=-60,60", "--defocus", 1.85, "--amplitude-contrast", 0.1, "--ctf",
          "phase-flipped")  # fmt: skip
SNR = 0.1
"""Of the conventional simulation: the default of the workflow."""
COUNT, TEST, EMPTY = 400, 160, 80
"""Posed densities to train with and, in other poses, to test; empty scenes."""
LARGE = 44
"""Edge of the simulated boxes that are denoised: eight voxels more on each side."""
RADIUS = 12.0
"""Of a ribosome, voxels: the ball in which the change of the network is measured."""
PARTS = {"fitted": (FIRST, PLANE), "held": (PLANE + BOX, LAST)}
"""Part of the tomogram to its first and last voxel along x; the gap is one box."""


class Look:
    """The files of one look of the tomogram; an interrupted run resumes."""

    def __init__(self, folder, name, shared):
        self.folder, self.name, self.shared = folder / name, name, shared
        self.folder.mkdir(parents=True, exist_ok=True)

    def run(self, name, *words):
        """Run a command that writes `name`, if it is not there; return its path."""
        path = self.folder / name
        if not path.exists():
            target = path.parent if path.name == "checkpoint.pt" else path
            cryoetgan(*words, "-q", "-o", target)
        return path

    def prepare(self, volume, scores):
        """Divide the tomogram and the scores; cut the crops; fit the physics."""
        table = read_star(scores).particles
        for part, (low, high) in PARTS.items():
            source, tomogram = self.folder / f"{part}_dark.mrc", f"{part}.mrc"
            if not (self.folder / tomogram).exists():
                write_volume(source, np.asarray(volume[:, :, low:high], np.float32), VOXEL)
                tilts = "--tilts=-60,60,3"
                self.run(tomogram, "tomograms", "import", source, tilts, *OPTICS[1:])
                source.unlink()
            own = self.folder / f"{part}_scores.star"
            if not own.exists():
                x = table[COORDINATES[0]]
                inside = table[(x >= low + BOX // 2) & (x <= high - BOX // 2)]
                moved = inside.assign(rlnTomoName=part, **{COORDINATES[0]: x - low})
                write_star(own, moved)
            picks = self.run(f"{part}_particles.star", "particles", "select", own, "--box", BOX,
                             "--test-fraction", 0)  # fmt: skip
            self.run(f"real_{part}.star", "particles", "extract", picks, "--tomogram",
                     self.folder / tomogram, "--box", BOX)  # fmt: skip
        fit = ("--particles", self.folder / "fitted_scores.star")
        self.run("M.json", "imaging", "fit", self.folder / "fitted.mrc", *fit, "--density",
                 self.shared / "ribosome.mrc")  # fmt: skip

    def generate(self, steps):
        """Return generator to its volume set, and to its empty scenes."""
        poses, model = self.shared / "test_poses.star", self.folder / "M.json"
        found = {}
        for kind, densities in (("", poses), ("_empty", self.shared / "empty.star")):
            physics = ("imaging", "simulate", densities)
            if not kind:
                found["conventional"] = self.run(
                    "conventional.star", *physics, "--snr", SNR, *OPTICS
                )
            found[f"physics{kind}"] = self.run(f"physics{kind}.star", *physics, "--model", model)
            for preset, count in steps.items():
                imaging = ("--imaging", model) if preset == "recommended" else ()
                checkpoint = self.run(
                    f"{preset}_{count}/checkpoint.pt", "translation", "train", "--densities",
                    self.shared / "poses.star", "--subtomograms", self.folder / "real_fitted.star",
                    "--preset", preset, "--steps", count, *imaging,
                )  # fmt: skip
                found[f"{preset}{kind}"] = self.run(
                    f"{preset}_{count}{kind}.star",
                    "translation",
                    "translate",
                    checkpoint,
                    densities,
                )
        return found

    def denoise_physics(self, model, denoise):
        """Return the set of the raw tomogram's physics, denoised as the tomogram was."""
        star = self.folder / "denoised_physics.star"
        if star.exists():
            return star
        model, poses = load_model(model), read_volume_set(self.shared / "test_poses.star")
        names, rows = item_names(poses.table["cryoetganClass"]), poses.table.to_dict("records")
        boxes = []
        for density, row, name in zip(poses.volumes, rows, names, strict=True):
            rng, centre = seeds.rng(0, "denoised", name), centre_offset(row, VOXEL)
            scene = model.build_scene(np.asarray(density, np.float32), centre, rng)
            boxes.append(crop_centre(model.signal(scene) + model.noise(scene.shape, rng), LARGE))
        denoised = denoise(np.array(boxes))
        inner = slice(LARGE // 2 - BOX // 2, LARGE // 2 + BOX // 2)
        optics = pd.DataFrame([model.acquisition.to_optics(1, model.tomogram)])
        volumes = np.ascontiguousarray(denoised[:, inner, inner, inner], np.float32)
        write_volume_set(star, volumes, poses.table.assign(rlnOpticsGroup=1), VOXEL, optics)
        return star


def cryoetgan(*words):
    """Run a command in this process: a start takes longer than most commands here."""
    build(words[0]).main([str(word) for word in words], "cryoetgan", standalone_mode=False)


def prepare_shared(folder, data, scores):
    """Make map, poses, empty scenes and, if they are not given, the scores; return their path."""
    folder.mkdir(parents=True, exist_ok=True)
    steps = {
        "ribosome.mrc": ("densities", "import", data / "experimental" / "ribosome_insitu_12A"
                         / "reference_reconstruct.mrc", "--voxel-size", VOXEL, "--box", BOX),
        "poses.star": ("densities", "pose", folder / "ribosome.mrc", "--count", COUNT,
                       "--max-shift", VOXEL / 2),
        "test_poses.star": ("densities", "pose", folder / "ribosome.mrc", "--count", TEST,
                            "--max-shift", VOXEL / 2, "--seed", 1),
        "empty.star": ("densities", "other", folder / "ribosome.mrc", "--count", EMPTY,
                       "--unnamed", 0),
    }  # fmt: skip
    if scores is None:
        scores, source = folder / "cell_scores.star", source_of(data)
        steps |= {
            "cell.mrc": ("tomograms", "import", source, "--tilts=-60,60,3", *OPTICS[1:]),
            "picks.star": ("particles", "pick", folder / "cell.mrc", "--density",
                           folder / "ribosome.mrc"),
            "cell_scores.star": ("particles", "score", folder / "cell.mrc", folder / "picks.star",
                                 "--template", folder / "ribosome.mrc", "--tilts=-60,60"),
        }  # fmt: skip
    for name, words in steps.items():
        if not (folder / name).exists():
            cryoetgan(*words, "-q", "-o", folder / name)
    return scores


def source_of(data):
    """Return the path of the cell's tomogram, protein dark."""
    return data / "experimental" / "mycoplasma_cell" / "tomogram_lower_10A_int8.mrc"


def non_local_means(volumes):
    """Return volumes `(N, z, y, x)` denoised with the settings of scikit-image's example.

    The noise is the fourth difference along x, in which the squared weights sum to 70.
    """
    from skimage.restoration import denoise_nl_means

    noise = np.median(np.abs(np.diff(volumes, 4, axis=-1))) / 0.6745 / np.sqrt(70)
    settings = {"patch_size": 5, "patch_distance": 4, "h": 0.8 * noise, "fast_mode": True}
    return np.array([denoise_nl_means(volume, **settings) for volume in volumes])


def two_sample(real, other):
    """Return the record of the two-sample test of two sets."""
    inputs = MetricInputs(real, other, voxel_size=VOXEL)
    return c2st_auc(inputs, {}, 0, torch.device("cpu"))


def as_generated(crops):
    """Return real crops without places, so that they are divided at random."""
    return replace(crops, table=crops.table.drop(columns=["rlnTomoName", *COORDINATES]))


def change_at_centre(changed, physics):
    """Return the contrast of the centre of empty scenes, less that of the physics, and its error.

    Contrast: mean in the ball of a ribosome minus mean of the rest, over the standard deviation.
    """
    ball = centre_distance(BOX) <= RADIUS
    contrasts = [(v[:, ball].mean(axis=1) - v[:, ~ball].mean(axis=1)) / v.std()
                 for v in (changed, physics)]  # fmt: skip
    error = float(np.hypot(*(c.std() / np.sqrt(len(c)) for c in contrasts)))
    return {"change": float(contrasts[0].mean() - contrasts[1].mean()), "error": error}


def own_hand(look, shared, star):
    """Return the share of a set's boxes that fit the map better than its mirror image.

    Half of the boxes without a particle do, by chance.
    """
    unnamed = look.folder / f"{star.stem}_unnamed.star"
    if not unnamed.exists():
        volumes = read_volume_set(star)
        names = [f"e{i}" for i in range(len(volumes))]
        table = volumes.table.drop(columns=["cryoetganClass", *ANGLES], errors="ignore")
        table = table.assign(cryoetganId=names, rlnTomoName="set")
        write_volume_set(unnamed, np.asarray(volumes.volumes), table, VOXEL, volumes.optics)
    template = ("--template", shared / "ribosome.mrc", "--tilts=-60,60")
    scores = look.run(f"{star.stem}_scores.star", "particles", "score", unnamed, *template)
    found = read_star(scores).particles
    return float((found["cryoetganScore"] > found["cryoetganDecoyScore"]).mean())


def measure(look, generated):
    """Write and print the figures of one look; each is measured once."""
    path = look.folder / "measured.json"
    found = json.loads(path.read_text()) if path.exists() else {}
    real = load_labelled(read_volume_set(look.folder / "real_held.star"))
    before = load_labelled(read_volume_set(look.folder / "real_fitted.star"))
    sets = {k: v for k, v in generated.items() if not k.endswith("_empty")}
    for name, star in {"real": None, **sets}.items():
        key = name if star is None else star.stem
        if key not in found:
            other = as_generated(before) if star is None else load_labelled(read_volume_set(star))
            record = two_sample(real, other)
            found[key] = {"auc": record["value"], "interval": record["interval"],
                          "real_half": record["baselines"]["real_half"]}  # fmt: skip
            path.write_text(json.dumps(found, indent=1))
        print(look.name, key, len(real), json.dumps(found[key]), flush=True)
    empty = {k: v for k, v in generated.items() if k.endswith("_empty")}
    physics = read_volume_set(empty["physics_empty"]).volumes
    for star in empty.values():
        if star.stem not in found:
            change = change_at_centre(np.asarray(read_volume_set(star).volumes), physics)
            found[star.stem] = change | {"own_hand": own_hand(look, look.shared, star)}
            path.write_text(json.dumps(found, indent=1))
        print(look.name, star.stem, json.dumps(found[star.stem]), flush=True)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--folder", type=Path, default=Path("results/real_cell_auc"))
    parser.add_argument("--scores", type=Path, help="of particles score, on the raw tomogram")
    parser.add_argument("--look", nargs="+", default=["raw", "nlm"])
    parser.add_argument("--steps", nargs="+", default=["recommended=300", "cyclegan=600"])
    given = parser.parse_args()
    if "CRYOETGAN_TEST_DATA" not in os.environ:
        print("CRYOETGAN_TEST_DATA names no folder: nothing to measure on")
        return
    data = Path(os.environ["CRYOETGAN_TEST_DATA"]).resolve()
    folder = given.folder.resolve()
    scores = prepare_shared(folder / "shared", data, given.scores)
    steps = {name: int(count) for name, count in (item.split("=") for item in given.steps)}
    for item in given.look:
        name, _, path = item.partition("=")
        look = Look(folder, name, folder / "shared")
        volume = np.asarray(read_volume(Path(path) if path else source_of(data)).data, np.float32)
        if name == "nlm" and not (look.folder / "held.mrc").exists():
            volume = non_local_means(volume[None, :, :, :LAST])[0]  # minutes for the whole
        look.prepare(volume, scores)
        generated = look.generate(steps)
        if name == "nlm" and (folder / "raw" / "M.json").exists():
            denoised = look.denoise_physics(folder / "raw" / "M.json", non_local_means)
            generated["denoised_physics"] = denoised
        measure(look, generated)


if __name__ == "__main__":
    main()
