"""Imaging: subtomograms and tomograms by physics alone, conventional or fitted."""

TRAINING_ARRAYS = list(map(arrays, plan.training_models))


rule imaging_fit:
    input:
        # a tomogram, or a set of subtomograms and its stack
        tomogram=lambda wildcards: plan.images([wildcards.tomogram]),
        scores=results("particles/{tomogram}_scores.star"),
        mask=lambda wildcards: plan.mask(wildcards.tomogram) or [],
        maps=plan.maps,
    output:
        model=results("imaging/{tomogram}.json"),
        arrays=results("imaging/{tomogram}.npz"),
        picture=report(
            results("imaging/{tomogram}.png"),
            caption="../report/imaging.rst",
            category="Imaging",
            labels={"tomogram": "{tomogram}"},
        ),
    log:
        logs("imaging/{tomogram}"),
    benchmark:
        timing("imaging/{tomogram}")
    conda:
        "../../envs/imaging.yaml"
    threads: 1
    resources:
        mem_mb=more_each_attempt(6000),
        runtime=more_each_attempt(120),
    params:
        maps=format_options(density=plan.maps),
        optics=lambda wildcards: plan.optics_options(wildcards.tomogram),
        mask=lambda wildcards: format_options(mask=plan.mask(wildcards.tomogram)),
        seed=plan.config.seed,
        code=code("imaging"),
    shell:
        step(
            "imaging fit {input.tomogram[0]:q} --particles {input.scores:q} {params.maps}"
            " {params.optics} {params.mask} --seed {params.seed} -o {output.model:q}"
        )


rule imaging_simulate:
    input:
        densities=lambda wildcards: plan.densities_of(wildcards.conventional),
        densities_stack=lambda wildcards: stack(
            plan.densities_of(wildcards.conventional)
        ),
    output:
        star=results("imaging/{conventional}.star"),
        stack=results("imaging/{conventional}.mrcs"),
    log:
        logs("imaging/{conventional}"),
    benchmark:
        timing("imaging/{conventional}")
    wildcard_constraints:
        conventional=one_of(map(re.escape, plan.conventional_snrs())),
    conda:
        "../../envs/imaging.yaml"
    threads: 1
    resources:
        mem_mb=more_each_attempt(4000),
        runtime=more_each_attempt(60),
    params:
        snr=lambda wildcards: plan.conventional_snrs()[wildcards.conventional],
        options=section_options(plan.config.imaging, "lowpass", "envelope"),
        optics=plan.optics_options(plan.training[0], plan.config.imaging.defocus),
        seed=plan.config.seed,
        code=code("imaging"),
    shell:
        step(
            "imaging simulate {input.densities:q} {params.snr} {params.options} {params.optics}"
            " --seed {params.seed} -o {output.star:q}"
        )


rule imaging_simulate_fitted:
    input:
        densities=lambda wildcards: plan.densities_of(wildcards.fitted),
        densities_stack=lambda wildcards: stack(plan.densities_of(wildcards.fitted)),
        models=plan.training_models,
        arrays=TRAINING_ARRAYS,
    output:
        star=results("imaging/{fitted}.star"),
        stack=results("imaging/{fitted}.mrcs"),
    log:
        logs("imaging/{fitted}"),
    benchmark:
        timing("imaging/{fitted}")
    wildcard_constraints:
        fitted="(fitted|comparison/no_neighbours)(_other)?",
    conda:
        "../../envs/imaging.yaml"
    threads: 1
    resources:
        mem_mb=more_each_attempt(4000),
        runtime=more_each_attempt(120),
    params:
        options=lambda wildcards: plan.fitted_options(wildcards.fitted),
        seed=plan.config.seed,
        code=code("imaging"),
    shell:
        step(
            "imaging simulate {input.densities:q} {params.options} --seed {params.seed}"
            " -o {output.star:q}"
        )


rule imaging_ablate:
    input:
        densities=lambda wildcards: plan.densities_of(wildcards.kind),
        densities_stack=lambda wildcards: stack(plan.densities_of(wildcards.kind)),
        models=plan.training_models,
        arrays=TRAINING_ARRAYS,
        tomograms=plan.images(plan.background),
        picks=[path for name in plan.background for path in plan.picks_of(name)],
        masks=[path for path in map(plan.mask, plan.background) if path],
    output:
        star=results("imaging/comparison/{kind}.star"),
        stack=results("imaging/comparison/{kind}.mrcs"),
    log:
        logs("imaging/comparison/{kind}"),
    benchmark:
        timing("imaging/comparison/{kind}")
    wildcard_constraints:
        kind="(noise_only|real_background)(_other)?",
    conda:
        "../../envs/imaging.yaml"
    threads: 1
    resources:
        mem_mb=more_each_attempt(4000),
        runtime=more_each_attempt(120),
    params:
        models=lambda wildcards: plan.ablation_models(wildcards.kind),
        kind=lambda wildcards: wildcards.kind.removesuffix("_other"),
        background=lambda wildcards: (
            plan.background_options()
            if wildcards.kind.startswith("real_background")
            else ""
        ),
        per_group=section_options(plan.config.imaging, "per_group"),
        seed=plan.config.seed,
        code=code("imaging"),
    shell:
        step(
            "imaging ablate {input.densities:q} --kind {params.kind} {params.models}"
            " {params.background} {params.per_group} --seed {params.seed} -o {output.star:q}"
        )


rule imaging_synthesize:
    input:
        scene=results("tomograms/scenes/{synthetic}.mrc"),
        labels=results("tomograms/scenes/{synthetic}_labels.mrc"),
        instances=results("tomograms/scenes/{synthetic}_instances.mrc"),
        truth=results("tomograms/scenes/{synthetic}.star"),
        model=lambda wildcards: plan.models[
            plan.translation.imaged_like(wildcards.synthetic)
        ],
        arrays=lambda wildcards: arrays(
            plan.models[plan.translation.imaged_like(wildcards.synthetic)]
        ),
    output:
        tomogram=results("imaging/tomograms/{synthetic}.mrc"),
        labels=results("imaging/tomograms/{synthetic}_labels.mrc"),
        instances=results("imaging/tomograms/{synthetic}_instances.mrc"),
        truth=results("imaging/tomograms/{synthetic}.star"),
    log:
        logs("imaging/tomograms/{synthetic}"),
    benchmark:
        timing("imaging/tomograms/{synthetic}")
    conda:
        "../../envs/imaging.yaml"
    threads: 1
    resources:
        mem_mb=more_each_attempt(4000),
        runtime=more_each_attempt(120),
    params:
        seed=plan.config.seed,
        code=code("imaging"),
    shell:
        step(
            "imaging synthesize {input.scene:q} --model {input.model:q} --labels {input.labels:q}"
            " --particles {input.truth:q} --seed {params.seed} -o {output.tomogram:q}"
        )
