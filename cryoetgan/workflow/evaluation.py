"""The plan of evaluation: classifiers, metrics, ablations, comparison."""

import hashlib
import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cryoetgan.evaluation.ablations import ABLATIONS
from cryoetgan.workflow.shell_options import format_options

if TYPE_CHECKING:
    from cryoetgan.workflow.plan import Plan

SELECTION_METRICS = ("kid", "c2st_auc", "sd_ratio", "pose_recovery")
"""Metrics that decide which set is exported."""
MAX_CURVE_EPOCHS = 60
"""Limit of the epochs on a small training set, which keep the number of steps."""
ABLATED_SETS = ("noise_only", "no_neighbours", "real_background")
"""Ablations of fitted physics in `snakemake comparison`."""


@dataclass(frozen=True)
class Classification:
    """One classifier: trained on one volume set, tested on another."""

    train: str
    test: str
    train_split: str | None = None
    test_split: str | None = None
    network: str = "small"
    count: int | None = None
    epochs: int | None = None
    reuse: str | None = None
    train_other: tuple[str, ...] = ()
    test_other: tuple[str, ...] = ()


@dataclass(frozen=True)
class Measurement:
    """Metrics of a generated set against real crops."""

    generated: str
    real: str
    features: str
    real_split: str = "test"
    cycle: str | None = None
    metrics: tuple[str, ...] = ()


class EvaluationPlan:
    """Classifiers and metrics by file name below `evaluation/`.

    Attributes
    ----------
    run_classifications, run_measurements : dict
        Those that the report shows.
    classifications, measurements : dict
        All, ablations (`ablations/<ablation>/<seed>/gan_train`) included.
    """

    def __init__(self, plan: "Plan") -> None:
        self.plan, self.config = plan, plan.config.evaluation
        self.choice = plan.results("evaluation/choice.json")
        splits = {row.split for row in plan.tomograms.values()}
        validation = "validation" in splits and not plan.split_by_blocks
        self.unseen_split = "validation" if validation else "test"
        # with annotations, the choice is made on picks that no label touched
        self.has_unlabelled_picks = bool(plan.annotated) or validation
        self.run_classifications = self._run_classifications()
        self.run_measurements = self._run_measurements()
        self.classifications, self.measurements = self._with_ablations()

    def _trained_on(self, train: str, split: str | None = None) -> Classification:
        network, epochs = self.config.network, self.config.epochs
        return Classification(
            train,
            self.plan.real,
            split,
            "test",
            network=network,
            epochs=epochs,
            train_other=(self.plan.other_of(train),),
            test_other=self._picks_without_particle(),
        )

    def _picks_without_particle(self) -> tuple[str, ...]:
        """Return the sets of picks that may hold no particle: all, if the truth is complete.

        Selected picks that a person did not annotate may be particles: they are left out.
        """
        plan = self.plan
        complete = bool(plan.annotated) and set(plan.annotated) == set(plan.simulated)
        return (plan.other_of(plan.real), *([plan.picks] if complete else []))

    def _tested_on(self, test: str) -> Classification:
        """Return the test of the classifier of real crops, which is trained once."""
        reuse = self.plan.results("evaluation/real_train.pt")
        real = self._trained_on(self.plan.real, "train")
        other = (self.plan.other_of(test),)
        return replace(real, test=test, test_split=None, reuse=reuse, test_other=other)

    def _run_classifications(self) -> dict[str, Classification]:
        plan, fit = self.plan, self.plan.config.imaging.fit
        generated = plan.translation.generated
        found = {
            "real_train": self._trained_on(plan.real, "train"),
            "gan_train": self._trained_on(generated),
            "gan_test": self._tested_on(generated),
            "conventional_train": self._trained_on(plan.conventional_set),
        }
        if fit:
            found["fitted_train"] = self._trained_on(plan.fitted_set)
        if plan.annotated:
            found["pseudo_label_train"] = self._trained_on(plan.picks, "train")
        first, second = dict(found), self.config.second_network
        if second:
            for name, one in first.items():
                reuse = one.reuse and one.reuse.replace("real_train", f"real_train_{second}")
                found[f"{name}_{second}"] = replace(one, network=second, reuse=reuse)
        return found | self._learning_curves(first)

    def _learning_curves(self, of: dict[str, Classification]) -> dict[str, Classification]:
        """Return the same classifiers on fewer volumes, with as many steps."""
        config, plan = self.config, self.plan
        poses = sum(row.count or plan.config.densities.count for row in plan.classes.values())
        generators = len(plan.translation.run_generators)
        sizes = {"gan_train": generators * plan.config.translation.draws * poses}
        if plan.config.imaging.fit:
            sizes["fitted_train"] = poses * (
                len(plan.groups) if plan.config.imaging.per_group else 1
            )
        found = {}
        for name, size in sizes.items():
            for count in (count for count in config.learning_curve if count < size):
                epochs = config.epochs and min(MAX_CURVE_EPOCHS, config.epochs * size // count)
                found[f"{name}_{count}"] = replace(of[name], count=count, epochs=epochs)
        return found

    def _run_measurements(self) -> dict[str, Measurement]:
        plan, translation = self.plan, self.plan.translation
        features = plan.results("evaluation/real_train.pt")
        sets = {
            "measure": translation.generated,
            "measure_untrained": plan.results(f"{translation.folder}/untrained.star"),
            "measure_conventional": plan.conventional_set,
        }
        if plan.config.imaging.fit:
            sets["measure_fitted"] = plan.fitted_set
        found = {name: Measurement(path, plan.real, features) for name, path in sets.items()}
        found["measure"] = replace(found["measure"], cycle=translation.cycled)
        if plan.export_source == "auto" and self.has_unlabelled_picks:
            name = "pseudo_label_train" if plan.annotated else "real_train"
            unlabelled = Measurement(
                translation.generated,
                plan.picks,
                plan.results(f"evaluation/{name}.pt"),
                self.unseen_split,
                metrics=SELECTION_METRICS,
            )
            found["measure_unlabelled"] = unlabelled
            found["measure_unlabelled_fitted"] = replace(unlabelled, generated=plan.fitted_set)
        return found

    def _with_ablations(self) -> tuple[dict[str, Classification], dict[str, Measurement]]:
        plan = self.plan
        classified, measured = dict(self.run_classifications), dict(self.run_measurements)
        for folder in plan.translation.ablated_generators:
            generated = plan.results(f"{folder}/generated.star")
            name = folder.removeprefix("translation/")
            classified[f"{name}/gan_train"] = self._trained_on(generated)
            classified[f"{name}/gan_test"] = self._tested_on(generated)
            features = plan.results("evaluation/real_train.pt")
            measured[f"{name}/measure"] = Measurement(generated, plan.real, features)
        return classified, measured

    def selection_measurements(self) -> dict[str, str]:
        """Return the metrics that decide the export: name of the set to JSON file."""
        if self.plan.export_source != "auto":
            return {}
        name = "measure_unlabelled" if self.has_unlabelled_picks else "measure"
        names = {"generated": name, "fitted": f"{name}_fitted"}
        return {key: self.plan.results(f"evaluation/{one}.json") for key, one in names.items()}

    def classification_options(self, name: str) -> str:
        """Return the options of one classifier."""
        one = self.classifications[name]
        options = ("train_split", "test_split", "network", "count", "epochs", "reuse")
        return format_options(
            **{option: getattr(one, option) for option in options},
            train_other=list(one.train_other),
            test_other=list(one.test_other),
        )

    def classification_others(self, name: str) -> list[str]:
        """Return the sets of class `other` that one classifier reads."""
        one = self.classifications[name]
        return list(dict.fromkeys([*one.train_other, *one.test_other]))

    def classification_threads(self, name: str) -> int:
        """Return the threads of one classifier: small ones run side by side, on one each."""
        return 1 if self.classifications[name].network == "small" else 4

    def measurement_options(self, name: str) -> str:
        """Return the options of one set of metrics."""
        one = self.measurements[name]
        return format_options(
            real_split=one.real_split,
            metric=list(one.metrics),
            map=self.plan.maps,
            cycle=one.cycle,
        )

    def noise_ablations(self) -> list[str]:
        """Return the ablations of input noise, whose generators are stored during training."""
        return [name for name in ABLATIONS if name.startswith("input_noise_")]

    def ablation_results(self) -> list[str]:
        """Return the JSON files of all ablations."""
        names = [name for name in [*self.classifications, *self.measurements] if "/" in name]
        return [self.plan.results(f"evaluation/{name}.json") for name in names]

    def tables_hash(self) -> str:
        """Return a hash of the tables of ablations and comparison, if there are any."""
        found = sorted(Path(self.plan.results("evaluation")).rglob("*.csv"))
        content = b"".join(path.read_bytes() for path in found)
        return hashlib.sha256(content).hexdigest()[:12] if found else ""

    def comparison_sets(self) -> dict[str, str]:
        """Return the volume sets of `snakemake comparison` by name."""
        plan, fit = self.plan, self.plan.config.imaging.fit
        ablated = [n for n in ABLATED_SETS if n != "real_background" or plan.background]
        names = [f"comparison/{name}" for name in (ablated if fit else ())]
        compared = [name for name in plan.conventional_snrs() if "/" in name]
        names = [name for name in compared if not name.endswith("_other")] + names
        sets = {Path(name).name: plan.results(f"imaging/{name}.star") for name in names}
        sets |= {"fitted": plan.fitted_set} if fit else {}
        sets |= {"pseudo_labels": plan.picks} if plan.annotated else {}
        return sets | {
            f"generated_{Path(plan.translation.folder).name}": plan.translation.generated
        }

    def comparison_others(self) -> list[str]:
        """Return the sets of class `other` of `snakemake comparison`."""
        found = [*map(self.plan.other_of, self.comparison_sets().values())]
        found += [self.plan.other_of(self.plan.real), *self._picks_without_particle()]
        return list(dict.fromkeys(found))

    def comparison_config(self) -> dict[str, Any]:
        """Return the content of the comparison's file; paths are relative to its folder."""
        plan, config = self.plan, self.config

        def relative(path: str) -> str:
            return os.path.relpath(path, plan.results("evaluation"))

        template = {
            "star": relative(plan.results("particles/selected.star")),
            "radius": config.match_radius / plan.config.densities.voxel_size,
        }

        def others(*paths: str) -> list[str]:
            return list(map(relative, paths))

        return {
            "real_train": {
                "star": relative(plan.real),
                "split": "train",
                "other": others(plan.other_of(plan.real)),
            },
            "real_test": {
                "star": relative(plan.real),
                "split": "test",
                "other": others(*self._picks_without_particle()),
            },
            "methods": {
                name: {
                    "star": relative(star),
                    "uses_picks": not name.startswith("conventional"),
                    "split": "train" if star == plan.picks else None,
                    "other": others(plan.other_of(star)),
                }
                for name, star in self.comparison_sets().items()
            },
            "baseline": "fitted" if plan.config.imaging.fit else "conventional_snr0.1",
            "template_matching": template if plan.annotated else None,
            "network": config.network,
            "epochs": config.epochs,
            "seeds": config.comparison_seeds,
        }
