"""Reading files that somebody else may have put there."""

from __future__ import annotations

import errno
import os
import socket
from pathlib import Path

import pytest
from other_things import OTHER_THINGS

from stdc import files
from stdc.errors import InputError
from stdc.stages import read_configuration


def make(kind: str, path: Path) -> None:
    if kind in OTHER_THINGS:
        OTHER_THINGS[kind](path)
    elif kind == "socket":
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(str(path))
    elif kind == "dead link":
        path.symlink_to("nowhere")


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("pipe", "a pipe or a device, expected a file"),
        ("device", "a pipe or a device, expected a file"),
        ("socket", "a socket or a device"),
        ("folder", "a folder, expected a file"),
        ("loop", "a link that leads back to itself"),
        ("dead link", "no such file"),
        ("nothing", "no such file"),
    ],
)
def test_what_is_no_file_is_told_at_once(tmp_path: Path, kind: str, said: str) -> None:
    path = tmp_path / "x.json"
    make(kind, path)
    for read in (files.read_json, files.read_text, files.read_bytes, files.sha256_file):
        with pytest.raises(InputError, match=said):
            read(path)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b'{"a": 1, "b": 2, "a": 3}', "the key 'a' is given twice"),
        (b'{"x": {"a": 1, "a": 1}}', "the key 'a' is given twice"),
        (b'{"a": NaN}', "NaN is not a number of JSON"),
        (b'{"a": -Infinity}', "-Infinity is not a number of JSON"),
        (b"\xff{}", "not readable as JSON"),
        (b"[" * 100_000, "nested too deeply"),
        (b"", "not readable as JSON"),
    ],
)
def test_json_that_would_lose_something_is_refused(tmp_path: Path, data: bytes, said: str) -> None:
    path = tmp_path / "x.json"
    path.write_bytes(data)
    with pytest.raises(InputError, match=rf"x\.json: .*{said}"):
        files.read_json(path)


def test_a_read_that_fails_is_no_wrong_input_and_names_the_file(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    path.write_text("{}")
    with files.open_file(path) as handle:
        # A descriptor that cannot be read in place of the file's, as for a disk that fails under an open file.
        with path.open("ab") as other:
            os.dup2(other.fileno(), handle.fileno())
        with pytest.raises(OSError, match=r"x\.json") as caught:
            handle.read()
    assert caught.value.errno == errno.EBADF


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("train: {a: 1}\ntrain: {b: 2}\n", "train is given twice; one would be lost"),
        ("train:\n  a: 1\n  a: 2\n", "a is given twice"),
        ("train: &t\n  x: *t\n", "levels, with what aliases stand for"),
        ("".join(f"a{n}: &a{n} [{f'*a{n - 1}, ' * 9 if n else 1}]\n" for n in range(9)), "more than 10000 values"),
        ("a: " + "[" * 5000, "nested too deeply"),
        ("a: " + "9" * 6000, "not readable as YAML"),
        ("x: !!python/name:os.system\n", "not readable as YAML"),
    ],
)
def test_recipe_that_would_lose_something_or_blow_up_is_refused_by_tools_too(
    tmp_path: Path, text: str, said: str
) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text(text)
    with pytest.raises(InputError, match=f"recipe.yaml: .*{said}"):
        read_configuration(path)
