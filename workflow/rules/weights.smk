# The weights that a training starts from: a backbone's (model.pretrained) or a whole network's (model.init_from).
#
# Part of the DAG only where the recipe names some. Needs a file, an address, or a name of stdc/weights/registry.yaml; leaves
# resources/weights/start-<hash>.safetensors and .source.json. Beside them lie downloads/, for files placed by hand, and first-seen/.

if STARTS:

    rule fetch_weights:
        input:
            program=script("fetch_weights"),
            code=code("fetch_weights"),
            registry=str(REGISTRY_FILE),
            config=START_CONFIG,
        output:
            weights=f"resources/weights/start-{START_KEY}.safetensors",
            # What was fetched: the provenance of a training repeats it.
            record=f"resources/weights/start-{START_KEY}.source.json",
        log:
            f"logs/fetch_weights/{START_KEY}.log",
        benchmark:
            f"logs/benchmark/fetch_weights/{START_KEY}.tsv"
        resources:
            mem_mb=2000,
            runtime=90,
        shell:
            r"""
            exec "$STDC_PYTHON" {input.program:q} \
                --config {input.config:q} \
                --output {output.weights:q} \
                --record {output.record:q} \
                --log {log:q}
            """
