"""Programs run in this process, and the verdict on how they ended."""

from __future__ import annotations

import hashlib
import io
import os
import runpy
import sys
from pathlib import Path
from typing import Any, Callable, Dict, List, NamedTuple, Tuple

from mutations import Mutation
from programs import SCRIPTS, TOOLS

from stdc.errors import StdcError


class WrongError(AssertionError):
    """The case ended in a way that it must not."""


def need(condition: object, why: str) -> None:
    if not condition:
        raise WrongError(why)


class Run(NamedTuple):
    """What a program left: exit code and messages."""

    code: int
    said: str


def run_script(name: str, *arguments: object) -> Run:
    """Run a program of the workflow or a tool in this process, as it stands."""
    path = next(folder / f"{name}.py" for folder in (SCRIPTS, TOOLS) if (folder / f"{name}.py").is_file())
    return run_main(lambda: runpy.run_path(str(path), run_name="__main__"), name, *arguments)


def run_main(main: Callable[[], object], name: str, *arguments: object) -> Run:
    """Run `main` as a program; its messages are kept apart."""
    kept = sys.argv, sys.stderr, sys.stdout
    said = io.StringIO()
    said.fileno = lambda: 2  # type: ignore[method-assign]
    sys.argv = [f"{name}.py", *map(str, arguments)]
    sys.stderr = sys.stdout = said
    try:
        main()
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    finally:
        sys.argv, sys.stderr, sys.stdout = kept
    return Run(code, said.getvalue())


def judge(run: Run, mutations: List[Mutation], what: str, allowed: Tuple[int, ...] = (0, 2)) -> bool:
    """Whether the program succeeded; raises where it ended in a way it must not."""
    need("Traceback" not in run.said, f"{what}: traceback\n{run.said[-3000:]}")
    raw = sorted({sign for sign in run.said if not sign.isprintable() and sign not in "\n\r\t"})
    need(not raw, f"{what}: a terminal gets {raw}")
    need(run.code in allowed, f"{what}: exit code {run.code}\n{run.said[-2000:]}")
    if run.code == 0:
        need(not any(mutation.must_fail for mutation in mutations), f"{what}: taken for sound")
        return True
    culprits = [name for mutation in mutations for name in mutation.culprits]
    said = run.said + ascii(run.said)
    named = any(
        name and (name in said or ascii(name)[1:-1] in said or name.replace("\n", "\\n") in said) for name in culprits
    )
    need(named, f"{what}: names none of {sorted(set(culprits))[:12]}\n{run.said[-2000:]}")
    lines = [line for line in run.said.splitlines() if line.strip()]
    need(lines and len(lines) < 80, f"{what}: {len(lines)} lines of message")
    return False


def explained(main: Callable[[], None]) -> None:
    try:
        main()
    except StdcError as error:
        print(error, file=sys.stderr)
        raise SystemExit(error.exit_code) from None


def snapshot(root: Path) -> Dict[str, Any]:
    """Everything in a folder: names, kinds, contents."""
    found = {}
    for path in sorted(root.rglob("*")):
        status = path.lstat()
        content = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() and not path.is_symlink() else ""
        found[os.fsencode(path)] = (status.st_mode, status.st_mtime_ns, status.st_size, content)
    return found


def void(_: object) -> None:
    """For callables that return something nobody wants."""
