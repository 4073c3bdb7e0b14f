# What programs are told of the configuration, each file with the part that its stage depends on and nothing else.
#
# Needs: the checked configuration (common.smk).
# Leaves: results/<name>/config/<stage>.json, resources/<dataset>/{synthetic,check}.json, resources/weights/*.json.

STAGE_FILES = {
    f"write_{stage}_config": (f"{RESULTS}/config/{stage}.json", content) for stage, content in STAGES.items()
}
STAGE_FILES["write_synthetic_config"] = (SYNTHETIC_CONFIG, {"synthetic": config["synthetic"]})
STAGE_FILES["write_check_config"] = (
    CHECK_CONFIG,
    # The check runs again when the user's files change.
    {"files": DATASET_FINGERPRINT, "expect": config["data"]["expect"]},
)
STAGE_FILES["write_weights_config"] = (START_CONFIG, {"model": config["model"]})
TEXTS = {path: json.dumps(content, sort_keys=True, indent=1) for path, content in STAGE_FILES.values()}

for _rule_name, (_path, _content) in STAGE_FILES.items():

    rule:
        name:
            _rule_name
        output:
            _path,
        log:
            f"logs/write_config/{_rule_name}-{short_hash(_path)}.log",
        localrule: True
        params:
            # Enough to notice an edit. A parameter that depends on the output is not compared, so its text is not shown.
            digest=short_hash(_content),
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
    stale = session.stale_files(TEXTS)
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
