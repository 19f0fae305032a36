"""Structures: from a PDB id, a file, or a phantom."""


# quick; a download needs a network, and the nodes of many clusters have none
localrules:
    structures_fetch,
    structures_phantom,


rule structures_fetch:
    output:
        results("structures/{class_name}.cif"),
    log:
        logs("structures/{class_name}"),
    benchmark:
        timing("structures/{class_name}")
    wildcard_constraints:
        class_name=plan.classes_of_kind("pdb"),
    conda:
        "../../envs/structures.yaml"
    threads: 1
    resources:
        mem_mb=more_each_attempt(2000),
        runtime=more_each_attempt(30),
        # not in params: waiting time does not change the result
        patience=section_options(plan.config.structures, "retries", "timeout"),
    params:
        id=lambda wildcards: plan.classes[wildcards.class_name].source,
        options=section_options(plan.config.structures, "mirror"),
        folder=folder,
        code=code("structures"),
    shell:
        step(
            "structures fetch {params.id:q} --name {wildcards.class_name} {params.options}"
            " {resources.patience} -o {params.folder:q}"
        )


rule structures_import:
    input:
        lambda wildcards: plan.find(plan.classes[wildcards.class_name].source),
    output:
        results("structures/{class_name}.cif"),
    log:
        logs("structures/{class_name}"),
    benchmark:
        timing("structures/{class_name}")
    wildcard_constraints:
        class_name=plan.classes_of_kind("file"),
    conda:
        "../../envs/structures.yaml"
    threads: 1
    resources:
        mem_mb=more_each_attempt(4000),
        runtime=more_each_attempt(30),
    params:
        code=code("structures"),
    shell:
        step("structures import {input:q} -o {output:q}")


rule structures_phantom:
    output:
        results("structures/{class_name}.cif"),
    log:
        logs("structures/{class_name}"),
    benchmark:
        timing("structures/{class_name}")
    wildcard_constraints:
        class_name=plan.classes_of_kind("phantom"),
    conda:
        "../../envs/structures.yaml"
    threads: 1
    resources:
        mem_mb=more_each_attempt(2000),
        runtime=more_each_attempt(10),
    params:
        name=lambda wildcards: plan.classes[wildcards.class_name].source.removeprefix(
            "phantom:"
        ),
        code=code("structures"),
    shell:
        step("structures phantom {params.name:q} -o {output:q}")
