"""Evaluation: classifiers, metrics, the choice of the exported set, ablations, comparison.

The name of a classifier or a set of metrics is its file below `evaluation/`: `gan_train`, or
`ablations/<ablation>/<seed>/gan_train`.
"""


localrules:
    ablations,
    comparison,


rule evaluation_classify:
    input:
        train=lambda wildcards: plan.evaluation.classifications[wildcards.name].train,
        train_stack=lambda wildcards: stack(
            plan.evaluation.classifications[wildcards.name].train
        ),
        test=lambda wildcards: plan.evaluation.classifications[wildcards.name].test,
        test_stack=lambda wildcards: stack(
            plan.evaluation.classifications[wildcards.name].test
        ),
        others=lambda wildcards: plan.evaluation.classification_others(wildcards.name),
        other_stacks=lambda wildcards: list(
            map(stack, plan.evaluation.classification_others(wildcards.name))
        ),
        reuse=lambda wildcards: plan.evaluation.classifications[wildcards.name].reuse
        or [],
    output:
        json=results("evaluation/{name}.json"),
        checkpoint=results("evaluation/{name}.pt"),
    log:
        logs("evaluation/{name}"),
    benchmark:
        timing("evaluation/{name}")
    wildcard_constraints:
        name=one_of(map(re.escape, plan.evaluation.classifications)),
    conda:
        "../../envs/evaluation.yaml"
    threads: lambda wildcards: plan.evaluation.classification_threads(wildcards.name)
    resources:
        mem_mb=more_each_attempt(8000),
        runtime=more_each_attempt(240),
    params:
        options=lambda wildcards: plan.evaluation.classification_options(wildcards.name),
        device=plan.config.device,
        seed=plan.config.seed,
        code=code("evaluation"),
    shell:
        step(
            "evaluation classify --train {input.train:q} --test {input.test:q} {params.options}"
            " --device {params.device} --seed {params.seed} --checkpoint {output.checkpoint:q}"
            " -o {output.json:q}"
        )


rule evaluation_measure:
    input:
        real=lambda wildcards: plan.evaluation.measurements[wildcards.name].real,
        real_stack=lambda wildcards: stack(
            plan.evaluation.measurements[wildcards.name].real
        ),
        generated=lambda wildcards: plan.evaluation.measurements[
            wildcards.name
        ].generated,
        generated_stack=lambda wildcards: stack(
            plan.evaluation.measurements[wildcards.name].generated
        ),
        densities=results("densities/poses.star"),
        densities_stack=results("densities/poses.mrcs"),
        cycle=lambda wildcards: plan.evaluation.measurements[wildcards.name].cycle or [],
        cycle_stack=lambda wildcards: (
            stack(plan.evaluation.measurements[wildcards.name].cycle)
            if plan.evaluation.measurements[wildcards.name].cycle
            else []
        ),
        features=lambda wildcards: plan.evaluation.measurements[wildcards.name].features,
        maps=plan.maps,
    output:
        results("evaluation/{name}.json"),
    log:
        logs("evaluation/{name}"),
    benchmark:
        timing("evaluation/{name}")
    wildcard_constraints:
        name=one_of(map(re.escape, plan.evaluation.measurements)),
    conda:
        "../../envs/evaluation.yaml"
    threads: 1 if plan.config.evaluation.network == "small" else 4
    resources:
        mem_mb=more_each_attempt(8000),
        runtime=more_each_attempt(120),
    params:
        options=lambda wildcards: plan.evaluation.measurement_options(wildcards.name),
        device=plan.config.device,
        seed=plan.config.seed,
        code=code("evaluation"),
    shell:
        step(
            "evaluation measure --real {input.real:q} --generated {input.generated:q}"
            " --densities {input.densities:q} --features {input.features:q} {params.options}"
            " --device {params.device} --seed {params.seed} -o {output:q}"
        )


rule evaluation_hand:
    input:
        tomogram=lambda wildcards: plan.images([wildcards.tomogram]),
        # selected particles prefer their map by construction
        scores=results("particles/{tomogram}_scores.star"),
        maps=plan.maps,
    output:
        results("evaluation/hand_{tomogram}.json"),
    log:
        logs("evaluation/hand_{tomogram}"),
    benchmark:
        timing("evaluation/hand_{tomogram}")
    conda:
        "../../envs/evaluation.yaml"
    threads: 1
    resources:
        mem_mb=more_each_attempt(4000),
        runtime=more_each_attempt(60),
    params:
        templates=format_options(template=plan.maps),
        tilts=lambda wildcards: plan.tilt_options(wildcards.tomogram),
        options=section_options(
            plan.config.particles, "fdr", "rotations", "lowpass", "highpass_shells"
        ),
        device=plan.config.device,
        code=code("evaluation"),
    shell:
        step(
            "evaluation hand {input.scores:q} --tomogram {input.tomogram[0]:q} {params.templates}"
            " {params.tilts} {params.options} --device {params.device} -o {output:q}"
        )


rule evaluation_halves:
    input:
        tomogram=results("tomograms/{tomogram}.mrc"),
        even=results("tomograms/halves/{tomogram}_even.mrc"),
        odd=results("tomograms/halves/{tomogram}_odd.mrc"),
        particles=results("particles/selected.star"),
        others=results("particles/unselected.star"),
        maps=plan.maps,
    output:
        results("evaluation/halves_{tomogram}.json"),
    log:
        logs("evaluation/halves_{tomogram}"),
    benchmark:
        timing("evaluation/halves_{tomogram}")
    wildcard_constraints:
        tomogram=plan.tomograms_where("halves"),
    conda:
        "../../envs/evaluation.yaml"
    threads: 1
    resources:
        mem_mb=more_each_attempt(4000),
        runtime=more_each_attempt(60),
    params:
        templates=format_options(template=plan.maps),
        tilts=lambda wildcards: plan.tilt_options(wildcards.tomogram),
        options=section_options(
            plan.config.particles, "rotations", "lowpass", "highpass_shells"
        ),
        device=plan.config.device,
        seed=plan.config.seed,
        code=code("evaluation"),
    shell:
        step(
            "evaluation halves {input.particles:q} --others {input.others:q}"
            " --tomogram {input.tomogram:q} --even {input.even:q} --odd {input.odd:q}"
            " {params.templates} {params.tilts} {params.options} --device {params.device}"
            " --seed {params.seed} -o {output:q}"
        )


rule evaluation_choose:
    input:
        list(plan.evaluation.selection_measurements().values()),
    output:
        plan.evaluation.choice,
    log:
        logs("evaluation/choice"),
    benchmark:
        timing("evaluation/choice")
    conda:
        "../../envs/evaluation.yaml"
    threads: 1
    resources:
        mem_mb=more_each_attempt(2000),
        runtime=more_each_attempt(10),
    params:
        measures=format_options(**plan.evaluation.selection_measurements()),
        options=section_options(plan.config.export, "source"),
        code=code("evaluation"),
    shell:
        step("evaluation choose {params.measures} {params.options} -o {output:q}")


rule evaluation_ablate:
    output:
        results("evaluation/ablations/{ablation}/preset.yaml"),
    log:
        logs("evaluation/ablations/{ablation}/preset"),
    benchmark:
        timing("evaluation/ablations/{ablation}/preset")
    wildcard_constraints:
        ablation=one_of(map(re.escape, ABLATIONS)),
    conda:
        "../../envs/evaluation.yaml"
    threads: 1
    resources:
        mem_mb=more_each_attempt(2000),
        runtime=more_each_attempt(10),
    params:
        options=section_options(plan.config.evaluation, preset="ablation_preset"),
        # an edit of the preset's file writes the ablations again
        preset=repr(checked(read_preset, plan.config.evaluation.ablation_preset)),
        snapshots=lambda wildcards: (
            section_options(
                plan.config.evaluation, snapshot_every="ablation_snapshots"
            )
            if wildcards.ablation in plan.evaluation.noise_ablations()
            else ""
        ),
        code=code("evaluation"),
    shell:
        step(
            "evaluation ablate {wildcards.ablation} {params.options} {params.snapshots}"
            " -o {output:q}"
        )


rule evaluation_ablations:
    input:
        plan.evaluation.ablation_results(),
    output:
        table=results("evaluation/ablations.csv"),
        json=results("evaluation/ablations.json"),
    log:
        logs("evaluation/ablations"),
    benchmark:
        timing("evaluation/ablations")
    conda:
        "../../envs/evaluation.yaml"
    threads: 1
    resources:
        mem_mb=more_each_attempt(2000),
        runtime=more_each_attempt(10),
    params:
        runs=lambda wildcards, output: str(Path(output.table).with_suffix("")),
        code=code("evaluation"),
    shell:
        step("evaluation ablations {params.runs:q} -o {output.table:q}")


rule evaluation_epochs:
    input:
        checkpoints=[
            results(f"translation/ablations/{name}/0/checkpoint.pt")
            for name in plan.evaluation.noise_ablations()
        ],
        densities=results("densities/poses.star"),
        densities_stack=results("densities/poses.mrcs"),
        real=plan.real,
        real_stack=stack(plan.real),
        features=results("evaluation/real_train.pt"),
    output:
        results("evaluation/epochs.csv"),
    log:
        logs("evaluation/epochs"),
    benchmark:
        timing("evaluation/epochs")
    conda:
        "../../envs/evaluation.yaml"
    threads: 4
    resources:
        mem_mb=more_each_attempt(8000),
        runtime=more_each_attempt(240),
    params:
        device=plan.config.device,
        seed=plan.config.seed,
        code=code("evaluation"),
    shell:
        step(
            "evaluation epochs {input.checkpoints:q} --densities {input.densities:q}"
            " --real {input.real:q} --real-split test --features {input.features:q}"
            " --device {params.device} --seed {params.seed} -o {output:q}"
        )


rule ablations:
    input:
        results("evaluation/ablations.csv"),
        (
            results("evaluation/epochs.csv")
            if plan.config.evaluation.ablation_snapshots
            else []
        ),


rule evaluation_comparison_config:
    output:
        results("evaluation/comparison.yaml"),
    log:
        logs("evaluation/comparison_config"),
    localrule: True
    params:
        content=plan.evaluation.comparison_config(),
    run:
        write_yaml(output[0], params.content, log[0])


rule evaluation_compare:
    input:
        config=results("evaluation/comparison.yaml"),
        real=plan.real,
        real_stack=stack(plan.real),
        sets=list(plan.evaluation.comparison_sets().values()),
        stacks=list(map(stack, plan.evaluation.comparison_sets().values())),
        others=plan.evaluation.comparison_others(),
        other_stacks=list(map(stack, plan.evaluation.comparison_others())),
        template=results("particles/selected.star") if plan.annotated else [],
    output:
        table=results("evaluation/comparison/comparison.csv"),
        json=results("evaluation/comparison/comparison.json"),
    log:
        logs("evaluation/comparison"),
    benchmark:
        timing("evaluation/comparison")
    conda:
        "../../envs/evaluation.yaml"
    threads: 4
    resources:
        mem_mb=more_each_attempt(8000),
        runtime=more_each_attempt(720),
    params:
        folder=folder,
        device=plan.config.device,
        seed=plan.config.seed,
        code=code("evaluation"),
    shell:
        step(
            "evaluation compare --config {input.config:q} --device {params.device}"
            " --seed {params.seed} -o {params.folder:q}"
        )


rule comparison:
    input:
        results("evaluation/comparison/comparison.csv"),
