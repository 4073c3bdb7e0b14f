"""The pages in a real browser: headless Chromium, driven by Playwright, looked at by axe-core.

Needs Debian's `chromium`, `node` and `npm`, and what tests/browser/package-lock.json names; skipped loudly without.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any, Dict, List

import cv2
import made_results
import numpy as np
import pytest

from stdc.published.reference import load_reference
from stdc.published.verdict import judge
from stdc.report import compare_page, page
from stdc.report.frame_pictures import Picture, jpeg_uri, png_uri
from stdc.results.comparison import Run, compare
from stdc.results.folder import Results, read_seed
from stdc.results.stage_costs import StageCost

pytestmark = [pytest.mark.browser, pytest.mark.timeout(300)]

HERE = Path(__file__).parent
WIDTHS = [1400, 768, 390]
SCHEMES = ["light", "dark"]
FRAMES = [f"frankfurt_000000_{number:06d}" for number in range(12)]


def tool(*names: str) -> str:
    """The first of some programs that is there."""
    found = next((path for path in map(shutil.which, names) if path), None)
    if found is None:
        pytest.skip(f"NO {names[0].upper()}: the pages are not looked at in a browser; install {names[0]}")
    return found


@pytest.fixture(scope="session")
def node_modules(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """playwright-core and axe-core, by the hashes of the lock file; no script of theirs is run."""
    tool("node", "nodejs")
    place = Path(os.environ.get("STDC_NODE_MODULES") or HERE / "node_modules")
    lock = json.loads((HERE / "package-lock.json").read_text(encoding="utf-8"))["packages"]
    wanted = {name.split("/", 1)[1]: entry["version"] for name, entry in lock.items() if name}
    if any(version_of(place / name) != version for name, version in wanted.items()):
        place = tmp_path_factory.mktemp("npm") / "node_modules"
        for name in ("package.json", "package-lock.json"):
            shutil.copy2(HERE / name, place.parent)
        command = [tool("npm"), "ci", "--ignore-scripts", "--no-audit", "--no-fund"]
        done = subprocess.run(command, cwd=place.parent, capture_output=True, text=True, timeout=120, check=False)
        if done.returncode:
            pytest.skip(f"NO NPM PACKAGES: the pages are not looked at in a browser; npm ci said: {done.stderr[-400:]}")
    return place


def version_of(package: Path) -> str:
    try:
        return str(json.loads((package / "package.json").read_text(encoding="utf-8"))["version"])
    except (OSError, ValueError, KeyError):
        return ""


def results_of(folder: Path, seeds: List[int], **changed: Any) -> Results:
    for seed in seeds:
        made_results.write_seed(folder / f"seed{seed}", seed, FRAMES, (1024, 2048))
    return Results(
        stage=made_results.report_stage(seeds=seeds, **changed),
        manifest=made_results.manifest(),
        manifest_sha256="ef" * 32,
        seeds=[read_seed(folder / f"seed{seed}", seed) for seed in seeds],
        costs=[StageCost("train", "seed 0", 155.7, 633.1, 74.5), StageCost("create lists", "", 0.4, None, None)],
        files=[("verdict.json", "the verdict")],
        command=["snakemake", "--cores", "all", "--config", "dataset=/home/jane/data"],
    )


def picture() -> Picture:
    image = np.full((64, 128, 3), 90, np.uint8)
    return Picture(FRAMES[0], "best", 0.5, 0.5, jpeg_uri(image), png_uri(image), png_uri(image), jpeg_uri(image))


def write_pages(folder: Path) -> List[Path]:
    """Pictures of one seed that was stopped and went on; the page to share, of three seeds; both compared."""
    reference = load_reference()
    one, three = results_of(folder / "one", [0]), results_of(folder / "three", [0, 1, 2], dataset_kind="folder")
    moments = ["2026-11-24T08:00:00+00:00", "2026-11-24T08:01:00+00:00"]
    part = {"started": moments[0], "finished": moments[1], "commit": "ab" * 20, "from_iteration": 0}
    one.seeds[0].provenance["segments"] = [part, dict(part, from_iteration=200, to_iteration=400)]
    pages = []
    for name, results, pictures in (("report", one, [picture()]), ("shared", three, None)):
        verdict = judge(results.evidence(), reference)
        pages.append(folder / f"{name}.html")
        pages[-1].write_text(page.render(results, verdict, reference, pictures, "shared.html"), encoding="utf-8")
    runs = [Run(name, folder, results.stage, results.seeds) for name, results in (("one", one), ("three", three))]
    pages.append(folder / "compare.html")
    pages[-1].write_text(compare_page.render(compare(runs)), encoding="utf-8")
    return pages


@pytest.fixture(scope="session")
def seen(node_modules: Path, tmp_path_factory: pytest.TempPathFactory) -> List[Dict[str, Any]]:
    folder = tmp_path_factory.mktemp("pages")
    job = {
        "chromium": tool("chromium", "chromium-browser", "google-chrome"),
        "pages": [str(path) for path in write_pages(folder)],
        "widths": WIDTHS,
        "schemes": SCHEMES,
        "folder": str(folder),
        # To look at them as a person does: STDC_PAGE_PICTURES=1, and the folder that pytest names.
        "pictures": bool(os.environ.get("STDC_PAGE_PICTURES")),
    }
    (folder / "job.json").write_text(json.dumps(job), encoding="utf-8")
    done = subprocess.run(
        [tool("node", "nodejs"), str(HERE / "look.js"), str(folder / "job.json")],
        env={**os.environ, "STDC_NODE_MODULES": str(node_modules)},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found: List[Dict[str, Any]] = json.loads(done.stdout)
    assert [len(entry["views"]) for entry in found] == [len(WIDTHS) * len(SCHEMES)] * len(job["pages"])
    return found


def test_pages_say_nothing_on_the_console_and_ask_for_nothing(seen):
    assert [entry["console"] for entry in seen] == [[]] * len(seen)
    assert [entry["requests"] for entry in seen] == [[]] * len(seen)


def test_axe_finds_nothing_on_a_desk_a_tablet_and_a_phone_light_and_dark(seen):
    assert [line for entry in seen for line in entry["violations"]] == []


def test_no_page_has_to_be_scrolled_sideways(seen):
    assert [line for entry in seen for line in entry["sticking_out"]] == []


def test_values_appear_under_a_finger_and_tables_open_by_keyboard(seen):
    for entry in seen[:2]:
        assert entry["touched"]["chart"].startswith("iteration "), entry["touched"]
        assert " predicted as " in entry["touched"]["confusion"], entry["touched"]
        assert entry["opened_by_keyboard"] == "Loss as a table"


def test_printed_pages_are_few_and_light_and_leave_no_heading_alone(seen):
    for entry in seen:
        data = Path(entry["pdf"]).read_bytes()
        pages = len(re.findall(rb"/Type\s*/Page\b", data))
        assert 2 <= pages <= 13, pages
        assert entry["print"]["background"] in ("rgba(0, 0, 0, 0)", "rgb(255, 255, 255)"), entry["print"]
        assert entry["print"]["ink"] == "rgb(28, 31, 36)", "dark text, even from a dark desktop"
    if shutil.which("pdftotext") is None:
        pytest.skip("NO PDFTOTEXT: headings at the foot of a printed page are not looked for; install poppler-utils")
    for entry in seen:
        text = subprocess.run(["pdftotext", "-layout", entry["pdf"], "-"], capture_output=True, text=True, check=True)
        for number, words in enumerate(text.stdout.split("\f"), start=1):
            lines = [line.strip() for line in words.splitlines() if line.strip()]
            assert not lines or lines[-1] not in entry["headings"], f"page {number} ends with {lines[-1]!r}"


def test_colors_that_carry_a_meaning_are_printed_without_backgrounds(seen, tmp_path):
    """Chromium's PDF leaves backgrounds out unless asked: the bars and swatches must be there all the same."""
    if shutil.which("pdftoppm") is None:
        pytest.skip("NO PDFTOPPM: the colors of a printed page are not looked at; install poppler-utils")
    subprocess.run(["pdftoppm", "-r", "60", "-png", seen[0]["pdf"], str(tmp_path / "page")], check=True)
    pixels = np.concatenate([cv2.imread(str(path)).reshape(-1, 3) for path in sorted(tmp_path.glob("*.png"))])
    for name, color in (("a bar", (0x2A, 0x6B, 0xB0)), ("the swatch of road", (128, 64, 128))):
        near = np.abs(pixels[:, ::-1].astype(int) - color).max(axis=1) <= 12
        assert near.sum() > 20, name
