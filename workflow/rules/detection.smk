"""Detection: a detector taught by the synthetic tomograms, run on the user's tomograms."""


wildcard_constraints:
    detected=one_of(plan.detection.tomograms),


rule detection_train:
    input:
        synthetic=plan.translation.synthetic_files(".mrc"),
        particles=plan.translation.synthetic_files(".star"),
        labels=plan.translation.synthetic_files("_labels.mrc"),
        # the choice may replace the network's tomograms by tomograms of fitted physics
        fitted=plan.translation.fitted_alternatives(),
        choice=plan.tomogram_choice or [],
    output:
        results("detection/model.pt"),
    log:
        logs("detection/model"),
    benchmark:
        timing("detection/model")
    priority: 2
    conda:
        "../../envs/detection.yaml"
    threads: 8
    resources:
        mem_mb=more_each_attempt(16000),
        runtime=more_each_attempt(240),
    params:
        options=plan.detection.training_options(),
        device=plan.config.device,
        seed=plan.config.seed,
        code=code("detection"),
    shell:
        step(
            "detection train {input.synthetic:q} {params.options} --device {params.device}"
            " --seed {params.seed} -o {output:q}"
        )


rule detection_run:
    input:
        model=results("detection/model.pt"),
        tomogram=results("tomograms/{detected}.mrc"),
        mask=lambda wildcards: plan.mask(wildcards.detected) or [],
        maps=plan.maps,
    output:
        picks=results("detection/{detected}.star"),
        scores=results("detection/{detected}_scores.star"),
    log:
        logs("detection/{detected}"),
    benchmark:
        timing("detection/{detected}")
    priority: 2
    conda:
        "../../envs/detection.yaml"
    threads: 4
    resources:
        mem_mb=more_each_attempt(8000),
        runtime=more_each_attempt(120),
    params:
        options=section_options(plan.config.detection, "threshold"),
        maps=format_options(template=plan.maps),
        search=section_options(
            plan.config.particles, "rotations", "lowpass", "highpass_shells"
        ),
        tilts=lambda wildcards: plan.tilt_options(wildcards.detected),
        mask=lambda wildcards: format_options(mask=plan.mask(wildcards.detected)),
        device=plan.config.device,
        code=code("detection"),
    shell:
        step(
            "detection run {input.model:q} {input.tomogram:q} {params.options} {params.maps}"
            " {params.search} {params.tilts} {params.mask} --device {params.device} -o {output.picks:q}"
        )


rule detection_hand:
    input:
        tomogram=results("tomograms/{detected}.mrc"),
        scores=results("detection/{detected}_scores.star"),
        maps=plan.maps,
    output:
        results("detection/{detected}_hand.json"),
    log:
        logs("detection/{detected}_hand"),
    benchmark:
        timing("detection/{detected}_hand")
    conda:
        "../../envs/evaluation.yaml"
    threads: 1
    resources:
        mem_mb=more_each_attempt(4000),
        runtime=more_each_attempt(60),
    params:
        maps=format_options(template=plan.maps),
        search=section_options(
            plan.config.particles, "rotations", "lowpass", "highpass_shells", "fdr"
        ),
        tilts=lambda wildcards: plan.tilt_options(wildcards.detected),
        code=code("evaluation"),
    shell:
        step(
            "evaluation hand {input.scores:q} --tomogram {input.tomogram:q} {params.maps}"
            " {params.search} {params.tilts} -o {output:q}"
        )


rule detection_extract:
    input:
        picks=plan.detection.picks(),
        tomograms=[plan.image(name) for name in plan.detection.tomograms],
    output:
        star=results("detection/particles.star"),
        stack=results("detection/particles.mrcs"),
    log:
        logs("detection/particles"),
    benchmark:
        timing("detection/particles")
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
            "particles extract {input.picks:q} {params.tomograms} --box {params.box} --allow-empty"
            " {params.options} -o {output.star:q}"
        )


rule detection_gallery:
    input:
        star=results("detection/particles.star"),
        stack=results("detection/particles.mrcs"),
    output:
        report(
            results("detection/gallery.html"),
            caption="../report/gallery.rst",
            category="Detection",
            labels={"page": "Detected particles"},
        ),
    log:
        logs("detection/gallery"),
    benchmark:
        timing("detection/gallery")
    conda:
        "../../envs/particles.yaml"
    threads: 1
    resources:
        mem_mb=more_each_attempt(4000),
        runtime=more_each_attempt(30),
    params:
        code=code("particles"),
    shell:
        step("particles gallery {input.star:q} -o {output:q}")
