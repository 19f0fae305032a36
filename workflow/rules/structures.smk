"""Structures: from a PDB id, a file, or a phantom."""


# quick, and what fetches wants a network, which the nodes of many clusters lack
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
        class_name=of_kind("pdb"),
    conda:
        "../../envs/structures.yaml"
    threads: 1
    resources:
        mem_mb=2000,
        runtime=30,
        # no parameters: how long one waits changes nothing of what comes
        patience=options(CONFIG.structures, "retries", "timeout"),
    params:
        id=lambda wildcards: shlex.quote(CLASSES[wildcards.class_name].source),
        options=options(CONFIG.structures, "mirror"),
        folder=folder,
        code=code("structures"),
    shell:
        cryoetgan(
            "structures fetch {params.id} --name {wildcards.class_name} {params.options}"
            " {resources.patience} -o {params.folder:q}"
        )


rule structures_import:
    input:
        lambda wildcards: source(CLASSES[wildcards.class_name].source),
    output:
        results("structures/{class_name}.cif"),
    log:
        logs("structures/{class_name}"),
    benchmark:
        timing("structures/{class_name}")
    wildcard_constraints:
        class_name=of_kind("file"),
    conda:
        "../../envs/structures.yaml"
    threads: 1
    resources:
        mem_mb=4000,
        runtime=30,
    params:
        code=code("structures"),
    shell:
        cryoetgan("structures import {input:q} -o {output:q}")


rule structures_phantom:
    output:
        results("structures/{class_name}.cif"),
    log:
        logs("structures/{class_name}"),
    benchmark:
        timing("structures/{class_name}")
    wildcard_constraints:
        class_name=of_kind("phantom"),
    conda:
        "../../envs/structures.yaml"
    threads: 1
    resources:
        mem_mb=2000,
        runtime=10,
    params:
        name=lambda wildcards: shlex.quote(
            CLASSES[wildcards.class_name].source.removeprefix("phantom:")
        ),
        code=code("structures"),
    shell:
        cryoetgan("structures phantom {params.name} -o {output:q}")
