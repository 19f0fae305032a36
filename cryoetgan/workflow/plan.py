"""The plan of a run: which files each stage reads and writes, and with which options.

Snakemake rules read the attributes and methods of one `Plan`; they hold no logic of their own.
"""

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from cryoetgan.config import Config
from cryoetgan.config import check as check_config
from cryoetgan.errors import UserError, suggest
from cryoetgan.physics.acquisition import mirror_tilts
from cryoetgan.tables import ClassRow, Image, TomogramRow, read_classes, read_images
from cryoetgan.tomograms.sources.addresses import is_remote
from cryoetgan.workflow.detection import DetectionPlan
from cryoetgan.workflow.evaluation import EvaluationPlan
from cryoetgan.workflow.shell_options import format_options, section_options
from cryoetgan.workflow.translation import TranslationPlan

COMPARISON_SNRS = ("0.01", "0.1", "0.5")
"""Signal-to-noise ratios of the conventional simulation in `snakemake comparison`."""
NOTHING = "nothing-matches"
"""Wildcard constraint that no file name satisfies."""


def stack(star: str) -> str:
    """Return the volume stack of a volume set: `x.mrcs` for `x.star`."""
    return str(Path(star).with_suffix(".mrcs"))


def arrays(model: str) -> str:
    """Return the arrays of an imaging model: `x.npz` for `x.json`."""
    return str(Path(model).with_suffix(".npz"))


def one_of(names: Iterable[str]) -> str:
    """Return a wildcard constraint that matches exactly these names."""
    return "|".join(names) or NOTHING


def find_file(name: str, root: Path) -> str:
    """Return a file of the working directory, or else of the workflow's folder `root`."""
    path = os.path.expandvars(os.path.expanduser(name))
    return path if Path(path).exists() else str(root / path)


class Plan:
    """Files, options and dependencies of a run.

    Parameters
    ----------
    content : mapping
        The configuration as Snakemake read it.
    root : Path
        Folder of the workflow; files of the working directory take precedence.

    Attributes
    ----------
    classes, tomograms : dict
        Rows of the tables by name; sets of subtomograms count as tomograms (`is_set`).
    simulated, annotated, training, background : list of str
        Tomograms that the run simulates; with annotations or truth; with picks to train on; of
        these, whole tomograms, which have background.
    groups : dict
        Training tomograms of each microscope group.
    split_by_blocks : bool
        Whether each tomogram is split into blocks, since all have the same split.
    maps : list of str
        Density maps of all classes.
    picks, real, conventional_set, fitted_set : str
        Volume sets: selected picks; annotated crops, or else the picks; simulations.
    models : dict
        Imaging model of each tomogram, if physics is fitted.
    translation, evaluation, detection : TranslationPlan, EvaluationPlan, DetectionPlan
        The plans of these stages.

    Raises
    ------
    UserError
        If the configuration or a table is wrong.
    """

    def __init__(self, content: Mapping[str, Any], root: Path) -> None:
        self.root = root
        self.config: Config = check_config(dict(content), "config")
        classes = read_classes(Path(self.find(self.config.structures.table)))
        tables = self.config.tomograms.table, self.config.particles.table
        rows = read_images(*(Path(self.find(name)) if name else None for name in tables))
        self.classes: dict[str, ClassRow] = {row.class_: row for row in classes}
        self.tomograms: dict[str, Image] = {row.tomogram: row for row in rows}
        self.tomogram_rows = [row for row in rows if isinstance(row, TomogramRow)]
        self._check_paths()
        self._check_set_classes()
        self.simulated = [row.tomogram for row in rows if row.is_simulated]
        self.annotated = [row.tomogram for row in rows if row.is_simulated or row.annotations]
        self.training = [row.tomogram for row in rows if row.split in ("train", None)]
        self.background = [name for name in self.training if not self.tomograms[name].is_set]
        self.groups: dict[str, list[str]] = {}
        for name in self.training:
            self.groups.setdefault(self.tomograms[name].group, []).append(name)
        self.split_by_blocks = len({row.split or "train" for row in rows}) == 1
        self.maps = [self.results(f"densities/{name}.mrc") for name in self.classes]
        self.picks = self.results("particles/subtomograms.star")
        self.real = self.results("particles/annotated.star") if self.annotated else self.picks
        self.conventional_set = self.results("imaging/simulated.star")
        self.fitted_set = self.results("imaging/fitted.star")
        fitted = self.tomograms if self.config.imaging.fit else ()
        self.models = {name: self.results(f"imaging/{name}.json") for name in fitted}
        self.training_models = [self.models[name] for name in self.training if name in self.models]
        self.translation = TranslationPlan(self)
        self.evaluation = EvaluationPlan(self)
        self.detection = DetectionPlan(self)

    # files

    def _check_paths(self) -> None:
        """Raise `UserError` if an input has braces: Snakemake has no escape for them in files."""
        config = self.config
        paths = [row.source for row in self.classes.values() if row.kind in ("file", "map")]
        for row in self.tomograms.values():
            paths += [] if row.is_remote else [row.path]
            paths += [path for path in (row.annotations, row.mask) if path]
            paths += [path for path in row.halves.values() if not is_remote(path)]
        paths += [config.densities.prior or "", *self.curation_files(), config.translation.preset]
        for path in paths:
            if set("{}") & set(path):
                raise UserError(
                    f"{path}: has braces, which Snakemake takes for wildcards; rename the file or "
                    "folder, or give a link to it"
                )

    def _check_set_classes(self) -> None:
        """Raise `UserError` if a set of subtomograms has a class that the table of classes lacks."""
        for row in self.tomograms.values():
            names = [] if isinstance(row, TomogramRow) else row.classes
            for name in (text.rpartition("=")[2] for text in names):
                if name not in self.classes:
                    raise UserError(
                        f"{self.config.particles.table}: {row.tomogram} has class '{name}', which "
                        f"{self.config.structures.table} lacks{suggest(name, self.classes)}; add a row "
                        "for it, or leave the column empty"
                    )

    def find(self, name: str) -> str:
        """Return a file that the configuration or a table names."""
        return find_file(name, self.root)

    def results(self, name: str) -> str:
        """Return the path of a result."""
        return f"results/{self.config.run}/{name}"

    def logs(self, name: str) -> str:
        """Return the log file of a result."""
        return self.results(f"logs/{name}.log")

    def timing(self, name: str) -> str:
        """Return the benchmark file of a result."""
        return self.results(f"benchmarks/{name}.tsv")

    # tables

    def classes_of_kind(self, *kinds: str) -> str:
        """Return a wildcard constraint: the classes with these kinds of source."""
        return one_of(name for name, row in self.classes.items() if row.kind in kinds)

    def tomograms_where(self, attribute: str) -> str:
        """Return a wildcard constraint: the tomograms whose row has an attribute set."""
        return one_of(name for name, row in self.tomograms.items() if getattr(row, attribute))

    def tomograms_picked_by(self, picker: str) -> str:
        """Return a wildcard constraint: all tomograms if this is the picker, else none."""
        names = [row.tomogram for row in self.tomogram_rows]
        return one_of(names if self.config.particles.picker == picker else ())

    def image(self, name: str) -> str:
        """Return the imported or simulated tomogram, or the imported set of subtomograms."""
        if self.tomograms[name].is_set:
            return self.results(f"particles/sets/{name}.star")
        return self.results(f"tomograms/{name}.mrc")

    def images(self, names: Iterable[str]) -> list[str]:
        """Return tomograms and sets, with the stacks of the sets, as inputs of a rule."""
        stars = [self.image(name) for name in names]
        return stars + [stack(path) for path in stars if path.endswith(".star")]

    def picks_of(self, name: str) -> list[str]:
        """Return the picks of a tomogram; a set has none but its boxes."""
        is_set = self.tomograms[name].is_set
        return [] if is_set else [self.results(f"particles/{name}_picks.star")]

    def mask(self, tomogram: str) -> str | None:
        """Return the mask of the excluded regions of a tomogram, if its row names one."""
        named = self.tomograms[tomogram].mask
        return self.results(f"tomograms/{tomogram}_mask.mrc") if named else None

    def annotations(self, tomogram: str) -> str:
        """Return the annotations of a tomogram, or the truth of a simulated one."""
        named = self.tomograms[tomogram].annotations
        return self.find(named) if named else self.results(f"tomograms/{tomogram}.star")

    def curation_files(self) -> list[str]:
        """Return the files with a person's decisions."""
        folder = self.config.particles.curation
        return sorted(map(str, Path(folder).glob("*.csv"))) if folder else []

    @property
    def largest_count(self) -> int:
        """The largest number of poses of a class, which `other` has, too."""
        default = self.config.densities.count
        return max(row.count or default for row in self.classes.values())

    def other_of(self, volumes: str) -> str:
        """Return the set of class `other` that belongs to a set of particles."""
        if volumes in (self.real, self.picks):
            return self.results("particles/other.star")
        return f"{volumes.removesuffix('.star')}_other.star"

    # options of the data stages

    def class_options(self, option: str, column: str) -> str:
        """Return `--option=CLASS=VALUE` for each class whose row sets a column."""
        values = ((name, getattr(row, column)) for name, row in self.classes.items())
        return format_options(**{option: [f"{name}={value}" for name, value in values if value]})

    def tomogram_options(self, option: str, column: str) -> str:
        """Return `--option=TOMOGRAM=VALUE` for each tomogram whose row sets a column."""
        values = ((name, getattr(row, column)) for name, row in self.tomograms.items())
        return format_options(**{option: [f"{name}={value}" for name, value in values if value]})

    def structure_options(self, name: str) -> str:
        """Return the options that select the atoms of a class."""
        row = self.classes[name]
        return format_options(
            assembly=row.assembly or self.config.densities.assembly,
            model=row.model,
            component=row.component,
            chains=row.chains,
            min_confidence=row.min_confidence,
        )

    def tomogram_source(self, tomogram: str) -> str:
        """Return the file or address that a tomogram is imported from."""
        row = self.tomograms[tomogram]
        return row.path if row.is_remote else self.find(row.path)

    def half_source(self, tomogram: str, half: str) -> str:
        """Return the file or address that a half tomogram (`even` or `odd`) is imported from."""
        path = self.tomograms[tomogram].halves[half]
        return path if is_remote(path) else self.find(path)

    def recording_options(self, tomogram: str) -> str:
        """Return how a tomogram was recorded, as options of import and simulation."""
        row = self.tomograms[tomogram]
        columns = ("voltage", "cs", "amplitude_contrast", "defocus", "ctf", "group")
        tilts = row.tilt_low, row.tilt_high, row.tilt_step
        return format_options(tilts=tilts, **{name: getattr(row, name) for name in columns})

    def file_options(self, tomogram: str) -> str:
        """Return how the file of a tomogram is read."""
        row = self.tomograms[tomogram]
        return format_options(
            input_voxel_size=row.voxel_size,
            contrast=row.contrast,
            tilt_axis=row.tilt_axis,
            beam_axis=row.beam_axis,
            flip_hand=row.flip_hand,
        )

    def set_options(self, name: str) -> str:
        """Return how the files of a set of subtomograms are read."""
        row = self.tomograms[name]
        if isinstance(row, TomogramRow):
            return ""
        return f"{self.file_options(name)} {format_options(class_=row.classes)}".strip()

    def set_files(self, name: str) -> str:
        """Return number, size and time of the files of a set: they change with its boxes."""
        from cryoetgan.particles.subtomograms.listings import describe_files

        return describe_files(Path(self.find(self.tomograms[name].path)))

    def tilts(self, name: str) -> tuple[float, float]:
        """Return the tilt range of a tomogram or set as imported, which may be mirrored."""
        row = self.tomograms[name]
        if row.flip_hand:
            return mirror_tilts(row.tilt_low, row.tilt_high)
        return row.tilt_low, row.tilt_high

    def tilt_options(self, tomogram: str) -> str:
        """Return the tilt range of a tomogram."""
        return format_options(tilts=self.tilts(tomogram))

    def optics_options(self, tomogram: str, default_defocus: float | None = None) -> str:
        """Return the optics of a tomogram; an unknown defocus takes the default, if any."""
        row = self.tomograms[tomogram]
        columns = ("voltage", "cs", "amplitude_contrast", "ctf")
        return format_options(
            tilts=self.tilts(tomogram),
            **{name: getattr(row, name) for name in columns},
            defocus=row.defocus if row.defocus is not None else default_defocus,
        )

    def picking_sizes(self) -> str:
        """Return the particle sizes for the picker, unless sigma is configured."""
        if self.config.particles.sigma:
            return ""
        rows = self.classes.items()
        return format_options(
            radius=[row.radius for _, row in rows if row.radius],
            density=[self.results(f"densities/{n}.mrc") for n, row in rows if not row.radius],
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

    # imaging

    def conventional_snrs(self) -> dict[str, str]:
        """Return the SNR option of each conventional simulation, by name below `imaging/`."""
        compared = {f"comparison/conventional_snr{n}": f"--snr {n}" for n in COMPARISON_SNRS}
        found = {"simulated": section_options(self.config.imaging, "snr"), **compared}
        return found | {f"{name}_other": snr for name, snr in found.items()}

    def densities_of(self, name: str) -> str:
        """Return the densities that a simulated set is made from, by its name below `imaging/`."""
        return self.results(f"densities/{'other' if name.endswith('_other') else 'poses'}.star")

    def fitted_options(self, name: str) -> str:
        """Return the options of a simulation by fitted physics."""
        neighbours = self.config.imaging.neighbours and not name.startswith("comparison/")
        return format_options(
            model=self.training_models,
            no_neighbours=not neighbours,
            per_group=self.config.imaging.per_group,
        )

    def ablation_models(self, kind: str) -> str:
        """Return the models of an ablation: real background needs tomograms, sets have none."""
        if kind.startswith("real_background"):
            return format_options(model=[self.models[name] for name in self.background])
        return format_options(model=self.training_models)

    def background_options(self) -> str:
        """Return the tomograms, picks and masks that real background is cut from."""
        masks = ((name, self.mask(name)) for name in self.background)
        return format_options(
            tomogram=[self.image(name) for name in self.background],
            particles=[path for name in self.background for path in self.picks_of(name)],
            mask=[f"{name}={path}" for name, path in masks if path],
        )

    # report and export

    @property
    def export_source(self) -> str:
        """The set to export: generated, fitted, or auto (chosen by the evaluation)."""
        return self.config.export.source if self.config.imaging.fit else "generated"

    @property
    def exported(self) -> str:
        """The set to export; with source `auto`, the choice may take `alternative` instead."""
        return self.fitted_set if self.export_source == "fitted" else self.translation.generated

    @property
    def alternative(self) -> list[str]:
        """The set that the choice may export instead."""
        return [self.fitted_set] if self.export_source == "auto" else []

    def exports(self) -> list[str]:
        """Return the files that stand for the exports of the run."""
        files = {
            "relion": ["relion/particles.star"],
            "copick": ["copick/config.json"],
            "plain": ["plain/README.md"],
        }
        if self.translation.synthetic:
            files["plain"].append("plain_tomograms/README.md")
        named = (file for name in self.config.export.formats for file in files[name])
        return [self.results(f"export/{file}") for file in named]

    @property
    def tomogram_choice(self) -> str | None:
        """The choice of the exported set, if the synthetic tomograms depend on it."""
        depends = self.translation.synthetic and self.translation.is_residual
        return self.evaluation.choice if depends else None

    def plain_tomograms_options(self) -> str:
        """Return the truth and labels of the synthetic tomograms, for their plain export."""
        synthetic = self.translation
        return format_options(
            particles=synthetic.synthetic_files(".star"),
            labels=synthetic.synthetic_files("_labels.mrc"),
            fitted=synthetic.fitted_alternatives(),
            choice=self.tomogram_choice,
        )

    def particles(self) -> list[str]:
        """Return the particles of the tomograms: of the detector if there is one, else selected."""
        return self.detection.picks() or [self.results("particles/selected.star")]

    def copick_options(self) -> str:
        """Return the picks, maps and labels of the copick export."""
        synthetic = self.translation
        truth = [self.results(f"tomograms/{name}_labels.mrc") for name in self.simulated]
        return format_options(
            particles=[*self.particles(), *synthetic.synthetic_files(".star")],
            density=self.maps,
            labels=[*truth, *synthetic.synthetic_files("_labels.mrc")],
            fitted=synthetic.fitted_alternatives(),
            choice=self.tomogram_choice,
        )

    def report_inputs(self) -> list[str]:
        """Return the results that the report shows."""
        translation, evaluation = self.translation, self.evaluation
        names = [*evaluation.run_classifications, *evaluation.run_measurements]
        return [
            *(self.results(f"evaluation/{name}.json") for name in names),
            *(self.results(f"evaluation/hand_{name}.json") for name in self.tomograms),
            *(
                self.results(f"evaluation/halves_{name}.json")
                for name, row in self.tomograms.items()
                if row.halves
            ),
            evaluation.choice,
            self.picks,
            self.real,
            self.conventional_set,
            *([self.fitted_set] if self.config.imaging.fit else []),
            *self.models.values(),
            translation.generated,
            *translation.uncertainty_maps(),
            *translation.synthetic_files(".mrc"),
            *translation.synthetic_files(".star"),
            *self.detection.picks(),
            *self.detection.hands(),
        ]
