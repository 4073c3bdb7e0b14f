# ImageNet weights of the backbone; part of the DAG only where the recipe names some.

if PRETRAINED is not None:
    BACKBONE_KEY = short_hash([config["model"], dataset_folder.file_fingerprint(PRETRAINED)])

    rule write_backbone_config:
        output:
            f"resources/weights/backbone-{BACKBONE_KEY}.json",
        log:
            f"logs/write_backbone_config/{BACKBONE_KEY}.log",
        localrule: True
        params:
            text=lambda wildcards: json.dumps({"model": config["model"]}, sort_keys=True, indent=1),
        shell:
            r"""
            printf '%s\n' {params.text:q} >{output:q} 2>{log:q}
            """

    rule fetch_backbone:
        input:
            program=script("fetch_backbone"),
            code=code("fetch_backbone"),
            config=rules.write_backbone_config.output,
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
