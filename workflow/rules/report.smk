"""Report: one page."""


rule report_build:
    input:
        plan.report_inputs(),
    output:
        report(
            results("report/index.html"),
            caption="../report/page.rst",
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
        mem_mb=more_each_attempt(4000),
        runtime=more_each_attempt(30),
    params:
        options=section_options(plan.config.report, "title", "sample"),
        # not inputs: they have targets of their own, and the page must not run those again
        tables=lambda wildcards: plan.evaluation.tables_hash(),
        # the page reads it from the config.yaml beside the results
        match_radius=plan.config.evaluation.match_radius,
        folder=lambda wildcards, output: os.path.dirname(folder(wildcards, output)),
        code=code("report"),
    shell:
        step("report build {params.folder:q} {params.options} -o {output:q}")
