"""Controls of the verdict: white noise, an uncrowded simulation, a wrong and a mirrored structure.

    python benchmarks/verdict_controls.py RUN [--wrong MAP] [--folder F]

RUN is the results folder of a run, such as results/real_cell (real_cell.py). Its particles are
replaced by the picks of white noise, of a wrong structure (MAP, with the box and voxel size of the
maps) and of the mirrored maps; its set by white noise and by the conventional simulation, which has
no neighbours. Each control is judged with the other results of the run as they are, without annotated
crops: the selection at a false discovery rate of 5 %, the checks, and the level. An interrupted run
resumes.
"""

import argparse
import subprocess
import sys
from pathlib import Path

import numpy as np
import torch

from cryoetgan.errors import UserError
from cryoetgan.evaluation.hand import compare_hands
from cryoetgan.evaluation.labelled_sets import load_labelled
from cryoetgan.evaluation.measurement.c2st import c2st_auc
from cryoetgan.evaluation.measurement.metrics_io import MetricInputs
from cryoetgan.io.mrc import read_maps, read_volume, write_volume
from cryoetgan.io.star import read_star
from cryoetgan.io.volume_set import read_volume_set
from cryoetgan.particles.curation.select import SelectOptions, select
from cryoetgan.particles.matching.template import SearchOptions
from cryoetgan.physics.acquisition import read_acquisition
from cryoetgan.report.evaluation_json import parse_hands, parse_metrics
from cryoetgan.report.label_free import check_hand, check_rates, check_two_sample
from cryoetgan.report.verdict import conclude, find_level

MIRRORED = {"cryoetganScore": "cryoetganDecoyScore", "cryoetganDecoyScore": "cryoetganScore"}
"""Columns of scores that the mirror image of each map exchanges."""


class Controls:
    """A run, its tomogram, and the folder of the controls."""

    def __init__(self, run, folder):
        self.run, self.folder = run, folder
        (self.scores, *_) = sorted(run.glob("particles/*_scores.star"))
        self.name = self.scores.name.removesuffix("_scores.star")
        self.tomogram = run / f"tomograms/{self.name}.mrc"
        self.maps = sorted(run.glob("densities/*.mrc"))
        self.box = read_volume(self.maps[0]).data.shape[0]

    def score(self, tomogram, maps, output):
        """Score the picks of the run in another tomogram, or with other maps."""
        if not output.exists():
            words = ["particles", "score", tomogram, self.run / f"particles/{self.name}_picks.star"]
            words += [word for path in maps for word in ("--template", path)]
            low, high = read_acquisition(self.tomogram).tilts
            words += [f"--tilts={low},{high}", "-o", output]
            subprocess.run([sys.executable, "-m", "cryoetgan", *map(str, words)], check=True)
        return read_star(output).particles

    def noise_scores(self):
        path = self.folder / f"{self.name}.mrc"
        if not path.exists():
            volume = read_volume(self.tomogram)
            rng = np.random.default_rng(0)
            noise = rng.standard_normal(volume.data.shape, np.float32)
            write_volume(path, noise, volume.voxel_size)
        return path, self.score(path, self.maps, self.folder / "noise_scores.star")

    def particles(self, wrong):
        """Yield each control of the particles: tomogram, maps and scores."""
        table = read_star(self.scores).particles
        yield "as it is", self.tomogram, self.maps, table
        yield "mirrored", self.tomogram, self.maps, table.rename(columns=MIRRORED)
        path, scores = self.noise_scores()
        yield "white noise", path, self.maps, scores
        if wrong:
            scores = self.score(self.tomogram, [wrong], self.folder / "wrong_scores.star")
            yield "wrong structure", self.tomogram, [wrong], scores

    def sets(self):
        """Yield each set and its volumes."""
        fitted = load_labelled(read_volume_set(self.run / "imaging/fitted.star"))
        simulated = load_labelled(read_volume_set(self.run / "imaging/simulated.star"))
        real = load_labelled(read_volume_set(self.run / "particles/subtomograms.star"))
        noise = np.random.default_rng(1).standard_normal(fitted.volumes.shape, np.float32)
        yield "fitted simulation", real, fitted
        yield "conventional simulation", real, simulated
        scaled = noise * real.volumes.std() + real.volumes.mean()
        yield "white noise", real, type(fitted)(scaled, fitted.names, fitted.table)


def judge_hand(tomogram, maps, table):
    """The hand test of scores."""
    volume = read_volume(tomogram)
    densities = read_maps(maps, volume.voxel_size, tomogram)
    content = compare_hands(volume, table, densities, SearchOptions(lowpass=30.0), 0.05)
    tests, warnings = parse_hands(content)
    return check_hand(tests[""] if tests[""].n else None, {"t": tests}), warnings


def rates_of(table, box, fdr):
    """The false discovery rates of the selected particles by class; the message of a refusal."""
    try:
        chosen = select(table, SelectOptions(top=10**6, box=box, fdr=fdr))
    except UserError as error:
        return {}, str(error)
    rates = chosen.groupby("cryoetganClass")["cryoetganQValue"].max().to_dict()
    return rates, f"{len(chosen)} selected"


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("--wrong", type=Path)
    parser.add_argument("--folder", type=Path, default=Path("results/verdict_controls"))
    given = parser.parse_args()
    given.folder.mkdir(parents=True, exist_ok=True)
    controls = Controls(given.run, given.folder)
    device = torch.device("cpu")
    tests = {}
    for name, real, volumes in controls.sets():
        inputs = MetricInputs(real, volumes, voxel_size=1.0)
        record = c2st_auc(inputs, {}, 0, device)
        metric = parse_metrics({"auc": record})["auc"] if record else None
        tests[name] = check_two_sample(metric, "simulated")
        print(f"set {name}: {tests[name].tone}, {tests[name].text}", flush=True)
    verdict = conclude({}, "templates", False, "fitted")
    for name, tomogram, maps, table in controls.particles(given.wrong):
        rates, said = rates_of(table, controls.box, 0.05)
        print(f"particles {name}, 5 %: {said}")
        if not rates:
            rates, said = rates_of(table, controls.box, 1)
            print(f"particles {name}, all: {said}")
        hand, warnings = judge_hand(tomogram, maps, table)
        print(f"  hand: {hand.tone}, {hand.text} {warnings}")
        kinds = tests if name == "as it is" else {"fitted simulation": tests["fitted simulation"]}
        for kind, test in kinds.items():
            checks = [check_rates(rates), hand, test]
            level = find_level(verdict, checks, "templates")
            tones = ", ".join(check.tone for check in checks)
            print(f"  with {kind} ({tones}): {level.title}. {level.reason}", flush=True)


if __name__ == "__main__":
    main()
