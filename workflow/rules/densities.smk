"""Densities: structure, membrane or map to one map a class; then random poses."""

DENSITIES_ENV = "eman2" if CONFIG.densities.engine == "eman2" else "densities"


rule densities_simulate:
    input:
        results("structures/{class_name}.cif"),
    output:
        results("densities/{class_name}.mrc"),
    log:
        logs("densities/{class_name}"),
    benchmark:
        timing("densities/{class_name}")
    wildcard_constraints:
        class_name=of_kind("pdb", "file", "phantom"),
    conda:
        f"../../envs/{DENSITIES_ENV}.yaml"
    threads: 1
    resources:
        mem_mb=4000,
        runtime=30,
    params:
        options=options(CONFIG.densities, "engine", "voxel_size", "resolution", "box"),
        atoms=flags(
            hydrogens=CONFIG.densities.hydrogens,
            no_ligands=not CONFIG.densities.ligands,
            waters=CONFIG.densities.waters,
        ),
        part=lambda wildcards: flags(
            assembly=CLASSES[wildcards.class_name].assembly
            or CONFIG.densities.assembly,
            model=CLASSES[wildcards.class_name].model,
            component=CLASSES[wildcards.class_name].component,
            chains=CLASSES[wildcards.class_name].chains,
        ),
        code=code("densities"),
    shell:
        cryoetgan(
            "densities simulate {input:q} {params.options} {params.atoms}"
            " {params.part} -o {output:q}"
        )


rule densities_membrane:
    output:
        results("densities/{class_name}.mrc"),
    log:
        logs("densities/{class_name}"),
    benchmark:
        timing("densities/{class_name}")
    wildcard_constraints:
        class_name=of_kind("membrane"),
    conda:
        "../../envs/densities.yaml"
    threads: 1
    resources:
        mem_mb=2000,
        runtime=10,
    params:
        options=options(
            CONFIG.densities,
            "voxel_size",
            "resolution",
            "box",
            "membrane_thickness",
            "membrane_radius",
            "membrane_tilt",
        ),
        code=code("densities"),
    shell:
        cryoetgan("densities membrane {params.options} -o {output:q}")


rule densities_import:
    input:
        lambda wildcards: source(CLASSES[wildcards.class_name].source),
    output:
        results("densities/{class_name}.mrc"),
    log:
        logs("densities/{class_name}"),
    benchmark:
        timing("densities/{class_name}")
    wildcard_constraints:
        class_name=of_kind("map"),
    conda:
        "../../envs/densities.yaml"
    threads: 1
    resources:
        mem_mb=4000,
        runtime=30,
    params:
        options=options(CONFIG.densities, "voxel_size", "box"),
        code=code("densities"),
    shell:
        cryoetgan("densities import {input:q} {params.options} -o {output:q}")


rule densities_pose:
    input:
        maps=maps,
        prior=[source(CONFIG.densities.prior)] if CONFIG.densities.prior else [],
    output:
        star=results("densities/poses.star"),
        stack=results("densities/poses.mrcs"),
    log:
        logs("densities/poses"),
    benchmark:
        timing("densities/poses")
    conda:
        "../../envs/densities.yaml"
    threads: 1
    resources:
        mem_mb=4000,
        runtime=60,
    params:
        options=options(CONFIG.densities, "count", max_shift="greatest_shift"),
        counts=flags(
            class_count=[
                f"{name}={row.count}" for name, row in CLASSES.items() if row.count
            ]
        ),
        prior=lambda wildcards, input: flags(
            prior=list(input.prior),
            prior_spread=CONFIG.densities.prior_spread if input.prior else None,
        ),
        seed=CONFIG.seed,
        code=code("densities"),
    shell:
        cryoetgan(
            "densities pose {input.maps:q} {params.options} {params.counts} {params.prior}"
            " --seed {params.seed} -o {output.star:q}"
        )
