"""Export: generated volumes, or fitted physics where they are no better, in others' formats."""

# what is exported; of two sets, the one that evaluation/choice.json names
SHIPPED = FITTED if SHIP == "fitted" else GENERATED
INSTEAD = [FITTED] if SHIP == "auto" else []
CHOICE = results("evaluation/choice.json")


rule export_relion:
    input:
        star=SHIPPED,
        stack=stack(SHIPPED),
        fitted=INSTEAD,
        fitted_stack=list(map(stack, INSTEAD)),
        choice=CHOICE,
    output:
        results("export/relion/particles.star"),
    log:
        logs("export/relion"),
    benchmark:
        timing("export/relion")
    conda:
        "../../envs/export.yaml"
    threads: 1
    resources:
        mem_mb=4000,
        runtime=60,
    params:
        instead=flags(fitted=INSTEAD),
        folder=folder,
        code=code("export"),
    shell:
        cryoetgan(
            "export relion {input.star:q} {params.instead} --choice {input.choice:q}"
            " -o {params.folder:q}"
        )


rule export_plain:
    input:
        star=SHIPPED,
        stack=stack(SHIPPED),
        fitted=INSTEAD,
        fitted_stack=list(map(stack, INSTEAD)),
        choice=CHOICE,
    output:
        results("export/plain/README.md"),
    log:
        logs("export/plain"),
    benchmark:
        timing("export/plain")
    conda:
        "../../envs/export.yaml"
    threads: 1
    resources:
        mem_mb=4000,
        runtime=60,
    params:
        instead=flags(fitted=INSTEAD),
        folder=folder,
        code=code("export"),
    shell:
        cryoetgan(
            "export plain {input.star:q} {params.instead} --choice {input.choice:q}"
            " -o {params.folder:q}"
        )


rule export_copick:
    input:
        tomograms=[results(f"tomograms/{name}.mrc") for name in TOMOGRAMS],
        synthetic=synthetic(".mrc"),
        particles=[results("particles/selected.star"), *synthetic(".star")],
        # simulated tomograms come with label volumes, and synthetic ones
        truth=[results(f"tomograms/{name}.star") for name in SIMULATED],
        labels=synthetic("_labels.mrc"),
        # tomograms of a network may give way to those of physics
        fitted=synthetic_by_physics(),
        choice=CHOICE if SYNTHETIC and RESIDUAL else [],
        maps=maps,
    output:
        results("export/copick/config.json"),
    log:
        logs("export/copick"),
    benchmark:
        timing("export/copick")
    conda:
        "../../envs/export.yaml"
    threads: 1
    resources:
        mem_mb=4000,
        runtime=60,
    params:
        folder=folder,
        maps=flags(density=maps()),
        particles=flags(
            particles=[results("particles/selected.star"), *synthetic(".star")]
        ),
        labels=flags(
            labels=[results(f"tomograms/{name}_labels.mrc") for name in SIMULATED]
            + synthetic("_labels.mrc")
        ),
        choice=flags(
            fitted=synthetic_by_physics(),
            choice=CHOICE if SYNTHETIC and RESIDUAL else None,
        ),
        code=code("export"),
    shell:
        cryoetgan(
            "export copick {input.tomograms:q} {input.synthetic:q} {params.particles}"
            " {params.maps} {params.labels} {params.choice} -o {params.folder:q}"
        )
