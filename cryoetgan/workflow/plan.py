"""The plan of a run: which files each stage reads and writes, and with which options.

Snakemake rules read the attributes and methods of one `Plan`; they hold no logic of their own.
"""

import hashlib
import os
import shlex
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from cryoetgan.config import Config
from cryoetgan.config import check as check_config
from cryoetgan.errors import UserError
from cryoetgan.evaluation.ablations import ABLATIONS
from cryoetgan.tables import ClassRow, TomogramRow, read_classes, read_tomograms
from cryoetgan.translation.presets import read_preset
from cryoetgan.workflow.options import format_options, section_options

SETS = ("generated", "untrained", "cycled")
"""Volume sets that every generator of the run writes."""
UNCERTAINTY_MAPS = ("uncertainty/dropout_sd", "uncertainty/noise_sd")
COMPARISON_SNRS = ("0.01", "0.1", "0.5")
"""Signal-to-noise ratios of the conventional simulation in `snakemake comparison`."""
SELECTION_METRICS = ["kid", "c2st_auc", "sd_ratio", "pose_recovery"]
"""Metrics that decide which set is exported."""
MAX_CURVE_EPOCHS = 60
NOTHING = "nothing-matches"
"""Wildcard constraint that no file name satisfies."""


@dataclass(frozen=True)
class Generator:
    """One training: its folder below the results, its preset, and its training data.

    Attributes
    ----------
    folder : str
        `translation/<preset>`, below it one folder per group, or one per ablation and seed.
    preset : str
        Name or file of the preset.
    preset_file : str, optional
        The preset, if a rule writes it.
    group : str, optional
        Group of tomograms to train on; None: all.
    models : tuple of str
        Imaging models, for the residual network.
    steps : int, optional
        Training steps; None: the preset's.
    seed : int
        Seed of training and translation.
    draws : int
        Generated volumes per density.
    """

    folder: str
    preset: str
    seed: int
    preset_file: str | None = None
    group: str | None = None
    models: tuple[str, ...] = ()
    steps: int | None = None
    draws: int = 1


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


@dataclass(frozen=True)
class Measurement:
    """One set of metrics of a generated set against real crops."""

    generated: str
    real: str
    features: str
    real_split: str = "test"
    cycle: str | None = None
    metrics: list[str] = field(default_factory=list)


def stack(star: str) -> str:
    """Return the volume stack of a volume set: `x.mrcs` for `x.star`."""
    return str(Path(star).with_suffix(".mrcs"))


def arrays(model: str) -> str:
    """Return the arrays of an imaging model: `x.npz` for `x.json`."""
    return str(Path(model).with_suffix(".npz"))


class Plan:
    """Files, options and dependencies of a run.

    Parameters
    ----------
    content : mapping
        The configuration as Snakemake read it.
    root : Path
        Folder of the workflow; files of the working directory take precedence.

    Raises
    ------
    UserError
        If the configuration or a table is wrong.
    """

    def __init__(self, content: Mapping[str, Any], root: Path) -> None:
        self.root = root
        self.config: Config = check_config(dict(content), "config")
        classes = read_classes(Path(self.find(self.config.structures.table)))
        tomograms = read_tomograms(Path(self.find(self.config.tomograms.table)))
        self.classes: dict[str, ClassRow] = {row.class_: row for row in classes}
        self.tomograms: dict[str, TomogramRow] = {row.tomogram: row for row in tomograms}
        self.preset = read_preset(self.config.translation.preset)
        self._check()

    def _check(self) -> None:
        taken = set(self.synthetic) & set(self.tomograms)
        if taken:
            raise UserError(
                f"{self.config.tomograms.table}: {', '.join(sorted(taken))} is the name of a "
                "synthetic tomogram (tomograms.synthetic); rename the row"
            )
        if not self.training:
            raise UserError(
                f"{self.config.tomograms.table}: no tomogram has split 'train'; give one, or leave "
                "the column empty"
            )

    # -- names of files ---------------------------------------------------------------------

    def find(self, name: str) -> str:
        """Return a file of the working directory, or else of the workflow."""
        path = os.path.expandvars(os.path.expanduser(name))
        return path if Path(path).exists() else str(self.root / path)

    def results(self, name: str) -> str:
        """Return a result's path."""
        return f"results/{self.config.run}/{name}"

    def log(self, name: str) -> str:
        """Return the log file of a result."""
        return self.results(f"logs/{name}.log")

    def timing(self, name: str) -> str:
        """Return the benchmark file of a result."""
        return self.results(f"benchmarks/{name}.tsv")

    # -- classes and tomograms --------------------------------------------------------------

    @property
    def maps(self) -> list[str]:
        """Density maps of all classes."""
        return [self.results(f"densities/{name}.mrc") for name in self.classes]

    @property
    def simulated(self) -> list[str]:
        """Tomograms that the run simulates with ground truth."""
        return [name for name, row in self.tomograms.items() if row.is_simulated]

    @property
    def annotated(self) -> list[str]:
        """Tomograms with annotations or ground truth."""
        return [
            name for name, row in self.tomograms.items() if row.is_simulated or row.annotations
        ]

    @property
    def training(self) -> list[str]:
        """Tomograms whose picks are trained on."""
        return [name for name, row in self.tomograms.items() if row.split in ("train", None)]

    @property
    def groups(self) -> dict[str, list[str]]:
        """Training tomograms of each microscope group."""
        groups: dict[str, list[str]] = {}
        for name in self.training:
            groups.setdefault(self.tomograms[name].group, []).append(name)
        return groups

    @property
    def split_by_blocks(self) -> bool:
        """Whether each tomogram is split into blocks, since all have the same split."""
        return len({row.split or "train" for row in self.tomograms.values()}) == 1

    def classes_of_kind(self, *kinds: str) -> str:
        """Return a wildcard constraint: the classes of some kinds of source."""
        return _one_of(name for name, row in self.classes.items() if row.kind in kinds)

    def tomograms_where(self, **attributes: bool) -> str:
        """Return a wildcard constraint: the tomograms whose rows have these attributes."""
        return _one_of(
            name
            for name, row in self.tomograms.items()
            if all(bool(getattr(row, key)) == value for key, value in attributes.items())
        )

    def tomograms_picked_by(self, picker: str) -> str:
        """Return a wildcard constraint: all tomograms if this is the picker, else none."""
        return _one_of(self.tomograms if self.config.particles.picker == picker else ())

    def mask(self, tomogram: str) -> str | None:
        """Return the mask of the excluded regions of a tomogram, if its row names one."""
        named = self.tomograms[tomogram].mask
        return self.results(f"tomograms/{tomogram}_mask.mrc") if named else None

    def annotations(self, tomogram: str) -> str:
        """Return the annotations of a tomogram, or the truth of a simulated one."""
        row = self.tomograms[tomogram]
        if row.annotations:
            return self.find(row.annotations)
        return self.results(f"tomograms/{tomogram}.star")

    def curation_files(self) -> list[str]:
        """Return the files with a person's decisions."""
        folder = self.config.particles.curation
        return sorted(map(str, Path(folder).glob("*.csv"))) if folder else []

    # -- options of the first stages --------------------------------------------------------

    def class_options(self, option: str, column: str) -> str:
        """Return `--option=CLASS=VALUE` for each class whose row sets a column."""
        values = {name: getattr(row, column) for name, row in self.classes.items()}
        return format_options(**{option: [f"{n}={value}" for n, value in values.items() if value]})

    def tomogram_options(self, option: str, column: str) -> str:
        """Return `--option=TOMOGRAM=VALUE` for each tomogram whose row sets a column."""
        values = {name: getattr(row, column) for name, row in self.tomograms.items()}
        return format_options(**{option: [f"{n}={value}" for n, value in values.items() if value]})

    def structure_options(self, name: str) -> str:
        """Return the options that select a class's atoms."""
        row, densities = self.classes[name], self.config.densities
        return format_options(
            assembly=row.assembly or densities.assembly,
            model=row.model,
            component=row.component,
            chains=row.chains,
        )

    def tomogram_source(self, tomogram: str) -> str:
        """Return the file or address that a tomogram is imported from."""
        row = self.tomograms[tomogram]
        return row.path if row.is_remote else self.find(row.path)

    def recording_options(self, tomogram: str) -> str:
        """Return how a tomogram was recorded, as options of import and simulation."""
        row = self.tomograms[tomogram]
        return format_options(
            tilts=(row.tilt_low, row.tilt_high, row.tilt_step),
            voltage=row.voltage,
            cs=row.cs,
            amplitude_contrast=row.amplitude_contrast,
            defocus=row.defocus,
            ctf=row.ctf,
            group=row.group,
        )

    def file_options(self, tomogram: str) -> str:
        """Return how a tomogram's file is to be read."""
        row = self.tomograms[tomogram]
        return format_options(
            input_voxel_size=row.voxel_size,
            contrast=row.contrast,
            tilt_axis=row.tilt_axis,
            beam_axis=row.beam_axis,
        )

    def tilt_options(self, tomogram: str) -> str:
        """Return the tilt range of a tomogram."""
        row = self.tomograms[tomogram]
        return format_options(tilts=(row.tilt_low, row.tilt_high))

    def optics_options(self, tomogram: str, default_defocus: float | None = None) -> str:
        """Return the optics of a tomogram; an unknown defocus takes the default, if any."""
        row = self.tomograms[tomogram]
        return format_options(
            tilts=(row.tilt_low, row.tilt_high),
            voltage=row.voltage,
            cs=row.cs,
            amplitude_contrast=row.amplitude_contrast,
            ctf=row.ctf,
            defocus=row.defocus if row.defocus is not None else default_defocus,
        )

    def picking_sizes(self) -> str:
        """Return the particle sizes for the picker, unless sigma is configured."""
        if self.config.particles.sigma:
            return ""
        measured = [n for n, row in self.classes.items() if not row.radius]
        return format_options(
            radius=[row.radius for row in self.classes.values() if row.radius],
            density=[self.results(f"densities/{name}.mrc") for name in measured],
        )

    def group_options(self) -> str:
        """Return the group of each tomogram, if there are several."""
        several = len({row.group for row in self.tomograms.values()}) > 1
        return self.tomogram_options("group", "group") if several else ""

    def annotation_options(self, tomogram: str) -> str:
        """Return how annotations are imported and split."""
        row, blocks = self.tomograms[tomogram], self.split_by_blocks
        return format_options(
            voxel_size=row.annotations_voxel_size,
            split=None if blocks else row.split,
            selected=self.results("particles/selected.star") if blocks else None,
            box=self.config.densities.box if blocks else None,
        )

    # -- imaging ----------------------------------------------------------------------------

    @property
    def models(self) -> dict[str, str]:
        """Imaging model of each tomogram, if physics is fitted."""
        names = self.tomograms if self.config.imaging.fit else ()
        return {name: self.results(f"imaging/{name}.json") for name in names}

    @property
    def training_models(self) -> list[str]:
        """Imaging models of the training tomograms."""
        return [self.models[name] for name in self.training if name in self.models]

    @property
    def conventional(self) -> dict[str, str]:
        """SNR option of each conventional simulation, by file name below `imaging/`."""
        sets = {"simulated": section_options(self.config.imaging, "snr")}
        names = (f"comparison/conventional_snr{snr}" for snr in COMPARISON_SNRS)
        return sets | {
            name: f"--snr {snr}" for name, snr in zip(names, COMPARISON_SNRS, strict=True)
        }

    def fitted_options(self, name: str) -> str:
        """Return the options of a simulation by fitted physics."""
        neighbours = self.config.imaging.neighbours and name == "fitted"
        return format_options(
            model=self.training_models,
            no_neighbours=not neighbours,
            per_group=self.config.imaging.per_group,
        )

    def background_options(self) -> str:
        """Return the tomograms, picks and masks that real background is cut from."""
        masks = {name: self.mask(name) for name in self.training}
        return format_options(
            tomogram=[self.results(f"tomograms/{name}.mrc") for name in self.training],
            particles=[self.results(f"particles/{name}_picks.star") for name in self.training],
            mask=[f"{name}={path}" for name, path in masks.items() if path],
        )

    # -- translation ------------------------------------------------------------------------

    @property
    def is_residual(self) -> bool:
        """Whether the preset is the residual network, which needs imaging models."""
        return self.preset.frame == "residual"

    @property
    def translation(self) -> str:
        """Folder of the run's generator, below the results."""
        return f"translation/{Path(self.config.translation.preset).stem}"

    @cached_property
    def run_generators(self) -> dict[str, Generator]:
        """The run's generators by folder: one, or one per group."""
        config = self.config.translation
        groups: dict[str, str | None] = {self.translation: None}
        if config.per_group and len(self.groups) > 1:
            groups = {f"{self.translation}/{group}": group for group in self.groups}
        generators = {}
        for folder, group in groups.items():
            names = self.training if group is None else self.groups[group]
            models = [self.models[name] for name in names if name in self.models]
            generators[folder] = Generator(
                folder=folder,
                preset=config.preset,
                seed=self.config.seed,
                group=group,
                models=tuple(models) if self.is_residual else (),
                steps=config.steps,
                draws=config.draws,
            )
        return generators

    @property
    def has_groups(self) -> bool:
        """Whether each group has its own generator."""
        return len(self.run_generators) > 1

    @cached_property
    def ablated_generators(self) -> dict[str, Generator]:
        """Generators of `snakemake ablations` by folder: each ablation is a preset."""
        generators = {}
        for name in ABLATIONS:
            preset = self.results(f"evaluation/ablations/{name}/preset.yaml")
            for seed in range(self.config.evaluation.ablation_seeds):
                folder = f"translation/ablations/{name}/{seed}"
                generators[folder] = Generator(
                    folder=folder,
                    preset=preset,
                    preset_file=preset,
                    seed=self.config.seed + seed,
                    steps=self.config.evaluation.ablation_steps,
                )
        return generators

    @cached_property
    def generators(self) -> dict[str, Generator]:
        """All generators by folder."""
        return self.run_generators | self.ablated_generators

    @property
    def noise_ablations(self) -> list[str]:
        """Ablations of the input noise, whose generators are also stored during training."""
        return [name for name in ABLATIONS if name.startswith("input_noise_")]

    def training_options(self, folder: str) -> str:
        """Return the options of one training."""
        generator, config = self.generators[folder], self.config.translation
        ablation = folder in self.ablated_generators
        return format_options(
            preset=generator.preset,
            steps=generator.steps,
            devices=None if ablation else config.devices,
            tensorboard=None if ablation else config.tensorboard,
            imaging=list(generator.models),
            group=generator.group,
        )

    def training_preset(self, folder: str) -> str:
        """Return the settings of a training's preset; empty if a rule writes the preset."""
        generator = self.generators[folder]
        return "" if generator.preset_file else self.preset_content(generator.preset)

    def preset_content(self, preset: str) -> str:
        """Return a preset's settings: a rule that has them in its params sees every edit."""
        return repr(read_preset(preset))

    def translation_input(self, folder: str, name: str) -> str:
        """Return the set to translate: densities, or the generated set for the cycle."""
        cycled = self.results(f"{folder}/generated.star")
        return cycled if name == "cycled" else self.results("densities/poses.star")

    def translation_options(self, folder: str, name: str) -> str:
        """Return the options of one translation."""
        draws = 1 if name == "cycled" else self.generators[folder].draws
        extra = {"untrained": " --snapshot 0", "cycled": " --direction sd"}.get(name, "")
        return f"--draws {draws}{extra}"

    # -- synthetic tomograms ----------------------------------------------------------------

    @property
    def synthetic(self) -> list[str]:
        """Names of the synthetic tomograms."""
        return [f"synthetic_{i}" for i in range(1, self.config.tomograms.synthetic + 1)]

    @property
    def by_network(self) -> bool:
        """Whether the network makes synthetic tomograms.

        Instance norm would change grey values from tile to tile: only the residual network can.
        """
        return self.is_residual and self.export_source != "fitted"

    @property
    def synthetic_folder(self) -> str:
        """Folder of the synthetic tomograms, below the results."""
        return f"{self.translation}/tomograms" if self.by_network else "imaging/tomograms"

    def imaged_like(self, synthetic: str) -> str:
        """Return the training tomogram whose physics a synthetic tomogram has."""
        return self.training[self.synthetic.index(synthetic) % len(self.training)]

    def synthetic_files(self, suffix: str) -> list[str]:
        """Return the files of all synthetic tomograms: `.mrc`, `_labels.mrc` or `.star`."""
        return [self.results(f"{self.synthetic_folder}/{name}{suffix}") for name in self.synthetic]

    def fitted_alternatives(self) -> list[str]:
        """Return the synthetic tomograms by physics, if the export may choose them."""
        if not (self.by_network and self.export_source == "auto"):
            return []
        return [self.results(f"imaging/tomograms/{name}.mrc") for name in self.synthetic]

    def synthesis_checkpoint(self, synthetic: str) -> str:
        """Return the checkpoint that makes a synthetic tomogram: its group's, if each has one."""
        group = self.tomograms[self.imaged_like(synthetic)].group
        own = f"{self.translation}/{group}"
        folder = own if own in self.run_generators else self.translation
        return self.results(f"{folder}/checkpoint.pt")

    # -- evaluation -------------------------------------------------------------------------

    @property
    def real(self) -> str:
        """Real crops for evaluation: annotated ones, else the picks with their best template."""
        return self.results(
            "particles/annotated.star" if self.annotated else "particles/subtomograms.star"
        )

    @property
    def picks(self) -> str:
        """Subtomograms of the selected picks."""
        return self.results("particles/subtomograms.star")

    @property
    def generated(self) -> str:
        """The generated set."""
        return self.results(f"{self.translation}/generated.star")

    @property
    def fitted(self) -> str:
        """The set simulated by fitted physics."""
        return self.results("imaging/fitted.star")

    @property
    def cycled(self) -> str:
        """Generated volumes translated back."""
        return self.results(f"{self.translation}/cycled.star")

    def check_several_classes(self) -> None:
        """Raise a `UserError` if there is one class: a classifier needs two."""
        if len(self.classes) > 1:
            return
        raise UserError(
            f"{self.config.structures.table}: has one class, and the evaluation needs two: add "
            "another particle of the sample, or a decoy (source membrane, or a phantom). Labelled "
            f"volumes of one class need no evaluation: snakemake {self.fitted} (fitted physics), or "
            f"{self.generated}"
        )

    @cached_property
    def run_classifications(self) -> dict[str, Classification]:
        """The run's classifiers by file name below `evaluation/`, the report's input."""
        config = self.config.evaluation
        base: dict[str, dict[str, Any]] = {
            "real_train": {"train": self.real, "train_split": "train", **self._tested_on_real},
            "gan_train": {"train": self.generated, **self._tested_on_real},
            "gan_test": {"train": self.real, "train_split": "train", "test": self.generated},
            "conventional_train": {
                "train": self.results("imaging/simulated.star"),
                **self._tested_on_real,
            },
        }
        if config_fit := self.config.imaging.fit:
            base["fitted_train"] = {"train": self.fitted, **self._tested_on_real}
        if self.annotated:
            base["pseudo_label_train"] = {
                "train": self.picks,
                "train_split": "train",
                **self._tested_on_real,
            }
        found = {
            name: self._classification(name, config.network, values)
            for name, values in base.items()
        }
        if config.second_network:
            found |= {
                f"{name}_{config.second_network}": self._classification(
                    name, config.second_network, values, suffix=f"_{config.second_network}"
                )
                for name, values in base.items()
            }
        sizes = {"gan_train": self._generated_count}
        if config_fit:
            sizes["fitted_train"] = self._fitted_count
        for name, size in sizes.items():
            for count in config.learning_curve:
                if count < size:
                    epochs = config.epochs and min(MAX_CURVE_EPOCHS, config.epochs * size // count)
                    found[f"{name}_{count}"] = Classification(
                        **base[name], network=config.network, count=count, epochs=epochs
                    )
        return found

    @property
    def _tested_on_real(self) -> dict[str, Any]:
        return {"test": self.real, "test_split": "test"}

    def _classification(
        self, name: str, network: str, values: dict[str, Any], suffix: str = ""
    ) -> Classification:
        # gan_test and real_train train the same classifier: once is enough
        reuse = self.results(f"evaluation/real_train{suffix}.pt") if name == "gan_test" else None
        epochs = self.config.evaluation.epochs
        return Classification(**values, network=network, epochs=epochs, reuse=reuse)

    @property
    def _pose_count(self) -> int:
        default = self.config.densities.count
        return sum(row.count or default for row in self.classes.values())

    @property
    def _generated_count(self) -> int:
        return len(self.run_generators) * self.config.translation.draws * self._pose_count

    @property
    def _fitted_count(self) -> int:
        groups = len(self.groups) if self.config.imaging.per_group else 1
        return groups * self._pose_count

    @property
    def export_source(self) -> str:
        """The set to export: generated, fitted, or auto (chosen by the evaluation)."""
        return self.config.export.source if self.config.imaging.fit else "generated"

    @property
    def _unseen_split(self) -> str:
        """Split whose picks decide the export: no label and no training touched them."""
        splits = {row.split for row in self.tomograms.values()}
        return "validation" if "validation" in splits and not self.split_by_blocks else "test"

    @cached_property
    def run_measurements(self) -> dict[str, Measurement]:
        """The run's metrics by file name below `evaluation/`, the report's input."""
        features = self.results("evaluation/real_train.pt")
        sets = {
            "measure": self.generated,
            "measure_untrained": self.results(f"{self.translation}/untrained.star"),
            "measure_conventional": self.results("imaging/simulated.star"),
        }
        if self.config.imaging.fit:
            sets["measure_fitted"] = self.fitted
        found = {
            name: Measurement(
                path, self.real, features, cycle=self.cycled if name == "measure" else None
            )
            for name, path in sets.items()
        }
        if self._selects_on_picks:
            name = "pseudo_label_train" if self.annotated else "real_train"
            for key, path in (("", self.generated), ("_fitted", self.fitted)):
                found[f"measure_unlabelled{key}"] = Measurement(
                    path,
                    self.picks,
                    self.results(f"evaluation/{name}.pt"),
                    real_split=self._unseen_split,
                    metrics=SELECTION_METRICS,
                )
        return found

    @property
    def _selects_on_picks(self) -> bool:
        """Whether the export is chosen on picks that differ from the evaluation's crops."""
        differs = bool(self.annotated) or self._unseen_split != "test"
        return self.export_source == "auto" and differs

    @property
    def selection_measurements(self) -> dict[str, str]:
        """Metrics that decide the export: set to JSON file."""
        if self.export_source != "auto":
            return {}
        name = "measure_unlabelled" if self._selects_on_picks else "measure"
        return {
            "generated": self.results(f"evaluation/{name}.json"),
            "fitted": self.results(f"evaluation/{name}_fitted.json"),
        }

    @cached_property
    def classifications(self) -> dict[str, Classification]:
        """All classifiers by file name below `evaluation/`, ablations included."""
        found = dict(self.run_classifications)
        epochs, network = self.config.evaluation.epochs, self.config.evaluation.network
        for folder in self.ablated_generators:
            generated = self.results(f"{folder}/generated.star")
            place = folder.removeprefix("translation/")
            found[f"{place}/gan_train"] = Classification(
                generated, **self._tested_on_real, network=network, epochs=epochs
            )
            found[f"{place}/gan_test"] = Classification(
                self.real,
                generated,
                train_split="train",
                network=network,
                epochs=epochs,
                reuse=self.results("evaluation/real_train.pt"),
            )
        return found

    @cached_property
    def measurements(self) -> dict[str, Measurement]:
        """All metrics by file name below `evaluation/`, ablations included."""
        found = dict(self.run_measurements)
        for folder in self.ablated_generators:
            found[f"{folder.removeprefix('translation/')}/measure"] = Measurement(
                self.results(f"{folder}/generated.star"),
                self.real,
                self.results("evaluation/real_train.pt"),
            )
        return found

    def classification_options(self, name: str) -> str:
        """Return the options of one classifier."""
        one = self.classifications[name]
        return format_options(
            train_split=one.train_split,
            test_split=one.test_split,
            network=one.network,
            count=one.count,
            epochs=one.epochs,
            reuse=one.reuse,
        )

    def classification_threads(self, name: str) -> int:
        """Return the threads of one classifier: small ones run side by side, on one each."""
        return 1 if self.classifications[name].network == "small" else 4

    def measurement_options(self, name: str) -> str:
        """Return the options of one set of metrics."""
        one = self.measurements[name]
        return format_options(
            real_split=one.real_split, metric=one.metrics, map=self.maps, cycle=one.cycle
        )

    def ablation_results(self) -> list[str]:
        """Return the JSON files of all ablations."""
        names = [*self.classifications, *self.measurements]
        return [self.results(f"evaluation/{n}.json") for n in names if n.startswith("ablations/")]

    def tables_hash(self) -> str:
        """Return a hash of the tables that ablations or a comparison left, if there are any."""
        found = sorted(Path(self.results("evaluation")).rglob("*.csv"))
        content = b"".join(path.read_bytes() for path in found)
        return hashlib.sha256(content).hexdigest()[:12] if found else ""

    # -- comparison -------------------------------------------------------------------------

    @property
    def comparison_sets(self) -> dict[str, str]:
        """Volume sets of `snakemake comparison` by name."""
        folder = self.results("imaging/comparison")
        names = [f"conventional_snr{snr}" for snr in COMPARISON_SNRS]
        if self.config.imaging.fit:
            names += ["noise_only", "no_neighbours", "real_background"]
        sets = {name: f"{folder}/{name}.star" for name in names}
        if self.config.imaging.fit:
            sets["fitted"] = self.fitted
        if self.annotated:
            sets["pseudo_labels"] = self.picks
        return sets | {f"generated_{Path(self.translation).name}": self.generated}

    def comparison_config(self) -> dict[str, Any]:
        """Return the content of the comparison's file; paths are relative to its folder."""
        evaluation = self.config.evaluation
        base = self.results("evaluation")
        radius = evaluation.match_radius / self.config.densities.voxel_size
        template = {
            "star": os.path.relpath(self.results("particles/selected.star"), base),
            "radius": radius,
        }
        real = os.path.relpath(self.real, base)
        return {
            "real_train": {"star": real, "split": "train"},
            "real_test": {"star": real, "split": "test"},
            "competitors": {
                name: {
                    "star": os.path.relpath(star, base),
                    "learns": not name.startswith("conventional"),
                    "split": "train" if star == self.picks else None,
                }
                for name, star in self.comparison_sets.items()
            },
            "baseline": "fitted" if self.config.imaging.fit else "conventional_snr0.1",
            "template": template if self.annotated else None,
            "network": evaluation.network,
            "epochs": evaluation.epochs,
            "seeds": evaluation.comparison_seeds,
        }

    # -- report and export ------------------------------------------------------------------

    def report_inputs(self) -> list[str]:
        """Return the results that the report shows."""
        names = [*self.run_classifications, *self.run_measurements, "choice"]
        uncertainty = UNCERTAINTY_MAPS if self.config.translation.uncertainty else ()
        return [
            *(self.results(f"evaluation/{name}.json") for name in names),
            self.picks,
            self.results("imaging/simulated.star"),
            *([self.fitted] if self.config.imaging.fit else []),
            *self.models.values(),
            *self.synthetic_files(".mrc"),
            *self.synthetic_files(".star"),
            self.generated,
            *(self.results(f"{self.translation}/{name}.star") for name in uncertainty),
            self.real,
        ]

    @property
    def exported(self) -> str:
        """The set to export; with source `auto`, the choice may replace it by `alternative`."""
        return self.fitted if self.export_source == "fitted" else self.generated

    @property
    def alternative(self) -> list[str]:
        """The set that the choice may export instead."""
        return [self.fitted] if self.export_source == "auto" else []

    @property
    def choice(self) -> str:
        """The choice of the exported set."""
        return self.results("evaluation/choice.json")

    def exports(self) -> list[str]:
        """Return the files that stand for the exports of the run."""
        files = {
            "relion": "relion/particles.star",
            "copick": "copick/config.json",
            "plain": "plain/README.md",
        }
        return [self.results(f"export/{files[name]}") for name in self.config.export.formats]

    @property
    def copick_choice(self) -> str | None:
        """The choice, if a copick export depends on it."""
        return self.choice if self.synthetic and self.is_residual else None

    def copick_options(self) -> str:
        """Return the picks, maps and labels of the copick export."""
        selected = self.results("particles/selected.star")
        truth = [self.results(f"tomograms/{name}_labels.mrc") for name in self.simulated]
        return format_options(
            particles=[selected, *self.synthetic_files(".star")],
            density=self.maps,
            labels=[*truth, *self.synthetic_files("_labels.mrc")],
            fitted=self.fitted_alternatives(),
            choice=self.copick_choice,
        )


def _one_of(names: Iterable[str]) -> str:
    """Return a regular expression that matches exactly these names."""
    return "|".join(names) or NOTHING


def phantom_name(source: str) -> str:
    """Return the phantom that a class's source names, quoted for the shell."""
    return shlex.quote(source.removeprefix("phantom:"))
