"""Translation: train the CycleGAN, make the generated set."""

from cryoetgan.translation.presets import read_preset

TRANSLATION = f"translation/{PRESET}"
UNCERTAIN = results(f"{TRANSLATION}/uncertainty")
# what is added to fitted physics needs the imaging model of each training tomogram
FITTED = (
    TRAINING_MODELS
    if checked(read_preset, CONFIG.translation.preset).frame == "residual"
    else []
)
TRANSLATED = {
    "generated": results("densities/poses.star"),
    "untrained": results("densities/poses.star"),
    "cycled": results(f"{TRANSLATION}/generated.star"),
}


rule translation_train:
    input:
        densities=results("densities/poses.star"),
        densities_stack=results("densities/poses.mrcs"),
        subtomograms=results("particles/subtomograms.star"),
        subtomograms_stack=results("particles/subtomograms.mrcs"),
        imaging=FITTED,
        arrays=[str(Path(path).with_suffix(".npz")) for path in FITTED],
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
        imaging=flags(imaging=FITTED),
        folder=folder,
        device=CONFIG.device,
        seed=CONFIG.seed,
        code=code("translation"),
    shell:
        cryoetgan(
            "translation train --densities {input.densities:q} --subtomograms"
            " {input.subtomograms:q} {params.options} {params.imaging}"
            " --device {params.device} --seed {params.seed} -o {params.folder:q}"
        )


rule translation_translate:
    input:
        checkpoint=results(f"{TRANSLATION}/checkpoint.pt"),
        # the generated volumes go back for the cycle d, G(d), G(G(d))
        volumes=lambda wildcards: TRANSLATED[wildcards.which],
        stack=lambda wildcards: stack(TRANSLATED[wildcards.which]),
    output:
        star=results(f"{TRANSLATION}/{{which}}.star"),
        stack=results(f"{TRANSLATION}/{{which}}.mrcs"),
    log:
        logs(f"{TRANSLATION}/{{which}}"),
    benchmark:
        timing(f"{TRANSLATION}/{{which}}")
    wildcard_constraints:
        which="|".join(TRANSLATED),
    conda:
        "../../envs/translation.yaml"
    threads: 2
    resources:
        mem_mb=8000,
        runtime=120,
    params:
        draws=lambda wildcards: (
            1 if wildcards.which == "cycled" else CONFIG.translation.draws
        ),
        # untrained: the generator before training, what the demo's KID is compared with
        which=lambda wildcards: {
            "untrained": "--snapshot 0",
            "cycled": "--direction sd",
        }.get(wildcards.which, ""),
        device=CONFIG.device,
        seed=CONFIG.seed,
        code=code("translation"),
    shell:
        cryoetgan(
            "translation translate {input.checkpoint:q} {input.volumes:q} --draws {params.draws}"
            " {params.which} --device {params.device} --seed {params.seed} -o {output.star:q}"
        )


rule translation_uncertainty:
    input:
        checkpoint=results(f"{TRANSLATION}/checkpoint.pt"),
        volumes=results("densities/poses.star"),
        stack=results("densities/poses.mrcs"),
    output:
        [f"{UNCERTAIN}/{name}" for name in ("dropout_sd.star", "dropout_sd.mrcs")],
        [f"{UNCERTAIN}/{name}" for name in ("noise_sd.star", "noise_sd.mrcs")],
    log:
        logs(f"{TRANSLATION}/uncertainty"),
    benchmark:
        timing(f"{TRANSLATION}/uncertainty")
    conda:
        "../../envs/translation.yaml"
    threads: 2
    resources:
        mem_mb=8000,
        runtime=60,
    params:
        sample=options(CONFIG.translation, sample="uncertainty"),
        folder=folder,
        device=CONFIG.device,
        seed=CONFIG.seed,
        code=code("translation"),
    shell:
        cryoetgan(
            "translation uncertainty {input.checkpoint:q} {input.volumes:q} {params.sample}"
            " --device {params.device} --seed {params.seed} -o {params.folder:q}"
        )
