"""What profiles and the command line set per rule, put together."""

from __future__ import annotations

import sys
from pathlib import Path

LIB = Path(__file__).resolve().parents[2] / "workflow" / "lib"
sys.path.insert(0, str(LIB))

import command_line  # noqa: E402

sys.path.remove(str(LIB))


def profile(folder: Path, text: str) -> str:
    folder.mkdir()
    (folder / "config.yaml").write_text(text, encoding="utf-8")
    return str(folder)


def test_words_of_profiles_keep_their_order(tmp_path: Path) -> None:
    place = profile(tmp_path / "place", "set-resources:\n  train: {runtime: 60, mem_mb: 'threads * 2000'}\n")
    device = profile(tmp_path / "device", "set-threads: {train: 16}\nset-resources:\n  train: {device: gpu}\n")
    names = [place, device]
    words = command_line.words_of_profiles(names, "set-resources", read=command_line.plain)
    assert words == ["train:runtime=60", "train:mem_mb=threads * 2000", "train:device=gpu"]
    assert command_line.words_of_profiles(names, "set-threads", read=command_line.plain) == ["train=16"]


def test_profiles_are_those_of_the_command_line_or_else_of_the_variable() -> None:
    argv = ["--profile", "a", "--cores", "2", "--profile=b", "--", "--profile", "c"]
    assert command_line.named_profiles(argv, "d") == ["a", "b"]
    assert command_line.named_profiles(["--profile", "none"], "d") == []
    assert command_line.named_profiles([], "d,e") == ["d", "e"]


def test_later_settings_win_one_by_one_and_drop_no_other() -> None:
    profiles = {"train": {"device": "gpu", "gpu": 2, "runtime": 2880}, "evaluate": {"device": "gpu"}}
    given = {"train": {"runtime": 60}, "report": {"runtime": 5}}
    assert command_line.put_together(profiles, given) == {
        "train": {"device": "gpu", "gpu": 2, "runtime": 60},
        "evaluate": {"device": "gpu"},
        "report": {"runtime": 5},
    }
    assert profiles["train"]["runtime"] == 2880
    assert command_line.put_together({"train": 16}, {"train": 4}) == {"train": 4}
