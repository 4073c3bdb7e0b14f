# One minute before a long run. Not part of the default target; run `snakemake ... doctor` with the options of the run itself.
#
# Needs: results/<name>/config/doctor.json and this machine. Leaves: results/<name>/doctor.json, and a table on the terminal.


rule doctor:
    # No output: asked for, it looks again.
    input:
        program=script("doctor"),
        code=code("doctor"),
        config=every(f"{RESULTS}/config/doctor.json")[0],
    log:
        f"logs/doctor/{SWEEP or NAME}.log",
    threads: HARDWARE["devices"] * HARDWARE["threads"]
    resources:
        mem_mb=16000 * HARDWARE["devices"],
        runtime=10,
        device=HARDWARE["device"],
        devices=HARDWARE["devices"],
        cpu_threads=HARDWARE["threads"],
        workers=HARDWARE["workers"],
    params:
        dataset=["--dataset", DATASET_SOURCE] if DATASET_SOURCE else [],
        json=every(f"{RESULTS}/doctor.json")[0],
        python=sys.executable,
    shell:
        r"""
        exec "$STDC_PYTHON" {input.program:q} \
            --config {input.config:q} {params.dataset:q} \
            --device {resources.device:q} \
            --devices {resources.devices} \
            --threads {resources.cpu_threads} \
            --workers {resources.workers} \
            --directory . \
            --workflow-python {params.python:q} \
            --json {params.json:q} \
            --log {log:q}
        """
