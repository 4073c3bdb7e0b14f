"""The torture campaign in short, and properties over made-up values."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any, Callable

import numpy as np
import properties
import pytest
import torture
from cases_of_data import check_pairs
from hypothesis import given, settings
from mutations import write_png
from PIL import Image

pytestmark = pytest.mark.campaign

#: Whatever else there is to do, this much of each kind.
SHORT = {
    "dataset": 60,
    "document": 24,
    "intermediate": 40,
    "weights": 40,
    "checkpoint": 40,
    "archive": 20,
    "stage": 40,
    "syntax": 60,
    "recipe": 2,
    "rank": 10,
    "worker": 1,
}


@pytest.mark.parametrize("kind", sorted(torture.KINDS))
def test_each_kind_of_nonsense_ends_in_success_or_in_words(kind: str, tmp_path: Path) -> None:
    # A process of its own: cases are forked from it, which Paddle's threads in this one would not survive.
    command = [sys.executable, torture.__file__, "--seed", 7, "--cases", SHORT[kind], "--minutes", 3, "--only", kind]
    command += ["--json", tmp_path / "result.json"]
    ended = subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=600, check=False)
    assert (tmp_path / "result.json").is_file(), ended.stderr[-3000:]
    result = json.loads((tmp_path / "result.json").read_text(encoding="utf-8"))
    assert result["failed"] == 0, json.dumps(result["failures"], indent=1)[:6000]
    assert result["cases"] == SHORT[kind]
    # Nonsense that is never noticed, or always, would tell nothing.
    assert result["refused"] > 0 and (result["success"] > 0 or kind in ("recipe", "worker"))


@pytest.mark.parametrize(("check", "strategy"), properties.PROPERTIES, ids=lambda one: getattr(one, "__name__", ""))
def test_property_holds_for_made_up_values(check: Callable[[Any], None], strategy: Any) -> None:
    settings(max_examples=60, deadline=None, derandomize=True, database=None)(given(strategy)(check))()


def test_the_campaign_notices_a_wrong_pairing(tmp_path: Any, tiny_dataset: Any) -> None:
    work = tmp_path / "work"
    assert all(run.code == 0 for run in torture.Templates.intake(tiny_dataset, work))
    assert check_pairs(tiny_dataset, work / "labels", work / "lists", rasters="labelIds") == 12
    path = work / "lists" / "train.txt"
    lines = [line.split(",") for line in path.read_text().splitlines()]
    path.write_text("".join(f"{image},{lines[0][1]}\n" for image, _ in lines))
    with pytest.raises(torture.WrongError, match="wrong pair"):
        check_pairs(tiny_dataset, work / "labels", work / "lists")


def test_pictures_written_by_hand_are_what_they_claim(tmp_path: Any) -> None:
    pixels = np.arange(13 * 21 * 3, dtype=np.uint8).reshape(13, 21, 3)
    for interlaced in (False, True):
        write_png(tmp_path / "x.png", pixels, color=2, interlaced=interlaced)
        assert np.array_equal(np.asarray(Image.open(tmp_path / "x.png")), pixels)
