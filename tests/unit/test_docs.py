"""The documents: links lead somewhere, commands and options exist, CI files are what their services read."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any, Dict, Iterator, List, Tuple

import pytest
import yaml

REPOSITORY = Path(__file__).resolve().parents[2]
PAGES = sorted([*REPOSITORY.glob("*.md"), *REPOSITORY.glob("docs/*.md"), REPOSITORY / "config" / "README.md"])
CI = REPOSITORY / "docs" / "ci"


def headings(page: Path) -> List[str]:
    """Anchors of a page as GitHub makes them."""
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    titles = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return [re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_between_documents_lead_somewhere(page):
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        assert file.exists(), target
        assert not anchor or anchor in headings(file), target


def commands(text: str) -> Iterator[str]:
    """Lines of the code blocks, continued lines joined."""
    for block in re.findall(r"```\w*\n(.*?)```", text, re.DOTALL):
        yield from re.sub(r"\\\n\s*", " ", block).splitlines()


def ci_commands() -> List[Tuple[str, str]]:
    github = yaml.safe_load((CI / "github.yml").read_text(encoding="utf-8"))
    gitlab = yaml.safe_load((CI / "gitlab.yml").read_text(encoding="utf-8"))
    steps = [step for job in github["jobs"].values() for step in job["steps"]]
    found = [("github", step["run"]) for step in steps if "run" in step]
    return found + [("gitlab", command) for job in gitlab.values() for command in job["script"]]


def all_commands() -> List[Tuple[str, str]]:
    documents = [REPOSITORY / "docs" / name for name in ("reproducing.md", "faq.md", "ci.md")]
    documents.append(REPOSITORY / "README.md")
    found = [
        (page.name, line)
        for page in documents
        for line in commands(page.read_text(encoding="utf-8"))
        if line.startswith((".venv", "make "))
    ]
    spans = [
        (page.name, span)
        for page in documents
        for span in re.findall(r"`((?:\.venv|make )[^`]+)`", page.read_text(encoding="utf-8"))
    ]
    return [*found, *spans, *ci_commands()]


@pytest.mark.parametrize(("where", "command"), all_commands())
def test_commands_name_targets_programs_profiles_and_options_that_exist(where, command):
    words = command.split()
    if words[0] == "make":
        targets = re.findall(r"^([a-z0-9-]+):", (REPOSITORY / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
        assert words[1] in targets
        return
    assert re.fullmatch(r"\.venv/(workflow/bin/snakemake|train/bin/(python|visualdl))", words[0]), command
    for word in words[1:]:
        if re.match(r"(tools|profiles|config|workflow)/", word):
            assert (REPOSITORY / word).exists(), word
    if words[0].endswith("python"):
        help_text = subprocess.run(
            [sys.executable, str(REPOSITORY / words[1]), "--help"], capture_output=True, text=True, check=True
        ).stdout
        for option in re.findall(r"--[a-z-]+", command):
            assert option in help_text, option


def test_the_two_ci_files_run_the_same_commands():
    by_file: Dict[str, List[str]] = {"github": [], "gitlab": []}
    for where, command in ci_commands():
        by_file[where].append(command)
    assert by_file["github"] == by_file["gitlab"] and len(by_file["github"]) == 3


def test_the_github_file_has_the_keys_that_a_workflow_needs():
    # "on" is a truth value in the YAML that Python reads.
    workflow: Dict[Any, Any] = yaml.safe_load((CI / "github.yml").read_text(encoding="utf-8"))
    assert set(workflow) == {"name", True, "permissions", "jobs"} and workflow["permissions"] == {"contents": "read"}
    for job in workflow["jobs"].values():
        assert set(job) <= {"runs-on", "timeout-minutes", "steps", "env", "needs"} and job["runs-on"]
        for step in job["steps"]:
            assert ("uses" in step) != ("run" in step)
            assert set(step) <= {"uses", "run", "with", "if", "name", "env"}
            assert "uses" not in step or re.fullmatch(r"[\w-]+/[\w-]+@v\d+", step["uses"])


def test_the_gitlab_file_has_the_keys_that_a_job_needs():
    jobs = yaml.safe_load((CI / "gitlab.yml").read_text(encoding="utf-8"))
    for job in jobs.values():
        assert set(job) <= {"image", "timeout", "cache", "script", "artifacts"} and job["script"]
        for lock in job["cache"]["key"]["files"]:
            assert (REPOSITORY / lock).exists(), lock


@pytest.mark.parametrize("name", ["github.yml", "gitlab.yml"])
def test_ci_keeps_no_page_with_pictures(name):
    text = (CI / name).read_text(encoding="utf-8")
    assert "report_metrics_only.html" in text and "/report.html" not in text


def test_the_catalog_file_names_what_the_catalog_reads():
    usage = yaml.safe_load((REPOSITORY / ".snakemake-workflow-catalog.yml").read_text(encoding="utf-8"))["usage"]
    assert set(usage) == {"mandatory-flags", "software-stack-deployment", "report"}
    assert usage["software-stack-deployment"] and not any(usage["software-stack-deployment"].values())
