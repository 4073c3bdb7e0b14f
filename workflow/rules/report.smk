# The verdict, and one page that shows how it came about.
#
# Needs: everything that a training and its evaluation left, of every seed; results/<name>/config/report.json.
# Leaves: results/<name>/{verdict.json, report.html, report_metrics_only.html}.


rule report:
    input:
        program=script("report"),
        code=code("report"),
        config=f"{RESULTS}/config/report.json",
        # Weights that were given have neither.
        history=per_seed(rules.train.output.history) if WEIGHTS is None else [],
        provenance=per_seed(rules.train.output.provenance) if WEIGHTS is None else [],
        metrics=per_seed(
            rules.evaluate.output.metrics,
            weights=["", "_best"] if config["train"]["evaluate"] and WEIGHTS is None else [""],
        ),
        speed=per_seed(rules.measure_speed.output.speed),
        weights=per_seed(rules.train.output.model),
        manifest=MANIFEST,
        labels=LABELS,
        index=LABELS_INDEX,
        train_list=list_of("train"),
        val_list=list_of("val"),
    output:
        verdict=f"{RESULTS}/verdict.json",
        report=f"{RESULTS}/report.html",
        # Written beside the report: figures without pixels of the dataset.
        shared=f"{RESULTS}/report_metrics_only.html",
    log:
        f"logs/report/{NAME}.log",
    benchmark:
        f"logs/benchmark/report/{NAME}.tsv"
    threads: HARDWARE["threads"]
    resources:
        mem_mb=4000,
        runtime=30,
        cpu_threads=HARDWARE["threads"],
    params:
        dataset=lambda wildcards: DATASET,
        results=lambda wildcards, output: os.path.dirname(output.verdict),
        # Not inputs: a measurement that is missing, or new, is no reason to make the report again.
        benchmarks=stage_benchmarks,
    shell:
        r"""
        exec "$STDC_PYTHON" {input.program:q} \
            --config {input.config:q} \
            --results {params.results:q} \
            --manifest {input.manifest:q} \
            --dataset {params.dataset:q} \
            --labels {input.labels:q} \
            --index {input.index:q} \
            --list {input.val_list:q} \
            --train-list {input.train_list:q} \
            --threads {resources.cpu_threads} \
            --verdict {output.verdict:q} \
            --report {output.report:q} \
            --benchmarks {params.benchmarks:q} \
            --log {log:q}
        """
