"""All programs have one shape, one help, one way to end, and leave an error that other programs can read."""

from __future__ import annotations

import argparse
import importlib.util
import io
import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import List

import pytest
from programs import REPOSITORY, SCRIPTS, TOOLS

import program
from stdc.errors import InputErrors
from stdc.machine.kinds import KINDS

PROGRAMS = sorted(path for folder in (SCRIPTS, TOOLS) for path in folder.glob("*.py") if path.stem != "program")
WORDS = {"FILE", "FOLDER", "N", "SECONDS", "WxH", None}

every_program = pytest.mark.parametrize("path", PROGRAMS, ids=lambda path: path.stem)


def load(path: Path) -> ModuleType:
    specification = importlib.util.spec_from_file_location(f"program_{path.stem}", path)
    assert specification is not None and specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


def options_of(parser: argparse.ArgumentParser) -> List[argparse.Action]:
    return [action for action in parser._actions if action.dest != "help" and action.help != argparse.SUPPRESS]


@every_program
def test_a_program_has_arguments_main_and_one_end(path: Path) -> None:
    module = load(path)
    assert isinstance(module.arguments(), argparse.ArgumentParser)
    assert callable(module.main)
    text = path.read_text(encoding="utf-8")
    assert text.index("\ndef arguments() ") < text.index("\ndef main(")
    assert text.endswith("    sys.exit(program.run(arguments(), main))\n")
    assert module.arguments().prog == path.stem


@every_program
def test_help_ends_in_an_example_that_parses_and_the_exit_codes(path: Path) -> None:
    parser = load(path).arguments()
    text = parser.format_help()
    for nothing in ("None", "[]", ""):
        assert f"(default: {nothing})" not in text
    assert text.rstrip().splitlines()[-1].startswith("exit codes: 0 done; 1 a fault; 2 ")
    example = re.search(r"^example: python (\S+) ?(.*)$", text, re.MULTILINE)
    assert example is not None
    assert REPOSITORY / example.group(1) == path
    parser.parse_args(shlex.split(example.group(2)))


@every_program
def test_options_are_described_and_use_the_same_words_for_what_they_take(path: Path) -> None:
    for action in options_of(load(path).arguments()):
        assert action.help, action.dest
        if action.choices is None and action.nargs != 0 and action.type in (Path, int, float):
            assert action.metavar in WORDS, f"{action.dest}: {action.metavar}"
        if action.dest == "device":
            assert tuple(action.choices or ()) == KINDS
        if action.dest in ("dataset", "labels", "runs", "directory", "results"):
            assert action.metavar == "FOLDER"


def run(tmp_path: Path, body: str, *arguments: str, environment: dict = {}) -> subprocess.CompletedProcess[str]:  # noqa: B006
    """A program whose `main` has this body."""
    text = f"import sys; sys.path.insert(0, {str(SCRIPTS)!r})\n" + (
        "import program\n"
        "from stdc.errors import InputError, InputErrors, StoppedError\n"
        "def main(options):\n    " + body + "\n"
        "sys.exit(program.run(program.parser('sample', '', ''), main))\n"
    )
    path = tmp_path / "sample.py"
    path.write_text(text, encoding="utf-8")
    return subprocess.run(
        [sys.executable, str(path), *arguments],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, "STDC_DIE_WITH_PARENT": "0", **environment},
        check=False,
    )


@pytest.mark.parametrize(
    ("body", "code", "message"),
    [
        ("raise InputError('a.yaml: wrong')", 2, "a.yaml: wrong"),
        ("raise StoppedError('saved at 7')", 75, "saved at 7"),
        ("raise KeyboardInterrupt", 130, "interrupted"),
        ("open('/no/such/file')", 1, "/no/such/file: No such file or directory"),
        ("import no_such_module", 1, "cannot import no_such_module"),
        ("1 / 0", 1, "a fault of the program, ZeroDivisionError: division by zero"),
    ],
)
def test_a_failure_is_told_once_and_left_beside_the_log(tmp_path: Path, body: str, code: int, message: str) -> None:
    done = run(tmp_path, body, "--log", "logs/a.log")
    assert done.returncode == code
    log = (tmp_path / "logs" / "a.log").read_text(encoding="utf-8")
    left = json.loads((tmp_path / "logs" / "a.log.error.json").read_text(encoding="utf-8"))
    assert (left["program"], left["exit_code"]) == ("sample", code)
    assert message in left["message"]
    if "ZeroDivisionError" in message:
        assert "Traceback" in done.stderr and "Traceback" in log
    else:
        assert "Traceback" not in done.stderr
        assert done.stderr.count(message) == log.count(message) == 1
    # And a start that succeeds takes it away.
    assert run(tmp_path, "pass", "--log", "logs/a.log").returncode == 0
    assert [path.name for path in (tmp_path / "logs").iterdir()] == ["a.log"]


def test_the_log_has_a_line_per_start_and_the_time_of_each_line(tmp_path: Path) -> None:
    for _ in range(2):
        run(tmp_path, "sys.stderr.write('half '); sys.stderr.write('a line\\nand another\\n')", "--log", "a.log")
    lines = (tmp_path / "a.log").read_text(encoding="utf-8").splitlines()
    assert len(lines) == 6
    time = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d[+-]\d{4} "
    assert all(re.match(time, line) for line in lines)
    assert [re.sub(time, "", line) for line in lines[1:3]] == ["half a line", "and another"]
    assert re.match(time + r"sample: started as process \d+ on ", lines[3])


def test_wrong_arguments_are_one_line_in_the_log_too(tmp_path: Path) -> None:
    done = run(tmp_path, "pass", "--log", "a.log", "--nonsense")
    assert done.returncode == 2
    assert done.stderr == "sample: unrecognized arguments: --nonsense; --help lists the options\n"
    assert "unrecognized arguments: --nonsense" in (tmp_path / "a.log").read_text(encoding="utf-8")


def test_a_log_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    done = run(tmp_path, "pass", "--log", "folder")
    assert done.returncode == 1
    assert done.stderr.startswith("sample: folder: Is a directory\n")


def test_a_module_that_a_programs_own_imports_lack_is_told_in_its_log(tmp_path: Path) -> None:
    """`check_dataset` imports cv2 before it can call anything of ours."""
    (tmp_path / "cv2").mkdir()
    (tmp_path / "cv2" / "__init__.py").write_text('raise ImportError("of another Python")', encoding="utf-8")
    command = [sys.executable, str(SCRIPTS / "check_dataset.py"), "--log", "a.log", "--dataset", ".", "--output", "x"]
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    done = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    for text in (done.stderr, (tmp_path / "a.log").read_text(encoding="utf-8")):
        assert f"check_dataset: the Python of the programs, {sys.executable}, cannot import" in text
        assert "PYTHONPATH is set" in text
    assert json.loads((tmp_path / "a.log.error.json").read_text())["exit_code"] == 1


def test_many_problems_are_cut_on_the_terminal_and_whole_in_the_log() -> None:
    terminal, log = io.StringIO(), io.StringIO()
    InputErrors("wrong", [f"problem {number}" for number in range(60)]).show("sample", terminal, log)
    assert "problem 49\n" in terminal.getvalue() and terminal.getvalue().endswith("  ... and 10 more\n")
    assert log.getvalue().splitlines() == ["sample: wrong", *(f"  problem {number}" for number in range(60))]


def test_a_count_is_a_whole_number_of_at_least_one() -> None:
    assert program.count("3") == 3
    for text in ("0", "-1", "1.5", "x"):
        with pytest.raises(argparse.ArgumentTypeError):
            program.count(text)
