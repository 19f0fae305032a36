"""Synthetic tomograms with labels and truth: a packed scene, then a training tomogram's look."""

SYNTHETIC = [f"synthetic_{i}" for i in range(1, CONFIG.translation.tomograms + 1)]
if SYNTHETIC:
    first_training_tomogram()  # there has to be one
# whose physics and noise each has: the training tomograms in turn
LOOKS = {name: TRAINING[i % len(TRAINING)] for i, name in enumerate(SYNTHETIC)}
# networks with an instance norm would change grey values from tile to tile: physics alone there
LEARNT = RESIDUAL and SHIP != "fitted"
SYNTHESIZED = f"{TRANSLATION}/tomograms" if LEARNT else "imaging/tomograms"


if set(SYNTHETIC) & set(TOMOGRAMS):
    raise WorkflowError(
        f"{CONFIG.tomograms.table}: {', '.join(sorted(set(SYNTHETIC) & set(TOMOGRAMS)))} is what "
        "translation.tomograms makes; rename the row"
    )


wildcard_constraints:
    synthetic="|".join(SYNTHETIC) or "no-synthetic-tomogram",


rule tomograms_scene:
    input:
        maps,
    output:
        scene=results("tomograms/scenes/{synthetic}.mrc"),
        labels=results("tomograms/scenes/{synthetic}_labels.mrc"),
        truth=results("tomograms/scenes/{synthetic}.star"),
    log:
        logs("tomograms/scenes/{synthetic}"),
    benchmark:
        timing("tomograms/scenes/{synthetic}")
    conda:
        "../../envs/tomograms.yaml"
    threads: 1
    resources:
        mem_mb=4000,
        runtime=60,
    params:
        options=options(CONFIG.tomograms, "copies", "shape"),
        copies=class_copies(),
        seed=CONFIG.seed,
        code=code("tomograms"),
    shell:
        cryoetgan(
            "tomograms scene {input:q} {params.options} {params.copies} --seed {params.seed}"
            " -o {output.scene:q}"
        )


rule imaging_synthesize:
    input:
        scene=results("tomograms/scenes/{synthetic}.mrc"),
        labels=results("tomograms/scenes/{synthetic}_labels.mrc"),
        truth=results("tomograms/scenes/{synthetic}.star"),
        model=lambda wildcards: MODELS[LOOKS[wildcards.synthetic]],
        arrays=lambda wildcards: str(
            Path(MODELS[LOOKS[wildcards.synthetic]]).with_suffix(".npz")
        ),
    output:
        tomogram=results("imaging/tomograms/{synthetic}.mrc"),
        labels=results("imaging/tomograms/{synthetic}_labels.mrc"),
        truth=results("imaging/tomograms/{synthetic}.star"),
    log:
        logs("imaging/tomograms/{synthetic}"),
    benchmark:
        timing("imaging/tomograms/{synthetic}")
    conda:
        "../../envs/imaging.yaml"
    threads: 1
    resources:
        mem_mb=4000,
        runtime=120,
    params:
        seed=CONFIG.seed,
        code=code("imaging"),
    shell:
        cryoetgan(
            "imaging synthesize {input.scene:q} --model {input.model:q} --labels {input.labels:q}"
            " --particles {input.truth:q} --seed {params.seed} -o {output.tomogram:q}"
        )


rule translation_synthesize:
    input:
        scene=results("tomograms/scenes/{synthetic}.mrc"),
        labels=results("tomograms/scenes/{synthetic}_labels.mrc"),
        truth=results("tomograms/scenes/{synthetic}.star"),
        checkpoint=checkpoint_of,
    output:
        tomogram=results(f"{TRANSLATION}/tomograms/{{synthetic}}.mrc"),
        labels=results(f"{TRANSLATION}/tomograms/{{synthetic}}_labels.mrc"),
        truth=results(f"{TRANSLATION}/tomograms/{{synthetic}}.star"),
    log:
        logs(f"{TRANSLATION}/tomograms/{{synthetic}}"),
    benchmark:
        timing(f"{TRANSLATION}/tomograms/{{synthetic}}")
    conda:
        "../../envs/translation.yaml"
    threads: 2
    resources:
        mem_mb=8000,
        runtime=240,
    params:
        look=lambda wildcards: flags(tomogram=LOOKS[wildcards.synthetic]),
        device=CONFIG.device,
        seed=CONFIG.seed,
        code=code("translation"),
    shell:
        cryoetgan(
            "translation synthesize {input.checkpoint:q} {input.scene:q} {params.look} --labels"
            " {input.labels:q} --particles {input.truth:q} --device {params.device}"
            " --seed {params.seed} -o {output.tomogram:q}"
        )
