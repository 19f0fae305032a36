"""Particles: pick, score, select, extract; annotated particles; averages on request."""

EXTRACTED = {"subtomograms": "selected", "other": "unselected"}


rule particles_pick:
    input:
        tomogram=results("tomograms/{tomogram}.mrc"),
        mask=lambda wildcards: plan.mask(wildcards.tomogram) or [],
        maps=[] if plan.config.particles.sigma else plan.maps,
    output:
        results("particles/{tomogram}_picks.star"),
    log:
        logs("particles/{tomogram}_picks"),
    benchmark:
        timing("particles/{tomogram}_picks")
    wildcard_constraints:
        tomogram=plan.tomograms_picked_by("dog"),
    conda:
        "../../envs/particles.yaml"
    threads: 1
    resources:
        mem_mb=more_each_attempt(4000),
        runtime=more_each_attempt(60),
    params:
        options=section_options(
            plan.config.particles,
            "sigma",
            "min_distance",
            "threshold",
            top="max_picks",
        ),
        sizes=plan.picking_sizes(),
        mask=lambda wildcards: format_options(mask=plan.mask(wildcards.tomogram)),
        code=code("particles"),
    shell:
        step(
            "particles pick {input.tomogram:q} {params.sizes} {params.options} {params.mask}"
            " -o {output:q}"
        )


rule particles_match:
    input:
        tomogram=results("tomograms/{tomogram}.mrc"),
        mask=lambda wildcards: plan.mask(wildcards.tomogram) or [],
        maps=plan.maps,
    output:
        results("particles/{tomogram}_picks.star"),
    log:
        logs("particles/{tomogram}_picks"),
    benchmark:
        timing("particles/{tomogram}_picks")
    wildcard_constraints:
        tomogram=plan.tomograms_picked_by("match"),
    conda:
        "../../envs/particles.yaml"
    threads: 2
    resources:
        mem_mb=more_each_attempt(8000),
        runtime=more_each_attempt(480),
    params:
        templates=format_options(template=plan.maps),
        tilts=lambda wildcards: plan.tilt_options(wildcards.tomogram),
        options=section_options(
            plan.config.particles,
            "rotations",
            "lowpass",
            "highpass_shells",
            "score_threshold_sd",
            "min_distance",
            top="max_picks",
        ),
        mask=lambda wildcards: format_options(mask=plan.mask(wildcards.tomogram)),
        device=plan.config.device,
        code=code("particles"),
    shell:
        step(
            "particles match {input.tomogram:q} {params.templates} {params.tilts} {params.options}"
            " {params.mask} --device {params.device} -o {output:q}"
        )


rule particles_import_subtomograms:
    input:
        lambda wildcards: plan.find(plan.tomograms[wildcards.tomogram].path),
    output:
        star=results("particles/sets/{tomogram}.star"),
        stack=results("particles/sets/{tomogram}.mrcs"),
    log:
        logs("particles/sets/{tomogram}"),
    benchmark:
        timing("particles/sets/{tomogram}")
    wildcard_constraints:
        tomogram=plan.tomograms_where("is_set"),
    conda:
        "../../envs/particles.yaml"
    threads: 1
    resources:
        mem_mb=more_each_attempt(4000),
        runtime=more_each_attempt(60),
    params:
        recording=lambda wildcards: plan.recording_options(wildcards.tomogram),
        files=lambda wildcards: plan.set_options(wildcards.tomogram),
        # the boxes of a table are too many for inputs
        boxes=lambda wildcards: plan.set_files(wildcards.tomogram),
        voxel_size=plan.config.densities.voxel_size,
        code=code("particles"),
    shell:
        step(
            "particles import-subtomograms {input:q} --voxel-size={params.voxel_size}"
            " {params.files} {params.recording} -o {output.star:q}"
        )


rule particles_score:
    input:
        # a tomogram, or a set of subtomograms and its stack
        tomogram=lambda wildcards: plan.images([wildcards.tomogram]),
        picks=lambda wildcards: plan.picks_of(wildcards.tomogram),
        maps=plan.maps,
    output:
        results("particles/{tomogram}_scores.star"),
    log:
        logs("particles/{tomogram}_scores"),
    benchmark:
        timing("particles/{tomogram}_scores")
    conda:
        "../../envs/particles.yaml"
    threads: 1
    resources:
        mem_mb=more_each_attempt(6000),
        runtime=more_each_attempt(240),
    params:
        templates=format_options(template=plan.maps),
        tilts=lambda wildcards: plan.tilt_options(wildcards.tomogram),
        options=section_options(
            plan.config.particles, "rotations", "lowpass", "highpass_shells"
        ),
        device=plan.config.device,
        code=code("particles"),
    shell:
        step(
            "particles score {input.tomogram[0]:q} {input.picks:q} {params.templates} {params.tilts}"
            " {params.options} --device {params.device} -o {output:q}"
        )


rule particles_select:
    input:
        scores=[results(f"particles/{name}_scores.star") for name in plan.tomograms],
        curation=plan.curation_files(),
    output:
        selected=results("particles/selected.star"),
        others=results("particles/unselected.star"),
    log:
        logs("particles/selected"),
    benchmark:
        timing("particles/selected")
    conda:
        "../../envs/particles.yaml"
    threads: 1
    resources:
        mem_mb=more_each_attempt(4000),
        runtime=more_each_attempt(30),
    params:
        options=section_options(
            plan.config.particles, "fdr", "top", "curation", "test_fraction"
        ),
        box=plan.config.densities.box,
        splits=plan.tomogram_options("split", "split"),
        groups=plan.group_options(),
        code=code("particles"),
    shell:
        step(
            "particles select {input.scores:q} {params.options} {params.splits}"
            " {params.groups} --box {params.box} --others {output.others:q}"
            " -o {output.selected:q}"
        )


rule particles_extract:
    input:
        selected=lambda wildcards: results(
            f"particles/{EXTRACTED[wildcards.extracted]}.star"
        ),
        tomograms=[plan.image(name) for name in plan.tomograms],
        stacks=[path for path in plan.images(plan.tomograms) if path.endswith(".mrcs")],
    output:
        star=results("particles/{extracted}.star"),
        stack=results("particles/{extracted}.mrcs"),
    log:
        logs("particles/{extracted}"),
    benchmark:
        timing("particles/{extracted}")
    wildcard_constraints:
        extracted=one_of(EXTRACTED),
    conda:
        "../../envs/particles.yaml"
    threads: 1
    resources:
        mem_mb=more_each_attempt(4000),
        runtime=more_each_attempt(60),
    params:
        tomograms=lambda wildcards, input: format_options(
            tomogram=list(input.tomograms)
        ),
        box=plan.config.densities.box,
        options=section_options(plan.config.particles, "subpixel"),
        code=code("particles"),
    shell:
        step(
            "particles extract {input.selected:q} {params.tomograms} --box {params.box}"
            " {params.options} -o {output.star:q}"
        )


rule particles_import:
    input:
        annotations=lambda wildcards: plan.annotations(wildcards.tomogram),
        tomogram=results("tomograms/{tomogram}.mrc"),
        # annotations and picks are split by the same plane
        selected=results("particles/selected.star") if plan.split_by_blocks else [],
    output:
        results("particles/{tomogram}_annotations.star"),
    log:
        logs("particles/{tomogram}_annotations"),
    benchmark:
        timing("particles/{tomogram}_annotations")
    conda:
        "../../envs/particles.yaml"
    threads: 1
    resources:
        mem_mb=more_each_attempt(2000),
        runtime=more_each_attempt(30),
    params:
        options=lambda wildcards: plan.annotation_options(wildcards.tomogram),
        classes=format_options(class_=list(plan.classes)),
        code=code("particles"),
    shell:
        step(
            "particles import {input.annotations:q} --tomogram {input.tomogram:q} {params.options}"
            " {params.classes} -o {output:q}"
        )


rule particles_extract_annotated:
    input:
        annotations=[
            results(f"particles/{name}_annotations.star") for name in plan.annotated
        ],
        tomograms=[results(f"tomograms/{name}.mrc") for name in plan.annotated],
    output:
        star=results("particles/annotated.star"),
        stack=results("particles/annotated.mrcs"),
    log:
        logs("particles/annotated"),
    benchmark:
        timing("particles/annotated")
    conda:
        "../../envs/particles.yaml"
    threads: 1
    resources:
        mem_mb=more_each_attempt(4000),
        runtime=more_each_attempt(60),
    params:
        tomograms=lambda wildcards, input: format_options(
            tomogram=list(input.tomograms)
        ),
        box=plan.config.densities.box,
        options=section_options(plan.config.particles, "subpixel"),
        code=code("particles"),
    shell:
        step(
            "particles extract {input.annotations:q} {params.tomograms} --box {params.box}"
            " {params.options} -o {output.star:q}"
        )


rule particles_average:
    input:
        star=results("particles/subtomograms.star"),
        stack=results("particles/subtomograms.mrcs"),
    output:
        density=results("particles/averages/{class_name}.mrc"),
        fsc=results("particles/averages/{class_name}_fsc.csv"),
    log:
        logs("particles/averages/{class_name}"),
    benchmark:
        timing("particles/averages/{class_name}")
    conda:
        "../../envs/particles.yaml"
    threads: 2
    resources:
        mem_mb=more_each_attempt(8000),
        runtime=more_each_attempt(240),
    params:
        options=section_options(
            plan.config.particles, "rotations", iterations="average_iterations"
        ),
        device=plan.config.device,
        seed=plan.config.seed,
        code=code("particles"),
    shell:
        step(
            "particles average {input.star:q} --class {wildcards.class_name} {params.options}"
            " --device {params.device} --seed {params.seed} -o {output.density:q}"
        )


localrules:
    averages,


rule averages:
    input:
        expand(results("particles/averages/{class_name}.mrc"), class_name=plan.classes),
