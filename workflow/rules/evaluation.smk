"""Evaluation: classifiers, the metrics, the untrained generator as a null, and what is shipped."""

# crops a person marked (or the truth of simulated tomograms); else the picks' best templates
REAL = results("particles/annotated.star" if ANNOTATED else "particles/subtomograms.star")
PICKS = results("particles/subtomograms.star")
GENERATED = results(f"{TRANSLATION}/generated.star")
FITTED = results("imaging/fitted.star")
CYCLED = results(f"{TRANSLATION}/cycled.star")
CLASSIFIED = {
    "ceiling": (REAL, "train", REAL, "test"),
    "gan_train": (GENERATED, None, REAL, "test"),
    "gan_test": (REAL, "train", GENERATED, None),
    "physics_train": (results("imaging/simulated.star"), None, REAL, "test"),
    "fitted_train": (FITTED, None, REAL, "test"),
}
if (
    ANNOTATED
):  # picks named by their best template: where no crop is marked, that is the ceiling
    CLASSIFIED["pseudo_train"] = (PICKS, "train", REAL, "test")
# the same by another classifier; name: whose place it takes
SECOND = CONFIG.evaluation.second_network
BY_SECOND = {f"{name}_{SECOND}": name for name in CLASSIFIED} if SECOND else {}
CLASSIFIED |= {name: CLASSIFIED[of] for name, of in BY_SECOND.items()}
# how many volumes are enough: the same on fewer of them; name: (of which set, how many)
POSES = sum(row.count or CONFIG.densities.count for row in CLASSES.values())
MADE = {"gan_train": len(GENERATORS) * CONFIG.translation.draws * POSES}
if CONFIG.imaging.fit:
    MADE["fitted_train"] = (len(GROUPS) if CONFIG.imaging.per_group else 1) * POSES
CURVE = {
    f"{of}_{count}": (of, count)
    for of in CURVES
    for count in CONFIG.evaluation.curve
    if count < MADE.get(of, 0)
}
CLASSIFIED |= {name: CLASSIFIED[of] for name, (of, _) in CURVE.items()}
MEASURED = {
    "measure": GENERATED,
    "measure_untrained": results(f"{TRANSLATION}/untrained.star"),
    "measure_physics": results("imaging/simulated.star"),
    "measure_fitted": FITTED,
}
if not CONFIG.imaging.fit:
    del CLASSIFIED["fitted_train"], MEASURED["measure_fitted"]
# what is shipped is chosen by picks that no label touched and nothing has learnt from
SPLITS = {row.split for row in TOMOGRAMS.values()}
UNSEEN = "validation" if "validation" in SPLITS and not BLOCKS else "test"
CHOSEN_BY = {"generated": "measure", "fitted": "measure_fitted"}
UNLABELLED = {}
if SHIP != "auto":
    CHOSEN_BY = {}
elif ANNOTATED or UNSEEN != "test":
    CHOSEN_BY = {"generated": "unlabelled", "fitted": "unlabelled_fitted"}
    UNLABELLED = {"unlabelled": GENERATED, "unlabelled_fitted": FITTED}
    MEASURED |= UNLABELLED


rule evaluation_classify:
    input:
        several,
        train=lambda wildcards: CLASSIFIED[wildcards.name][0],
        train_stack=lambda wildcards: stack(CLASSIFIED[wildcards.name][0]),
        test=lambda wildcards: CLASSIFIED[wildcards.name][2],
        test_stack=lambda wildcards: stack(CLASSIFIED[wildcards.name][2]),
        reuse=same_training,
    output:
        json=results("evaluation/{name}.json"),
        checkpoint=results("evaluation/{name}.pt"),
    log:
        logs("evaluation/{name}"),
    benchmark:
        timing("evaluation/{name}")
    wildcard_constraints:
        name="|".join(CLASSIFIED),
    conda:
        "../../envs/evaluation.yaml"
    threads: lambda wildcards: 1 if network(wildcards) == "small" else 4  # seven run side by side
    resources:
        mem_mb=8000,
        runtime=240,
    params:
        splits=lambda wildcards: flags(
            train_split=CLASSIFIED[wildcards.name][1],
            test_split=CLASSIFIED[wildcards.name][3],
        ),
        options=lambda wildcards: flags(network=network(wildcards)),
        size=lambda wildcards: curve_point(wildcards.name),
        reuse=lambda wildcards, input: flags(reuse=input.get("reuse") or None),
        device=CONFIG.device,
        seed=CONFIG.seed,
        code=code("evaluation"),
    shell:
        cryoetgan(
            "evaluation classify --train {input.train:q} --test {input.test:q} {params.splits}"
            " {params.options} {params.size} {params.reuse} --device {params.device} --seed {params.seed}"
            " --checkpoint {output.checkpoint:q} -o {output.json:q}"
        )


rule evaluation_measure:
    input:
        real=measured_on,
        real_stack=lambda wildcards: stack(measured_on(wildcards)),
        generated=lambda wildcards: MEASURED[wildcards.name],
        generated_stack=lambda wildcards: stack(MEASURED[wildcards.name]),
        densities=results("densities/poses.star"),
        densities_stack=results("densities/poses.mrcs"),
        cycle=lambda wildcards: CYCLED if wildcards.name == "measure" else [],
        cycle_stack=lambda wildcards: (
            stack(CYCLED) if wildcards.name == "measure" else []
        ),
        features=classifier_for,
        maps=maps,
    output:
        results("evaluation/{name}.json"),
    log:
        logs("evaluation/{name}"),
    benchmark:
        timing("evaluation/{name}")
    wildcard_constraints:
        name="|".join(MEASURED),
    conda:
        "../../envs/evaluation.yaml"
    threads: 1 if CONFIG.evaluation.network == "small" else 4  # seven run side by side
    resources:
        mem_mb=8000,
        runtime=120,
    params:
        judged=judged,
        maps=flags(map=maps()),
        cycle=lambda wildcards, input: flags(cycle=input.get("cycle") or None),
        device=CONFIG.device,
        seed=CONFIG.seed,
        code=code("evaluation"),
    shell:
        cryoetgan(
            "evaluation measure --real {input.real:q} {params.judged}"
            " --generated {input.generated:q} --densities {input.densities:q}"
            " --features {input.features:q} {params.maps} {params.cycle}"
            " --device {params.device} --seed {params.seed} -o {output:q}"
        )


rule evaluation_choose:
    input:
        [results(f"evaluation/{name}.json") for name in CHOSEN_BY.values()],
    output:
        results("evaluation/choice.json"),
    log:
        logs("evaluation/choice"),
    benchmark:
        timing("evaluation/choice")
    conda:
        "../../envs/evaluation.yaml"
    threads: 1
    resources:
        mem_mb=2000,
        runtime=10,
    params:
        measures=flags(
            **{
                key: results(f"evaluation/{name}.json")
                for key, name in CHOSEN_BY.items()
            }
        ),
        options=flags(source=CONFIG.translation.ship),
        code=code("evaluation"),
    shell:
        cryoetgan("evaluation choose {params.measures} {params.options} -o {output:q}")


include: "ablations.smk"
include: "competition.smk"
