"""The configuration: every key typed once, with why one would change it."""

from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from cryoetgan.errors import UserError, suggest
from cryoetgan.io.files import check_exists

NAME = r"^[A-Za-z0-9_-]+$"
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=1)]
Fraction = Annotated[float, Field(ge=0, lt=1)]


class Section(BaseModel):
    """Unknown keys are errors; values never change after reading."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Structures(Section):
    """Which particles, and where their structures come from."""

    table: str = Field(
        "config/classes.tsv",
        description="Table of classes: one row a kind of particle to simulate and find.",
    )
    mirror: str = Field(
        "https://files.rcsb.org/download",
        description="Where `<id>.cif.gz` is asked for: a URL or a folder. Change it for a local "
        "mirror, or to work without a network.",
    )
    retries: Annotated[int, Field(ge=0, le=20)] = Field(
        4, description="Tries again after a failed download; raise it on a bad line."
    )
    timeout: Positive = Field(
        60.0, description="Seconds without a byte before a download is dropped."
    )


class Densities(Section):
    """Structure to density map, then random poses: the density domain D."""

    engine: Literal["builtin", "eman2"] = Field(
        "builtin",
        description="`eman2` calls e2pdb2mrc.py in its own environment; the built-in engine follows "
        "the same rule. Never chosen by what happens to be installed.",
    )
    voxel_size: Positive = Field(10.0, description="Angstrom; that of the tomograms after import.")
    resolution: Positive = Field(
        30.0, description="Angstrom, EMAN2's definition; at least twice the voxel size."
    )
    box: Annotated[int, Field(ge=12, le=256, multiple_of=4)] = Field(
        28, description="Voxels; divisible by 4. 1.3 to 2 times the largest particle."
    )
    assembly: str = Field(
        "1", description="Biological assembly to build, or `none`; a row of the table may differ."
    )
    hydrogens: bool = Field(False, description="Count hydrogens, where the file has them.")
    ligands: bool = Field(True, description="Count ligands, ions and glycans.")
    waters: bool = Field(False, description="Count ordered waters.")
    count: Count = Field(400, description="Poses of each class; a row of the table may differ.")
    max_shift: Annotated[float, Field(ge=0)] | None = Field(
        None,
        description="Angstrom an axis: how far off centre a particle may lie. Empty: one and a half "
        "voxels, for boxes cut at aligned or marked places; more, where places are rough.",
    )
    membrane_thickness: Positive = Field(
        40.0, description="Angstrom between the head-group layers of the membrane class."
    )
    membrane_radius: Positive = Field(
        600.0, description="Angstrom; radius of curvature of the membrane class."
    )
    membrane_tilt: Annotated[float, Field(ge=-180, le=180)] = Field(
        0.0,
        description="Degrees about y from z to the normal of the membrane class's map; poses turn "
        "it anyway.",
    )
    prior: str | None = Field(
        None,
        description="STAR file of observed particles: poses draw orientations and offsets from its "
        "angles and origins, where particles stick to an interface. Empty: uniform.",
    )
    prior_spread: Annotated[float, Field(ge=0, le=180)] = Field(
        5.0, description="Degrees; blurs the orientations drawn from densities.prior."
    )

    @property
    def greatest_shift(self) -> float:
        """How far off centre particles may lie, angstrom an axis."""
        return 1.5 * self.voxel_size if self.max_shift is None else self.max_shift


class Tomograms(Section):
    """The user's tomograms, or simulated ones with ground truth."""

    table: str = Field(
        "config/tomograms.tsv",
        description="Table of tomograms: path, geometry, contrast; `simulate` as path "
        "makes one with ground truth.",
    )
    voxel_size: Positive | None = Field(
        None,
        description="Angstrom; tomograms are resampled to it at import. Empty: densities.voxel_size, "
        "and nothing else makes sense in one run.",
    )
    shape: tuple[Count, Count, Count] = Field(
        (192, 192, 80), description="x, y, z in voxels of simulated and synthetic tomograms."
    )
    copies: Count = Field(
        40,
        description="Particles of each class in a simulated or synthetic tomogram; a table row may "
        "differ.",
    )
    snr: Positive = Field(
        0.3,
        description="Variance of signal over variance of noise of a simulated tomogram, as a whole.",
    )
    float16: bool = Field(
        False,
        description="Whether imported tomograms are kept as 16-bit numbers: half the disk, grey "
        "values to three digits.",
    )
    marks_radius: Positive = Field(
        80.0, description="Angstrom: a pick this close to a marked particle is that particle."
    )


class Particles(Section):
    """Picking, scoring, selection, extraction: the subtomogram domain S."""

    picker: Literal["dog", "match"] = Field(
        "dog",
        description="`match` searches whole tomograms with the templates: it finds small particles "
        "that Difference of Gaussians misses, in many times its time.",
    )
    sigma: Positive | None = Field(
        None,
        description="Angstrom; width of the Difference of Gaussians. Empty: from each class's "
        "radius (radius / sqrt 3), picks merged. The paper's 7 voxels at 10 A are 70.",
    )
    min_distance: Positive = Field(2.0, description="In units of sigma: closest two picks may lie.")
    threshold: Annotated[float, Field(ge=0, le=20)] = Field(
        3.0, description="t of T = m + t (M - m) / 20 on the peak values; lower finds more."
    )
    deviations: Positive = Field(
        4.0,
        description="Of picker `match`: standard deviations that a score must lie above the mean "
        "over the tomogram; lower finds more.",
    )
    max_picks: Count | None = Field(
        None, description="Best picks kept of each tomogram; empty: all."
    )
    rotations: Annotated[int, Field(ge=8)] = Field(
        1856, description="Template orientations searched: 550 are ~30 degrees apart, 4400 ~15."
    )
    lowpass: Positive | None = Field(
        None, description="Angstrom; finer detail is ignored in scoring. Empty: three voxels."
    )
    highpass_shells: Annotated[int, Field(ge=0)] = Field(
        3, description="Fourier shells dropped in scoring: mass alone must not decide the class."
    )
    top: Count = Field(
        400,
        description="Best-scoring particles kept of each class, in each group of tomograms: scores "
        "of two microscopes do not compare.",
    )
    curation: str | None = Field(
        None, description="Folder of `id,accepted,class` CSV files: a person's decisions."
    )
    average_iterations: Annotated[int, Field(ge=0, le=50)] = Field(
        3,
        description="Alignments of the averages that `snakemake averages` makes of each class; 0: "
        "angles as the scores have them, whose FSC is no gold standard.",
    )
    whole_voxels: bool = Field(
        True,
        description="Whether boxes are cut at the nearest voxels, with the tomogram's own grey "
        "values (the rest of the place stands in rlnOriginX/Y/ZAngst); false: shifted between "
        "voxels, which smooths what a denoiser left.",
    )
    test_fraction: Fraction = Field(
        0.25, description="Share of a single tomogram kept for testing, in blocks with a gap."
    )


class Imaging(Section):
    """Subtomograms by physics alone, typed in or fitted: what a network has to beat."""

    fit: bool = Field(
        True,
        description="Whether physics is fitted to each tomogram's own picks besides; false where "
        "picks are too few for it.",
    )
    neighbours: bool = Field(
        True,
        description="Whether fitted physics puts other particles around each one, as close as "
        "picks lie; false for purified, sparse samples.",
    )
    per_group: bool = Field(
        False,
        description="With several groups of tomograms: whether fitted physics shows every density "
        "as each group does, one set behind the other; false: each as one tomogram drawn by chance.",
    )
    snr: Positive = Field(
        0.1, description="Typed signal-to-noise ratio of a simulated subtomogram, per volume."
    )
    defocus: Annotated[float, Field(ge=0)] = Field(
        4.0, description="Micrometres, where the table of tomograms gives none."
    )
    lowpass: Positive = Field(
        40.0, description="Angstrom; the traditional recipe's final low-pass."
    )
    envelope: Positive | None = Field(
        None,
        description="Typed physics: the contrast transfer's envelope exp(-(k / E)^2), E as a share "
        "of the Nyquist frequency; 0.4 in the code that the paper's baseline stands on (AITom). "
        "Null: none.",
    )


class Translation(Section):
    """The CycleGAN."""

    preset: str = Field(
        "smoke",
        description="paper, released, recommended, smoke, or a YAML file; `smoke` is the paper's "
        "CycleGAN made small enough for two cores.",
    )
    steps: Count | None = Field(None, description="Training steps; empty: the preset's own.")
    draws: Count = Field(1, description="Noise draws, so generated volumes, of each density.")
    ship: Literal["auto", "generated", "fitted"] = Field(
        "auto",
        description="What is exported. `auto`: the generated volumes where they are shown, without "
        "labels, to look closer to unseen picks than fitted physics and to keep their labels, else "
        "fitted physics; without imaging.fit the generated ones.",
    )
    per_group: bool = Field(
        False,
        description="With several groups of tomograms: whether each gets a network of its own, "
        "trained on its own picks and physics, in `translation/<preset>/<group>/`; the generated "
        "sets are joined, the group in the optics block. Set imaging.per_group too, to compare.",
    )
    tomograms: Annotated[int, Field(ge=0)] = Field(
        0,
        description="Synthetic tomograms with labels and truth to make, of packed scenes that look "
        "like the training tomograms in turn: by preset recommended where that is trained, else by "
        "fitted physics. `copick` exports them; tomograms.shape and copies say how large and full.",
    )
    uncertainty: Annotated[int, Field(ge=0)] = Field(
        1,
        description="Volumes of each class whose voxels' standard deviation over dropout and over "
        "noise is mapped, for the report; 0: none.",
    )
    passes: Annotated[int, Field(ge=2)] = Field(
        20, description="Translations behind each of these maps, the paper's 20; more: less grain."
    )
    devices: Count = Field(
        1,
        description="GPUs of one machine that share each batch, by Lightning Fabric; the preset's "
        "batch must be a multiple. On Slurm, ask for as many: gpu of translation_train in the profile.",
    )
    tensorboard: bool = Field(
        False,
        description="Whether training also writes TensorBoard events, where that is installed.",
    )


class Evaluation(Section):
    """What the synthetic data are worth."""

    network: Literal["cb3d", "small"] = Field(
        "small", description="Classifier; `cb3d` is the paper's and wants a GPU."
    )
    second_network: Literal["cb3d", "small"] | None = Field(
        None,
        description="The other classifier as well: its accuracies stand in the report beside the "
        "first's, under its name. Verdict, metrics and learning curve are the first's. Empty: none.",
    )
    epochs: Count | None = Field(None, description="Passes over the training set; empty: its own.")
    curve: list[Annotated[int, Field(ge=2)]] = Field(
        [100, 300, 1000, 3000, 10000],
        description="Learning curve: a classifier is trained on so many volumes each, where there "
        "are more than that: for 10,000, raise densities.count. An empty list: none.",
    )
    curve_of: list[Literal["generated", "fitted"]] = Field(
        ["generated", "fitted"],
        description="Sets that have a learning curve; fitted physics with imaging.fit only.",
    )
    competition_seeds: Annotated[int, Field(ge=2)] = Field(
        5,
        description="Classifiers that `snakemake comparison` trains of each set, for its intervals.",
    )
    ablation_preset: str = Field(
        "paper", description="What `snakemake ablations` changes: a preset, or a YAML file."
    )
    ablation_steps: Count | None = Field(
        None, description="Training steps of each ablation; empty: the preset's own."
    )
    ablation_seeds: Count = Field(
        3, description="How often each ablation is trained: collapse is a matter of chance."
    )
    ablation_snapshots: Count | None = Field(
        None,
        description="Epochs from one kept generator to the next in the ablations of input noise; "
        "`snakemake ablations` then also draws scores by step (the paper's Figures 5 and 6). "
        "Empty: none.",
    )


class Report(Section):
    """The page."""

    title: str = Field("CryoETGAN", description="Heading of the page.")
    sample: Count = Field(4, description="Volumes shown of each class.")


class Export(Section):
    """Formats other programs read."""

    formats: list[Literal["relion", "copick", "plain"]] = Field(
        ["relion"], description="Which exports the workflow makes."
    )


class Config(Section):
    """One run."""

    run: Annotated[str, Field(pattern=r"^[A-Za-z0-9_-][A-Za-z0-9_.-]*$")] = Field(
        "demo", description="Name of the run; results lie in `results/<run>/`."
    )
    seed: Annotated[int, Field(ge=0)] = Field(0, description="Seed of all random numbers.")
    device: Literal["auto", "cpu", "cuda"] = Field(
        "auto", description="Where tensors are computed."
    )
    structures: Structures = Structures()
    densities: Densities = Densities()
    tomograms: Tomograms = Tomograms()
    particles: Particles = Particles()
    imaging: Imaging = Imaging()
    translation: Translation = Translation()
    evaluation: Evaluation = Evaluation()
    report: Report = Report()
    export: Export = Export()

    @model_validator(mode="after")
    def _sizes(self) -> "Config":
        if self.densities.resolution < 2 * self.densities.voxel_size:
            raise ValueError(
                f"densities.resolution is {self.densities.resolution:g} A, below twice "
                f"densities.voxel_size ({self.densities.voxel_size:g} A); raise it to "
                f"{2 * self.densities.voxel_size:g} or more"
            )
        if self.translation.tomograms and not self.imaging.fit:
            raise ValueError(
                f"translation.tomograms is {self.translation.tomograms}, but synthetic tomograms "
                "need fitted physics; set imaging.fit to true, or translation.tomograms to 0"
            )
        if self.evaluation.second_network == self.evaluation.network:
            raise ValueError(
                f"evaluation.second_network is {self.evaluation.network}, as evaluation.network; "
                "name the other classifier, or leave it empty"
            )
        if self.translation.ship == "fitted" and not self.imaging.fit:
            raise ValueError(
                "translation.ship is 'fitted', but no physics is fitted; set imaging.fit to true, or "
                "translation.ship to 'auto'"
            )
        tomograms = self.tomograms.voxel_size
        if tomograms is not None and tomograms != self.densities.voxel_size:
            raise ValueError(
                f"tomograms.voxel_size is {tomograms:g} A but densities.voxel_size "
                f"{self.densities.voxel_size:g} A; give both one value, or leave the first out"
            )
        return self


def load(*paths: Path) -> Config:
    """Read and check configuration files; later ones win, key by key, as in Snakemake.

    Raises
    ------
    UserError
        Where the file is missing, no YAML mapping, or a key or value is wrong.
    """
    whole: dict[str, Any] = {}
    for path in paths:
        whole = _merged(whole, _content(path))
    return check(whole, ", ".join(map(str, paths)))


def _merged(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    found = dict(base)
    for key, value in over.items():
        inner = found.get(key)
        if isinstance(inner, dict) and isinstance(value, dict):
            value = _merged(inner, value)
        found[key] = value
    return found


def _content(path: Path) -> dict[str, Any]:
    path = check_exists(path, "configuration file")
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: is not YAML: {error}") from error
    if content is None:
        content = {}
    if not isinstance(content, dict):
        raise UserError(f"{path}: wanted keys and values, got {type(content).__name__}")
    return content


def check(content: dict[str, Any], name: str) -> Config:
    """Return the typed configuration, or raise one `UserError` that lists what is wrong."""
    try:
        return Config.model_validate(content)
    except ValidationError as error:
        raise UserError(f"{name}: {explain(error, Config)}") from error


def explain(error: ValidationError, model: type[BaseModel]) -> str:
    """Return all mistakes in one line: key, value got, what is wanted."""
    return "; ".join(_explain_one(item, model) for item in error.errors())


def _explain_one(item: Any, model: type[BaseModel]) -> str:
    place = ".".join(str(part) for part in item["loc"])
    if item["type"] == "extra_forbidden":
        *parents, last = item["loc"]
        known = _keys(model, tuple(parents))
        return f"unknown key '{place}'{suggest(str(last), known)} (known: {', '.join(known)})"
    message = item["msg"].removeprefix("Value error, ")
    if item["type"] == "value_error" or not place:
        return message
    if item.get("ctx", {}).get("pattern") == NAME:
        return f"{place} is {item['input']!r}: letters, digits, _ and - only"
    if item["type"] == "missing":
        return f"{place} is missing; fill it in"
    return f"{place} is {item['input']!r}: {message[0].lower()}{message[1:]}"


def _keys(model: type[BaseModel], parents: tuple[Any, ...]) -> list[str]:
    for name in parents:
        field = model.model_fields.get(str(name))
        kind = field.annotation if field else None
        if not (isinstance(kind, type) and issubclass(kind, BaseModel)):
            return []
        model = kind
    return list(model.model_fields)
