# For the Cityscapes server: predictions of the test split. Not part of the default target; run `snakemake ... submission`.
#
# Needs: trained weights of the first seed and the test split. Leaves: results/<name>/{predictions/, submission.zip}.


rule predict:
    input:
        program=script("predict"),
        code=code("predict"),
        config=f"{RESULTS}/config/evaluate.json",
        weights=f"{RESULTS}/seed{SEEDS[0]}/model.pdparams",
        manifest=MANIFEST,
    output:
        predictions=directory(f"{RESULTS}/predictions"),
    log:
        f"logs/predict/{NAME}.log",
    benchmark:
        f"logs/benchmark/predict/{NAME}.tsv"
    threads: HARDWARE["threads"]
    resources:
        mem_mb=8000,
        runtime=240,
        device=HARDWARE["device"],
        cpu_threads=HARDWARE["threads"],
    params:
        dataset=lambda wildcards: DATASET,
    shell:
        r"""
        exec "$STDC_PYTHON" {input.program:q} \
            --config {input.config:q} \
            --weights {input.weights:q} \
            --dataset {params.dataset:q} \
            --manifest {input.manifest:q} \
            --split test \
            --device {resources.device:q} \
            --threads {resources.cpu_threads} \
            --output {output.predictions:q} \
            --log {log:q}
        """


rule submission:
    input:
        program=script("submission"),
        code=code("submission"),
        predictions=rules.predict.output.predictions,
        manifest=MANIFEST,
    output:
        archive=f"{RESULTS}/submission.zip",
    log:
        f"logs/submission/{NAME}.log",
    benchmark:
        f"logs/benchmark/submission/{NAME}.tsv"
    resources:
        mem_mb=2000,
        runtime=30,
    shell:
        r"""
        exec "$STDC_PYTHON" {input.program:q} \
            --predictions {input.predictions:q} \
            --manifest {input.manifest:q} \
            --split test \
            --output {output.archive:q} \
            --log {log:q}
        """
