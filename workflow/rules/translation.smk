"""Translation: train the CycleGAN, make the generated set."""

TRANSLATION = f"translation/{PRESET}"
# a generator's folder, and the group of tomograms it learns from: one, or one a group
GENERATORS = {TRANSLATION: None}
if CONFIG.translation.per_group and len(GROUPS) > 1:
    GENERATORS = {f"{TRANSLATION}/{group}": group for group in GROUPS}
RESIDUAL = checked(read_preset, CONFIG.translation.preset).frame == "residual"
SETS = ["generated", "untrained", "cycled"]
SPREADS = ["uncertainty/dropout_sd", "uncertainty/noise_sd"]


wildcard_constraints:
    generator="|".join(map(re.escape, GENERATORS)),


rule translation_train:
    input:
        densities=results("densities/poses.star"),
        densities_stack=results("densities/poses.mrcs"),
        subtomograms=results("particles/subtomograms.star"),
        subtomograms_stack=results("particles/subtomograms.mrcs"),
        imaging=fitted,
        arrays=fitted_arrays,
    output:
        results("{generator}/checkpoint.pt"),
    log:
        logs("{generator}/train"),
    benchmark:
        timing("{generator}/train")
    conda:
        "../../envs/translation.yaml"
    threads: 8
    resources:
        mem_mb=16000,
        runtime=720,
    params:
        options=options(CONFIG.translation, "preset", "steps", "devices", "tensorboard"),
        recipe=recipe(CONFIG.translation.preset),
        imaging=lambda wildcards: flags(imaging=fitted(wildcards)),
        group=lambda wildcards: flags(group=GENERATORS[wildcards.generator]),
        folder=folder,
        device=CONFIG.device,
        seed=CONFIG.seed,
        code=code("translation"),
    shell:
        cryoetgan(
            "translation train --densities {input.densities:q} --subtomograms"
            " {input.subtomograms:q} {params.options} {params.imaging} {params.group}"
            " --device {params.device} --seed {params.seed} -o {params.folder:q}"
        )


rule translation_translate:
    input:
        checkpoint=results("{generator}/checkpoint.pt"),
        volumes=translated,
        stack=lambda wildcards: stack(translated(wildcards)),
    output:
        star=results("{generator}/{which}.star"),
        stack=results("{generator}/{which}.mrcs"),
    log:
        logs("{generator}/{which}"),
    benchmark:
        timing("{generator}/{which}")
    wildcard_constraints:
        which="|".join(SETS),
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
        checkpoint=results("{generator}/checkpoint.pt"),
        volumes=results("densities/poses.star"),
        stack=results("densities/poses.mrcs"),
    output:
        [results(f"{{generator}}/{name}.star") for name in SPREADS],
        [results(f"{{generator}}/{name}.mrcs") for name in SPREADS],
    log:
        logs("{generator}/uncertainty"),
    benchmark:
        timing("{generator}/uncertainty")
    conda:
        "../../envs/translation.yaml"
    threads: 2
    resources:
        mem_mb=8000,
        runtime=60,
    params:
        sample=options(CONFIG.translation, "passes", sample="uncertainty"),
        folder=folder,
        device=CONFIG.device,
        seed=CONFIG.seed,
        code=code("translation"),
    shell:
        cryoetgan(
            "translation uncertainty {input.checkpoint:q} {input.volumes:q} {params.sample}"
            " --device {params.device} --seed {params.seed} -o {params.folder:q}"
        )


rule translation_join:
    input:
        stars=[results(f"{generator}/{{set}}.star") for generator in GENERATORS],
        stacks=[results(f"{generator}/{{set}}.mrcs") for generator in GENERATORS],
    output:
        star=results(f"{TRANSLATION}/{{set}}.star"),
        stack=results(f"{TRANSLATION}/{{set}}.mrcs"),
    log:
        logs(f"{TRANSLATION}/{{set}}"),
    benchmark:
        timing(f"{TRANSLATION}/{{set}}")
    wildcard_constraints:
        set="|".join([*SETS, *SPREADS]) if len(GENERATORS) > 1 else "no-set",
    conda:
        "../../envs/translation.yaml"
    threads: 1
    resources:
        mem_mb=4000,
        runtime=60,
    params:
        code=code("translation"),
    shell:
        cryoetgan("translation join {input.stars:q} -o {output.star:q}")
