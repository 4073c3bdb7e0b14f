"""Recipes that cannot be used are refused in one line, in bounded time, before Snakemake reads them."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import List, Optional

import pytest
import yaml

LIB = Path(__file__).resolve().parents[2] / "workflow" / "lib"
sys.path.insert(0, str(LIB))

import command_line  # noqa: E402
import recipe_files  # noqa: E402

sys.path.remove(str(LIB))

GOOD = "name: a\ntrain: &t {iterations: 4, base_lr: 1e-3, mean: [0.1, 0.2]}\nspeed: {<<: {height: 3}, width: 5}\n"
BOMB = "a0: &a0 [1, 1, 1, 1, 1, 1, 1, 1, 1]\n" + "".join(
    f"a{level}: &a{level} [{', '.join([f'*a{level - 1}'] * 9)}]\n" for level in range(1, 12)
)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (GOOD + "train: {iterations: 5}\n", "line 4: train: given twice, first on line 2; one would be lost"),
        ("train: {iterations: 4, iterations: 5}\n", "line 1: train.iterations: given twice, first on line 1"),
        ("train: &t {x: *t}\n", "line 1: train.x: an alias inside what it stands for"),
        ("evaluate: {protocols: &p [*p]}\n", "evaluate.protocols[0]: an alias inside what it stands for"),
        (BOMB, "more than 10000 values, with what aliases stand for"),
        ("seeds: [" + "9" * 5000 + "]\n", "seeds[0]: a number of 5000 digits"),
        ("name: " + "x" * 6000, "name: 6000 characters; at most 5000 are expected"),
        ("x: " + "[" * 3000 + "]" * 3000, "line 1: nested more than 20 levels deep"),
        ("x: !!python/object/apply:os.system [touch pwned]\n", "x: the tag "),
        ("__use_yte__: true\nname: a\n", "__use_yte__: this is a template, which runs Python code"),
        ("? [a, b]\n: 1\n", "a key is a word, not a list or a table"),
        ("train: {iterations: 010}\n", "train.iterations: YAML reads 010 as another number"),
        ("train: {iterations: 1:30}\n", "train.iterations: YAML reads 1:30 as another number"),
        ("name: [", "not readable as YAML (while parsing"),
        ("name: a\n---\nname: b\n", "not readable as YAML (expected a single document"),
        ("name: \0\n", "not readable as YAML (unacceptable character"),
        ("born: 2020-99-99\n", "not readable as YAML (month must be in 1..12"),
        ("", "a table of sections such as name, train and evaluate is expected"),
        ("- a\n", "a table of sections such as name, train and evaluate is expected"),
    ],
)
def test_a_file_that_is_no_recipe_is_one_line(tmp_path: Path, text: str, expected: str) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(text, encoding="utf-8")
    started = time.process_time()
    with pytest.raises(recipe_files.RecipeError) as raised:
        recipe_files.read(path)
    assert time.process_time() - started < 2
    message = str(raised.value)
    assert message.startswith(f"{path}: ") and expected in message
    assert "\n" not in message and len(message) < 500
    assert not (tmp_path / "pwned").exists()


def test_bytes_that_are_no_recipe_are_one_line(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_bytes(b"name: \xe9\n")
    with pytest.raises(recipe_files.RecipeError, match="not UTF-8 at byte 6"):
        recipe_files.read(path)
    path.write_bytes(b"#" * (recipe_files.MOST_BYTES + 1))
    with pytest.raises(recipe_files.RecipeError, match="1048577 bytes; a recipe has at most 1048576"):
        recipe_files.read(path)
    with pytest.raises(recipe_files.RecipeError, match=r"nope\.yaml: no such file"):
        recipe_files.read(tmp_path / "nope.yaml")
    os.mkfifo(tmp_path / "pipe")
    for name in ("pipe", "."):
        with pytest.raises(recipe_files.RecipeError, match="not a file"):
            recipe_files.read(tmp_path / name)


def test_a_recipe_reads_as_yaml_reads_it(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(GOOD, encoding="utf-8")
    assert recipe_files.read(path) == yaml.safe_load(GOOD)
    shipped = sorted((LIB.parents[1] / "config").glob("*.yaml"))
    assert shipped
    for recipe in shipped:
        assert recipe_files.read(recipe) == yaml.safe_load(recipe.read_text(encoding="utf-8"))


def test_recipes_are_found_on_a_command_line() -> None:
    words = ["-n", "--configfile", "a.yaml", "b.yaml", "--cores", "2", "--configfile=c.yaml", "d.yaml", "-q", "e.yaml"]
    assert recipe_files.named(words) == ["a.yaml", "b.yaml", "c.yaml", "d.yaml"]
    assert recipe_files.named(["--config", "name=x", "all"]) == []


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--config", "train.iterations=5"], "train.iterations: nested keys go in braces: train='{iterations: 5}'"),
        (["-C", "name=a", "train.speed.x=5"], "train.speed.x: nested keys go in braces: train='{speed: {x: 5}}'"),
        (["--config=1x=5"], "'1x=5' is not a key and its value, such as name=mine"),
        (["--config", "name"], "'name' is not a key and its value, such as name=mine"),
        (["--config", "name=a.b=c", "--configfile", "x.y", "--cores", "a.b"], None),
    ],
)
def test_words_that_snakemake_takes_for_a_fault_are_one_line(words: List[str], expected: Optional[str]) -> None:
    assert command_line.odd_words(words) == ([] if expected is None else [f"--config: {expected}"])


def test_a_file_that_cannot_be_read_now_is_a_fault_and_no_wrong_recipe(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(GOOD, encoding="utf-8")
    recipe_files.refuse_bad(["--configfile", str(path)])

    def fail(*_: object) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(recipe_files.plain_files, "read_bytes", fail)
    with pytest.raises(SystemExit) as ended:
        recipe_files.refuse_bad(["--configfile", str(path)])
    assert ended.value.code == 1
    assert capsys.readouterr().err == f"stdc: {path}: Input/output error\n"
