# One training for each seed. Checkpoints live in runs/, which no rule declares: Snakemake deletes the outputs of a failed job.
#
# Needs: lists, label rasters and their index, manifest, results/<name>/config/train.json, and weights to start from, if any.
# Leaves: results/<name>/seed<k>/{model.pdparams, best.pdparams, history.jsonl, provenance.json, vdl/}.


rule train:
    input:
        program=script("train"),
        code=code("train"),
        config=f"{RESULTS}/config/train.json",
        manifest=MANIFEST,
        labels=LABELS,
        index=LABELS_INDEX,
        train_list=list_of("train"),
        val_list=list_of("val"),
        forecast=forecast,
        start=start_files,
    output:
        model=f"{RESULTS}/seed{{seed}}/model.pdparams",
        best=f"{RESULTS}/seed{{seed}}/best.pdparams" if config["train"]["evaluate"] else [],
        history=f"{RESULTS}/seed{{seed}}/history.jsonl",
        provenance=f"{RESULTS}/seed{{seed}}/provenance.json",
        vdl=directory(f"{RESULTS}/seed{{seed}}/vdl") if config["train"]["visualdl"] else [],
    log:
        f"logs/train/{NAME}-seed{{seed}}.log",
    benchmark:
        f"logs/benchmark/train/{NAME}-seed{{seed}}.tsv"
    threads: HARDWARE["devices"] * (HARDWARE["threads"] + HARDWARE["workers"])
    resources:
        # On SLURM, `mpi` leaves the start of the tasks to the rule. Beside GPUs, the plug-in would ask for so many tasks per GPU.
        **({"mpi": "srun", "tasks": HARDWARE["nodes"], "tasks_per_gpu": 0} if HARDWARE["nodes"] > 1 else {}),
        mem_mb=16000 * HARDWARE["devices"],
        runtime=2880,
        # Not params: finished work stays finished when it is looked at on another machine.
        device=HARDWARE["device"],
        devices=HARDWARE["devices"],
        cpu_threads=HARDWARE["threads"],
        workers=HARDWARE["workers"],
        frame_cache=HARDWARE["frame_cache"] or "",
        frame_cache_gb=HARDWARE["frame_cache_gb"],
        step_limit_s=HARDWARE["step_limit_s"],
        pause_limit_s=HARDWARE["pause_limit_s"],
        rendezvous_limit_s=HARDWARE["rendezvous_limit_s"],
        nodes=HARDWARE["nodes"],
    params:
        dataset=lambda wildcards: DATASET,
        backbone=lambda wildcards, input: (
            ["--backbone", input.start[0], "--start-record", input.start[1]] if input.start else []
        ),
        best=lambda wildcards, output: ["--best", output.best] if output.best else [],
        vdl=lambda wildcards, output: ["--vdl", output.vdl] if output.vdl else [],
        # A parameter, unlike the rest of the hardware: batch norm and mining see so many images at a time.
        micro_batch=["--micro-batch", HARDWARE["micro_batch"]] if HARDWARE["micro_batch"] else [],
        sync_batch_norm=["--sync-batch-norm", "portable"] if HARDWARE["sync_batch_norm"] == "portable" else [],
    shell:
        r"""
        # One task per node; the program finds out which one it is. Where the nodes are containers that wait to join
        # (PADDLE_NNODES), nothing is to be started on them.
        start=()
        if (({resources.nodes} > 1)) && [[ -z ${{PADDLE_NNODES:-}} ]]; then
            # The Snakemake that a program ends with is to be found on one of the nodes only; SLURM ends it on the others.
            start=(
                srun --nodes={resources.nodes} --ntasks-per-node=1 --kill-on-bad-exit=0
                --export=ALL,STDC_DIE_WITH_PARENT=0,STDC_LAUNCH=$(date +%s%N)
            )
        fi
        exec "${{start[@]}}" "$STDC_PYTHON" {input.program:q} \
            --config {input.config:q} \
            --dataset {params.dataset:q} \
            --labels {input.labels:q} \
            --manifest {input.manifest:q} \
            --index {input.index:q} \
            --train-list {input.train_list:q} \
            --val-list {input.val_list:q} {params.backbone:q} \
            --seed {wildcards.seed} \
            --runs runs \
            --device {resources.device:q} \
            --devices {resources.devices} \
            --threads {resources.cpu_threads} \
            --workers {resources.workers} {params.micro_batch:q} {params.sync_batch_norm:q} \
            --frame-cache={resources.frame_cache:q} \
            --frame-cache-gb {resources.frame_cache_gb} \
            --step-limit {resources.step_limit_s} \
            --pause-limit {resources.pause_limit_s} \
            --rendezvous-limit {resources.rendezvous_limit_s} \
            --nodes {resources.nodes} \
            --model {output.model:q} {params.best:q} \
            --history {output.history:q} \
            --provenance {output.provenance:q} {params.vdl:q} \
            --log {log:q}
        """
