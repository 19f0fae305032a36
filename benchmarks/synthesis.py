"""A picker trained on one synthetic tomogram, on fitted physics, on real labels: F on set 2.

    CRYOETGAN_TEST_DATA=... python benchmarks/synthesis.py [--look plain|denoised|defocus|narrow]
        [--folder F] [--checkpoint C.pt ... [--by-seed]] [--seeds 3] [--steps 250] [--threads 1]

One tomogram each to learn from: dev_set2_1 with its true labels; a scene of packed particles by
the physics fitted to dev_set2_1's own picks, without labels; and by each checkpoint of preset
recommended (of the same look, `benchmarks/training_sets.py` trains some). The picker is a small 3D
U-Net at half resolution, tested once on dev_set2_3; its threshold is chosen on dev_set2_2 for all
alike, and for synthetic ones on a second synthetic tomogram too ("blind"), which takes no label
of a real one. With --by-seed the checkpoints are trainings of one recipe: each picker takes the
next one's tomogram. Differences to fitted physics are paired by seed. Picks and particles are matched one to one within 80 angstrom; F over classes is
micro F: a match of the wrong class is a miss and a false pick. What is in the folder is not made
again: a killed run goes on.
"""

import argparse
import json
import os
import time
from pathlib import Path

import numpy as np
import torch
from scipy import ndimage, stats
from scipy.optimize import linear_sum_assignment
from scipy.spatial.distance import cdist
from set2 import LOOKS, MAPS, Set2
from torch import nn
from torch.nn import functional

from cryoetgan.io.mrc import read_volume
from cryoetgan.io.star import COORDINATES, read_star
from cryoetgan.seeds import integer_seed, rng

NAMES = sorted(MAPS)
COPIES, SHAPE = 66, "256,256,128"
"""As many particles, in as large a volume, as dev_set2_1 has."""
RADIUS = 3.5
"""Voxels: what is learnt is a ball of this radius about each particle."""
NEAR = 8.0
"""Voxels: a pick this close to a particle is that particle."""
APART = 4
"""Half-resolution voxels between two picks."""
PATCH, BATCH = 64, 4
BASELINE = "fitted physics"
BACKGROUND = 0.05
"""Weight of a voxel without a particle, against one with."""


class UNet(nn.Module):
    """Three levels at half resolution: 5^3 with stride 2, then 16, 32 and 64 channels."""

    def __init__(self, classes, width=16):
        super().__init__()
        self.stem = block(1, width, 5, 2)
        self.first = block(width, width)
        self.down = nn.Sequential(block(width, 2 * width, 3, 2), block(2 * width, 2 * width))
        self.deep = nn.Sequential(block(2 * width, 4 * width, 3, 2), block(4 * width, 2 * width))
        self.middle = block(4 * width, width)
        self.up = block(2 * width, width)
        self.head = nn.Conv3d(width, classes + 1, 1)

    def forward(self, x):
        """Logits `(B, 1 + classes, z/2, y/2, x/2)` of `(B, 1, z, y, x)`, sides of eights."""
        one = self.first(self.stem(x))
        two = self.down(one)
        up = functional.interpolate(self.deep(two), scale_factor=2, mode="nearest")
        up = self.middle(torch.cat([two, up], 1))
        up = functional.interpolate(up, scale_factor=2, mode="nearest")
        return self.head(self.up(torch.cat([one, up], 1)))


def block(into, out, edge=3, stride=1):
    return nn.Sequential(
        nn.Conv3d(into, out, edge, stride, edge // 2, bias=False),
        nn.BatchNorm3d(out),
        nn.LeakyReLU(0.1),
    )


class Tomogram:
    """Grey values of mean 0 and SD 1; particles, xyz in voxels, and the numbers of their classes."""

    def __init__(self, path, star):
        data = np.asarray(read_volume(path).data, np.float32)
        self.data = torch.from_numpy((data - data.mean()) / data.std())
        rows = read_star(star, [*COORDINATES, "cryoetganClass"]).particles
        self.places = rows[COORDINATES].to_numpy(float)
        self.classes = np.array([NAMES.index(name) for name in rows["cryoetganClass"]])

    def labels(self):
        """Class + 1 in a ball about each particle, at half resolution `(z, y, x)`."""
        shape = [n // 2 for n in self.data.shape]
        out = np.zeros(shape, np.int64)
        reach = int(np.ceil(RADIUS / 2)) + 1
        offsets = np.indices((2 * reach + 1,) * 3).reshape(3, -1).T - reach
        for place, kind in zip(self.places[:, ::-1], self.classes, strict=True):
            at = np.rint(place / 2).astype(int) + offsets
            inside = (np.linalg.norm(2 * at - place, axis=1) <= RADIUS) & (
                (at >= 0) & (at < shape)
            ).all(axis=1)
            out[tuple(at[inside].T)] = kind + 1
        return torch.from_numpy(out)


def trained(tomogram, seed, steps):
    """A picker that has seen `steps` batches of patches of one tomogram."""
    torch.manual_seed(integer_seed(seed, "picker"))
    numbers = rng(seed, "patches")
    network = UNet(len(NAMES)).to(memory_format=torch.channels_last_3d)
    optimiser = torch.optim.AdamW(network.parameters(), 3e-3, weight_decay=1e-3)
    plan = torch.optim.lr_scheduler.OneCycleLR(optimiser, 3e-3, total_steps=steps)
    weight = torch.tensor([BACKGROUND] + [1.0] * len(NAMES))
    data, labels = tomogram.data, tomogram.labels()
    for _ in range(steps):
        x, y = zip(*(patch(data, labels, numbers) for _ in range(BATCH)), strict=True)
        logits = network(torch.stack(x)[:, None])
        loss = functional.cross_entropy(logits, torch.stack(y), weight)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        plan.step()
    return network.eval()


def patch(data, labels, numbers):
    """A patch and its labels, turned by 180 degrees about any axis: wedge and hand are kept."""
    low = [2 * int(numbers.integers((n - PATCH) // 2 + 1)) for n in data.shape]
    x = data[tuple(slice(a, a + PATCH) for a in low)]
    y = labels[tuple(slice(a // 2, a // 2 + PATCH // 2) for a in low)]
    axes = [(), (0, 1), (0, 2), (1, 2)][int(numbers.integers(4))]
    # voxel 2i stands for half-resolution voxel i; mirrored it lies one further, which a roll mends
    x = torch.roll(torch.flip(x, axes), [-1] * len(axes), axes) if axes else x
    return x, torch.flip(y, axes) if axes else y


@torch.no_grad()
def picks(network, tomogram):
    """Places xyz in voxels, classes and scores, best first."""
    shares = torch.softmax(network(tomogram.data[None, None]), 1)[0].numpy()
    size = (2 * int(np.ceil(RADIUS / 2)) - 1,) * 3
    smooth = np.stack([ndimage.uniform_filter(s, size, mode="constant") for s in shares[1:]])
    score = smooth.sum(axis=0)
    peak = score == ndimage.maximum_filter(score, 2 * (APART // 2) + 1, mode="constant")
    at = np.argwhere(peak & (score > 0.02))
    at = at[np.argsort(-score[tuple(at.T)], kind="stable")][:3000]
    kept = []
    for place in at:
        if not kept or np.linalg.norm(np.array(kept) - place, axis=1).min() >= APART:
            kept.append(place)
    kept = np.array(kept).reshape(-1, 3)
    index = tuple(kept.T)
    return 2.0 * kept[:, ::-1], smooth[(slice(None), *index)].argmax(axis=0), score[index]


def f_scores(found, tomogram, threshold):
    """F of detection alone, and micro F over classes, one to one within `NEAR`."""
    places, classes, scores = found
    use = scores >= threshold
    places, classes = places[use], classes[use]
    total = len(places) + len(tomogram.places)
    if not len(places):
        return 0.0, 0.0
    alone = matches(places, tomogram.places)
    right = sum(
        matches(places[classes == k], tomogram.places[tomogram.classes == k])
        for k in range(len(NAMES))
    )
    return 2 * alone / total, 2 * right / total


def matches(first, second):
    if not len(first) or not len(second):
        return 0
    distance = cdist(first, second)
    cost = np.where(distance <= NEAR, distance - 1e3, 0.0)
    rows, columns = linear_sum_assignment(cost)
    return int((distance[rows, columns] <= NEAR).sum())


def best_threshold(found, tomogram):
    """The threshold of the highest micro F over classes."""
    levels = np.quantile(found[2], np.linspace(0, 0.98, 50)) if len(found[2]) else [0.0]
    return float(max(levels, key=lambda level: f_scores(found, tomogram, level)[1]))


def chance(tomogram, seed):
    """F of as many picks as there are particles, anywhere, of any class."""
    numbers = rng(seed, "chance")
    count = len(tomogram.places)
    places = numbers.uniform(0, tomogram.data.shape[::-1], (count, 3))
    found = places, numbers.integers(len(NAMES), size=count), np.ones(count)
    return f_scores(found, tomogram, 0.0)


def synthesized(work, checkpoints):
    """Make scenes and tomograms of them; return what each picker learns from and validates on."""
    sources = {BASELINE: ("imaging", "synthesize")}
    sources |= {path.parent.name: ("translation", "synthesize", path) for path in checkpoints}
    made = {}
    for number in (1, 2):
        scene = f"scene{number}"
        work.run(
            f"{scene}.mrc", "tomograms", "scene", *work.maps, "--copies", COPIES,
            f"--shape={SHAPE}", "--seed", number,
        )  # fmt: skip
        for what, (stage, verb, *first) in sources.items():
            model = [] if first else ["--model", "M.json"]
            name = f"{file_name(what)}_{number}"
            work.run(
                f"{name}.mrc", stage, verb, *first, f"{scene}.mrc", *model,
                "--particles", f"{scene}.star", "--labels", f"{scene}_labels.mrc",
                "--seed", number,
            )  # fmt: skip
            made.setdefault(what, []).append(name)
    return made


def file_name(what):
    return what.replace(" ", "_")


def scores(arm, choose, test, seed, steps):
    """Train a picker and score it: thresholds of a labelled tomogram, of a synthetic one."""
    learn, *second = arm
    start = time.process_time()
    network = trained(learn, seed, steps)
    spent = time.process_time() - start
    found, level = picks(network, test), best_threshold(picks(network, choose), choose)
    row = {"threshold": level, "picks": int((found[2] >= level).sum()), "seconds": spent}
    row["detection"], row["classes"] = f_scores(found, test, level)
    if second:
        level = best_threshold(picks(network, second[0]), second[0])
        row["detection blind"], row["classes blind"] = f_scores(found, test, level)
    return row


def interval(values):
    """Mean and half of the 95 % interval over seeds (t distribution)."""
    if len(values) < 2:
        return np.mean(values), float("nan")
    return np.mean(values), stats.t.ppf(0.975, len(values) - 1) * stats.sem(values)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--look", choices=sorted(LOOKS), default="plain")
    parser.add_argument("--folder", type=Path, default=Path("results/synthesis"))
    parser.add_argument("--checkpoint", type=Path, nargs="*", default=[])
    parser.add_argument("--by-seed", action="store_true")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=250)
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args()
    if "CRYOETGAN_TEST_DATA" not in os.environ:
        print("CRYOETGAN_TEST_DATA names no folder: nothing to measure on")
        return
    torch.set_num_threads(given.threads)
    data = Path(os.environ["CRYOETGAN_TEST_DATA"])
    work = Set2(given.folder / given.look, data, given.look)
    work.prepare()
    made = synthesized(work, [path.resolve() for path in given.checkpoint])

    def opened(name, star=None):
        return Tomogram(work.folder / f"{name}.mrc", work.folder / f"{star or name}.star")

    choose, test = (opened(f"t{i}", f"truth{i}") for i in (2, 3))
    arms = {"real labels": [opened("t1", "truth1")]}
    arms |= {what: [opened(name) for name in names] for what, names in made.items()}
    for what, (learn, *_) in arms.items():
        print(f"{what}: {len(learn.places)} particles to learn from")
    print("chance: detection {:.3f}, classes {:.3f}".format(*chance(test, 0)))
    networks = [path.parent.name for path in given.checkpoint]
    results = {}
    for seed in range(given.seeds):
        turn = networks[seed % len(networks)] if given.by_seed else None
        for what, arm in arms.items():
            if turn and what in networks and what != turn:
                continue
            path = work.folder / f"picker_{file_name(what)}_{seed}_{given.steps}.json"
            if not path.exists():
                path.write_text(json.dumps(scores(arm, choose, test, seed, given.steps)))
            row = json.loads(path.read_text())
            results.setdefault("all networks" if what == turn else what, []).append(row)
            shown = "  ".join(f"{key} {value:.3f}" for key, value in row.items())
            print(f"seed {seed}  {what:20} {shown}", flush=True)
    print(f"F on dev_set2_3, look {given.look}, {given.seeds} seeds, 95 % interval:")
    for what, rows in results.items():
        for key in [key for key in rows[0] if key.startswith(("detection", "classes"))]:
            mean, half = interval([row[key] for row in rows])
            above = ""
            if key in results[BASELINE][0] and what != BASELINE:
                pairs = zip(rows, results[BASELINE], strict=True)
                above = "  above {}: {:+.3f} +- {:.3f}".format(
                    BASELINE, *interval([row[key] - before[key] for row, before in pairs])
                )
            print(f"{what:20} {key:16} {mean:.3f} +- {half:.3f}{above}")


if __name__ == "__main__":
    main()
