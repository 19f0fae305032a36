"""The configuration: every key with its type, range, default and reason to change it."""

import re
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic_core import PydanticCustomError

from cryoetgan.errors import UserError, shown, suggest
from cryoetgan.io.files import read_yaml

NAME = r"^[A-Za-z0-9_-]{1,80}$"
"""Pattern of a name: of a class, a tomogram, a group. Names of files are made of several."""
EXPONENT = r"[+-]?\d+\.?\d*[eE][+]?\d{1,2}"
"""A whole number in a form that YAML reads as text."""
RENAMED = {
    "tomograms.voxel_size": "densities.voxel_size",
    "tomograms.marks_radius": "evaluation.match_radius",
    "particles.deviations": "particles.score_threshold_sd",
    "particles.whole_voxels": "particles.subpixel (the opposite)",
    "translation.ship": "export.source",
    "translation.tomograms": "tomograms.synthetic",
    "evaluation.curve": "evaluation.learning_curve",
    "evaluation.competition_seeds": "evaluation.comparison_seeds",
}
"""Keys of early configurations, and their names today."""
DEFAULT_SYNTHETIC = 2
"""Synthetic tomograms of a run with fitted physics: one to train a detector on, one to test it."""
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=1)]
Fraction = Annotated[float, Field(ge=0, lt=1)]


class Section(BaseModel):
    """A part of the configuration. Unknown keys are errors; values cannot be changed later."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    @field_validator("*", mode="before")
    @classmethod
    def _is_no_yes(cls, value: Any, info: ValidationInfo) -> Any:
        """Refuse yes and no for numbers: they would be 1 and 0."""
        kind = cls.model_fields[str(info.field_name)].annotation
        if isinstance(value, bool) and kind is not bool and kind is not str:
            raise PydanticCustomError("yes_or_no", "it must not be yes or no")
        return value


class Structures(Section):
    """The particles, and the sources of their structures."""

    table: str = Field(
        "config/classes.tsv",
        description="Table of classes: one row per kind of particle to simulate and find.",
    )
    mirror: str = Field(
        "https://files.rcsb.org/download",
        description="URL or folder that holds `<id>.cif.gz`. Change it to use a local mirror, or to "
        "work without a network.",
    )
    retries: Annotated[int, Field(ge=0, le=20)] = Field(
        4, description="Retries of a failed download; raise it on an unreliable connection."
    )
    timeout: Positive = Field(
        60.0, description="Seconds without data after which a download is retried."
    )


class Densities(Section):
    """Structures to density maps and random poses: the density domain D."""

    engine: Literal["builtin", "eman2"] = Field(
        "builtin",
        description="`eman2` runs e2pdb2mrc.py in its own environment. The built-in engine computes "
        "the same maps. The engine never depends on the installed programs.",
    )
    voxel_size: Positive = Field(
        10.0, description="Angstrom. Tomograms are resampled to it at import."
    )
    resolution: Positive = Field(
        30.0,
        description="Angstrom, as EMAN2 defines it; at least twice the voxel size. Maps of other "
        "programs get its grey scale.",
    )
    box: Annotated[int, Field(ge=12, le=256, multiple_of=4)] = Field(
        28, description="Voxels; a multiple of 4. Use 1.3 to 2 times the largest particle."
    )
    assembly: str = Field(
        "1",
        description="Biological assembly to build, or `none`; the table overrides it per class.",
    )
    hydrogens: bool = Field(False, description="Include hydrogens that the file contains.")
    ligands: bool = Field(True, description="Include ligands, ions and glycans.")
    waters: bool = Field(False, description="Include ordered waters.")
    count: Count = Field(400, description="Poses per class; the table overrides it per class.")
    max_shift: Annotated[float, Field(ge=0)] | None = Field(
        None,
        description="Angstrom per axis: largest distance of a particle from the box centre. Empty: "
        "1.5 voxels, right for boxes cut at aligned or annotated positions. Raise it if the "
        "positions are less precise.",
    )
    membrane_thickness: Positive = Field(
        40.0, description="Angstrom between the head-group layers of the membrane class."
    )
    membrane_radius: Positive = Field(
        600.0, description="Angstrom; radius of curvature of the membrane class."
    )
    membrane_tilt: Annotated[float, Field(ge=-180, le=180)] = Field(
        0.0,
        description="Degrees about y between z and the normal of the membrane map. Poses rotate the "
        "map anyway.",
    )
    prior: str | None = Field(
        None,
        description="STAR file of observed particles. Poses then draw orientations and offsets from "
        "its angles and origins: use it if particles stick to an interface. Empty: uniform.",
    )
    prior_spread: Annotated[float, Field(ge=0, le=180)] = Field(
        5.0, description="Degrees; blurs the orientations drawn from densities.prior."
    )

    @property
    def greatest_shift(self) -> float:
        """Largest distance of a particle from the box centre, angstrom per axis."""
        return 1.5 * self.voxel_size if self.max_shift is None else self.max_shift


class Tomograms(Section):
    """The user's tomograms, or simulated tomograms with ground truth."""

    table: str | None = Field(
        "config/tomograms.tsv",
        description="Table of tomograms: path, geometry, contrast. The path `simulate` simulates a "
        "tomogram with ground truth. Empty: none, if particles.table names subtomograms.",
    )
    shape: tuple[Count, Count, Count] = Field(
        (192, 192, 80), description="x, y, z in voxels of simulated and synthetic tomograms."
    )
    copies: Count = Field(
        40,
        description="Particles per class in a simulated or synthetic tomogram; the table overrides "
        "it per class.",
    )
    snr: Positive = Field(
        0.3,
        description="Signal variance over noise variance of a simulated tomogram as a whole.",
    )
    denoise: Annotated[float, Field(ge=0, allow_inf_nan=False)] = Field(
        0.0,
        description="Weight, in standard deviations, of total variation denoising of simulated "
        "tomograms. With `saturation` it makes a test whose look no fitted physics has. 0: none.",
    )
    saturation: Positive | None = Field(
        None,
        description="Grey values v of simulated tomograms become tanh(v / saturation), in standard "
        "deviations. Empty: linear.",
    )
    synthetic: Annotated[int, Field(ge=0)] | None = Field(
        None,
        description="Number of synthetic tomograms with labels and truth: packed scenes, imaged like "
        "each training tomogram in turn. Preset `recommended` makes them if it is trained, and `cyclegan` "
        "if export.source is generated (like all training tomograms together); otherwise fitted physics. Export them with `copick`. Empty: 2, or none without imaging.fit or if a "
        "side of tomograms.shape is below densities.box.",
    )
    crowder_fraction: Fraction = Field(
        0.02,
        description="Fraction of a synthetic tomogram in unnamed proteins, so that a detector meets "
        "density of no class. They replace the fitted density around particles. 0.05 to 0.1 for cells, "
        "0 for purified samples.",
    )
    membranes: Annotated[int, Field(ge=0)] = Field(
        0, description="Membranes of random shapes in a synthetic tomogram; for cells, 2 to 5."
    )
    float16: bool = Field(
        False,
        description="Store imported tomograms as 16-bit floats: half the disk space, three digits "
        "of grey values.",
    )


class Particles(Section):
    """Picking, scoring, selection, extraction: the subtomogram domain S."""

    table: str | None = Field(
        None,
        description="Table of subtomograms that other programs extracted, a set in each row. They "
        "join the particles of the tomograms, or replace tomograms if tomograms.table is empty.",
    )
    picker: Literal["dog", "match"] = Field(
        "dog",
        description="`dog`: Difference of Gaussians. `match`: template matching of the whole "
        "tomogram; slower, but finds small particles, and particles in strong noise, that `dog` misses.",
    )
    sigma: Positive | None = Field(
        None,
        description="Angstrom; width of the Gaussian. Empty: radius / sqrt 3 of each class, picks "
        "merged. The paper's 7 voxels at 10 A are 70.",
    )
    min_distance: Positive = Field(
        2.0, description="Smallest distance between two picks, in units of sigma."
    )
    threshold: Annotated[float, Field(ge=0, le=20)] | None = Field(
        None,
        description="t of the paper's threshold T = m + t (M - m) / 20 on the peak values (the paper "
        "uses 3); lower finds more. Empty: three times the first quartile of the peaks, which a few "
        "extreme ones (contamination, gold) do not change.",
    )
    score_threshold_sd: Positive = Field(
        4.0,
        description="Picker `match` only: smallest score, in standard deviations above the mean of "
        "the tomogram; lower finds more.",
    )
    max_picks: Count | None = Field(None, description="Best picks kept per tomogram; empty: all.")
    rotations: Annotated[int, Field(ge=8)] | None = Field(
        None,
        description="Template orientations: 550 are about 30 degrees apart, 4400 about 15. Empty: "
        "1856, and in scoring more for large maps.",
    )
    lowpass: Positive | None = Field(
        None, description="Angstrom; scoring ignores finer detail. Empty: three voxels."
    )
    highpass_shells: Annotated[int, Field(ge=0)] = Field(
        3,
        description="Lowest Fourier shells that scoring ignores, so that mass alone does not decide "
        "the class.",
    )
    fdr: Annotated[float, Field(gt=0, le=1)] = Field(
        0.05,
        description="Largest false discovery rate of each class, estimated by decoys. 1: keep all that "
        "win against their decoys.",
    )
    top: Count = Field(
        400,
        description="Most particles kept per class and group of tomograms. Scores of two microscopes "
        "cannot be compared.",
    )
    curation: str | None = Field(
        None, description="Folder of CSV files `id,accepted,class` with a person's decisions."
    )
    average_iterations: Annotated[int, Field(ge=0, le=50)] = Field(
        3,
        description="Alignment iterations of `snakemake averages`. 0: keep the angles of the scores; "
        "the FSC is then no gold standard.",
    )
    subpixel: bool = Field(
        False,
        description="Cut boxes at subvoxel positions by a Fourier shift, which smooths the edges "
        "that a denoiser leaves. False: suggest voxels, unchanged grey values; rlnOriginX/Y/ZAngst "
        "holds the rest of the position.",
    )
    test_fraction: Fraction = Field(
        0.25,
        description="Fraction of a single tomogram kept for testing, in blocks separated by a gap.",
    )


class Imaging(Section):
    """Subtomograms by physics alone: the conventional simulation and the fitted model."""

    fit: bool = Field(
        True,
        description="Fit an imaging model to the picks of each tomogram. Set it to false if there "
        "are too few picks.",
    )
    neighbours: bool = Field(
        True,
        description="Fitted physics adds neighbouring particles at the distances of the picks. Set "
        "it to false for purified, sparse samples.",
    )
    per_group: bool = Field(
        False,
        description="Simulate every density once for each microscope group. If false, each density "
        "is simulated for one randomly chosen tomogram.",
    )
    snr: Positive = Field(
        0.1, description="Signal-to-noise ratio per volume of the conventional simulation."
    )
    defocus: Annotated[float, Field(ge=0)] = Field(
        4.0, description="Micrometres; used if the table of tomograms gives no defocus."
    )
    lowpass: Positive = Field(
        40.0, description="Angstrom; final low-pass filter of the conventional simulation."
    )
    envelope: Positive | None = Field(
        None,
        description="Envelope exp(-(k / E)^2) of the conventional simulation's contrast transfer, E "
        "as a fraction of the Nyquist frequency. AITom, the paper's baseline, uses 0.4. Null: none.",
    )


class Translation(Section):
    """The trained generator: the CycleGAN or the residual network."""

    preset: str = Field(
        "smoke",
        description="`paper`, `released`, `cyclegan`, `recommended`, `smoke`, or a YAML file. "
        "`cyclegan` is the paper's CycleGAN, changed until it learns; `smoke` is small enough for "
        "two cores.",
    )
    steps: Count | None = Field(None, description="Training steps; empty: the preset's value.")
    draws: Count = Field(1, description="Generated volumes per density, each with its own noise.")
    per_group: bool = Field(
        False,
        description="Train one network per microscope group, in `translation/<preset>/<group>/`, on "
        "the picks and physics of that group. The generated sets are concatenated. Set "
        "imaging.per_group too, for a fair comparison.",
    )
    uncertainty: Annotated[int, Field(ge=0)] = Field(
        1,
        description="Volumes per class with uncertainty maps (standard deviation over dropout and "
        "over noise) for the report; 0: none.",
    )
    passes: Annotated[int, Field(ge=2)] = Field(
        20, description="Samples per uncertainty map; the paper uses 20. More: less grain."
    )
    devices: Count = Field(
        1,
        description="GPUs of one machine that share each batch (Lightning Fabric); the preset's "
        "batch must be a multiple. On Slurm, request as many: gpu of translation_train in the "
        "profile.",
    )
    tensorboard: bool = Field(
        False, description="Also write TensorBoard events, if TensorBoard is installed."
    )


class Detection(Section):
    """The detector: trained on the synthetic tomograms, run on all tomograms."""

    steps: Annotated[int, Field(ge=0)] | None = Field(
        None, description="Training steps; empty: the command's default. 0: no detector."
    )
    threshold: Annotated[float, Field(ge=0, le=1)] | None = Field(
        None,
        description="Smallest score of a pick. Empty: the one of the largest F1 on held-out parts of "
        "the synthetic tomograms.",
    )


class Evaluation(Section):
    """Classifiers, metrics, comparisons."""

    network: Literal["cb3d", "small"] = Field(
        "small", description="Classifier; `cb3d` is the paper's and needs a GPU."
    )
    second_network: Literal["cb3d", "small"] | None = Field(
        None,
        description="Second classifier, whose accuracies the report shows beside the first. Verdict, "
        "metrics and learning curve use the first. Empty: none.",
    )
    epochs: Count | None = Field(
        None, description="Passes over the training set; empty: the classifier's default."
    )
    match_radius: Positive = Field(
        80.0, description="Angstrom: largest distance between a pick and its annotated particle."
    )
    learning_curve: list[Annotated[int, Field(ge=2)]] = Field(
        [100, 300, 1000, 3000, 10000],
        description="Sizes of the training sets of the learning curve, up to the number of simulated "
        "volumes; raise densities.count for larger sets. An empty list: no curve.",
    )
    comparison_seeds: Annotated[int, Field(ge=2)] = Field(
        5, description="Classifiers per set that `snakemake comparison` trains, for its intervals."
    )
    ablation_preset: str = Field(
        "paper", description="Preset, or YAML file, that `snakemake ablations` varies."
    )
    ablation_steps: Count | None = Field(
        None, description="Training steps per ablation; empty: the preset's value."
    )
    ablation_seeds: Count = Field(
        3, description="Trainings per ablation: mode collapse depends on the seed."
    )
    ablation_snapshots: Count | None = Field(
        None,
        description="Epochs between two stored generators in the ablations of input noise. "
        "`snakemake ablations` then also plots scores by training step (Paper, Figures 5 and 6). "
        "Empty: none.",
    )


class Report(Section):
    """The report page."""

    title: str = Field("CryoETGAN", description="Heading of the page.")
    sample: Count = Field(4, description="Volumes shown per class.")


class Export(Section):
    """Data for other programs."""

    formats: list[Literal["relion", "copick", "plain"]] = Field(
        ["relion"], description="Formats that the workflow writes."
    )
    source: Literal["auto", "generated", "fitted"] = Field(
        "auto",
        description="Set to export. `auto`: the generated set if label-free tests show that it is "
        "closer to the data and keeps its labels, otherwise the fitted simulation. Without "
        "imaging.fit: the generated set.",
    )
    contrast: Literal["auto", "dark", "bright"] = Field(
        "auto",
        description="Contrast of exported protein. `auto`: bright for RELION, which assumes it, and "
        "as in your own files for the other programs.",
    )


class Config(Section):
    """One run."""

    run: Annotated[str, Field(pattern=r"^[A-Za-z0-9_-][A-Za-z0-9_.-]{0,79}$")] = Field(
        "demo", description="Name of the run; its results are in `results/<run>/`."
    )
    seed: Annotated[int, Field(ge=0)] = Field(0, description="Seed of all random numbers.")
    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="Device of tensors.")
    structures: Structures = Structures()
    densities: Densities = Densities()
    tomograms: Tomograms = Tomograms()
    particles: Particles = Particles()
    imaging: Imaging = Imaging()
    translation: Translation = Translation()
    detection: Detection = Detection()
    evaluation: Evaluation = Evaluation()
    report: Report = Report()
    export: Export = Export()

    @property
    def synthetic_tomograms(self) -> int:
        """Number of synthetic tomograms."""
        if self.tomograms.synthetic is not None:
            return self.tomograms.synthetic
        holds_boxes = self.densities.box <= min(self.tomograms.shape)
        return DEFAULT_SYNTHETIC if self.imaging.fit and holds_boxes else 0

    @model_validator(mode="after")
    def _sections_agree(self) -> "Config":
        if self.densities.resolution < 2 * self.densities.voxel_size:
            raise ValueError(
                f"densities.resolution is {self.densities.resolution:g} A, below twice "
                f"densities.voxel_size ({self.densities.voxel_size:g} A); raise it to "
                f"{2 * self.densities.voxel_size:g} or more"
            )
        if self.tomograms.table is None and self.particles.table is None:
            raise ValueError(
                "tomograms.table and particles.table are both empty; name a table of tomograms, or of "
                "sets of subtomograms"
            )
        has_tomograms = self.tomograms.table is not None or self.synthetic_tomograms
        if "copick" in self.export.formats and not has_tomograms:
            raise ValueError(
                "export.formats has copick, which holds tomograms, but tomograms.table is empty; set "
                "tomograms.synthetic to 1 or more, or export relion and plain"
            )
        if self.tomograms.synthetic and not self.imaging.fit:
            raise ValueError(
                f"tomograms.synthetic is {self.tomograms.synthetic}, but synthetic tomograms "
                "need fitted physics; set imaging.fit to true, or tomograms.synthetic to 0"
            )
        if self.evaluation.second_network == self.evaluation.network:
            raise ValueError(
                f"evaluation.second_network is {self.evaluation.network}, as evaluation.network; "
                "name the other classifier, or leave it empty"
            )
        if self.export.source == "fitted" and not self.imaging.fit:
            raise ValueError(
                "export.source is 'fitted', but imaging.fit is false; set imaging.fit to true, or "
                "export.source to 'auto'"
            )
        return self


def load(*paths: Path) -> Config:
    """Read and check configuration files; a later file overrides single keys, as in Snakemake.

    Raises
    ------
    UserError
        If a file is missing or not a YAML mapping, or a key or value is wrong.
    """
    whole: dict[str, Any] = {}
    for path in paths:
        whole = _merge(whole, read_yaml(path))
    return check(whole, ", ".join(map(str, paths)))


def _merge(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in over.items():
        inner = merged.get(key)
        if isinstance(inner, dict) and isinstance(value, dict):
            value = _merge(inner, value)
        merged[key] = value
    return merged


def check(content: dict[str, Any], name: str) -> Config:
    """Return the typed configuration, or raise one `UserError` that lists every mistake."""
    try:
        return Config.model_validate(content)
    except ValidationError as error:
        raise UserError(f"{name}: {explain(error, Config)}") from error


def explain(error: ValidationError, model: type[BaseModel]) -> str:
    """Return all mistakes in one line: key, value found, value expected."""
    return "; ".join(_explain_one(item, model) for item in error.errors())


def _explain_one(item: Any, model: type[BaseModel]) -> str:
    place = ".".join(str(part) for part in item["loc"])
    if item["type"] == "extra_forbidden":
        *parents, last = item["loc"]
        if place in RENAMED:
            return f"unknown key '{place}'; use {RENAMED[place]}"
        known = _keys(model, tuple(parents))
        return f"unknown key '{place}'{suggest(str(last), known)} (known: {', '.join(known)})"
    message = item["msg"].removeprefix("Value error, ")
    if item["type"] == "value_error" or not place:
        return message
    if item.get("ctx", {}).get("pattern") == NAME:
        return f"{place} is {shown(item['input'])}: at most 80 letters, digits, _ and -"
    if item["type"] == "missing":
        return f"{place} is missing; fill it in"
    if item["type"] == "int_parsing" and re.fullmatch(EXPONENT, str(item["input"])):
        return (
            f"{place} is {shown(item['input'])}: write {float(item['input']):.0f}, without exponent"
        )
    if item["type"] == "string_type" and item["input"] is not None:
        return _explain_text(place, item["input"])
    return f"{place} is {shown(item['input'])}: {message[0].lower()}{message[1:]}"


def _explain_text(place: str, value: Any) -> str:
    """Return the message for a value that YAML does not read as text: a number, a date, yes or no."""
    if isinstance(value, list | tuple | dict):
        return f"{place} is {shown(value)}: it must be one text"
    kind = {bool: "yes or no", int: "a number", float: "a number"}.get(type(value), "a date")
    written = {True: "yes", False: "no"}[value] if isinstance(value, bool) else str(value)
    return (
        f"{place} is {shown(value if isinstance(value, int | float) else written)}: YAML reads it as "
        f"{kind}, but text is wanted; write it in quotes, as in `{place.rpartition('.')[2]}: "
        f"'{written}'`; zeros in front then stay"
    )


def _keys(model: type[BaseModel], parents: tuple[Any, ...]) -> list[str]:
    for name in parents:
        field = model.model_fields.get(str(name))
        kind = field.annotation if field else None
        if not (isinstance(kind, type) and issubclass(kind, BaseModel)):
            return []
        model = kind
    return list(model.model_fields)
