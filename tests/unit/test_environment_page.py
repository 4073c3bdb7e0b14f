"""docs/environment.md lists every variable of ours, and nothing that the code does not know."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Iterable, Set

REPOSITORY = Path(__file__).resolve().parents[2]
PRODUCT = ("Snakefile", "Makefile", "stdc", "workflow", "tools", "docker", "profiles", "requirements", "benchmarks")
NAME = re.compile(r"\bSTDC_[A-Z0-9_]+\b")
#: In a test a variable is what it asks its environment for; other names are made up.
ASKED = re.compile(
    r"""(?:environ(?:\.get)?[\[(]|process\.env\.|MARK = )"?(STDC_[A-Z0-9_]+)|\bfor name in \("(STDC_IMAGE_TEST)"""
)


def texts(paths: Iterable[Path]) -> Iterable[str]:
    for path in paths:
        files = [path] if path.is_file() else sorted(path.rglob("*"))
        for file in files:
            hidden = "__pycache__" in file.parts or "node_modules" in file.parts
            if file.is_file() and not hidden and file.suffix not in (".lock", ".npz", ".tar", ".pth", ".jpg", ".png"):
                yield file.read_text(encoding="utf-8", errors="replace")


def on_the_page(*sections: str) -> Set[str]:
    page = (REPOSITORY / "docs" / "environment.md").read_text(encoding="utf-8")
    parts = {part.split("\n", 1)[0]: part for part in page.split("\n## ")[1:]}
    return {name for section in sections for name in NAME.findall(parts[section])}


def test_the_variables_of_the_product_are_those_on_the_page() -> None:
    found = {name for text in texts(REPOSITORY / name for name in PRODUCT) for name in NAME.findall(text)}
    # Those for tests, some of which a make target sets.
    assert found - on_the_page("For tests") == on_the_page("For users", "Between the parts")


def test_the_variables_of_the_tests_are_those_on_the_page() -> None:
    found = {
        name for text in texts([REPOSITORY / "tests"]) for groups in ASKED.findall(text) for name in groups if name
    }
    product = on_the_page("For users", "Between the parts")
    assert found - product == on_the_page("For tests")
