"""Findings on what is installed: interpreters, packages, Paddle. Pure functions of facts that come in as arguments."""

from __future__ import annotations

import re
from typing import Any, Mapping, Optional, Sequence, Tuple

from stdc.doctor.findings import OK, PROBLEM, WARNING, Finding

Version = Tuple[int, ...]

_OLDEST_PYTHON = (3, 8)
_OLDEST_WORKFLOW_PYTHON = (3, 11)
_OLDEST_SNAKEMAKE = (9,)
_OLDEST_PADDLE = (2, 4)
_NEEDED = "needed by every stage"
_PACKAGES = {
    "numpy": _NEEDED,
    "google.protobuf": "needed by Paddle and VisualDL",
    "cv2": "reads and resizes images",
    "PIL": "needed for the authors' preset and for polygons",
    "safetensors": "checkpoints",
    "yaml": "published figures",
    "cityscapesscripts": "label table",
    "visualdl": "records",
    "jinja2": "report",
}


def version_of(text: str) -> Version:
    """(2, 6, 2) of "2.6.2+corex"; () where there is no number."""
    found = re.match(r"\d+(?:\.\d+)*", text)
    return tuple(int(part) for part in found.group().split(".")) if found else ()


def check_training_python(version: str, path: str) -> Finding:
    """The interpreter of the programs."""
    if version_of(version) < _OLDEST_PYTHON:
        return Finding(
            PROBLEM, "training python", f"{version} ({path})", "Python 3.8 or later is needed; name one by STDC_PYTHON"
        )
    return Finding(OK, "training python", f"{version} ({path})")


def check_workflow_python(facts: Optional[Mapping[str, str]]) -> Finding:
    """Snakemake and its interpreter.

    Args:
        facts: "path" and either "python" and "snakemake" or "error"; None: no interpreter was found.
    """
    fix = "make setup, or name an interpreter with Snakemake 9 by --workflow-python"
    if facts is None:
        return Finding(WARNING, "workflow python", "no snakemake on PATH and no .venv/workflow", fix)
    if "error" in facts:
        return Finding(PROBLEM, "workflow python", f"{facts['path']}: {facts['error']}", fix)
    found = f"{facts['python']} with Snakemake {facts['snakemake']} ({facts['path']})"
    if version_of(facts["python"]) < _OLDEST_WORKFLOW_PYTHON or version_of(facts["snakemake"]) < _OLDEST_SNAKEMAKE:
        return Finding(PROBLEM, "workflow python", found, "Snakemake 9 on Python 3.11 or later is needed; make setup")
    return Finding(OK, "workflow python", found)


def check_packages(packages: Mapping[str, Mapping[str, str]], paddle_version: str, pure_protobuf: bool) -> Finding:
    """Whether everything can be imported, and fits this Paddle.

    Args:
        packages: for each of `package_names()` its "version" or "error".
        paddle_version: empty where Paddle cannot be imported.
        pure_protobuf: PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION=python is set.
    """
    problems, fixes = [], []
    for name, facts in packages.items():
        if "error" in facts:
            problems.append(f"{name} ({_PACKAGES.get(name, _NEEDED)}): {facts['error']}")
            fixes.append(_import_fix(name, facts["error"]))
    paddle = version_of(paddle_version)
    numpy = packages.get("numpy", {}).get("version", "")
    protobuf = packages.get("google.protobuf", {}).get("version", "")
    if paddle and paddle < (3,) and version_of(numpy) >= (2,):
        problems.append(f"numpy {numpy} with paddle {paddle_version}, which was built for numpy 1")
        fixes.append('pip install "numpy<2"')
    if paddle and paddle < (2, 5) and version_of(protobuf) >= (4,) and not pure_protobuf:
        problems.append(f"protobuf {protobuf} with paddle {paddle_version}, whose generated code is older")
        fixes.append("pip install protobuf==3.20.3, or set PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION=python")
    elif paddle and paddle < (3,) and version_of(protobuf) >= (7,):
        problems.append(f"protobuf {protobuf} with paddle {paddle_version}: training on several devices does not start")
        fixes.append('pip install "protobuf<7"')
    if problems:
        return Finding(PROBLEM, "packages", "; ".join(problems), "; ".join(dict.fromkeys(fixes)))
    shown = ", ".join(f"{name} {packages[name]['version']}" for name in ("numpy", "google.protobuf", "cv2"))
    return Finding(OK, "packages", f"{shown} and {len(packages) - 3} more")


def package_names() -> Sequence[str]:
    """Modules that the stages import."""
    return tuple(_PACKAGES)


def _import_fix(name: str, error: str) -> str:
    if "libGL" in error or "libgthread" in error or "libglib" in error:
        return (
            "this OpenCV wants a desktop: apt-get install libgl1 libglib2.0-0 (yum install mesa-libGL glib2), "
            "or replace it by opencv-python-headless"
        )
    if name == "google.protobuf":
        return "pip install protobuf==3.20.3"
    return "install the lock of this interpreter from requirements/ (make setup)"


def check_paddle(facts: Mapping[str, Any], device: str) -> Finding:
    """Paddle itself.

    Args:
        facts: "error", or "version", "cuda" (text or None), "custom" (device types of plug-ins).
    """
    if "error" in facts:
        fix = "install the lock of this interpreter from requirements/ (make setup)"
        if "libcu" in facts["error"] or "libix" in facts["error"]:
            fix = "CUDA's or the SDK's libraries are not found: set LD_LIBRARY_PATH, or use the image made for it"
        return Finding(PROBLEM, "paddle", facts["error"], fix)
    built = f"built for CUDA {facts['cuda']}" if facts.get("cuda") else "built for the CPU"
    if facts.get("custom"):
        built += f", plug-ins: {', '.join(facts['custom'])}"
    found = f"{facts['version']}, {built}"
    if version_of(facts["version"]) < _OLDEST_PADDLE:
        return Finding(PROBLEM, "paddle", found, "Paddle 2.4 or later is needed")
    if device == "gpu" and not facts.get("cuda"):
        fix = "use the image stdc:cuda (CoreX: stdc:corex), or install requirements/paddle-cuda.lock; or --device cpu"
        return Finding(PROBLEM, "paddle", found, fix)
    if device == "iluvatar_gpu" and device not in facts.get("custom", ()):
        fix = "install the plug-in paddle-iluvatar-gpu, or, with the SDK's own `+corex` Paddle, take --device gpu"
        return Finding(PROBLEM, "paddle", found, fix)
    return Finding(OK, "paddle", found)
