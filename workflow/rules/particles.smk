"""Particles: pick, score, select, extract; the marked ones; averages of classes if asked for."""


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
        marks=marks,
        tomogram=results("tomograms/{tomogram}.mrc"),
        # split by blocks of a tomogram: marks and picks by the same plane
        selected=results("particles/selected.star") if BLOCKS else [],
    output:
        results("particles/{tomogram}_marks.star"),
    log:
        logs("particles/{tomogram}_marks"),
    benchmark:
        timing("particles/{tomogram}_marks")
    conda:
        "../../envs/particles.yaml"
    threads: 1
    resources:
        mem_mb=2000,
        runtime=30,
    params:
        marked=lambda wildcards: flags(
            voxel_size=TOMOGRAMS[wildcards.tomogram].marks_voxel_size,
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
            "particles import {input.marks:q} --tomogram {input.tomogram:q} {params.marked}"
            " {params.blocks} {params.classes} -o {output:q}"
        )


rule particles_extract_marked:
    input:
        marks=[results(f"particles/{name}_marks.star") for name in MARKED],
        tomograms=[results(f"tomograms/{name}.mrc") for name in MARKED],
    output:
        star=results("particles/marked.star"),
        stack=results("particles/marked.mrcs"),
    log:
        logs("particles/marked"),
    benchmark:
        timing("particles/marked")
    conda:
        "../../envs/particles.yaml"
    threads: 1
    resources:
        mem_mb=4000,
        runtime=60,
    params:
        tomograms=flags(tomogram=[results(f"tomograms/{name}.mrc") for name in MARKED]),
        box=CONFIG.densities.box,
        options=options(CONFIG.particles, "whole_voxels"),
        code=code("particles"),
    shell:
        cryoetgan(
            "particles extract {input.marks:q} {params.tomograms} --box {params.box}"
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
