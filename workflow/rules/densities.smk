"""Densities: one map per class from a structure, a membrane or a map; then random poses."""

DENSITIES_ENV = "eman2" if plan.config.densities.engine == "eman2" else "densities"


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
        class_name=plan.classes_of_kind("pdb", "file", "phantom"),
    conda:
        f"../../envs/{DENSITIES_ENV}.yaml"
    threads: 1
    resources:
        mem_mb=more_each_attempt(4000),
        runtime=more_each_attempt(30),
    params:
        options=section_options(
            plan.config.densities, "engine", "voxel_size", "resolution", "box"
        ),
        atoms=format_options(
            hydrogens=plan.config.densities.hydrogens,
            no_ligands=not plan.config.densities.ligands,
            waters=plan.config.densities.waters,
        ),
        part=lambda wildcards: plan.structure_options(wildcards.class_name),
        code=code("densities"),
    shell:
        step(
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
        class_name=plan.classes_of_kind("membrane"),
    conda:
        "../../envs/densities.yaml"
    threads: 1
    resources:
        mem_mb=more_each_attempt(2000),
        runtime=more_each_attempt(10),
    params:
        options=section_options(
            plan.config.densities,
            "voxel_size",
            "resolution",
            "box",
            "membrane_thickness",
            "membrane_radius",
            "membrane_tilt",
        ),
        code=code("densities"),
    shell:
        step("densities membrane {params.options} -o {output:q}")


rule densities_import:
    input:
        lambda wildcards: plan.find(plan.classes[wildcards.class_name].source),
    output:
        results("densities/{class_name}.mrc"),
    log:
        logs("densities/{class_name}"),
    benchmark:
        timing("densities/{class_name}")
    wildcard_constraints:
        class_name=plan.classes_of_kind("map"),
    conda:
        "../../envs/densities.yaml"
    threads: 1
    resources:
        mem_mb=more_each_attempt(4000),
        runtime=more_each_attempt(30),
    params:
        options=section_options(
            plan.config.densities, "voxel_size", "box", "resolution"
        ),
        code=code("densities"),
    shell:
        step("densities import {input:q} {params.options} -o {output:q}")


rule densities_pose:
    input:
        maps=plan.maps,
        prior=(
            [plan.find(plan.config.densities.prior)]
            if plan.config.densities.prior
            else []
        ),
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
        mem_mb=more_each_attempt(4000),
        runtime=more_each_attempt(60),
    params:
        options=section_options(
            plan.config.densities, "count", max_shift="greatest_shift"
        ),
        counts=plan.class_options("class_count", "count"),
        prior=lambda wildcards, input: format_options(
            prior=list(input.prior),
            prior_spread=plan.config.densities.prior_spread if input.prior else None,
        ),
        seed=plan.config.seed,
        code=code("densities"),
    shell:
        step(
            "densities pose {input.maps:q} {params.options} {params.counts} {params.prior}"
            " --seed {params.seed} -o {output.star:q}"
        )


rule densities_other:
    input:
        plan.maps,
    output:
        star=results("densities/other.star"),
        stack=results("densities/other.mrcs"),
    log:
        logs("densities/other"),
    benchmark:
        timing("densities/other")
    conda:
        "../../envs/densities.yaml"
    threads: 1
    resources:
        mem_mb=more_each_attempt(2000),
        runtime=more_each_attempt(10),
    params:
        options=section_options(plan.config.densities, max_shift="greatest_shift"),
        # as many as the largest class has
        number=format_options(count=plan.largest_count),
        seed=plan.config.seed,
        code=code("densities"),
    shell:
        step(
            "densities other {input:q} {params.options} {params.number}"
            " --seed {params.seed} -o {output.star:q}"
        )
