"""Derive the figures of a results folder again, and compare every digest with the files that stand here; offline."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

# The tools share arguments, logs, and exit codes with the rules' programs.
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "workflow" / "scripts"))

import program
from stdc.errors import InputError
from stdc.results.verification import DIFFERS, NOT_HERE, Digests, as_table, verify
from stdc.training.code_digest import code_sha256
from stdc.training.identity import EVALUATION_CODE, STEP_CODE

_PACKAGE = Path(__file__).resolve().parents[1] / "stdc"


def arguments() -> argparse.ArgumentParser:
    parser = program.parser("verify", __doc__ or "", "results/mini")
    parser.add_argument("results", type=Path, metavar="FOLDER", help="a results folder, such as results/mini")
    parser.add_argument(
        "--resources", type=Path, default=Path("resources"), metavar="FOLDER", help="manifests, rasters and lists"
    )
    parser.add_argument("--dataset", type=Path, metavar="FOLDER", help="dataset root; a generated one is found")
    parser.add_argument("--strict", action="store_true", help="what is not here counts as a difference too")
    parser.add_argument("--json", action="store_true", help="for programs: JSON on stdout")
    return parser


def main(options: argparse.Namespace) -> None:
    findings = verify(
        options.results,
        resources=options.resources,
        dataset=options.dataset,
        digests=Digests(code_sha256(_PACKAGE, STEP_CODE), code_sha256(_PACKAGE, EVALUATION_CODE)),
        log=program.logger("verify"),
    )
    if options.json:
        print(json.dumps([vars(finding) for finding in findings], indent=1))
    else:
        print(as_table(findings), flush=True)
    bad = [finding for finding in findings if finding.outcome == DIFFERS]
    if options.strict:
        bad += [finding for finding in findings if finding.outcome == NOT_HERE]
    if bad:
        raise InputError(
            f"{options.results}: {len(bad)} of {len(findings)} findings are not as recorded; the first: "
            f"{bad[0].subject}: {bad[0].detail}"
        )


if __name__ == "__main__":
    sys.exit(program.run(arguments(), main))
