# What programs are told of the configuration, each file with the part that its stage depends on and nothing else.
#
# Needs: the checked configuration (common.smk).
# Leaves: results/<name>/config/<stage>.json, resources/<dataset>/{synthetic,check}.json, resources/weights/*.json.

# Rule -> the file that it writes, one for each experiment.
STAGE_FILES = {f"write_{stage}_config": f"{RESULTS}/config/{stage}.json" for stage in next(iter(STAGES.values()))}
STAGE_FILES["write_synthetic_config"] = SYNTHETIC_CONFIG
STAGE_FILES["write_check_config"] = CHECK_CONFIG
STAGE_FILES["write_weights_config"] = START_CONFIG
CONTENTS = {
    f"{RESULTS}/config/{stage}.json".format(experiment=experiment): content
    for experiment, stages in STAGES.items()
    for stage, content in stages.items()
}
CONTENTS[SYNTHETIC_CONFIG] = {"synthetic": config["synthetic"]}
# The check runs again when the user's files change.
CONTENTS[CHECK_CONFIG] = {"files": DATASET_FINGERPRINT, "expect": config["data"]["expect"]}
CONTENTS.update((f"resources/weights/start-{key}.json", {"model": model}) for key, model in STARTS.items())
TEXTS = {path: json.dumps(content, sort_keys=True, indent=1) for path, content in CONTENTS.items()}


def digest_of(pattern):
    """A function of a job's wildcards: what names the content of its file."""
    return lambda wildcards: short_hash(CONTENTS[pattern.format(**dict(wildcards.items()))])


for _rule_name, _path in STAGE_FILES.items():

    rule:
        name:
            _rule_name
        output:
            _path,
        log:
            # Named like the file that it writes, since the wildcards of that have to stand in it, too.
            f"logs/write_config/{_path}.log",
        localrule: True
        params:
            # Enough to notice an edit. A parameter that depends on the output is not compared, so its text is not shown.
            digest=digest_of(_path),
            text=lambda wildcards, output: TEXTS[output[0]],
        shell:
            r"""
            printf '%s\n' {params.text:q} >{output:q} 2>{log:q}
            """


def refresh_stage_files():
    """Make edits of the recipe count whatever tells Snakemake that a file is out of date.

    With `--rerun-triggers mtime`, or without its records below .snakemake, it compares times alone and would call
    results of an earlier recipe up to date. So a file that does not hold what this recipe says is written anew before
    Snakemake looks at times. A dry run only says so.
    """
    try:
        stale = session.stale_files(TEXTS)
    except OSError as error:
        stop([f"{error.filename}: {error.strerror}; remove it, and it is made anew"], code=1)
    if not stale or not workflow.is_main_process:
        return
    if workflow.output_settings.dryrun:
        print(f"stdc: to be written anew for this recipe: {', '.join(map(str, stale))}", file=sys.stderr)
        return
    # Another run may be reading them; it has the lock, and this run ends when it starts.
    if session.is_free(Path.cwd()):
        for path in stale:
            session.replace_text(path, TEXTS[str(path)] + "\n")


refresh_stage_files()
