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
        particles=results("particles/selected.star"),
        # simulated tomograms come with label volumes
        truth=[results(f"tomograms/{name}.star") for name in SIMULATED],
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
        labels=flags(
            labels=[results(f"tomograms/{name}_labels.mrc") for name in SIMULATED]
        ),
        code=code("export"),
    shell:
        cryoetgan(
            "export copick {input.tomograms:q} --particles {input.particles:q} {params.maps}"
            " {params.labels} -o {params.folder:q}"
        )
