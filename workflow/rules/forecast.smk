# The forecast, told before a training starts and in a dry run; workflow/scripts/forecast.py runs by hand, too.
#
# Needs the checked configuration and the programs' interpreter. Leaves nothing.
import shutil
import subprocess

_forecast_lines = None


def forecast(wildcards):
    """An empty input of `train`: Snakemake asks for it whenever what the user wants includes a training.

    Stops where the recipe asks for a run that can be compared with a published figure and this one cannot.
    """
    global _forecast_lines
    # Jobs of their own process read the Snakefile again; the forecast is told once, by the process that the user started.
    if WEIGHTS is None and _forecast_lines is None and workflow.is_main_process:
        _forecast_lines = sweep_file.told_once({name: _make_forecast(content) for name, content in EXPERIMENTS.items()})
        if workflow.dryrun:
            tell_forecast()
    return []


def tell_forecast():
    """On the terminal; nothing where no training is part of the run.

    Generated images are comparable with nothing, so the reasons against each figure are left to a dry run.
    """
    whole = workflow.dryrun or DATASET_KIND != "synthetic"
    for line in _forecast_lines or []:
        if whole or line.startswith(("forecast: dataset", "forecast: comparable", "forecast: disk")):
            print(line, file=sys.stderr, flush=True)


def _make_forecast(content):
    python = os.environ.get("STDC_PYTHON", "")
    if shutil.which(python) is None:
        return [f"stdc: no forecast: STDC_PYTHON: {python} is not a program; name the Python that has paddle"]
    command = [python, script("forecast"), "--config", "-", *([] if workflow.dryrun else ["--brief"])]
    resources = workflow.resource_settings.overwrite_resources.get("train", {})
    device, devices = configuration.devices_of(HARDWARE, resources)
    command += ["--device", device, "--devices", str(devices)]
    command += ["--dataset", DATASET_SOURCE] if DATASET_SOURCE else []
    try:
        done = subprocess.run(command, input=json.dumps(content), capture_output=True, text=True, timeout=120)
    except (OSError, subprocess.SubprocessError) as error:
        return [f"stdc: no forecast: {error}"]
    said = done.stdout.splitlines()
    if done.returncode == session.EXIT_INPUT:
        for line in said:
            print(line, file=sys.stderr)
        stop(done.stderr.strip().splitlines())
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no word"])[-1]
        return [f"stdc: no forecast: {last}"]
    return said
