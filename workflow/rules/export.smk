"""Export: the generated or the fitted set, in the formats of other programs."""


rule export_relion:
    input:
        star=plan.exported,
        stack=stack(plan.exported),
        fitted=plan.alternative,
        fitted_stack=list(map(stack, plan.alternative)),
        choice=plan.evaluation.choice,
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
        mem_mb=more_each_attempt(4000),
        runtime=more_each_attempt(60),
    params:
        alternative=format_options(fitted=plan.alternative),
        folder=folder,
        contrast=plan.config.export.contrast,
        code=code("export"),
    shell:
        step(
            "export relion {input.star:q} {params.alternative} --choice {input.choice:q}"
            " --contrast {params.contrast} -o {params.folder:q}"
        )


rule export_plain:
    input:
        star=plan.exported,
        stack=stack(plan.exported),
        fitted=plan.alternative,
        fitted_stack=list(map(stack, plan.alternative)),
        choice=plan.evaluation.choice,
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
        mem_mb=more_each_attempt(4000),
        runtime=more_each_attempt(60),
    params:
        alternative=format_options(fitted=plan.alternative),
        folder=folder,
        contrast=plan.config.export.contrast,
        code=code("export"),
    shell:
        step(
            "export plain {input.star:q} {params.alternative} --choice {input.choice:q}"
            " --contrast {params.contrast} -o {params.folder:q}"
        )


rule export_plain_tomograms:
    input:
        synthetic=plan.translation.synthetic_files(".mrc"),
        particles=plan.translation.synthetic_files(".star"),
        labels=plan.translation.synthetic_files("_labels.mrc"),
        # the choice may replace the network's tomograms by tomograms of fitted physics
        fitted=plan.translation.fitted_alternatives(),
        choice=plan.tomogram_choice or [],
    output:
        results("export/plain_tomograms/README.md"),
    log:
        logs("export/plain_tomograms"),
    benchmark:
        timing("export/plain_tomograms")
    conda:
        "../../envs/export.yaml"
    threads: 1
    resources:
        mem_mb=more_each_attempt(4000),
        runtime=more_each_attempt(60),
    params:
        folder=folder,
        options=plan.plain_tomograms_options(),
        contrast=plan.config.export.contrast,
        code=code("export"),
    shell:
        step(
            "export plain {input.synthetic:q} {params.options}"
            " --contrast {params.contrast} -o {params.folder:q}"
        )


rule export_copick:
    input:
        tomograms=[plan.image(row.tomogram) for row in plan.tomogram_rows],
        synthetic=plan.translation.synthetic_files(".mrc"),
        particles=[
            results("particles/selected.star"),
            *plan.translation.synthetic_files(".star"),
        ],
        # simulated and synthetic tomograms have label volumes
        truth=[results(f"tomograms/{name}.star") for name in plan.simulated],
        labels=plan.translation.synthetic_files("_labels.mrc"),
        # the choice may replace the network's tomograms by tomograms of fitted physics
        fitted=plan.translation.fitted_alternatives(),
        choice=plan.tomogram_choice or [],
        maps=plan.maps,
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
        mem_mb=more_each_attempt(4000),
        runtime=more_each_attempt(60),
    params:
        folder=folder,
        options=plan.copick_options(),
        contrast=plan.config.export.contrast,
        code=code("export"),
    shell:
        step(
            "export copick {input.tomograms:q} {input.synthetic:q} {params.options}"
            " --contrast {params.contrast} -o {params.folder:q}"
        )
