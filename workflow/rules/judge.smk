# Weights that nobody trained here: `snakemake ... --config weights=<file or name> -- judge`.
#
# Needs the key `weights`; leaves results/<name>-judge/, with the files of a training's results but for history and provenance.

if WEIGHTS is not None:
    # A local file is an input, so that another file under its name is judged anew.
    WEIGHTS_FILE = str(weights_source.local_file(WEIGHTS, REGISTRY))

    rule import_weights:
        input:
            program=script("import_weights"),
            code=code("import_weights"),
            config=f"{RESULTS}/config/speed.json",
            # A function, because Snakemake would read braces in a path as a wildcard.
            source=lambda wildcards: [WEIGHTS_FILE] if os.path.isfile(WEIGHTS_FILE) else [],
        output:
            model=f"{RESULTS}/seed{{seed}}/model.pdparams",
            record=f"{RESULTS}/seed{{seed}}/weights.json",
        log:
            f"logs/import_weights/{NAME}-seed{{seed}}.log",
        benchmark:
            f"logs/benchmark/import_weights/{NAME}-seed{{seed}}.tsv"
        resources:
            mem_mb=4000,
            runtime=30,
        params:
            weights=lambda wildcards: WEIGHTS,
        shell:
            r"""
            exec "$STDC_PYTHON" {input.program:q} \
                --config {input.config:q} \
                --weights {params.weights:q} \
                --downloads resources/weights \
                --record {output.record:q} \
                --output {output.model:q} \
                --log {log:q}
            """

    # Both leave a model: these weights are given, so none are trained.
    ruleorder: import_weights > train


rule judge:
    input:
        judged_files,
