"""Run `snakemake --lint` without the one piece of advice that this workflow does not take."""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
from pathlib import Path
from typing import List

# The tools share arguments, logs, and exit codes with the rules' programs.
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "workflow" / "scripts"))

import program
from stdc.errors import InputErrors, RunError

#: The unit of deployment is an image that holds Snakemake and the programs together (docker/). A container or conda
#: environment for each rule would need apptainer or conda where the images have neither.
NOT_TAKEN = "Specify a conda environment or container for each rule."

_CLEAN = "Congratulations, your workflow is in a good condition!"


def advice(text: str) -> List[str]:
    """Snakemake's advice that is to be followed, each with the rule or file it is for."""
    found = []
    for section in re.split(r"^Lints for ", text, flags=re.MULTILINE)[1:]:
        where, _, body = section.partition(":\n")
        titles = re.findall(r"^    \* (.+):$", body, re.MULTILINE)
        found += [f"{where}: {title}" for title in titles if title != NOT_TAKEN]
    return found


def arguments() -> argparse.ArgumentParser:
    return program.parser("lint", __doc__ or "")


def main(_: argparse.Namespace) -> None:
    root = Path(__file__).resolve().parents[1]
    command = [sys.executable, "-m", "snakemake", "--snakefile", str(root / "Snakefile"), "--lint"]
    result = subprocess.run(command, cwd=root, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    if "Lints for " not in result.stdout and _CLEAN not in result.stdout:
        raise RunError(f"snakemake --lint did not get to its end:\n{result.stdout}")
    found = advice(result.stdout)
    if found:
        raise InputErrors(f"{len(found)} pieces of advice", found)


if __name__ == "__main__":
    sys.exit(program.run(arguments(), main))
