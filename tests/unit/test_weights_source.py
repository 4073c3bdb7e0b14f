"""What the workflow sees of a source of weights before any program runs."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path
from typing import Any, Dict, List, Optional

import pytest
import yaml

REPOSITORY = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(REPOSITORY / "workflow" / "lib"))

import weights_source  # noqa: E402

sys.path.remove(str(REPOSITORY / "workflow" / "lib"))

from stdc.weights import sources  # noqa: E402

REGISTRY = yaml.safe_load((REPOSITORY / "stdc" / "weights" / "registry.yaml").read_text(encoding="utf-8"))


def model(pretrained: Optional[str] = None, init_from: Optional[str] = None, sha256: Any = None) -> Dict[str, Any]:
    return {
        "backbone": "stdc1",
        "pretrained": {"source": pretrained, "sha256": sha256 if pretrained else None},
        "init_from": {"source": init_from, "sha256": sha256 if init_from else None},
    }


def problems(section: Dict[str, Any]) -> List[str]:
    return [f"{key}: {problem}" for key, problem in weights_source.problems(section, REGISTRY)]


def test_a_replaced_file_is_noticed_however_its_path_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "w.pdparams"
    file.write_bytes(b"one")
    written = ("~/w.pdparams", "w.pdparams", str(file))
    before = [weights_source.fingerprint(source, REGISTRY) for source in written]
    os.utime(file, ns=(1, 1))
    after = [weights_source.fingerprint(source, REGISTRY) for source in written]
    assert len(set(before)) == len(set(after)) == 1 and before[0] and before != after


def test_a_file_placed_for_a_name_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert weights_source.fingerprint("paddleseg-stdc1", REGISTRY) == ""
    placed = tmp_path / "resources" / "weights" / "downloads" / "STDCNet1.tar.gz"
    placed.parent.mkdir(parents=True)
    placed.touch()
    assert weights_source.fingerprint("paddleseg-stdc1", REGISTRY) != ""


@pytest.mark.parametrize(
    ("section", "said"),
    [
        (model("a.pdparams", "b.pdparams"), "init_from: given beside model.pretrained"),
        (model("https://example.invalid/w"), "pretrained.sha256: null; a download needs the file's checksum"),
        (model("HTTPS://example.invalid/w"), "pretrained.sha256: null; a download needs the file's checksum"),
        (model("paddleseg-stdc1"), "pretrained.sha256: null, and no checksum of paddleseg-stdc1 is public"),
        (
            model("paddleseg-stdc2", sha256="first-seen"),
            "are weights of stdc2; model.backbone is stdc1",
        ),
        (model("paddleseg-stdc1-cityscapes", sha256="first-seen"), "whole trained network; model.init_from"),
        (model(init_from="paddleseg-stdc1", sha256="first-seen"), "backbone alone; model.pretrained"),
    ],
)
def test_sources_that_cannot_do_are_refused_with_their_key(section: Dict[str, Any], said: str) -> None:
    (problem,) = problems(section)
    assert said in problem


@pytest.mark.parametrize(
    "section",
    [
        model(),
        model("a file.pdparams"),
        model("pp-stdc1"),
        model("paddleseg-stdc1", sha256="first-seen"),
        model(init_from="paddleseg-stdc1-cityscapes", sha256="first-seen"),
        {**model(), "pretrained": {"source": None, "sha256": "first-seen"}},
    ],
)
def test_sources_that_may_do_are_not_refused(section: Dict[str, Any]) -> None:
    assert problems(section) == []


SECRETS = (
    "https://me:hunter2@example.invalid/w",
    "https://example.invalid/w?token=hunter2",
    "https://example.invalid/w#hunter2",
    "https://example.invalid/w;hunter2",
    "me:hunter2@example.invalid/w",
    "example.invalid/w?hunter2",
    "//me:hunter2@example.invalid/w",
)


@pytest.mark.parametrize("source", SECRETS)
def test_an_address_with_a_secret_is_refused_and_not_repeated(source: str) -> None:
    (problem,) = problems(model(source, sha256="0" * 64))
    assert "carries a name, a password" in problem and "hunter2" not in problem


@pytest.mark.parametrize(
    "source", [*SECRETS, "w.pdparams", "https://example.invalid/w", "~/a b.pth", "paddleseg-stdc1"]
)
def test_both_sides_of_the_wall_see_the_same_secrets(source: str) -> None:
    assert weights_source.has_secret(source) == sources.has_secret(source)
    assert re.search("hunter2", sources.shown_source(source)) is None


def test_a_file_whose_name_looks_like_an_address_is_a_file(tmp_path: Path) -> None:
    file = tmp_path / "stdc1@epoch3#best.pdparams"
    file.touch()
    assert problems(model(str(file))) == [] and sources.shown_source(str(file)) == str(file)
