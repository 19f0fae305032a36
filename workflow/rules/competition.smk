"""The competition: what each kind of synthetic set teaches; `snakemake comparison` asks for it."""

RIVALS = "imaging/competition"
SNRS = ["0.01", "0.1", "0.5"]
# name to volume set, and whether it has learnt from picks
COMPETITORS = {
    f"typed_{snr}": (results(f"{RIVALS}/typed_{snr}.star"), False) for snr in SNRS
}
if CONFIG.imaging.fit:
    COMPETITORS |= {
        name: (results(f"{RIVALS}/{name}.star"), True)
        for name in ("noise", "alone", "pasted")
    }
    COMPETITORS["fitted"] = (FITTED, True)
if ANNOTATED:
    COMPETITORS["pseudo"] = (PICKS, True)
COMPETITORS[f"generated_{PRESET}"] = (GENERATED, True)
TRAINING_MASKS = {
    name: results(f"tomograms/{name}_mask.mrc")
    for name in TRAINING
    if TOMOGRAMS[name].mask
}


use rule imaging_simulate as imaging_simulate_at_snr with:
    output:
        star=results(f"{RIVALS}/typed_{{snr}}.star"),
        stack=results(f"{RIVALS}/typed_{{snr}}.mrcs"),
    log:
        logs(f"{RIVALS}/typed_{{snr}}"),
    benchmark:
        timing(f"{RIVALS}/typed_{{snr}}")
    wildcard_constraints:
        snr="|".join(map(re.escape, SNRS)),
    params:
        options=lambda wildcards: (
            f"--snr {wildcards.snr} {options(CONFIG.imaging, 'lowpass', 'envelope')}"
        ),
        row=physics(),
        seed=CONFIG.seed,
        code=code("imaging"),


use rule imaging_simulate_fitted as imaging_simulate_alone with:
    output:
        star=results(f"{RIVALS}/alone.star"),
        stack=results(f"{RIVALS}/alone.mrcs"),
    log:
        logs(f"{RIVALS}/alone"),
    benchmark:
        timing(f"{RIVALS}/alone")
    params:
        models=flags(model=TRAINING_MODELS),
        neighbours="--no-neighbours",
        per_group=options(CONFIG.imaging, "per_group"),
        seed=CONFIG.seed,
        code=code("imaging"),


rule imaging_control:
    input:
        densities=results("densities/poses.star"),
        densities_stack=results("densities/poses.mrcs"),
        models=TRAINING_MODELS,
        arrays=[str(Path(path).with_suffix(".npz")) for path in TRAINING_MODELS],
        tomograms=[results(f"tomograms/{name}.mrc") for name in TRAINING],
        picks=[results(f"particles/{name}_picks.star") for name in TRAINING],
        masks=list(TRAINING_MASKS.values()),
    output:
        star=results(f"{RIVALS}/{{kind}}.star"),
        stack=results(f"{RIVALS}/{{kind}}.mrcs"),
    log:
        logs(f"{RIVALS}/{{kind}}"),
    benchmark:
        timing(f"{RIVALS}/{{kind}}")
    wildcard_constraints:
        kind="noise|pasted",
    conda:
        "../../envs/imaging.yaml"
    threads: 1
    resources:
        mem_mb=4000,
        runtime=120,
    params:
        models=flags(model=TRAINING_MODELS),
        places=lambda wildcards, input: (
            flags(
                tomogram=list(input.tomograms),
                particles=list(input.picks),
                mask=[f"{name}={path}" for name, path in TRAINING_MASKS.items()],
            )
            if wildcards.kind == "pasted"
            else ""
        ),
        per_group=options(CONFIG.imaging, "per_group"),
        seed=CONFIG.seed,
        code=code("imaging"),
    shell:
        cryoetgan(
            "imaging control {input.densities:q} --kind {wildcards.kind} {params.models}"
            " {params.places} {params.per_group} --seed {params.seed} -o {output.star:q}"
        )


rule evaluation_comparison_plan:
    input:
        several,
    output:
        results("evaluation/comparison.yaml"),
    log:
        logs("evaluation/comparison_plan"),
    localrule: True
    params:
        plan={
            "real_train": {"star": of_competition(REAL), "split": "train"},
            "real_test": {"star": of_competition(REAL), "split": "test"},
            "methods": {
                name: {
                    "star": of_competition(star),
                    "uses_picks": learns,
                    "split": "train" if star == PICKS else None,
                }
                for name, (star, learns) in COMPETITORS.items()
            },
            "baseline": "fitted" if CONFIG.imaging.fit else "typed_0.1",
            "template_matching": (
                {
                    "star": of_competition(results("particles/selected.star")),
                    "radius": CONFIG.tomograms.marks_radius
                    / CONFIG.densities.voxel_size,
                }
                if ANNOTATED
                else None
            ),
            "network": CONFIG.evaluation.network,
            "epochs": CONFIG.evaluation.epochs,
            "seeds": CONFIG.evaluation.competition_seeds,
        },
    run:
        write_plan(params.plan, output[0], log[0])


rule evaluation_compare:
    input:
        plan=results("evaluation/comparison.yaml"),
        real=REAL,
        real_stack=stack(REAL),
        sets=[star for star, _ in COMPETITORS.values()],
        stacks=[stack(star) for star, _ in COMPETITORS.values()],
        template=results("particles/selected.star") if ANNOTATED else [],
    output:
        table=results("evaluation/comparison/comparison.csv"),
        json=results("evaluation/comparison/comparison.json"),
    log:
        logs("evaluation/comparison"),
    benchmark:
        timing("evaluation/comparison")
    conda:
        "../../envs/evaluation.yaml"
    threads: 4
    resources:
        mem_mb=8000,
        runtime=720,
    params:
        folder=folder,
        device=CONFIG.device,
        seed=CONFIG.seed,
        code=code("evaluation"),
    shell:
        cryoetgan(
            "evaluation compare --config {input.plan:q} --device {params.device}"
            " --seed {params.seed} -o {params.folder:q}"
        )


localrules:
    comparison,


rule comparison:
    input:
        results("evaluation/comparison/comparison.csv"),
