"""Ablations: the paper's tables 3 and 4 and ours; `snakemake ablations` asks for them."""

from cryoetgan.evaluation.ablations import ABLATIONS

ABLATED = results("evaluation/ablations/{ablation}/{ablation_seed}")
ABLATED_GENERATOR = results("translation/ablations/{ablation}/{ablation_seed}")
ABLATION_SEEDS = range(CONFIG.evaluation.ablation_seeds)
NOISES = [name for name in ABLATIONS if name.startswith("input_noise_")]
ABLATION_TESTS = {
    "gan_test": (REAL, f"{ABLATED_GENERATOR}/generated.star"),
    "gan_train": (f"{ABLATED_GENERATOR}/generated.star", REAL),
}


wildcard_constraints:
    ablation="|".join(map(re.escape, ABLATIONS)),
    ablation_seed=r"\d+",


rule evaluation_ablate:
    output:
        results("evaluation/ablations/{ablation}/preset.yaml"),
    log:
        logs("evaluation/ablations/{ablation}/preset"),
    benchmark:
        timing("evaluation/ablations/{ablation}/preset")
    conda:
        "../../envs/evaluation.yaml"
    threads: 1
    resources:
        mem_mb=2000,
        runtime=10,
    params:
        preset=shlex.quote(CONFIG.evaluation.ablation_preset),
        recipe=recipe(CONFIG.evaluation.ablation_preset),
        # generators by step are kept of the levels of input noise alone
        kept=lambda wildcards: (
            options(CONFIG.evaluation, snapshot_every="ablation_snapshots")
            if wildcards.ablation in NOISES
            else ""
        ),
        code=code("evaluation"),
    shell:
        cryoetgan(
            "evaluation ablate {wildcards.ablation} --preset {params.preset} {params.kept}"
            " -o {output:q}"
        )


rule translation_train_ablation:
    input:
        densities=results("densities/poses.star"),
        densities_stack=results("densities/poses.mrcs"),
        subtomograms=results("particles/subtomograms.star"),
        subtomograms_stack=results("particles/subtomograms.mrcs"),
        preset=results("evaluation/ablations/{ablation}/preset.yaml"),
    output:
        f"{ABLATED_GENERATOR}/checkpoint.pt",
    log:
        logs("translation/ablations/{ablation}/{ablation_seed}/train"),
    benchmark:
        timing("translation/ablations/{ablation}/{ablation_seed}/train")
    conda:
        "../../envs/translation.yaml"
    threads: 8
    resources:
        mem_mb=16000,
        runtime=720,
    params:
        options=options(CONFIG.evaluation, steps="ablation_steps"),
        folder=folder,
        device=CONFIG.device,
        seed=lambda wildcards: CONFIG.seed + int(wildcards.ablation_seed),
        code=code("translation"),
    shell:
        cryoetgan(
            "translation train --densities {input.densities:q} --subtomograms"
            " {input.subtomograms:q} --preset {input.preset:q} {params.options}"
            " --device {params.device} --seed {params.seed} -o {params.folder:q}"
        )


use rule translation_translate as translation_translate_ablation with:
    input:
        checkpoint=f"{ABLATED_GENERATOR}/checkpoint.pt",
        volumes=results("densities/poses.star"),
        stack=results("densities/poses.mrcs"),
    output:
        star=f"{ABLATED_GENERATOR}/generated.star",
        stack=f"{ABLATED_GENERATOR}/generated.mrcs",
    log:
        logs("translation/ablations/{ablation}/{ablation_seed}/generated"),
    benchmark:
        timing("translation/ablations/{ablation}/{ablation_seed}/generated")
    params:
        draws=1,
        which="",
        device=CONFIG.device,
        seed=lambda wildcards: CONFIG.seed + int(wildcards.ablation_seed),
        code=code("translation"),


use rule evaluation_classify as evaluation_classify_ablation with:
    input:
        train=lambda wildcards: ABLATION_TESTS[wildcards.test][0],
        train_stack=lambda wildcards: stack(ABLATION_TESTS[wildcards.test][0]),
        test=lambda wildcards: ABLATION_TESTS[wildcards.test][1],
        test_stack=lambda wildcards: stack(ABLATION_TESTS[wildcards.test][1]),
        # one classifier of real crops judges them all
        reuse=lambda wildcards: (
            results("evaluation/ceiling.pt") if wildcards.test == "gan_test" else []
        ),
    output:
        json=f"{ABLATED}/{{test}}.json",
        checkpoint=f"{ABLATED}/{{test}}.pt",
    log:
        logs("evaluation/ablations/{ablation}/{ablation_seed}/{test}"),
    benchmark:
        timing("evaluation/ablations/{ablation}/{ablation_seed}/{test}")
    wildcard_constraints:
        test="|".join(ABLATION_TESTS),
    params:
        splits=lambda wildcards: flags(
            **{
                f"{'train' if wildcards.test == 'gan_test' else 'test'}_split": (
                    "train" if wildcards.test == "gan_test" else "test"
                )
            }
        ),
        options=options(CONFIG.evaluation, "network"),
        size=options(CONFIG.evaluation, "epochs"),
        reuse=lambda wildcards, input: flags(reuse=input.get("reuse") or None),
        device=CONFIG.device,
        seed=CONFIG.seed,
        code=code("evaluation"),


use rule evaluation_measure as evaluation_measure_ablation with:
    input:
        real=REAL,
        real_stack=stack(REAL),
        generated=f"{ABLATED_GENERATOR}/generated.star",
        generated_stack=f"{ABLATED_GENERATOR}/generated.mrcs",
        densities=results("densities/poses.star"),
        densities_stack=results("densities/poses.mrcs"),
        cycle=[],
        cycle_stack=[],
        features=results("evaluation/ceiling.pt"),
        maps=maps,
    output:
        f"{ABLATED}/measure.json",
    log:
        logs("evaluation/ablations/{ablation}/{ablation_seed}/measure"),
    benchmark:
        timing("evaluation/ablations/{ablation}/{ablation_seed}/measure")
    wildcard_constraints:
        name="never",


rule evaluation_ablations:
    input:
        expand(
            f"{ABLATED}/{{file}}.json",
            ablation=ABLATIONS,
            ablation_seed=ABLATION_SEEDS,
            file=["measure", *ABLATION_TESTS],
        ),
    output:
        table=results("evaluation/ablations.csv"),
        json=results("evaluation/ablations.json"),
    log:
        logs("evaluation/ablations"),
    benchmark:
        timing("evaluation/ablations")
    conda:
        "../../envs/evaluation.yaml"
    threads: 1
    resources:
        mem_mb=2000,
        runtime=10,
    params:
        runs=lambda wildcards, output: str(Path(output.table).with_suffix("")),
        code=code("evaluation"),
    shell:
        cryoetgan("evaluation ablations {params.runs:q} -o {output.table:q}")


rule evaluation_epochs:
    input:
        checkpoints=expand(
            f"{ABLATED_GENERATOR}/checkpoint.pt", ablation=NOISES, ablation_seed=0
        ),
        densities=results("densities/poses.star"),
        densities_stack=results("densities/poses.mrcs"),
        real=REAL,
        real_stack=stack(REAL),
        features=results("evaluation/ceiling.pt"),
    output:
        results("evaluation/epochs.csv"),
    log:
        logs("evaluation/epochs"),
    benchmark:
        timing("evaluation/epochs")
    conda:
        "../../envs/evaluation.yaml"
    threads: 4
    resources:
        mem_mb=8000,
        runtime=240,
    params:
        device=CONFIG.device,
        seed=CONFIG.seed,
        code=code("evaluation"),
    shell:
        cryoetgan(
            "evaluation epochs {input.checkpoints:q} --densities {input.densities:q}"
            " --real {input.real:q} --real-split test --features {input.features:q}"
            " --device {params.device} --seed {params.seed} -o {output:q}"
        )


localrules:
    ablations,


rule ablations:
    input:
        results("evaluation/ablations.csv"),
        results("evaluation/epochs.csv") if CONFIG.evaluation.ablation_snapshots else [],
