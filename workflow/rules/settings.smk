"""The configuration, typed; the tables; names of results."""

from cryoetgan import config as configuration
from cryoetgan.errors import UserError
from cryoetgan.io.files import write_text
from cryoetgan.tables import read_classes, read_tomograms
from cryoetgan.translation.presets import read_preset


def checked(function, *arguments):
    """A mistake in config or tables ends the workflow with its one message."""
    try:
        return function(*arguments)
    except UserError as error:
        raise WorkflowError(str(error)) from None


CONFIG = checked(configuration.check, dict(config), "config")
CLASSES = {
    row.class_: row
    for row in checked(read_classes, Path(workflow_file(CONFIG.structures.table)))
}
TOMOGRAMS = {
    row.tomogram: row
    for row in checked(read_tomograms, Path(workflow_file(CONFIG.tomograms.table)))
}
STRUCTURED = [
    name for name, row in CLASSES.items() if row.kind in ("pdb", "file", "phantom")
]
SIMULATED = [name for name, row in TOMOGRAMS.items() if row.is_simulated]
ANNOTATED = [name for name, row in TOMOGRAMS.items() if row.is_simulated or row.annotations]
# tomograms that differ in split are parted as wholes, else each by blocks with a gap
BLOCKS = len({row.split or "train" for row in TOMOGRAMS.values()}) == 1
TRAINING = [name for name, row in TOMOGRAMS.items() if row.split in ("train", None)]
# the training tomograms of each microscope
GROUPS = {TOMOGRAMS[name].group: [] for name in TRAINING}
for name in TRAINING:
    GROUPS[TOMOGRAMS[name].group].append(name)
PRESET = Path(CONFIG.translation.preset).stem
# whose size is varied: the classifiers that learn from the sets that curves are asked of
CURVES = [
    {"generated": "gan_train", "fitted": "fitted_train"}[of]
    for of in CONFIG.evaluation.curve_of
]
# which set is exported; `auto`: what evaluation/choice.json says
SHIP = CONFIG.translation.ship if CONFIG.imaging.fit else "generated"


wildcard_constraints:
    class_name="|".join(CLASSES),
    tomogram="|".join(TOMOGRAMS),


def recipe(preset):
    """A preset's settings: a rule that has them in its params runs again when its file changes."""
    return repr(checked(read_preset, preset))


def results(name):
    return f"results/{CONFIG.run}/{name}"


def logs(name):
    return f"results/{CONFIG.run}/logs/{name}.log"


def timing(name):
    return f"results/{CONFIG.run}/benchmarks/{name}.tsv"


def maps(*_):
    return [results(f"densities/{name}.mrc") for name in CLASSES]


def class_copies():
    """How many of a class are packed, where its row says another number."""
    rows = CLASSES.items()
    return flags(
        class_copies=[f"{name}={row.copies}" for name, row in rows if row.copies]
    )


def of_kind(*kinds):
    """A pattern for the wildcard class_name that matches the classes of these kinds only."""
    names = [name for name, row in CLASSES.items() if row.kind in kinds]
    return "|".join(names) or "no-such-class"


def of_origin(simulated):
    names = [name for name, row in TOMOGRAMS.items() if row.is_simulated == simulated]
    return "|".join(names) or "no-such-tomogram"


def acquisition(row):
    """How a tomogram was recorded, as options."""
    return flags(
        tilts=(row.tilt_low, row.tilt_high, row.tilt_step),
        voltage=row.voltage,
        cs=row.cs,
        amplitude_contrast=row.amplitude_contrast,
        defocus=row.defocus,
        ctf=row.ctf,
        group=row.group,
    )


def first_training_tomogram():
    """The one whose geometry the typed physics takes."""
    if TRAINING:
        return TOMOGRAMS[TRAINING[0]]
    raise WorkflowError(
        f"{CONFIG.tomograms.table}: no tomogram has split 'train'; give one, or leave the column empty"
    )


def exports(*_):
    made = {
        "relion": "relion/particles.star",
        "copick": "copick/config.json",
        "plain": "plain/README.md",
    }
    return [results(f"export/{made[name]}") for name in CONFIG.export.formats]


def save_config():
    """The configuration of a run lies beside its results."""
    import yaml

    text = yaml.safe_dump(CONFIG.model_dump(mode="json"), sort_keys=False)
    path = Path(results("config.yaml"))
    if not path.exists() or path.read_text() != text:
        write_text(path, text)


def say_where_the_report_is():
    page = Path(results("report/index.html")).resolve()
    if page.exists():
        print(f"\nThe report: {page}\n", file=sys.stderr)


def repeat_messages():
    """Show what each failed command said once more, where it cannot be missed."""
    said = []
    for path in sorted(Path(results("logs")).rglob("*.log")):
        if path.stat().st_mtime >= STARTED:
            lines = path.read_text(errors="replace").splitlines()
            said += [(line, path) for line in lines if line.startswith("cryoetgan: ")]
    if said:
        print("\nWhat went wrong:", file=sys.stderr)
    for line, path in said:
        print(
            f"  {line.removeprefix('cryoetgan: ')}\n    (log: {path})", file=sys.stderr
        )


def source(path):
    """A file a table names: variables expanded, looked for here, then in the project."""
    return workflow_file(os.path.expandvars(os.path.expanduser(path)))


def tomogram_file(wildcards):
    """The user's file; what is fetched from elsewhere is no file to wait for."""
    row = TOMOGRAMS[wildcards.tomogram]
    return [] if row.is_remote else source(row.path)


def tomogram_source(wildcards):
    """What the import is told: a file, or an address."""
    row = TOMOGRAMS[wildcards.tomogram]
    return row.path if row.is_remote else source(row.path)


def tilts(row):
    return flags(tilts=(row.tilt_low, row.tilt_high))


def radii():
    """What tells the picker how large the particles are, where no sigma is given."""
    if CONFIG.particles.sigma:
        return ""
    measured = [
        results(f"densities/{n}.mrc") for n, row in CLASSES.items() if not row.radius
    ]
    return flags(
        radius=[row.radius for row in CLASSES.values() if row.radius], density=measured
    )


def splits():
    return flags(
        split=[f"{name}={row.split}" for name, row in TOMOGRAMS.items() if row.split]
    )


def groups():
    """Which group each tomogram is of, where there are several."""
    named = {name: row.group for name, row in TOMOGRAMS.items()}
    several = len(set(named.values())) > 1
    return flags(
        group=[f"{n}={group}" for n, group in named.items()] if several else None
    )


def mask(wildcards):
    """Regions to leave out of a tomogram, where its row names some."""
    if TOMOGRAMS[wildcards.tomogram].mask:
        return results(f"tomograms/{wildcards.tomogram}_mask.mrc")
    return []


def picked_by(picker):
    """A pattern for the wildcard tomogram that matches all with this picker, else none."""
    return "|".join(TOMOGRAMS) if CONFIG.particles.picker == picker else "no-tomogram"


def curation(*_):
    """The files of a person's decisions: a new one runs the selection again."""
    folder = CONFIG.particles.curation
    return sorted(map(str, Path(folder).glob("*.csv"))) if folder else []


def annotations(wildcards):
    """Manual annotations, or the truth of a simulated tomogram."""
    row = TOMOGRAMS[wildcards.tomogram]
    if row.annotations:
        return source(row.annotations)
    return results(f"tomograms/{wildcards.tomogram}.star")


def physics():
    """What the typed physics takes of the first training tomogram."""
    row = first_training_tomogram()
    return flags(
        tilts=(row.tilt_low, row.tilt_high),
        voltage=row.voltage,
        cs=row.cs,
        amplitude_contrast=row.amplitude_contrast,
        ctf=row.ctf,
        defocus=row.defocus if row.defocus is not None else CONFIG.imaging.defocus,
    )


def recorded(row):
    """What is known of how a tomogram was recorded; a defocus the table lacks is not made up."""
    return flags(
        tilts=(row.tilt_low, row.tilt_high),
        voltage=row.voltage,
        cs=row.cs,
        amplitude_contrast=row.amplitude_contrast,
        ctf=row.ctf,
        defocus=row.defocus,
    )


def stack(star):
    """The volume stack beside a STAR file."""
    return str(Path(star).with_suffix(".mrcs"))


def tables_beside():
    """Hash of the tables that `snakemake ablations` or a competition left, where there are any."""
    import hashlib

    found = sorted(Path(results("evaluation")).rglob("*.csv"))
    content = b"".join(path.read_bytes() for path in found)
    return hashlib.sha256(content).hexdigest()[:12] if found else ""


def curve_point(name):
    """Size of the training set, and as many steps as the whole set would have."""
    of, count = CURVE.get(name, (name, None))
    epochs = CONFIG.evaluation.epochs
    if count and epochs:
        epochs = min(60, epochs * MADE[of] // count)
    return flags(count=count, epochs=epochs)


include: "inputs.smk"
