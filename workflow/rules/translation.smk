"""Translation: train the generator, translate, synthesize tomograms.

A generator is a folder below the results: `translation/<preset>`, one per group below it, or
`translation/ablations/<ablation>/<seed>`.
"""


wildcard_constraints:
    generator=one_of(map(re.escape, plan.translation.generators)),


rule translation_train:
    input:
        densities=results("densities/poses.star"),
        densities_stack=results("densities/poses.mrcs"),
        subtomograms=results("particles/subtomograms.star"),
        subtomograms_stack=results("particles/subtomograms.mrcs"),
        preset=lambda wildcards: plan.translation.generators[
            wildcards.generator
        ].written_preset
        or [],
        models=lambda wildcards: plan.translation.generators[wildcards.generator].models,
        arrays=lambda wildcards: list(
            map(arrays, plan.translation.generators[wildcards.generator].models)
        ),
    output:
        results("{generator}/checkpoint.pt"),
    log:
        logs("{generator}/train"),
    benchmark:
        timing("{generator}/train")
    # jobs that most others depend on come first, here and below
    priority: 1
    conda:
        "../../envs/translation.yaml"
    threads: 8
    resources:
        mem_mb=more_each_attempt(16000),
        runtime=more_each_attempt(720),
    params:
        options=lambda wildcards: plan.translation.training_options(wildcards.generator),
        # an edit of the preset's file trains again
        preset=lambda wildcards: plan.translation.preset_settings(wildcards.generator),
        folder=folder,
        device=plan.config.device,
        seed=lambda wildcards: plan.translation.generators[wildcards.generator].seed,
        code=code("translation"),
    shell:
        step(
            "translation train --densities {input.densities:q} --subtomograms"
            " {input.subtomograms:q} {params.options}"
            " --device {params.device} --seed {params.seed} -o {params.folder:q}"
        )


rule translation_translate:
    input:
        checkpoint=results("{generator}/checkpoint.pt"),
        volumes=lambda wildcards: plan.translation.input_of(
            wildcards.generator, wildcards.set
        ),
        stack=lambda wildcards: stack(
            plan.translation.input_of(wildcards.generator, wildcards.set)
        ),
    output:
        star=results("{generator}/{set}.star"),
        stack=results("{generator}/{set}.mrcs"),
    log:
        logs("{generator}/{set}"),
    benchmark:
        timing("{generator}/{set}")
    wildcard_constraints:
        set="|".join(SETS),
    priority: 1
    conda:
        "../../envs/translation.yaml"
    # two sets side by side are faster than one after the other with two threads
    threads: 1
    resources:
        mem_mb=more_each_attempt(8000),
        runtime=more_each_attempt(120),
    params:
        options=lambda wildcards: plan.translation.translation_options(
            wildcards.generator, wildcards.set
        ),
        device=plan.config.device,
        seed=lambda wildcards: plan.translation.generators[wildcards.generator].seed,
        code=code("translation"),
    shell:
        step(
            "translation translate {input.checkpoint:q} {input.volumes:q} {params.options}"
            " --device {params.device} --seed {params.seed} -o {output.star:q}"
        )


rule translation_uncertainty:
    input:
        checkpoint=results("{generator}/checkpoint.pt"),
        volumes=results("densities/poses.star"),
        stack=results("densities/poses.mrcs"),
    output:
        [results(f"{{generator}}/{name}.star") for name in UNCERTAINTY_MAPS],
        [results(f"{{generator}}/{name}.mrcs") for name in UNCERTAINTY_MAPS],
    log:
        logs("{generator}/uncertainty"),
    benchmark:
        timing("{generator}/uncertainty")
    conda:
        "../../envs/translation.yaml"
    threads: 1
    resources:
        mem_mb=more_each_attempt(8000),
        runtime=more_each_attempt(60),
    params:
        sample=section_options(plan.config.translation, "passes", sample="uncertainty"),
        folder=folder,
        device=plan.config.device,
        seed=plan.config.seed,
        code=code("translation"),
    shell:
        step(
            "translation uncertainty {input.checkpoint:q} {input.volumes:q} {params.sample}"
            " --device {params.device} --seed {params.seed} -o {params.folder:q}"
        )


rule translation_join:
    input:
        stars=[
            results(f"{generator}/{{set}}.star")
            for generator in plan.translation.run_generators
        ],
        stacks=[
            results(f"{generator}/{{set}}.mrcs")
            for generator in plan.translation.run_generators
        ],
    output:
        star=results(f"{plan.translation.folder}/{{set}}.star"),
        stack=results(f"{plan.translation.folder}/{{set}}.mrcs"),
    log:
        logs(f"{plan.translation.folder}/{{set}}"),
    benchmark:
        timing(f"{plan.translation.folder}/{{set}}")
    wildcard_constraints:
        set=one_of(plan.translation.concatenated_sets()),
    conda:
        "../../envs/translation.yaml"
    threads: 1
    resources:
        mem_mb=more_each_attempt(4000),
        runtime=more_each_attempt(60),
    params:
        code=code("translation"),
    shell:
        step("translation join {input.stars:q} -o {output.star:q}")


rule translation_synthesize:
    input:
        scene=results("tomograms/scenes/{synthetic}.mrc"),
        labels=results("tomograms/scenes/{synthetic}_labels.mrc"),
        instances=results("tomograms/scenes/{synthetic}_instances.mrc"),
        truth=results("tomograms/scenes/{synthetic}.star"),
        checkpoint=lambda wildcards: plan.translation.synthesis_checkpoint(
            wildcards.synthetic
        ),
    output:
        tomogram=results(f"{plan.translation.folder}/tomograms/{{synthetic}}.mrc"),
        labels=results(f"{plan.translation.folder}/tomograms/{{synthetic}}_labels.mrc"),
        instances=results(
            f"{plan.translation.folder}/tomograms/{{synthetic}}_instances.mrc"
        ),
        truth=results(f"{plan.translation.folder}/tomograms/{{synthetic}}.star"),
    log:
        logs(f"{plan.translation.folder}/tomograms/{{synthetic}}"),
    benchmark:
        timing(f"{plan.translation.folder}/tomograms/{{synthetic}}")
    priority: 2
    conda:
        "../../envs/translation.yaml"
    threads: 1
    resources:
        mem_mb=more_each_attempt(8000),
        runtime=more_each_attempt(240),
    params:
        tomogram=lambda wildcards: plan.translation.synthesis_options(
            wildcards.synthetic
        ),
        device=plan.config.device,
        seed=plan.config.seed,
        code=code("translation"),
    shell:
        step(
            "translation synthesize {input.checkpoint:q} {input.scene:q} {params.tomogram} --labels"
            " {input.labels:q} --particles {input.truth:q} --device {params.device}"
            " --seed {params.seed} -o {output.tomogram:q}"
        )
