"""Report: one page."""


rule report_build:
    input:
        [results(f"evaluation/{name}.json") for name in [*CLASSIFIED, *MEASURED]],
        results("particles/subtomograms.star"),
        results("imaging/simulated.star"),
        results("imaging/fitted.star") if CONFIG.imaging.fit else [],
        list(MODELS.values()),
        [*synthetic(".mrc"), *synthetic(".star")],
        GENERATED,
        (
            [results(f"{TRANSLATION}/{name}.star") for name in SPREADS]
            if CONFIG.translation.uncertainty
            else []
        ),
        REAL,
        results("evaluation/choice.json"),
    output:
        report(
            results("report/index.html"),
            category="Report",
            labels={"page": "The report"},
        ),
    log:
        logs("report/index"),
    benchmark:
        timing("report/index")
    conda:
        "../../envs/report.yaml"
    threads: 1
    resources:
        mem_mb=4000,
        runtime=30,
    params:
        options=options(CONFIG.report, "title", "sample"),
        # no inputs: they have targets of their own, and a page must not train them anew
        tables=lambda wildcards: tables_beside(),
        # the page takes it from the config.yaml beside the results
        marks_radius=CONFIG.tomograms.marks_radius,
        folder=lambda wildcards, output: os.path.dirname(folder(wildcards, output)),
        code=code("report"),
    shell:
        cryoetgan("report build {params.folder:q} {params.options} -o {output:q}")
