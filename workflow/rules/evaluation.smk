"""Evaluation: four classifiers, the metrics, and the untrained generator as a null."""

# crops a person marked (or the truth of simulated tomograms); else the picks' best templates
REAL = results("particles/marked.star" if MARKED else "particles/subtomograms.star")
GENERATED = results(f"{TRANSLATION}/generated.star")
CYCLED = results(f"{TRANSLATION}/cycled.star")
CLASSIFIED = {
    "ceiling": (REAL, "train", REAL, "test"),
    "gan_train": (GENERATED, None, REAL, "test"),
    "gan_test": (REAL, "train", GENERATED, None),
    "physics_train": (results("imaging/simulated.star"), None, REAL, "test"),
    "fitted_train": (results("imaging/fitted.star"), None, REAL, "test"),
}
# how many generated volumes are enough: gan_train on fewer of them
MADE = (
    len(GENERATORS)
    * CONFIG.translation.draws
    * sum(row.count or CONFIG.densities.count for row in CLASSES.values())
)
CURVE = {f"gan_train_{n}": n for n in CONFIG.evaluation.curve if n < MADE}
CLASSIFIED |= {name: CLASSIFIED["gan_train"] for name in CURVE}
MEASURED = {
    "measure": GENERATED,
    "measure_untrained": results(f"{TRANSLATION}/untrained.star"),
    "measure_physics": results("imaging/simulated.star"),
    "measure_fitted": results("imaging/fitted.star"),
}
if not CONFIG.imaging.fit:
    del CLASSIFIED["fitted_train"], MEASURED["measure_fitted"]


rule evaluation_classify:
    input:
        train=lambda wildcards: CLASSIFIED[wildcards.name][0],
        train_stack=lambda wildcards: stack(CLASSIFIED[wildcards.name][0]),
        test=lambda wildcards: CLASSIFIED[wildcards.name][2],
        test_stack=lambda wildcards: stack(CLASSIFIED[wildcards.name][2]),
        # both are trained on the same real crops: once is enough
        reuse=lambda wildcards: (
            results("evaluation/ceiling.pt") if wildcards.name == "gan_test" else []
        ),
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
    threads: 1 if CONFIG.evaluation.network == "small" else 4  # seven run side by side
    resources:
        mem_mb=8000,
        runtime=240,
    params:
        splits=lambda wildcards: flags(
            train_split=CLASSIFIED[wildcards.name][1],
            test_split=CLASSIFIED[wildcards.name][3],
        ),
        options=options(CONFIG.evaluation, "network"),
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
        real=REAL,
        real_stack=stack(REAL),
        generated=lambda wildcards: MEASURED[wildcards.name],
        generated_stack=lambda wildcards: stack(MEASURED[wildcards.name]),
        densities=results("densities/poses.star"),
        densities_stack=results("densities/poses.mrcs"),
        cycle=lambda wildcards: CYCLED if wildcards.name == "measure" else [],
        cycle_stack=lambda wildcards: (
            stack(CYCLED) if wildcards.name == "measure" else []
        ),
        features=results("evaluation/ceiling.pt"),
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
        maps=flags(map=maps()),
        cycle=lambda wildcards, input: flags(cycle=input.get("cycle") or None),
        tilts=tilts(first_training_tomogram()),
        device=CONFIG.device,
        seed=CONFIG.seed,
        code=code("evaluation"),
    shell:
        cryoetgan(
            "evaluation measure --real {input.real:q} --real-split test"
            " --generated {input.generated:q} --densities {input.densities:q}"
            " --features {input.features:q} {params.maps} {params.tilts} {params.cycle}"
            " --device {params.device} --seed {params.seed} -o {output:q}"
        )
