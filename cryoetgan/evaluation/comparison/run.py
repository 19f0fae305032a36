"""Run a comparison: every method over the same seeds, with controls and paired intervals."""

import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

from cryoetgan.evaluation.classifiers.train import TrainingOptions
from cryoetgan.evaluation.comparison.config import ComparisonConfig
from cryoetgan.evaluation.comparison.table import tabulate
from cryoetgan.evaluation.comparison.trials import ComparisonData, plan_trials, run_trial
from cryoetgan.io.files import read_json, write_json
from cryoetgan.progress import track

log = logging.getLogger("cryoetgan")


def run_comparison(
    config: ComparisonConfig, folder: Path, output: Path, options: TrainingOptions
) -> dict[str, Any]:
    """Train and test all classifiers; return the table.

    Finished trials are kept in `runs.json` in the output folder, so an interrupted comparison
    resumes. Paths of `config` are relative to `folder`. `options` gives the device, and a seed
    that is added to the number of each trial.
    """
    data = ComparisonData(config, folder)
    unknown = [name for name, m in config.methods.items() if m.uses_picks and not m.without]
    if config.leave_one_out and unknown:
        log.warning(
            "no class is left out for %s, because their picks may contain it; give sets made "
            "`without` it, or `uses_picks: false`",
            ", ".join(unknown),
        )
    path = output / "runs.json"
    known: dict[str, Any] = dict(read_json(path)) if path.exists() else {}
    results: dict[tuple[str, ...], list[Any]] = {}
    trials = list(plan_trials(data))
    for trial in track(trials, "comparison"):
        own = replace(
            options,
            network=config.network,
            epochs=config.epochs,
            seed=options.seed + trial.seed,
            title=f"{'/'.join(trial.name)}, seed {trial.seed}",
        )
        key = data.key(trial, own)
        if key not in known:
            known[key] = run_trial(trial, data, own)
            write_json(path, known)
        results.setdefault(trial.name, []).append(known[key])
    return tabulate(config, results, data.real_test, data.classify_by_templates())
