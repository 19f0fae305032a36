"""The plan of translation: generators, their sets, synthetic tomograms."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from cryoetgan.errors import UserError
from cryoetgan.evaluation.ablations import ABLATIONS
from cryoetgan.translation.presets import read_preset
from cryoetgan.workflow.shell_options import format_options

if TYPE_CHECKING:
    from cryoetgan.workflow.plan import Plan

SETS = ("generated", "generated_other", "untrained", "cycled")
"""Volume sets that every generator of the run writes."""
UNCERTAINTY_MAPS = ("uncertainty/dropout_sd", "uncertainty/noise_sd")


@dataclass(frozen=True)
class Generator:
    """One training: its preset and its training data.

    Attributes
    ----------
    preset : str
        Name or file of the preset.
    seed : int
        Seed of training and translation.
    written_preset : str, optional
        The preset, if a rule writes it.
    group : str, optional
        Group of tomograms to train on; None: all.
    models : tuple of str
        Imaging models, for the residual network.
    steps : int, optional
        Training steps; None: the preset's.
    """

    preset: str
    seed: int
    written_preset: str | None = None
    group: str | None = None
    models: tuple[str, ...] = ()
    steps: int | None = None


class TranslationPlan:
    """Generators by folder below the results, and the synthetic tomograms.

    Attributes
    ----------
    folder : str
        Folder of the run's sets: `translation/<preset>`.
    run_generators, ablated_generators : dict
        The run's generators, one or one per group; the generators of `snakemake ablations`,
        whose presets rules write.
    synthetic : list of str
        Names of the synthetic tomograms.
    by_network : bool
        Whether the network makes them; else fitted physics does.
    """

    def __init__(self, plan: "Plan") -> None:
        self.plan, self.config = plan, plan.config.translation
        settings = read_preset(self.config.preset)
        self.is_residual = settings.model == "residual"
        self.folder = f"translation/{Path(self.config.preset).stem}"
        self.generated = plan.results(f"{self.folder}/generated.star")
        self.cycled = plan.results(f"{self.folder}/cycled.star")
        self.run_generators = self._run_generators()
        self.ablated_generators = self._ablated_generators()
        self.generators = self.run_generators | self.ablated_generators
        count = plan.config.synthetic_tomograms
        self.synthetic = [f"synthetic_{number}" for number in range(1, count + 1)]
        self.by_network = settings.makes_tomograms_of(plan.export_source)
        self.synthetic_folder = f"{self.folder if self.by_network else 'imaging'}/tomograms"
        taken = sorted(set(self.synthetic) & set(plan.tomograms))
        if taken:
            raise UserError(
                f"{plan.config.tomograms.table}: {', '.join(taken)} is the name of a synthetic "
                "tomogram (tomograms.synthetic); rename the row"
            )

    def _run_generators(self) -> dict[str, Generator]:
        plan, config = self.plan, self.config
        groups: dict[str, str | None] = {self.folder: None}
        if config.per_group and len(plan.groups) > 1:
            groups = {f"{self.folder}/{group}": group for group in plan.groups}
        found = {}
        for folder, group in groups.items():
            names = plan.training if group is None else plan.groups[group]
            models = [plan.models[name] for name in names if name in plan.models]
            found[folder] = Generator(
                preset=config.preset,
                seed=plan.config.seed,
                group=group,
                models=tuple(models) if self.is_residual else (),
                steps=config.steps,
            )
        return found

    def _ablated_generators(self) -> dict[str, Generator]:
        plan, config = self.plan, self.plan.config.evaluation
        found = {}
        for name in ABLATIONS:
            preset = plan.results(f"evaluation/ablations/{name}/preset.yaml")
            for seed in range(config.ablation_seeds):
                found[f"translation/ablations/{name}/{seed}"] = Generator(
                    preset=preset,
                    seed=plan.config.seed + seed,
                    written_preset=preset,
                    steps=config.ablation_steps,
                )
        return found

    def training_options(self, folder: str) -> str:
        """Return the options of one training."""
        generator, of_run = self.generators[folder], folder in self.run_generators
        return format_options(
            preset=generator.preset,
            steps=generator.steps,
            devices=self.config.devices if of_run else None,
            tensorboard=self.config.tensorboard and of_run,
            imaging=list(generator.models),
            group=generator.group,
        )

    def preset_settings(self, folder: str) -> str:
        """Return the settings of a training's preset; empty if a rule writes the preset."""
        generator = self.generators[folder]
        return "" if generator.written_preset else repr(read_preset(generator.preset))

    def input_of(self, folder: str, name: str) -> str:
        """Return the set to translate: densities, or the generated set for the cycle."""
        other = {"cycled": f"{folder}/generated", "generated_other": "densities/other"}
        return self.plan.results(f"{other.get(name, 'densities/poses')}.star")

    def translation_options(self, folder: str, name: str) -> str:
        """Return the options of one translation."""
        draws = self.config.draws if folder in self.run_generators and name != "cycled" else 1
        extra = {"untrained": " --snapshot 0", "cycled": " --direction sd"}.get(name, "")
        return f"--draws {draws}{extra}"

    def uncertainty_maps(self) -> list[str]:
        """Return the sets of uncertainty maps, if the run makes any."""
        names = UNCERTAINTY_MAPS if self.config.uncertainty else ()
        return [self.plan.results(f"{self.folder}/{name}.star") for name in names]

    def concatenated_sets(self) -> list[str]:
        """Return the names of the sets that are concatenated from the sets of each group."""
        return [*SETS, *UNCERTAINTY_MAPS] if len(self.run_generators) > 1 else []

    def imaged_like(self, synthetic: str) -> str:
        """Return the training tomogram whose physics a synthetic tomogram has."""
        training = self.plan.training
        return training[self.synthetic.index(synthetic) % len(training)]

    def synthetic_files(self, suffix: str) -> list[str]:
        """Return the files of all synthetic tomograms: `.mrc`, `_labels.mrc` or `.star`."""
        folder = self.synthetic_folder
        return [self.plan.results(f"{folder}/{name}{suffix}") for name in self.synthetic]

    def synthesis_options(self, synthetic: str) -> str:
        """Return the imaging model of a synthetic tomogram; a CycleGAN mixes all tomograms."""
        return format_options(tomogram=self.imaged_like(synthetic) if self.is_residual else None)

    def fitted_alternatives(self) -> list[str]:
        """Return the synthetic tomograms by physics, if the export may choose them."""
        if not (self.by_network and self.plan.export_source == "auto"):
            return []
        return [self.plan.results(f"imaging/tomograms/{name}.mrc") for name in self.synthetic]

    def synthesis_checkpoint(self, synthetic: str) -> str:
        """Return the checkpoint that makes a synthetic tomogram: its group's, if each has one."""
        group = self.plan.tomograms[self.imaged_like(synthetic)].group
        own = f"{self.folder}/{group}"
        return self.plan.results(
            f"{own if own in self.run_generators else self.folder}/checkpoint.pt"
        )
