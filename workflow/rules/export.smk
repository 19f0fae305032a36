"""Export: the generated set in other programs' formats."""


rule export_relion:
    input:
        star=GENERATED,
        stack=stack(GENERATED),
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
        folder=folder,
        code=code("export"),
    shell:
        cryoetgan("export relion {input.star:q} -o {params.folder:q}")


rule export_plain:
    input:
        star=GENERATED,
        stack=stack(GENERATED),
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
        folder=folder,
        code=code("export"),
    shell:
        cryoetgan("export plain {input.star:q} -o {params.folder:q}")


rule export_copick:
    input:
        tomograms=[results(f"tomograms/{name}.mrc") for name in TOMOGRAMS],
        synthetic=synthetic(".mrc"),
        particles=[results("particles/selected.star"), *synthetic(".star")],
        # simulated tomograms come with label volumes, and synthetic ones
        truth=[results(f"tomograms/{name}.star") for name in SIMULATED],
        labels=synthetic("_labels.mrc"),
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
        code=code("export"),
    shell:
        cryoetgan(
            "export copick {input.tomograms:q} {input.synthetic:q} {params.particles}"
            " {params.maps} {params.labels} -o {params.folder:q}"
        )
