# From a dataset to label rasters and lists.
#
# Needs: the user's folder, the official zips in it, or the section `synthetic`; the stages' files (config.smk).
# Leaves: resources/<dataset>/{dataset/, manifest.json, labels/, labels.json, lists-<hash>/}. A user's folder is only read.


if DATASET_KIND == "synthetic":

    rule make_synthetic:
        input:
            program=script("make_synthetic"),
            code=code("make_synthetic"),
            config=SYNTHETIC_CONFIG,
        output:
            dataset=directory(DATASET),
            index=DATASET_INDEX,
        log:
            f"logs/make_synthetic/{DATASET_KEY}.log",
        benchmark:
            f"logs/benchmark/make_synthetic/{DATASET_KEY}.tsv"
        threads: 4
        resources:
            mem_mb=2000,
            runtime=30,
        shell:
            r"""
            exec "$STDC_PYTHON" {input.program:q} \
                --config {input.config:q} \
                --processes {threads} \
                --output {output.dataset:q} \
                --index {output.index:q} \
                --log {log:q}
            """


if DATASET_KIND == "archives":

    rule extract_dataset:
        input:
            program=script("extract_dataset"),
            code=code("extract_dataset"),
            config=CHECK_CONFIG,
        output:
            dataset=directory(DATASET),
            index=DATASET_INDEX,
        log:
            f"logs/extract_dataset/{DATASET_KEY}.log",
        benchmark:
            f"logs/benchmark/extract_dataset/{DATASET_KEY}.tsv"
        resources:
            mem_mb=2000,
            runtime=120,
        params:
            archives=lambda wildcards: DATASET_SOURCE,
        shell:
            r"""
            exec "$STDC_PYTHON" {input.program:q} \
                --archives {params.archives:q} \
                --output {output.dataset:q} \
                --index {output.index:q} \
                --log {log:q}
            """


rule check_dataset:
    input:
        program=script("check_dataset"),
        code=code("check_dataset"),
        index=DATASET_INDEX,
        config=CHECK_CONFIG,
    output:
        manifest=MANIFEST,
    log:
        f"logs/check_dataset/{DATASET_KEY}.log",
    benchmark:
        f"logs/benchmark/check_dataset/{DATASET_KEY}.tsv"
    threads: 8
    resources:
        mem_mb=4000,
        runtime=120,
    params:
        dataset=lambda wildcards: DATASET,
        expect=config["data"]["expect"],
    shell:
        r"""
        exec "$STDC_PYTHON" {input.program:q} \
            --dataset {params.dataset:q} \
            --expect {params.expect:q} \
            --processes {threads} \
            --output {output.manifest:q} \
            --log {log:q}
        """


rule convert_labels:
    input:
        program=script("convert_labels"),
        code=code("convert_labels"),
        manifest=MANIFEST,
    output:
        labels=directory(LABELS),
        index=LABELS_INDEX,
    log:
        f"logs/convert_labels/{DATASET_KEY}.log",
    benchmark:
        f"logs/benchmark/convert_labels/{DATASET_KEY}.tsv"
    threads: 8
    resources:
        mem_mb=4000,
        runtime=120,
    params:
        dataset=lambda wildcards: DATASET,
    shell:
        r"""
        exec "$STDC_PYTHON" {input.program:q} \
            --dataset {params.dataset:q} \
            --manifest {input.manifest:q} \
            --processes {threads} \
            --output {output.labels:q} \
            --index {output.index:q} \
            --log {log:q}
        """


rule create_lists:
    input:
        program=script("create_lists"),
        code=code("create_lists"),
        manifest=MANIFEST,
        index=LABELS_INDEX,
    output:
        train=f"{LISTS}/train.txt",
        val=f"{LISTS}/val.txt",
        test=f"{LISTS}/test.txt",
    log:
        f"logs/create_lists/{DATASET_KEY}-{LISTS_KEY}.log",
    benchmark:
        f"logs/benchmark/create_lists/{DATASET_KEY}-{LISTS_KEY}.tsv"
    resources:
        mem_mb=1000,
        runtime=10,
    params:
        folder=lambda wildcards, output: os.path.dirname(output.train),
        separator=lambda wildcards: section_of_lists(wildcards)["separator"],
        subset=lambda wildcards: [
            f"--subset-{split}={frames}"
            for split, frames in section_of_lists(wildcards)["subset"].items()
            if frames is not None
        ],
    shell:
        r"""
        exec "$STDC_PYTHON" {input.program:q} \
            --manifest {input.manifest:q} \
            --index {input.index:q} \
            --separator {params.separator:q} {params.subset:q} \
            --output {params.folder:q} \
            --log {log:q}
        """
