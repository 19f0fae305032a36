"""Particles: pick, score, select, extract; annotated ones; averages of classes if asked for."""


rule particles_pick:
    input:
        tomogram=results("tomograms/{tomogram}.mrc"),
        mask=mask,
        maps=[] if CONFIG.particles.sigma else maps,
    output:
        results("particles/{tomogram}_picks.star"),
    log:
        logs("particles/{tomogram}_picks"),
    benchmark:
        timing("particles/{tomogram}_picks")
    wildcard_constraints:
        tomogram=picked_by("dog"),
    conda:
        "../../envs/particles.yaml"
    threads: 1
    resources:
        mem_mb=4000,
        runtime=60,
    params:
        options=options(
            CONFIG.particles, "sigma", "min_distance", "threshold", top="max_picks"
        ),
        radii=radii(),
        mask=lambda wildcards: flags(mask=mask(wildcards) or None),
        code=code("particles"),
    shell:
        cryoetgan(
            "particles pick {input.tomogram:q} {params.radii} {params.options} {params.mask}"
            " -o {output:q}"
        )


rule particles_match:
    input:
        tomogram=results("tomograms/{tomogram}.mrc"),
        mask=mask,
        maps=maps,
    output:
        results("particles/{tomogram}_picks.star"),
    log:
        logs("particles/{tomogram}_picks"),
    benchmark:
        timing("particles/{tomogram}_picks")
    wildcard_constraints:
        tomogram=picked_by("match"),
    conda:
        "../../envs/particles.yaml"
    threads: 2
    resources:
        mem_mb=8000,
        runtime=480,
    params:
        templates=flags(template=maps()),
        tilts=lambda wildcards: tilts(TOMOGRAMS[wildcards.tomogram]),
        options=options(
            CONFIG.particles,
            "rotations",
            "lowpass",
            "highpass_shells",
            "deviations",
            "min_distance",
            top="max_picks",
        ),
        mask=lambda wildcards: flags(mask=mask(wildcards) or None),
        device=CONFIG.device,
        code=code("particles"),
    shell:
        cryoetgan(
            "particles match {input.tomogram:q} {params.templates} {params.tilts} {params.options}"
            " {params.mask} --device {params.device} -o {output:q}"
        )


rule particles_score:
    input:
        tomogram=results("tomograms/{tomogram}.mrc"),
        picks=results("particles/{tomogram}_picks.star"),
        maps=maps,
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
        mem_mb=6000,
        runtime=240,
    params:
        templates=flags(template=maps()),
        tilts=lambda wildcards: tilts(TOMOGRAMS[wildcards.tomogram]),
        options=options(CONFIG.particles, "rotations", "lowpass", "highpass_shells"),
        device=CONFIG.device,
        code=code("particles"),
    shell:
        cryoetgan(
            "particles score {input.tomogram:q} {input.picks:q} {params.templates} {params.tilts}"
            " {params.options} --device {params.device} -o {output:q}"
        )


rule particles_select:
    input:
        scores=[results(f"particles/{name}_scores.star") for name in TOMOGRAMS],
        curation=curation,
    output:
        results("particles/selected.star"),
    log:
        logs("particles/selected"),
    benchmark:
        timing("particles/selected")
    conda:
        "../../envs/particles.yaml"
    threads: 1
    resources:
        mem_mb=4000,
        runtime=30,
    params:
        options=options(CONFIG.particles, "top", "curation", "test_fraction"),
        box=CONFIG.densities.box,
        splits=splits(),
        groups=groups(),
        code=code("particles"),
    shell:
        cryoetgan(
            "particles select {input.scores:q} {params.options} {params.splits}"
            " {params.groups} --box {params.box} -o {output:q}"
        )


rule particles_extract:
    input:
        selected=results("particles/selected.star"),
        tomograms=[results(f"tomograms/{name}.mrc") for name in TOMOGRAMS],
    output:
        star=results("particles/subtomograms.star"),
        stack=results("particles/subtomograms.mrcs"),
    log:
        logs("particles/subtomograms"),
    benchmark:
        timing("particles/subtomograms")
    conda:
        "../../envs/particles.yaml"
    threads: 1
    resources:
        mem_mb=4000,
        runtime=60,
    params:
        tomograms=flags(
            tomogram=[results(f"tomograms/{name}.mrc") for name in TOMOGRAMS]
        ),
        box=CONFIG.densities.box,
        options=options(CONFIG.particles, "whole_voxels"),
        code=code("particles"),
    shell:
        cryoetgan(
            "particles extract {input.selected:q} {params.tomograms} --box {params.box}"
            " {params.options} -o {output.star:q}"
        )


rule particles_import:
    input:
        annotations=annotations,
        tomogram=results("tomograms/{tomogram}.mrc"),
        # split by blocks of a tomogram: annotations and picks by the same plane
        selected=results("particles/selected.star") if BLOCKS else [],
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
        mem_mb=2000,
        runtime=30,
    params:
        options=lambda wildcards: flags(
            voxel_size=TOMOGRAMS[wildcards.tomogram].annotations_voxel_size,
            split=None if BLOCKS else TOMOGRAMS[wildcards.tomogram].split,
        ),
        blocks=lambda wildcards, input: flags(
            selected=input.get("selected") or None,
            box=CONFIG.densities.box if BLOCKS else None,
        ),
        classes=flags(class_=list(CLASSES)).replace("--class-=", "--class="),
        code=code("particles"),
    shell:
        cryoetgan(
            "particles import {input.annotations:q} --tomogram {input.tomogram:q} {params.options}"
            " {params.blocks} {params.classes} -o {output:q}"
        )


rule particles_extract_annotated:
    input:
        annotations=[results(f"particles/{name}_annotations.star") for name in ANNOTATED],
        tomograms=[results(f"tomograms/{name}.mrc") for name in ANNOTATED],
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
        mem_mb=4000,
        runtime=60,
    params:
        tomograms=flags(tomogram=[results(f"tomograms/{name}.mrc") for name in ANNOTATED]),
        box=CONFIG.densities.box,
        options=options(CONFIG.particles, "whole_voxels"),
        code=code("particles"),
    shell:
        cryoetgan(
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
        mem_mb=8000,
        runtime=240,
    params:
        options=options(CONFIG.particles, "rotations", iterations="average_iterations"),
        device=CONFIG.device,
        seed=CONFIG.seed,
        code=code("particles"),
    shell:
        cryoetgan(
            "particles average {input.star:q} --class {wildcards.class_name} {params.options}"
            " --device {params.device} --seed {params.seed} -o {output.density:q}"
        )


localrules:
    averages,


rule averages:
    input:
        expand(results("particles/averages/{class_name}.mrc"), class_name=CLASSES),
