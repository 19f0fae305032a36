"""Imaging: subtomograms by physics alone, typed in or fitted to each tomogram's own picks."""

# one model a tomogram; the fitted set, and what is trained, sees those of training ones alone
MODELS = {
    name: results(f"imaging/{name}.json") for name in TOMOGRAMS if CONFIG.imaging.fit
}
TRAINING_MODELS = [MODELS[name] for name in TRAINING if name in MODELS]


rule imaging_fit:
    input:
        tomogram=results("tomograms/{tomogram}.mrc"),
        scores=results("particles/{tomogram}_scores.star"),
        mask=mask,
        maps=maps,
    output:
        model=results("imaging/{tomogram}.json"),
        arrays=results("imaging/{tomogram}.npz"),
        picture=report(
            results("imaging/{tomogram}.png"),
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
        mem_mb=6000,
        runtime=120,
    params:
        maps=flags(density=maps()),
        recorded=lambda wildcards: recorded(TOMOGRAMS[wildcards.tomogram]),
        mask=lambda wildcards: flags(mask=mask(wildcards) or None),
        seed=CONFIG.seed,
        code=code("imaging"),
    shell:
        cryoetgan(
            "imaging fit {input.tomogram:q} --particles {input.scores:q} {params.maps}"
            " {params.recorded} {params.mask} --seed {params.seed} -o {output.model:q}"
        )


rule imaging_simulate_fitted:
    input:
        densities=results("densities/poses.star"),
        densities_stack=results("densities/poses.mrcs"),
        models=TRAINING_MODELS,
        arrays=[str(Path(path).with_suffix(".npz")) for path in TRAINING_MODELS],
    output:
        star=results("imaging/fitted.star"),
        stack=results("imaging/fitted.mrcs"),
    log:
        logs("imaging/fitted"),
    benchmark:
        timing("imaging/fitted")
    conda:
        "../../envs/imaging.yaml"
    threads: 1
    resources:
        mem_mb=4000,
        runtime=120,
    params:
        models=flags(model=TRAINING_MODELS),
        neighbours="" if CONFIG.imaging.neighbours else "--no-neighbours",
        per_group=options(CONFIG.imaging, "per_group"),
        seed=CONFIG.seed,
        code=code("imaging"),
    shell:
        cryoetgan(
            "imaging simulate {input.densities:q} {params.models} {params.neighbours}"
            " {params.per_group} --seed {params.seed} -o {output.star:q}"
        )


rule imaging_simulate:
    input:
        densities=results("densities/poses.star"),
        densities_stack=results("densities/poses.mrcs"),
    output:
        star=results("imaging/simulated.star"),
        stack=results("imaging/simulated.mrcs"),
    log:
        logs("imaging/simulated"),
    benchmark:
        timing("imaging/simulated")
    conda:
        "../../envs/imaging.yaml"
    threads: 1
    resources:
        mem_mb=4000,
        runtime=60,
    params:
        options=options(CONFIG.imaging, "snr", "lowpass", "envelope"),
        row=physics(),
        seed=CONFIG.seed,
        code=code("imaging"),
    shell:
        cryoetgan(
            "imaging simulate {input.densities:q} {params.options} {params.row} --seed {params.seed}"
            " -o {output.star:q}"
        )
