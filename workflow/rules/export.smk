# Needs the trained weights of the first seed. Leaves the network for other programs: results/<name>/export/ with ONNX, Paddle's
# inference format and a description. Not part of the default target; run `snakemake ... -- export`.


rule export:
    input:
        program=script("export"),
        code=code("export"),
        config=f"{RESULTS}/config/evaluate.json",
        weights=f"{RESULTS}/seed{SEEDS[0]}/model.pdparams",
    output:
        exported=directory(f"{RESULTS}/export"),
    log:
        f"logs/export/{NAME}.log",
    benchmark:
        f"logs/benchmark/export/{NAME}.tsv"
    threads: HARDWARE["threads"]
    resources:
        mem_mb=4000,
        runtime=30,
        cpu_threads=HARDWARE["threads"],
    shell:
        r"""
        exec "$STDC_PYTHON" {input.program:q} \
            --config {input.config:q} \
            --weights {input.weights:q} \
            --threads {resources.cpu_threads} \
            --output {output.exported:q} \
            --log {log:q}
        """
