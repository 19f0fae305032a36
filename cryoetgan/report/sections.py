"""What each section of the page shows, from a run's results."""

import csv
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import yaml

from cryoetgan import images
from cryoetgan.errors import UserError
from cryoetgan.evaluation.metrics.spectra import shell_power
from cryoetgan.io.files import sidecar
from cryoetgan.io.star import COORDINATES
from cryoetgan.io.volume_set import VolumeSet
from cryoetgan.physics.acquisition import Acquisition, read_acquisition
from cryoetgan.report import plots, slices
from cryoetgan.report.evaluation_results import Accuracy, short
from cryoetgan.report.picks_agreement import Agreement, agree
from cryoetgan.report.results import BESIDE, Results
from cryoetgan.report.verdict import second_opinion
from cryoetgan.seeds import rng

SPECTRUM_SAMPLE = 150
BLIND = 20
TABLE_ROWS = 200
MATCH_RADIUS = 80.0
"""Angstrom, where the configuration does not say: a pick this close to a mark is that particle."""
SPECTRA = {
    "real": "real",
    "generated": "generated",
    "physics": "physics, typed in",
    "fitted physics": "physics, fitted",
}
ELSEWHERE = ("evaluation", "report")
"""Stages whose warnings are not taken from their logs: they stand in what they write."""
ABLATIONS, EPOCHS = "ablations.csv", "epochs.csv"
COMPARISON = "evaluation/comparison/comparison.csv"
METRICS = {
    "kid": ("0", "Kernel distance of classifier features to real crops; unbiased for small sets."),
    "fid": ("0", "Fréchet distance of classifier features; falls with the number of volumes."),
    "is": ("real", "Inception score of the real-trained classifier: sure and varied answers."),
    "precision": ("real half", "Share of generated volumes among the real ones' neighbours."),
    "recall": ("real half", "Share of real crops among the generated ones' neighbours."),
    "density": (
        "1",
        "How thickly real crops surround the generated ones; far above 1: no variety.",
    ),
    "coverage": ("real half", "Share of real crops with a generated neighbour."),
    "ssim_class": ("real", "Structural similarity to a real crop of the same class."),
    "ssim_best": ("", "Structural similarity to the most similar of a few real crops."),
    "ssim_cycle": ("1", "Structural similarity of a density to its way there and back."),
    "power_ratio": ("1", "Power over the real crops' power, in the worst shell."),
    "sd_ratio": ("1", "Spread of grey values over the real crops'."),
    "pose_recovery": ("1", "Share that still fits the density it was made of best."),
    "c2st_auc": ("0.5", "How well a fresh classifier tells generated from real."),
}


def configuration(results: Results) -> dict[str, Any]:
    """Return config.yaml as it stands there; empty where it is not there or no YAML."""
    try:
        content = yaml.safe_load(results.text("config.yaml"))
    except yaml.YAMLError:
        results.gaps.append("config.yaml: is not YAML")
        return {}
    return content if isinstance(content, dict) else {}


def _section(config: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found = config.get(name)
    return found if isinstance(found, Mapping) else {}


def chosen_preset(presets: list[str], config: Mapping[str, Any]) -> str:
    """Return the preset the page shows: the configuration's, else the first that is there."""
    wanted = str(_section(config, "translation").get("preset", ""))
    return wanted if wanted in presets else (presets or [""])[0]


def training(results: Results, preset: str, config: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """Return title and plot of the training curves, of each group's network where there are such."""
    per_group = bool(_section(config, "translation").get("per_group"))
    logs = results.training_logs(preset, per_group) if preset else {}
    return [
        (f"{group}: {title}" if group else title, plot)
        for group, log in logs.items()
        for title, plot in plots.training_curves(log)
    ]


def volume_sets(results: Results, preset: str) -> tuple[dict[str, VolumeSet], str]:
    """Return the sets that are there, real first, and what the real crops' classes are."""
    real = results.volume_set("particles/annotated.star", optional=True)
    marks = "template" if real is None else "truth" if is_simulated(results) else "marked"
    made = f"translation/{preset}"
    found = {
        "real": real or results.volume_set("particles/subtomograms.star"),
        "physics": results.volume_set("imaging/simulated.star"),
        "fitted physics": results.volume_set("imaging/fitted.star", optional=True),
        "generated": results.volume_set(f"{made}/generated.star") if preset else None,
        "density": results.volume_set("densities/poses.star"),
        "back": results.volume_set(f"{made}/cycled.star", optional=True) if preset else None,
    }
    for name, stem in (("dropout SD", "dropout_sd"), ("noise SD", "noise_sd")):
        star = f"{made}/uncertainty/{stem}.star"
        found[name] = results.volume_set(star, optional=True) if preset else None
    return {name: volumes for name, volumes in found.items() if volumes is not None}, marks


def choice(results: Results) -> tuple[str, str]:
    """Return which set is exported, `generated` or `fitted`, and why; "" where that is not said."""
    content = results.json("evaluation/choice.json", optional=True)
    if not content:
        return "generated", ""
    shipped, why = content.get("exported"), content.get("reason")
    if shipped not in ("generated", "fitted") or not isinstance(why, str):
        results.gaps.append("evaluation/choice.json: is not as `evaluation choose` writes it")
        return "generated", ""
    return shipped, why


def reasons(shipped: str, why: str, found: Mapping[str, Accuracy], marks: str) -> list[str]:
    """Return why that set is exported, and what marked crops say to it; none without a choice."""
    if not why:
        return []
    said = second_opinion(shipped, found, marks)
    return [f"What is exported, and why: {why}", *([said] if said else [])]


def warned(results: Results) -> list[str]:
    """Return what the steps warned of, without what other parts of the page say."""
    said: dict[str, list[str]] = {}
    for step, text in results.log_lines("WARNING "):
        if step.split("/")[0] not in ELSEWHERE and not step.endswith("/uncertainty"):
            said.setdefault(text, []).append(step)
    return [f"{', '.join(steps)}: {text}" for text, steps in said.items()]


def failed(results: Results) -> list[str]:
    """Return what the steps that failed said last."""
    return [f"{step} failed: {text}" for step, text in results.log_lines("cryoetgan: ")]


def is_simulated(results: Results) -> bool:
    """Return whether the tomograms were simulated: they then have a truth beside them."""
    return any(path.with_suffix(".star").exists() for path in results.tomograms())


def classes(sets: Mapping[str, VolumeSet]) -> list[str]:
    """Return all classes' names."""
    return sorted({str(name) for volumes in sets.values() for name in volumes.classes()})


def spectra(sets: Mapping[str, VolumeSet]) -> plots.Plot | None:
    """Return the power spectra of real, generated and physics volumes."""
    power, shown = {}, None
    for name in SPECTRA:
        if name not in sets or (shown is not None and sets[name].box != shown.box):
            continue
        shown = shown or sets[name]
        chosen = np.unique(np.linspace(0, len(sets[name]) - 1, SPECTRUM_SAMPLE).astype(int))
        data = np.nan_to_num(np.asarray(sets[name].volumes[chosen], np.float32))
        power[SPECTRA[name]] = shell_power(data)
    return plots.power_spectra(power, shown.voxel_size, shown.box) if shown else None


def blind_test(
    sets: Mapping[str, VolumeSet], made: str = "generated", seed: int = 0
) -> list[dict[str, Any]]:
    """Return slices of real volumes and of the set `made` in random order, for the reader to tell."""
    if "real" not in sets or made not in sets:
        return []
    numbers = rng(seed, "report", "blind")
    each = min(BLIND // 2, *(len(sets[name]) for name in ("real", made)))
    items = []
    for name in ("real", made):
        volumes = sets[name]
        chosen = np.sort(numbers.permutation(len(volumes))[:each])
        data = np.asarray(volumes.volumes[chosen], np.float32)
        low, high = images.grey_range(data)  # each set its own: brightness gives nothing away
        items += [
            {"image": slices.single(volume, low, high), "real": name == "real"} for volume in data
        ]
    return [items[i] for i in numbers.permutation(len(items))]


def _by_tomogram(results: Results, name: str) -> tuple[Any, Any]:
    """Return the selected and the marked particles of one tomogram (None where there are none)."""
    columns = ["rlnTomoName", "cryoetganClass", *COORDINATES]
    selected = results.table("particles/selected.star", columns)
    if selected is not None:
        selected = selected[selected["rlnTomoName"].astype(str) == name]
    marked = results.table(f"particles/{name}_annotations.star", columns[1:])
    return selected, marked


def tomogram_sections(results: Results, config: Mapping[str, Any], shown: int) -> dict[str, Any]:
    """Return sections of the first tomograms with selected and marked particles."""
    box = int(_section(config, "densities").get("box") or 28)
    found = []
    tomograms = results.tomograms()
    for path in tomograms[:shown]:
        volume = results.tomogram(path)
        if volume is not None:
            selected, marked = _by_tomogram(results, path.stem)
            found.append(
                slices.section(path.stem, volume.data, volume.voxel_size, selected, marked, box)
            )
    return {"sections": found, "others": max(len(tomograms) - shown, 0)}


def synthetic_sections(
    results: Results, preset: str, config: Mapping[str, Any], shown: int
) -> dict[str, Any]:
    """Return sections of the first synthetic tomograms with their truth, and what made them."""
    box = int(_section(config, "densities").get("box") or 28)
    learnt, physics = f"translation/{preset}/tomograms", "imaging/tomograms"
    folder = learnt if any(results.folder.glob(f"{learnt}/*.mrc")) else physics
    paths = sorted(results.folder.glob(f"{folder}/*.mrc"))
    tomograms = [path for path in paths if not path.stem.endswith(BESIDE)]
    found = []
    for path in tomograms[:shown]:
        volume = results.tomogram(path)
        truth = results.table(f"{folder}/{path.stem}.star", [*COORDINATES, "cryoetganClass"])
        if volume is not None:
            found.append(
                slices.section(path.stem, volume.data, volume.voxel_size, truth, None, box)
            )
    made = f"by preset {preset}" if folder == learnt else "by fitted physics alone"
    others = max(len(tomograms) - shown, 0)
    return {"sections": found, "others": others, "folder": folder, "made": made}


def agreement(results: Results, config: Mapping[str, Any]) -> list[Agreement]:
    """Return how well selected and marked particles agree, a row a tomogram."""
    radius = float(_section(config, "evaluation").get("match_radius") or MATCH_RADIUS)
    found = []
    for path in results.tomograms():
        selected, marked = _by_tomogram(results, path.stem)
        volume = results.tomogram(path) if selected is not None and marked is not None else None
        if volume is not None:
            found.append(agree(path.stem, selected, marked, radius / volume.voxel_size))
    return found


def purity(results: Results) -> list[tuple[str, Mapping[str, Any]]]:
    """Return what a blindly marked sample says: the whole set, then each class."""
    content = results.json("particles/purity.json", optional=True)
    rows = [("all", content), *sorted(_section(content, "classes").items())]
    wanted = {"purity", "interval", "particles", "n_marked"}
    return [(name, row) for name, row in rows if isinstance(row, Mapping) and wanted <= set(row)]


def tables(results: Results) -> list[tuple[str, list[list[str]]]]:
    """Return the evaluation's CSV tables, heading first.

    Ablations, curves by epoch and a competition are left out: they have a place of their own.
    """
    found = []
    for path in sorted(results.folder.glob("evaluation/**/*.csv")):
        name = path.relative_to(results.folder).as_posix()
        if path.name in (ABLATIONS, EPOCHS) or name == COMPARISON:
            continue
        rows = [row for row in csv.reader(results.text(name).splitlines()) if row]
        if len(rows) > 1:
            found.append((name, _intervals_folded(rows[:TABLE_ROWS])))
    return found


def _intervals_folded(rows: list[list[str]]) -> list[list[str]]:
    """Return a table with x, x_low and x_high in one column: value (low to high)."""
    heading = rows[0]
    place = {name: i for i, name in enumerate(heading)}
    bounds = {
        name: (place[f"{name}_low"], place[f"{name}_high"])
        for name in heading
        if {f"{name}_low", f"{name}_high"} <= set(place)
    }
    inner = {index for pair in bounds.values() for index in pair}
    kept = [i for i in range(len(heading)) if i not in inner]
    folded = [[heading[i] for i in kept]]
    for row in rows[1:]:
        if len(row) != len(heading):
            return rows  # not a table of this kind: shown as it is
        cells = []
        for i in kept:
            low, high = (row[j] for j in bounds.get(heading[i], (i, i)))
            has = heading[i] in bounds and row[i] and low and high
            cells.append(f"{_brief(row[i])} ({_brief(low)} to {_brief(high)})" if has else row[i])
        folded.append(cells)
    return folded


def _brief(text: str) -> str:
    try:
        return short(float(text))
    except ValueError:
        return text


def ablation_rows(results: Results) -> list[dict[str, Any]]:
    """Return the rows of `evaluation ablations`' table, none where it is not there."""
    return [
        row
        for path in sorted(results.folder.glob(f"evaluation/**/{ABLATIONS}"))
        for row in results.rows(path.relative_to(results.folder).as_posix())
    ]


def dataset(results: Results, sets: Mapping[str, VolumeSet]) -> list[list[str]]:
    """Return how many volumes of each class and set there are, heading first (Table 1)."""
    columns: dict[str, Mapping[str, int]] = {}
    for name, label in (("subtomograms", "picked"), ("marked", "marked")):
        table = results.table(f"particles/{name}.star", ["rlnTomoName", "cryoetganClass"])
        if table is None:
            continue
        if "cryoetganSplit" not in table:
            table = table.assign(cryoetganSplit="train")
        for split in ("train", "validation", "test"):
            part = table[table["cryoetganSplit"].astype(str) == split]
            if len(part):
                columns[f"{label}, {split}"] = _sizes(part)
    for name in ("density", "physics", "fitted physics", "generated"):
        if name in sets:
            columns[SPECTRA.get(name, name)] = _sizes(sets[name].table)
    kinds = sorted({kind for sizes in columns.values() for kind in sizes})
    rows = [[kind, *(str(sizes.get(kind, 0)) for sizes in columns.values())] for kind in kinds]
    total = ["all", *(str(sum(sizes.values())) for sizes in columns.values())]
    return [["class", *columns], *rows, total] if rows else []


def boxes(sets: Mapping[str, VolumeSet]) -> list[str]:
    """Return box and voxel size of the sets, one line where all agree."""
    said: dict[str, list[str]] = {}
    for name, volumes in sets.items():
        text = f"{volumes.box} voxels of {volumes.voxel_size:.2f} angstrom"
        said.setdefault(text, []).append(name)
    if len(said) == 1:
        return [f"All boxes: {next(iter(said))} an edge."]
    return [f"{', '.join(names)}: {text} an edge." for text, names in said.items()]


def tomogram_rows(results: Results) -> list[list[str]]:
    """Return size and recording of each tomogram, heading first."""
    rows = [["tomogram", "size, voxels", "voxel, \u00c5", "tilts", "defocus, \u00b5m", "CTF"]]
    for path in results.tomograms():
        volume = results.tomogram(path)
        if volume is None:
            continue
        try:
            recorded = read_acquisition(path) or Acquisition()
        except UserError as error:
            results.gaps.append(f"tomograms/{path.name}.json: {error}")
            continue
        size = " x ".join(str(n) for n in volume.data.shape[::-1])
        # without a record nothing is known: the standard values would be invented
        if not sidecar(path).exists():
            rows.append([path.stem, size, f"{volume.voxel_size:.2f}", *["not recorded"] * 3])
            continue
        tilts = f"{recorded.tilt_low:g}\u00b0 to {recorded.tilt_high:g}\u00b0"
        defocus = "unknown" if recorded.defocus is None else f"{recorded.defocus:g}"
        ctf = recorded.ctf
        rows.append([path.stem, size, f"{volume.voxel_size:.2f}", tilts, defocus, ctf])
    return rows if len(rows) > 1 else []


def _sizes(table: Any) -> Mapping[str, int]:
    names = table["cryoetganClass"].astype(str)
    return {str(name): int(count) for name, count in names.value_counts().items()}


def timings(results: Results) -> dict[str, Any]:
    """Return time and memory of each step, the longest first, and their sums."""
    rows = sorted(results.timings(), key=lambda row: -_or_zero(row["seconds"]))
    return {
        "rows": rows,
        "seconds": sum(_or_zero(row["seconds"]) for row in rows),
        "memory": max((_or_zero(row["memory"]) for row in rows), default=0.0),
    }


def _or_zero(value: float) -> float:
    return value if math.isfinite(value) else 0.0
