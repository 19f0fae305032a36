"""Tomograms: the user's, imported; or simulated ones with ground truth."""


rule tomograms_import:
    input:
        tomogram_file,
    output:
        results("tomograms/{tomogram}.mrc"),
    log:
        logs("tomograms/{tomogram}"),
    benchmark:
        timing("tomograms/{tomogram}")
    wildcard_constraints:
        tomogram=of_origin(simulated=False),
    conda:
        "../../envs/tomograms.yaml"
    threads: 1
    resources:
        mem_mb=4000,
        runtime=60,
    params:
        row=lambda wildcards: acquisition(TOMOGRAMS[wildcards.tomogram]),
        file=lambda wildcards: flags(
            input_voxel_size=TOMOGRAMS[wildcards.tomogram].voxel_size,
            contrast=TOMOGRAMS[wildcards.tomogram].contrast,
            tilt_axis=TOMOGRAMS[wildcards.tomogram].tilt_axis,
            beam_axis=TOMOGRAMS[wildcards.tomogram].beam_axis,
        ),
        source=tomogram_source,
        voxel_size=CONFIG.tomograms.voxel_size or CONFIG.densities.voxel_size,
        kept=options(CONFIG.tomograms, "float16"),
        code=code("tomograms"),
    shell:
        cryoetgan(
            "tomograms import {params.source:q} --voxel-size={params.voxel_size} {params.file}"
            " {params.kept} {params.row} -o {output:q}"
        )


rule tomograms_simulate:
    input:
        maps,
    output:
        tomogram=results("tomograms/{tomogram}.mrc"),
        truth=results("tomograms/{tomogram}.star"),
        labels=results("tomograms/{tomogram}_labels.mrc"),
    log:
        logs("tomograms/{tomogram}"),
    benchmark:
        timing("tomograms/{tomogram}")
    wildcard_constraints:
        tomogram=of_origin(simulated=True),
    conda:
        "../../envs/tomograms.yaml"
    threads: 1
    resources:
        mem_mb=4000,
        runtime=60,
    params:
        row=lambda wildcards: acquisition(TOMOGRAMS[wildcards.tomogram]),
        options=options(CONFIG.tomograms, "copies", "shape", "snr"),
        copies=class_copies(),
        seed=CONFIG.seed,
        code=code("tomograms"),
    shell:
        cryoetgan(
            "tomograms simulate {input:q} {params.options} {params.copies} {params.row}"
            " --seed {params.seed} -o {output.tomogram:q}"
        )


rule tomograms_mask:
    input:
        mask=lambda wildcards: source(TOMOGRAMS[wildcards.tomogram].mask),
        tomogram=results("tomograms/{tomogram}.mrc"),
    output:
        results("tomograms/{tomogram}_mask.mrc"),
    log:
        logs("tomograms/{tomogram}_mask"),
    benchmark:
        timing("tomograms/{tomogram}_mask")
    wildcard_constraints:
        tomogram="|".join(n for n, row in TOMOGRAMS.items() if row.mask) or "no-mask",
    conda:
        "../../envs/tomograms.yaml"
    threads: 1
    resources:
        mem_mb=2000,
        runtime=30,
    params:
        code=code("tomograms"),
    shell:
        cryoetgan(
            "tomograms mask {input.mask:q} --tomogram {input.tomogram:q} -o {output:q}"
        )
