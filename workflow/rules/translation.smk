"""Translation: train the CycleGAN, make the generated set."""

TRANSLATION = f"translation/{PRESET}"


rule translation_train:
    input:
        densities=results("densities/poses.star"),
        densities_stack=results("densities/poses.mrcs"),
        subtomograms=results("particles/subtomograms.star"),
        subtomograms_stack=results("particles/subtomograms.mrcs"),
    output:
        results(f"{TRANSLATION}/checkpoint.pt"),
    log:
        logs(f"{TRANSLATION}/train"),
    benchmark:
        timing(f"{TRANSLATION}/train")
    conda:
        "../../envs/translation.yaml"
    threads: 8
    resources:
        mem_mb=16000,
        runtime=720,
    params:
        options=options(CONFIG.translation, "preset", "steps"),
        folder=folder,
        device=CONFIG.device,
        seed=CONFIG.seed,
        code=code("translation"),
    shell:
        cryoetgan(
            "translation train --densities {input.densities:q} --subtomograms"
            " {input.subtomograms:q} {params.options} --device {params.device}"
            " --seed {params.seed} -o {params.folder:q}"
        )


rule translation_translate:
    input:
        checkpoint=results(f"{TRANSLATION}/checkpoint.pt"),
        densities=results("densities/poses.star"),
        densities_stack=results("densities/poses.mrcs"),
    output:
        star=results(f"{TRANSLATION}/{{which}}.star"),
        stack=results(f"{TRANSLATION}/{{which}}.mrcs"),
    log:
        logs(f"{TRANSLATION}/{{which}}"),
    benchmark:
        timing(f"{TRANSLATION}/{{which}}")
    wildcard_constraints:
        which="generated|untrained",
    conda:
        "../../envs/translation.yaml"
    threads: 2
    resources:
        mem_mb=8000,
        runtime=120,
    params:
        draws=CONFIG.translation.draws,
        # the generator as it was before training: what the demo's KID is compared with
        snapshot=lambda wildcards: (
            "--snapshot 0" if wildcards.which == "untrained" else ""
        ),
        device=CONFIG.device,
        seed=CONFIG.seed,
        code=code("translation"),
    shell:
        cryoetgan(
            "translation translate {input.checkpoint:q} {input.densities:q} --draws {params.draws}"
            " {params.snapshot} --device {params.device} --seed {params.seed} -o {output.star:q}"
        )
