# ImageNet weights of the backbone; part of the DAG only where the recipe names some.

if PRETRAINED is not None:

    rule fetch_backbone:
        input:
            program=script("fetch_backbone"),
            code=code("fetch_backbone"),
            config=BACKBONE_CONFIG,
        output:
            weights=f"resources/weights/backbone-{BACKBONE_KEY}.safetensors",
        log:
            f"logs/fetch_backbone/{BACKBONE_KEY}.log",
        benchmark:
            f"logs/benchmark/fetch_backbone/{BACKBONE_KEY}.tsv"
        resources:
            mem_mb=2000,
            runtime=30,
        shell:
            r"""
            exec "$STDC_PYTHON" {input.program:q} \
                --config {input.config:q} \
                --output {output.weights:q} \
                --log {log:q}
            """
