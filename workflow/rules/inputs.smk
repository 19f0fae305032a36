"""What rules of several stages ask: which files they take, by wildcards."""


def measured_on(wildcards):
    return PICKS if wildcards.name in UNLABELLED else REAL


def classifier_for(wildcards):
    """Whose features a measure takes: trained on real crops, without labels for the choice."""
    pseudo = wildcards.name in UNLABELLED and ANNOTATED
    return results(f"evaluation/{'pseudo_train' if pseudo else 'ceiling'}.pt")


def network(wildcards):
    """Which classifier: the first, or the other beside it."""
    return SECOND if wildcards.get("name") in BY_SECOND else CONFIG.evaluation.network


def same_training(wildcards):
    """Two of a network are trained on the same real crops: once is enough."""
    if BY_SECOND.get(wildcards.name, wildcards.name) != "gan_test":
        return []
    return results(f"evaluation/{wildcards.name.replace('gan_test', 'ceiling')}.pt")


def judged(wildcards):
    """The split, and for the choice the metrics it needs alone."""
    if wildcards.get("name") in UNLABELLED:
        needed = ["kid", "c2st_auc", "sd_ratio", "pose_recovery"]
        return flags(real_split=UNSEEN, metric=needed)
    return flags(real_split="test")


def synthetic(suffix):
    """Files of all synthetic tomograms: `.mrc`, `_labels.mrc`, `.star`."""
    return [results(f"{SYNTHESIZED}/{name}{suffix}") for name in SYNTHETIC]


def synthetic_by_physics():
    """The same by fitted physics, where which of the two is exported is yet to be seen."""
    if LEARNT and SHIP == "auto":
        return [results(f"imaging/tomograms/{name}.mrc") for name in SYNTHETIC]
    return []


def checkpoint_of(wildcards):
    """The network that learnt the look: of the tomogram's group, where each has its own."""
    group = TOMOGRAMS[LOOKS[wildcards.synthetic]].group
    own = f"{TRANSLATION}/{group}"
    return results(f"{own if own in GENERATORS else TRANSLATION}/checkpoint.pt")


def fitted(wildcards):
    """What is added to fitted physics needs the imaging model of each training tomogram."""
    if not RESIDUAL:
        return []
    group = GENERATORS[wildcards.generator]
    names = TRAINING if group is None else GROUPS[group]
    return [MODELS[name] for name in names if name in MODELS]


def fitted_arrays(wildcards):
    return [str(Path(path).with_suffix(".npz")) for path in fitted(wildcards)]


def translated(wildcards):
    """What is translated; the generated volumes go back for the cycle d, G(d), G(G(d))."""
    if wildcards.which == "cycled":
        return results(f"{wildcards.generator}/generated.star")
    return results("densities/poses.star")


def several(wildcards):
    """A classifier has nothing to learn of one class: said before anything is made."""
    if len(CLASSES) > 1:
        return []
    raise WorkflowError(
        f"{CONFIG.structures.table}: has one class, and an evaluation needs two to tell apart: add "
        "another of the sample, or a decoy (source membrane, or a phantom); labelled volumes of one "
        f"class come without evaluation: snakemake {FITTED} (fitted physics), or {GENERATED}"
    )


def of_competition(name):
    """Paths count from the plan's folder."""
    return os.path.relpath(name, results("evaluation"))


def write_plan(plan, output, log):
    """A competition's file."""
    import yaml

    write_text(Path(output), yaml.safe_dump(plan, sort_keys=False))
    write_text(Path(log), f"{len(plan['methods'])} methods\n")
