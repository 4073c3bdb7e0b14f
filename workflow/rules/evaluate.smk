# Scores and speed of trained weights.
#
# Needs: weights of a training, the validation list, label rasters, manifest; results/<name>/config/{evaluate,speed}.json.
# Leaves: results/<name>/seed<k>/{metrics,metrics_best,speed}.json.


rule evaluate:
    input:
        program=script("evaluate"),
        code=code("evaluate"),
        config=f"{RESULTS}/config/evaluate.json",
        weights=lambda wildcards: f"{RESULTS}/seed{{seed}}/{'best' if wildcards.weights else 'model'}.pdparams",
        manifest=MANIFEST,
        labels=LABELS,
        index=LABELS_INDEX,
        val_list=list_of("val"),
    output:
        metrics=f"{RESULTS}/seed{{seed}}/metrics{{weights,|_best}}.json",
    log:
        f"logs/evaluate/{NAME}-seed{{seed}}{{weights}}.log",
    benchmark:
        f"logs/benchmark/evaluate/{NAME}-seed{{seed}}{{weights}}.tsv"
    threads: HARDWARE["devices"] * HARDWARE["threads"]
    resources:
        mem_mb=8000 * HARDWARE["devices"],
        runtime=240,
        device=HARDWARE["device"],
        devices=HARDWARE["devices"],
        cpu_threads=HARDWARE["threads"],
    params:
        dataset=lambda wildcards: DATASET,
    shell:
        r"""
        exec "$STDC_PYTHON" {input.program:q} \
            --config {input.config:q} \
            --weights {input.weights:q} \
            --dataset {params.dataset:q} \
            --labels {input.labels:q} \
            --list {input.val_list:q} \
            --manifest {input.manifest:q} \
            --index {input.index:q} \
            --device {resources.device:q} \
            --devices {resources.devices} \
            --threads {resources.cpu_threads} \
            --output {output.metrics:q} \
            --log {log:q}
        """


rule measure_speed:
    input:
        program=script("measure_speed"),
        code=code("measure_speed"),
        config=f"{RESULTS}/config/speed.json",
        weights=rules.train.output.model,
        history=rules.train.output.history if WEIGHTS is None else [],
        provenance=rules.train.output.provenance if WEIGHTS is None else [],
    output:
        speed=f"{RESULTS}/seed{{seed}}/speed.json",
    log:
        f"logs/measure_speed/{NAME}-seed{{seed}}.log",
    benchmark:
        f"logs/benchmark/measure_speed/{NAME}-seed{{seed}}.tsv"
    # All cores of the run: nothing else may disturb the clock. A cluster's job is told "all" of a machine that may be shared,
    # and must not ask for more than its head has asked for.
    threads: (workflow.is_main_process and workflow.resource_settings.cores) or HARDWARE["threads"]
    resources:
        mem_mb=8000,
        runtime=60,
        device=HARDWARE["device"],
        cpu_threads=HARDWARE["threads"],
    params:
        training=lambda wildcards, input: (
            ["--history", input.history, "--provenance", input.provenance] if input.history else []
        ),
    shell:
        r"""
        exec "$STDC_PYTHON" {input.program:q} \
            --config {input.config:q} \
            --weights {input.weights:q} {params.training:q} \
            --device {resources.device:q} \
            --threads {resources.cpu_threads} \
            --output {output.speed:q} \
            --log {log:q}
        """
