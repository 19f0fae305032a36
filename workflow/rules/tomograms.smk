"""Tomograms: imported, or simulated with ground truth; scenes of synthetic tomograms."""


rule tomograms_import:
    input:
        # an address is not a file to wait for
        lambda wildcards: (
            []
            if plan.tomograms[wildcards.tomogram].is_remote
            else plan.tomogram_source(wildcards.tomogram)
        ),
    output:
        results("tomograms/{tomogram}.mrc"),
    log:
        logs("tomograms/{tomogram}"),
    benchmark:
        timing("tomograms/{tomogram}")
    wildcard_constraints:
        tomogram=plan.tomograms_where("is_imported"),
    conda:
        "../../envs/tomograms.yaml"
    threads: 1
    resources:
        mem_mb=more_each_attempt(4000),
        runtime=more_each_attempt(60),
    params:
        recording=lambda wildcards: plan.recording_options(wildcards.tomogram),
        file=lambda wildcards: plan.file_options(wildcards.tomogram),
        source=lambda wildcards: plan.tomogram_source(wildcards.tomogram),
        voxel_size=plan.config.densities.voxel_size,
        storage=section_options(plan.config.tomograms, "float16"),
        code=code("tomograms"),
    shell:
        step(
            "tomograms import {params.source:q} --voxel-size={params.voxel_size} {params.file}"
            " {params.storage} {params.recording} -o {output:q}"
        )


rule tomograms_import_half:
    input:
        lambda wildcards: (
            []
            if is_remote(plan.half_source(wildcards.tomogram, wildcards.half))
            else plan.half_source(wildcards.tomogram, wildcards.half)
        ),
    output:
        results("tomograms/halves/{tomogram}_{half}.mrc"),
    log:
        logs("tomograms/halves/{tomogram}_{half}"),
    benchmark:
        timing("tomograms/halves/{tomogram}_{half}")
    wildcard_constraints:
        tomogram=plan.tomograms_where("halves"),
        half="even|odd",
    conda:
        "../../envs/tomograms.yaml"
    threads: 1
    resources:
        mem_mb=more_each_attempt(4000),
        runtime=more_each_attempt(60),
    params:
        recording=lambda wildcards: plan.recording_options(wildcards.tomogram),
        file=lambda wildcards: plan.file_options(wildcards.tomogram),
        source=lambda wildcards: plan.half_source(wildcards.tomogram, wildcards.half),
        voxel_size=plan.config.densities.voxel_size,
        storage=section_options(plan.config.tomograms, "float16"),
        code=code("tomograms"),
    shell:
        step(
            "tomograms import {params.source:q} --voxel-size={params.voxel_size} {params.file}"
            " {params.storage} {params.recording} -o {output:q}"
        )


rule tomograms_simulate:
    input:
        plan.maps,
    output:
        tomogram=results("tomograms/{tomogram}.mrc"),
        truth=results("tomograms/{tomogram}.star"),
        labels=results("tomograms/{tomogram}_labels.mrc"),
        instances=results("tomograms/{tomogram}_instances.mrc"),
    log:
        logs("tomograms/{tomogram}"),
    benchmark:
        timing("tomograms/{tomogram}")
    wildcard_constraints:
        tomogram=plan.tomograms_where("is_simulated"),
    conda:
        "../../envs/tomograms.yaml"
    threads: 1
    resources:
        mem_mb=more_each_attempt(4000),
        runtime=more_each_attempt(60),
    params:
        recording=lambda wildcards: plan.recording_options(wildcards.tomogram),
        options=section_options(
            plan.config.tomograms, "copies", "shape", "snr", "denoise", "saturation"
        ),
        copies=plan.class_options("class_copies", "copies"),
        seed=plan.config.seed,
        code=code("tomograms"),
    shell:
        step(
            "tomograms simulate {input:q} {params.options} {params.copies} {params.recording}"
            " --seed {params.seed} -o {output.tomogram:q}"
        )


rule tomograms_mask:
    input:
        mask=lambda wildcards: plan.find(plan.tomograms[wildcards.tomogram].mask),
        tomogram=results("tomograms/{tomogram}.mrc"),
    output:
        results("tomograms/{tomogram}_mask.mrc"),
    log:
        logs("tomograms/{tomogram}_mask"),
    benchmark:
        timing("tomograms/{tomogram}_mask")
    wildcard_constraints:
        tomogram=plan.tomograms_where("mask"),
    conda:
        "../../envs/tomograms.yaml"
    threads: 1
    resources:
        mem_mb=more_each_attempt(2000),
        runtime=more_each_attempt(30),
    params:
        code=code("tomograms"),
    shell:
        step(
            "tomograms mask {input.mask:q} --tomogram {input.tomogram:q} -o {output:q}"
        )


rule tomograms_scene:
    input:
        plan.maps,
    output:
        scene=results("tomograms/scenes/{synthetic}.mrc"),
        labels=results("tomograms/scenes/{synthetic}_labels.mrc"),
        instances=results("tomograms/scenes/{synthetic}_instances.mrc"),
        truth=results("tomograms/scenes/{synthetic}.star"),
    log:
        logs("tomograms/scenes/{synthetic}"),
    benchmark:
        timing("tomograms/scenes/{synthetic}")
    conda:
        "../../envs/tomograms.yaml"
    threads: 1
    resources:
        mem_mb=more_each_attempt(4000),
        runtime=more_each_attempt(60),
    params:
        options=section_options(
            plan.config.tomograms, "copies", "shape", "membranes", "crowder_fraction"
        ),
        resolution=section_options(plan.config.densities, "resolution"),
        copies=plan.class_options("class_copies", "copies"),
        seed=plan.config.seed,
        code=code("tomograms"),
    shell:
        step(
            "tomograms scene {input:q} {params.options} {params.resolution} {params.copies}"
            " --seed {params.seed} -o {output.scene:q}"
        )
