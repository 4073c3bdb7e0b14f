# A sweep summed up. Part of the DAG only where the configuration names one by the key `sweep`.
#
# Needs: the results of every experiment. Leaves: results/<sweep>/{summary.json, summary.md, summary.html}.


rule summarize:
    input:
        program=script("summarize"),
        code=code("summarize"),
        config=every(f"{RESULTS}/config/report.json"),
        metrics=every(rules.report.input.metrics),
        speed=every(rules.report.input.speed),
        provenance=every(rules.report.input.provenance),
        verdict=every(rules.report.output.verdict),
    output:
        json=f"results/{SWEEP}/summary.json",
        markdown=f"results/{SWEEP}/summary.md",
        page=f"results/{SWEEP}/summary.html",
    log:
        f"logs/summarize/{SWEEP}.log",
    benchmark:
        f"logs/benchmark/summarize/{SWEEP}.tsv"
    resources:
        mem_mb=2000,
        runtime=30,
    params:
        name=SWEEP,
        results=every(RESULTS),
    shell:
        r"""
        exec "$STDC_PYTHON" {input.program:q} \
            --name {params.name:q} \
            --json {output.json:q} \
            --markdown {output.markdown:q} \
            --page {output.page:q} \
            --log {log:q} \
            {params.results:q}
        """
