"""The tables and pictures of docs/benchmark.md, from the results of `training_sets.py`.

    python benchmarks/training_sets_table.py [--folder F] [--test 3] [-o docs/benchmark.md]

Writes the pictures to the folder `images` beside the page: one under the page's name, and slices
of the denoised variant as `look.png`.
"""

import argparse
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from set2 import LOOKS, MAPS

from cryoetgan.io.files import read_json, write_text
from cryoetgan.io.volume_set import read_volume_set

NAMES = {
    "conventional_snr0.01": "conventional simulation, SNR 0.01",
    "conventional_snr0.1": "conventional simulation, SNR 0.1",
    "conventional_snr0.5": "conventional simulation, SNR 0.5",
    "noise_only": "fitted noise, no transfer",
    "no_neighbours": "fitted simulation, no neighbours",
    "fitted": "fitted simulation",
    "real_background": "fitted simulation, in real background",
    "pseudo": "picks, classified by template matching",
    "recommended": "`recommended`",
    "paper_half": "`paper` at half width, 600 steps",
    "released_half": "`released` at half width, 600 steps",
}

PICTURED_VOLUME = 3
"""Index of the pictured volume of each class."""


def share(found, digits=3):
    """Return a value and its interval as text."""
    low, high = found["interval"]
    return f"{found['value']:.{digits}f} ({low:.{digits}f} to {high:.{digits}f})"


def sections(looks):
    """Return the Markdown of all looks."""
    lines = []
    for look, table in looks.items():
        few = any("mixed" in row for row in table["methods"])
        titles = ["training set", "volumes", "GAN-train", "minus fitted simulation", "GAN-test"]
        titles += (
            [f"GAN-train with {table['few_shot']} real subtomograms of each class"] if few else []
        )
        lines += [f"## {look}", "", f"| {' | '.join(titles)} |", "|---" * len(titles) + "|"]
        for row in table["methods"]:
            above = share(row["minus_baseline"]) if "minus_baseline" in row else ""
            cells = [NAMES.get(row["name"], row["name"]), row["n_train"], share(row["gan_train"])]
            cells += [above, share(row["gan_test"])]
            cells += [share(row["mixed"]) if "mixed" in row else ""] if few else []
            lines.append(f"| {' | '.join(map(str, cells))} |")
        real = [("labelled subtomograms of one tomogram", table["upper_bound"])]
        real += [(f"{point['per_class']} of each class", point) for point in table["curve"]]
        for name, found in real:
            rest = " |" * (len(titles) - 3)
            lines.append(f"| {name} | {found['n_train']} | {share(found)} |{rest}")
        if "template_matching" in table:
            found = share(table["template_matching"])
            lines += [
                "",
                f"Picks of the test tomogram, classified by the best template, without a classifier: {found}.",
            ]
        if "background" in table:
            lines += ["", f"A classifier that sees only the background: {share(table['background'])}; "
                      f"the commonest class is {table['chance']:.3f} of the subtomograms."]  # fmt: skip
        seeds = table.get("leave_one_out_seeds", table["seeds"])
        lines += ["", *left_out(table.get("leave_one_out", {}), seeds)]
    return lines


def left_out(table, seeds):
    """Return the accuracy on each left-out class."""
    lines = []
    for name, classes in table.items():
        lines += [
            "Accuracy on a class without picks, and on the other classes "
            f"({NAMES.get(name, name)}, {seeds} seeds):",
            "",
            "| class without picks | trained on its synthetic and the others' real subtomograms "
            "| trained on synthetic ones alone | other classes, with real ones "
            "| other classes, synthetic alone |",
            "|---|---|---|---|---|",
        ]
        for new, found in classes.items():
            pair = found["with_real"], found["synthetic"]
            cells = [share(one, 2) for one in (*pair, *(one["others"] for one in pair))]
            lines.append(f"| {new} | {' | '.join(cells)} |")
        lines.append("")
    return lines


def draw(looks, path):
    """Draw GAN-train of every method, a panel a variant, labelled subtomograms as a line."""
    figure = Figure(figsize=(3.1 * len(looks), 3.2), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(1, len(looks), sharey=True, squeeze=False)[0]
    longest = max(looks.values(), key=lambda table: len(table["methods"]))
    order = [row["name"] for row in longest["methods"]][::-1]
    for panel, (look, table) in zip(panels, looks.items(), strict=True):
        rows = {row["name"]: row["gan_train"] for row in table["methods"]}
        for place, name in enumerate(order):
            if name in rows:
                low, high = rows[name]["interval"]
                panel.plot([low, high], [place, place], color="tab:blue", lw=2)
                panel.plot(rows[name]["value"], place, "o", color="tab:blue", ms=5)
        low, high = table["upper_bound"]["interval"]
        panel.axvspan(low, high, color="tab:orange", alpha=0.25, lw=0)
        panel.axvline(table["upper_bound"]["value"], color="tab:orange", lw=1.5)
        panel.axvline(table["chance"], color="0.6", lw=1, ls=":")
        panel.set(title=look, xlim=(0, 1), xlabel="accuracy on target subtomograms")
        panel.set_yticks(
            range(len(order)), [NAMES.get(name, name).replace("`", "") for name in order]
        )
    figure.suptitle(
        "Orange: labelled subtomograms of one tomogram; dotted: the commonest class", size=9
    )
    figure.savefig(path, dpi=110)


def draw_slices(folder, path):
    """Draw central slices of each class: target, network and fitted simulation."""
    rows = {
        "target": "real1",
        "recommended": "made_recommended_0",
        "fitted simulation": "fitted",
    }
    names = sorted(MAPS)
    figure = Figure(figsize=(1.3 * len(names), 4.1), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(len(rows), len(names))
    for line, (title, name) in zip(panels, rows.items(), strict=True):
        kept = read_volume_set(folder / f"{name}.star")
        for panel, what in zip(line, names, strict=True):
            found = np.flatnonzero((kept.table["cryoetganClass"] == what).to_numpy())
            volume = np.asarray(kept.volumes[found[: PICTURED_VOLUME + 1][-1]], float)
            scaled = (volume - volume.mean()) / volume.std()
            panel.imshow(scaled[len(scaled) // 2], cmap="gray", vmin=-2.5, vmax=2.5)
            panel.set(xticks=[], yticks=[])
            if name == "real1":
                panel.set_title(what.split("_")[0], size=8)
        line[0].set_ylabel(title, size=9)
    figure.savefig(path, dpi=110)


HEAD = """# Training sets for a classifier

![GAN-train of every training set, for each variant of the tomograms](images/benchmark.png)

`benchmarks/training_sets.py`, set 2 of the test data: seven kinds of particles in boxes of 28 voxels at 10 Å.
Everything is made from dev_set2_1 and its own picks, without labels; particles lie up to one voxel off centre. The
test set are the true subtomograms of dev_set2_{test}, with {seeds} classifier seeds.

- **GAN-train**: trained on the set, tested on target subtomograms. **GAN-test**: trained on the labelled
  subtomograms, tested on the set.
- Brackets hold 95 % intervals, over seeds and blocks of the tomogram; intervals of differences are paired.
- `denoised`, `defocus` and `narrow` are the same tomograms made harder (`benchmarks/imaging_variants.py`): after a
  learned denoiser; with a user-specified defocus that is wrong by 1 µm; with tilts of ±45° used as ±60°.
"""
SLICES = """- `recommended`: one training for each seed.

One subtomogram of each class of the denoised variant, beside target subtomograms and the fitted simulation that
`recommended` started from:

![Slices of the denoised variant](images/look.png)
"""


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--folder", type=Path, default=Path("results/training_sets"))
    parser.add_argument("--test", type=int, default=3)
    parser.add_argument("-o", "--output", type=Path, default=Path("docs/benchmark.md"))
    options = parser.parse_args()
    files = {
        look: options.folder / look / f"compare_{options.test}/comparison.json" for look in LOOKS
    }
    looks = {look: read_json(path) for look, path in files.items() if path.exists()}
    for look, table in looks.items():
        apart = options.folder / look / f"left_out_{options.test}/comparison.json"
        if apart.exists():
            found = read_json(apart)
            table["leave_one_out"] = found["leave_one_out"]
            table["leave_one_out_seeds"] = found["seeds"]
    if not looks:
        print(f"{options.folder}: holds no comparison; run benchmarks/training_sets.py")
        return
    seeds = next(iter(looks.values()))["seeds"]
    text = HEAD.format(test=options.test, seeds=seeds)
    pictured = options.folder / "denoised"
    if (pictured / "made_recommended_0.star").exists():
        draw_slices(pictured, options.output.with_name("images") / "look.png")
        text += SLICES
    write_text(options.output, "\n".join([text, *sections(looks)]).rstrip() + "\n")
    draw(looks, options.output.with_name("images") / f"{options.output.stem}.png")


if __name__ == "__main__":
    main()
