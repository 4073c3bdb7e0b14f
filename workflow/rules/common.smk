# What the rules share: the checked configuration, names of files, code as input. No rule here.
import hashlib
import json
import os
import re
import runpy
import sys
from pathlib import Path

import snakemake.cli
import snakemake.logging
import yaml
from snakemake.exceptions import WorkflowError
from snakemake.utils import available_cpu_count, validate

CODE = Path(workflow.basedir)
sys.path.insert(0, str(CODE / "workflow" / "lib"))

import code_inputs
import command_line
import configuration
import dataset_folder
import recipe_files
import session
import slurm
import sweep_file
import terminal
import weights_source

REGISTRY_FILE = CODE / "stdc" / "weights" / "registry.yaml"
REGISTRY = yaml.safe_load(REGISTRY_FILE.read_text(encoding="utf-8"))


def stop(problems, code=session.EXIT_INPUT):
    """End Snakemake as every program of this project ends, on wrong input by default: a line for each problem."""
    for problem in problems:
        # Names of files may hold what a terminal takes for a command.
        line = "".join(sign if sign.isprintable() else repr(sign)[1:-1] for sign in str(problem))
        print(f"stdc: {line}", file=sys.stderr, flush=True)
    raise SystemExit(code)


# ---- configuration


def check_configuration():
    """Give words from the command line their types, fill in defaults, refuse what the schema does not allow."""
    schema = yaml.safe_load((CODE / "workflow/schemas/config.schema.yaml").read_text(encoding="utf-8"))
    settings = workflow.config_settings
    if workflow.is_main_process:
        # Jobs get a command line of Snakemake's own making.
        lost = [
            *command_line.given_twice(sys.argv[1:]),
            *command_line.lost_from_profiles(sys.argv[1:], os.environ.get("SNAKEMAKE_PROFILE", "")),
            *command_line.empty_values(settings.config_args or ()),
        ]
        if lost:
            stop(lost)
    text = dict(words.split("=", 1) for words in settings.config_args or ())
    given = configuration.parse_words(settings.config, schema, text)
    # As in the working directory; with --directory elsewhere, in full.
    names = [
        min(os.path.relpath(path), str(path), key=lambda name: (name.startswith(".."), len(name)))
        for path in workflow.configfiles
    ]
    try:
        sources = [(name, recipe_files.read(Path(name))) for name in names]
    except recipe_files.RecipeError as error:
        stop([error])
    words = ("--config", given)
    wanted = given.get("sweep", config.get("sweep"))
    if wanted is not None:
        return read_sweep(wanted, sources, words, schema)
    alone = sweep_file.Experiment("", "", configuration.merged(config, given), [*sources, words], {})
    complete = checked(schema, [alone])[alone.name]
    config.clear()
    config.update(complete)
    return None, {alone.name: config}


def checked(schema, found):
    """Experiment -> its configuration with defaults, where nothing speaks against any of them."""
    merged = {one.name: configuration.tidy(one.config, schema) for one in found}
    problems = [line for one in found for line in configuration.problems(merged[one.name], schema, one.sources)]
    if not problems:
        for content in merged.values():
            validate(content, schema=str(CODE / "workflow/schemas/config.schema.yaml"))
        resources = workflow.resource_settings.overwrite_resources.get("train", {})
        problems = [
            line
            for one in found
            for line in configuration.contradictions(merged[one.name], one.sources, REGISTRY, resources)
        ]
    if problems:
        # What is wrong with a recipe is told once, not once for each of its variants.
        stop(dict.fromkeys(problems))
    return merged


def read_sweep(wanted, sources, words, schema):
    """The sweep that a file describes, and its experiments; the first one's values are those of the run."""
    if not isinstance(wanted, str) or not wanted:
        stop([f"sweep: {wanted!r}; the name of a file is expected, such as sweep=sweep.yaml"])
    own = yaml.safe_load((CODE / "workflow/schemas/sweep.schema.yaml").read_text(encoding="utf-8"))
    try:
        sweep = sweep_file.read(Path(wanted).expanduser(), own)
        if sweep.recipes and workflow.overwrite_configfiles:
            stop([f"{wanted}: recipes: named here, and {sources[0][0]} by --configfile; leave one of them out"])
        found = sweep_file.experiments(sweep, sources, words)
    except sweep_file.SweepError as error:
        stop(error.problems)
    complete = checked(schema, found)
    problems = sweep_file.contradictions(sweep, complete)
    if Path("results", sweep.name, "config").is_dir():
        problems.append(
            f"{wanted}: name: results/{sweep.name} holds the results of a recipe; give the sweep another name"
        )
    if problems:
        stop(problems)
    for name, content in complete.items():
        content["name"] = f"{sweep.name}-{name}"
    first = next(iter(complete.values()))
    if workflow.output_settings.dryrun and workflow.is_main_process:
        for line in sweep_file.table(sweep, found, first["seeds"]):
            print(f"stdc: {line}", file=sys.stderr, flush=True)
    config.clear()
    config.update(first)
    return sweep.name, complete


# The name of a sweep, or None; and name -> configuration of its experiments. A recipe alone is the one experiment "".
SWEEP, EXPERIMENTS = check_configuration()


# ---- what the kernel allots to this run

# The file is the programs' own and stands alone, so it is run by its path instead of being written twice.
ALLOTTED = runpy.run_path(str(CODE / "stdc" / "machine" / "cgroup.py"))
MEMORY_KILLS = ALLOTTED["memory_kills"]()


def limit_cores():
    """Let `--cores all` mean the CPUs that the run may use. Before any rule: their threads are cut to the cores."""
    asked, mask = workflow.resource_settings.cores, available_cpu_count()
    if not workflow.local_exec or asked is None:
        return
    cores = session.cores_to_use(asked, ALLOTTED["usable_cpus"](), mask)
    if cores != asked:
        workflow.resource_settings.cores = cores
        workflow.global_resources["_cores"] = cores
        if workflow.is_main_process:
            print(f"stdc: {cores} of {mask} cores are used: this container has a CPU quota", file=sys.stderr)


limit_cores()


def keep_profiles():
    """Of two lists of resources or threads per rule, Snakemake keeps one: the device would be lost to a time limit."""
    if not workflow.is_main_process:
        # Jobs get everything on a command line of Snakemake's own making.
        return
    names = command_line.named_profiles(sys.argv[1:], os.environ.get("SNAKEMAKE_PROFILE", ""))
    settings = workflow.resource_settings
    for key, field, parse in (
        ("set-resources", "overwrite_resources", snakemake.cli.parse_set_resources),
        ("set-threads", "overwrite_threads", snakemake.cli.parse_set_threads),
    ):
        words = command_line.words_of_profiles(names, key)
        if words:
            setattr(settings, field, command_line.put_together(parse(words), getattr(settings, field)))
            # What Snakemake has made of it before.
            vars(settings).pop(f"_parsed_{field}", None)


keep_profiles()

# Weights to be judged without a training. Their results stand where a training's would, in a folder of their own.
WEIGHTS = config["weights"]
NAME = config["name"] if WEIGHTS is None else f"{config['name']}-judge"
SEEDS = config["seeds"] if WEIGHTS is None else [0]
HARDWARE = config["hardware"]
RESULTS = f"results/{NAME}"
if SWEEP is not None:
    # What follows names one file for each experiment; what the experiments share, such as HARDWARE, has one value.
    NAME = f"{SWEEP}-{{experiment}}"
    RESULTS = f"results/{SWEEP}/{{experiment}}"


def experiment_of(wildcards):
    """The configuration of the experiment that a job belongs to."""
    return EXPERIMENTS[wildcards.get("experiment", "")]


def every(pattern, **values):
    """The files that a pattern stands for in all experiments and seeds."""
    return expand(pattern, experiment=list(EXPERIMENTS), seed=SEEDS, **values)


def per_seed(pattern, **values):
    """The files that a pattern stands for in one experiment."""
    return expand(pattern, seed=SEEDS, allow_missing=True, **values)


def short_hash(value):
    """Names a folder after the configuration that made it."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:12]


def one_or_each(values, wildcard):
    """A part of a file's name: the value where all experiments have the same, else a wildcard."""
    first, *others = dict.fromkeys(values)
    return f"{{{wildcard}}}" if others else first


# ---- dataset: generated, in archives, or a folder of the user's, which is only read


def find_dataset():
    """(kind, key, root): what the dataset is, what names its files under resources/, where it lies."""
    if config["dataset"] is None:
        key = f"synthetic-{short_hash(config['synthetic'])}"
        return "synthetic", key, f"resources/{key}/dataset"
    folder = dataset_folder.local_path(config["dataset"])
    if not folder.is_dir():
        found = "not a folder" if folder.exists() else "no such folder"
        stop(
            [
                f"dataset: {folder}: {found}; give the folder that holds leftImg8bit and gtFine, or the two zips, "
                "or leave the key out to run on a generated dataset"
            ]
        )
    kind, key = dataset_folder.kind_of(folder), dataset_folder.key_of(folder)
    return kind, key, f"resources/{key}/dataset" if kind == "archives" else str(folder)


# In `params`, rules hand it over by a function, because Snakemake would read braces in a path as a wildcard.
DATASET_KIND, DATASET_KEY, DATASET = find_dataset()
DATASET_SOURCE = None if DATASET_KIND == "synthetic" else str(dataset_folder.local_path(config["dataset"]))
DATASET_FINGERPRINT = dataset_folder.fingerprint(Path(DATASET_SOURCE)) if DATASET_SOURCE else ""
# Made here and finished when its index is written; a folder of the user's has none.
DATASET_INDEX = [] if DATASET_KIND == "folder" else f"resources/{DATASET_KEY}/dataset.json"

MANIFEST = f"resources/{DATASET_KEY}/manifest.json"
LABELS = f"resources/{DATASET_KEY}/labels"
LABELS_INDEX = f"resources/{DATASET_KEY}/labels.json"
SYNTHETIC_CONFIG = f"resources/{DATASET_KEY}/synthetic.json"
CHECK_CONFIG = f"resources/{DATASET_KEY}/check.json"


def lists_key(content):
    """Names the lists of an experiment after the part of its configuration that they are made from."""
    return short_hash(content["data"])


LIST_SECTIONS = {lists_key(content): content["data"] for content in EXPERIMENTS.values()}
LISTS_KEY = one_or_each(LIST_SECTIONS, "lists")
LISTS = f"resources/{DATASET_KEY}/lists-{LISTS_KEY}"


def section_of_lists(wildcards):
    """The section `data` that lists are made from."""
    return LIST_SECTIONS[wildcards.get("lists", LISTS_KEY)]


def list_of(split):
    """An input function: the list of a split's pairs, of the experiment that a job belongs to."""
    return lambda wildcards: f"resources/{DATASET_KEY}/lists-{lists_key(experiment_of(wildcards))}/{split}.txt"


# ---- the part of the configuration that each stage depends on, and nothing else

KERNEL_KEYS = ("preset", "amp", "cudnn_batchnorm_spatial_persistent", "cudnn_exhaustive_search", "deterministic")


def start_key(model):
    """Names the weights that a training starts from; None for random weights."""
    start = weights_source.start_of(model)
    return None if start is None else short_hash([model, weights_source.fingerprint(start["source"], REGISTRY)])


def stages_of(experiment):
    """Stage -> its part of an experiment's configuration."""
    content = EXPERIMENTS[experiment]

    def sections(*names):
        return {name: content[name] for name in names}

    separator = {"data": {"separator": content["data"]["separator"]}}
    return {
        "train": {**sections("model", "train"), **separator},
        "evaluate": {**sections("model", "train", "evaluate"), **separator},
        # Of the training's section what evaluation computes with, and nothing else: no other key changes a speed.
        "speed": {**sections("model", "speed"), "train": {key: content["train"][key] for key in KERNEL_KEYS}},
        "report": {
            **sections("synthetic", "data", "model", "train", "evaluate", "speed", "report"),
            "name": content["name"] if SWEEP else NAME,
            "seeds": SEEDS,
            "weights": WEIGHTS,
            "dataset_kind": DATASET_KIND,
        },
        "doctor": sections("name", "model", "train", "evaluate", "data", "seeds", "synthetic"),
    }


# The weights that trainings start from, and what the recipes say of them.
STARTS = {start_key(content["model"]): content["model"] for content in EXPERIMENTS.values()}
STARTS.pop(None, None)
START_KEY = one_or_each(STARTS, "start") if STARTS else None
START_CONFIG = f"resources/weights/start-{START_KEY}.json"
STAGES = {experiment: stages_of(experiment) for experiment in EXPERIMENTS}


def start_files(wildcards):
    """The weights that a training starts from and the record of what they are; nothing for random weights."""
    key = start_key(experiment_of(wildcards)["model"])
    return [] if key is None else [f"resources/weights/start-{key}.{end}" for end in ("safetensors", "source.json")]


# ---- code and interpreter

# One setting names the interpreter of the programs; it may be older than Snakemake's. Jobs inherit it, also on a cluster.
if "STDC_PYTHON" not in os.environ:
    os.environ.update(STDC_PYTHON=session.python_beside(CODE))
os.environ.update(session.job_environment(CODE))
# For the report. In the environment, so that another number of cores is no reason to make it again; and as it was first
# typed: on a cluster, each job has a snakemake of its own.
os.environ.setdefault("STDC_COMMAND", json.dumps(["snakemake", *sys.argv[1:]]))


def code(program):
    """The files that make up a program, as rule inputs; relative where the checkout is the working directory."""
    root = Path() if CODE == Path.cwd() else CODE
    return [
        str(root / file) for file in code_inputs.code_of(CODE, program) if not file.endswith(f"scripts/{program}.py")
    ]


def script(program):
    """The program itself."""
    return str((Path() if CODE == Path.cwd() else CODE) / "workflow" / "scripts" / f"{program}.py")


# ---- one run at a time, and what it says at the end


def check_machine():
    """What no recipe can help, told before a stage has worked for nothing."""
    problem = session.interpreter_problem(os.environ.get("STDC_PYTHON", "")) or session.clock_problem(
        [file for name in code_inputs.programs(CODE) for file in map(Path, code(name))]
    )
    if problem:
        stop([problem])
    problem = session.temporary_folder_problem()
    if problem:
        stop([problem], code=1)


def run_lock():
    global _held_lock
    try:
        _held_lock = session.hold_lock(Path.cwd())
    except (BlockingIOError, PermissionError) as error:
        stop([error], code=1)


def ask_slurm():
    """Where SLURM runs the jobs: what would wait for ever is told, and what an earlier start submitted is waited for."""
    if workflow.local_exec or workflow.executor_plugin.name != "slurm":
        return
    asked = [
        slurm.Asked(job.rule.name, str(job.resources.get("slurm_partition") or ""), job.resources["runtime"])
        for job in workflow.dag.needrun_jobs()
        if not job.is_local and isinstance(job.resources.get("runtime"), int)
    ]
    try:
        problems = slurm.limit_problems(asked)
        if problems:
            stop(problems)
        slurm.wait_for_earlier_jobs(Path.cwd(), lambda line: print(f"stdc: {line}", file=sys.stderr, flush=True))
    except slurm.SlurmError as error:
        stop([error], code=1)


def no_second_attempt(jobid, log):
    """What a program calls wrong input is wrong the second time too, and a queue may be long."""
    left = session.errors(Path(log).parent.parent).get(log) if log else None
    if left is not None and left.exit_code == session.EXIT_INPUT:
        for job in workflow.dag.jobs:
            if workflow.dag.jobid(job) == jobid:
                # Not the property: it would work out the resources again, outside of Snakemake's event loop.
                job._attempt = max(job.attempt, job.restart_times + 1)


def closing():
    """The verdict, or the table of a sweep, last, where the whole run was asked for."""
    if workflow.dag_settings.targets not in (set(), {"all"}):
        return []
    return session.closing_lines(Path(RESULTS)) if SWEEP is None else session.sweep_lines(Path("results", SWEEP))


# The terminal gets a line for each stage, unless details were asked for; .snakemake/log keeps everything.
TERMINAL = terminal.Terminal(
    snakemake.logging.logger,
    closing,
    session.ending,
    plain=workflow.output_settings.dryrun
    or workflow.output_settings.verbose
    or workflow.output_settings.printshellcmds
    or not workflow.is_main_process,
    failed=no_second_attempt,
)


def use_terminal():
    TERMINAL.install([getattr(snakemake.logging, "logger_manager", None)])


use_terminal()


def explain_failure():
    """Say what failed in a line each; wrong input, and a stop on request, keep their exit codes."""
    jobs, left = TERMINAL.failures.jobs(), session.errors(Path("logs"))
    print(file=sys.stderr)
    kills = ALLOTTED["memory_kills"]() - MEMORY_KILLS
    memory = session.memory_words(kills, ALLOTTED["memory_limit"]())
    for line in session.explain(jobs, left, here=workflow.local_exec, memory=memory):
        print(line if line.startswith(" ") else f"stdc: {line}", file=sys.stderr)
    sys.stderr.flush()
    code = session.exit_code(jobs, left)
    if code != 1:
        raise SystemExit(code)


def show_verdict():
    for line in closing():
        print(line, file=sys.stderr, flush=True)


# ---- files of several rules


def stage_benchmarks(wildcards):
    """Where Snakemake writes what each stage of an experiment took."""
    dataset = ("make_synthetic", "extract_dataset", "check_dataset", "convert_labels")
    lists = f"{DATASET_KEY}-{lists_key(experiment_of(wildcards))}"
    runs = [f"{NAME}-seed{seed}".format(**dict(wildcards.items())) for seed in SEEDS]
    return [
        *(f"logs/benchmark/{stage}/{DATASET_KEY}.tsv" for stage in dataset),
        f"logs/benchmark/create_lists/{lists}.tsv",
        *(f"logs/benchmark/train/{run}.tsv" for run in runs),
        *(f"logs/benchmark/evaluate/{run}{weights}.tsv" for run in runs for weights in ("", "_best")),
        *(f"logs/benchmark/measure_speed/{run}.tsv" for run in runs),
    ]


def judged_files(wildcards):
    """What the target `judge` asks for."""
    if WEIGHTS is None:
        stop(["weights: null; name what to judge, for example --config weights=model.pdparams"])
    return [*rules.report.output, *per_seed(rules.import_weights.output)]
