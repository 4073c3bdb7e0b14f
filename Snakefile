# STDC-Seg on Cityscapes: from a dataset folder to a verdict.
#
#   snakemake --cores all                                   generated mini-Cityscapes, CPU, minutes
#   snakemake --cores all --configfile config/stdc1_cityscapes_1024x512_80k.yaml --config dataset=<folder>
#
# Keys: workflow/schemas/config.schema.yaml. Parts and files: ARCHITECTURE.md.
from snakemake.utils import min_version

# Tried: 9.0.0, where the terminal shows more lines, and 9.27.1, which requirements/workflow.lock names.
min_version("9.0")

# A recipe alone says what runs: the mini recipe's values do not shine through one that is given on the command line.
if not workflow.overwrite_configfiles:

    configfile: f"{workflow.basedir}/config/config.yaml"


# On this machine, jobs must not meet on a device; a cluster's scheduler hands out its own.
resource_scopes:
    gpu="local",


include: "workflow/rules/common.smk"


wildcard_constraints:
    seed=r"\d+",
    # In a sweep alone; with the names spelled out, two experiments never mean the same file.
    experiment="|".join(map(re.escape, EXPERIMENTS)),
    lists="[0-9a-f]+",
    start="[0-9a-f]+",


include: "workflow/rules/config.smk"
include: "workflow/rules/dataset.smk"
include: "workflow/rules/weights.smk"
include: "workflow/rules/forecast.smk"
include: "workflow/rules/train.smk"
include: "workflow/rules/evaluate.smk"
include: "workflow/rules/report.smk"
include: "workflow/rules/judge.smk"
include: "workflow/rules/submit.smk"
include: "workflow/rules/export.smk"
include: "workflow/rules/doctor.smk"


if SWEEP is not None:

    include: "workflow/rules/sweep.smk"


rule all:
    default_target: True
    input:
        every(rules.report.output),
        # Named although the report needs them too: Snakemake remakes a file that was deleted only where it is asked for.
        every(rules.report.input.metrics),
        every(rules.report.input.speed),
        every(rules.train.output if WEIGHTS is None else rules.import_weights.output),
        [] if SWEEP is None else rules.summarize.output,


onstart:
    check_machine()
    use_terminal()
    session.be_patient()
    run_lock()
    ask_slurm()
    session.forget_errors(Path("logs"))
    tell_forecast()


onsuccess:
    show_verdict()


onerror:
    explain_failure()
