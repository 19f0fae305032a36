"""Imaging: subtomograms by physics alone."""


rule imaging_simulate:
    input:
        densities=results("densities/poses.star"),
        densities_stack=results("densities/poses.mrcs"),
    output:
        star=results("imaging/simulated.star"),
        stack=results("imaging/simulated.mrcs"),
    log:
        logs("imaging/simulated"),
    benchmark:
        timing("imaging/simulated")
    conda:
        "../../envs/imaging.yaml"
    threads: 1
    resources:
        mem_mb=4000,
        runtime=60,
    params:
        options=options(CONFIG.imaging, "snr", "lowpass"),
        row=physics(),
        seed=CONFIG.seed,
        code=code("imaging"),
    shell:
        cryoetgan(
            "imaging simulate {input.densities:q} {params.options} {params.row} --seed {params.seed}"
            " -o {output.star:q}"
        )
