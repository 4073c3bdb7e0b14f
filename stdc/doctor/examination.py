"""All checks in order: from cheap and telling to slow."""

from __future__ import annotations

import os
import platform
import sys
import tempfile
from pathlib import Path
from typing import Any, Dict, List, NamedTuple, Optional, Sequence

from stdc import files
from stdc.doctor import device_checks, facts, libraries, run_checks, software_checks
from stdc.doctor.findings import Finding
from stdc.doctor.plan import Plan, as_dict
from stdc.errors import InputError
from stdc.machine import commands
from stdc.progress import Log

#: Quiet children: a run's own log is the place for notices.
_ENVIRONMENT = {"GLOG_minloglevel": "2", "PYTHONWARNINGS": "ignore"}
_LINES_OF_A_CRASH = 8


class Settings(NamedTuple):
    """How to examine.

    Attributes:
        program: path of the program that runs a probe: `program --probe NAME --plan FILE --answer FILE`.
        workflow_python: interpreter with Snakemake; None: look for one.
        limit_s: seconds a probe may take.
        log: receives lines about what is going on.
    """

    program: str
    workflow_python: Optional[str]
    limit_s: float
    log: Log


def examine(plan: Plan, settings: Settings) -> List[Finding]:
    """Every check; one that cannot be made says so in its finding."""
    found = [
        software_checks.check_training_python(platform.python_version(), sys.executable),
        software_checks.check_workflow_python(facts.workflow_python(settings.workflow_python)),
    ]
    imports = _ask("imports", plan, settings)
    paddle = imports.get("paddle") or {"error": imports.get("error", "no answer")}
    if "packages" in imports:
        pure_protobuf = os.environ.get("PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION") == "python"
        found.append(software_checks.check_packages(imports["packages"], paddle.get("version", ""), pure_protobuf))
    usable = software_checks.check_paddle(paddle, plan.device)
    visible = imports.get("visible")
    found.append(usable)
    found.append(_driver(plan, paddle))
    found.append(
        device_checks.check_devices(plan.device, plan.devices, visible, facts.closed_device_nodes(plan.device))
    )
    if plan.device == "gpu" and paddle.get("cuda") and "corex" not in paddle["version"]:
        found.append(device_checks.check_libraries(libraries.missing(libraries.opened_by(paddle["version"]))))
        if imports.get("capabilities"):
            found.append(device_checks.check_capability(paddle["version"], imports["capabilities"]))
    folder, cache = Path(plan.folder), Path(plan.frame_cache) if plan.frame_cache else None
    found += [
        run_checks.check_shared_memory(facts.shared_memory_free(), plan),
        run_checks.check_memory(facts.memory_available(), plan),
        run_checks.check_writable(facts.write_error(folder), plan.folder),
        run_checks.check_disk(facts.disk_free(folder), plan.disk_needs(), plan.folder),
        run_checks.check_frame_cache(facts.disk_free(cache or folder), facts.folder_bytes(cache), plan),
    ]
    if usable.level == "ok" and (visible or 0) >= 1:
        found += _try_out(plan, visible or 0, settings)
    return found


def _driver(plan: Plan, paddle: Dict[str, Any]) -> Finding:
    nvidia, iluvatar = facts.nvidia_smi(), facts.ixsmi()
    if plan.device == "cpu":
        return device_checks.check_no_driver(nvidia, iluvatar)
    version = paddle.get("version", "")
    # A card that calls itself CUDA: the SDK's own Paddle, or, where Paddle does not tell, the tool that is there.
    if plan.device == "iluvatar_gpu" or "corex" in version or (nvidia is None and iluvatar is not None):
        return device_checks.check_iluvatar_driver(iluvatar, facts.corex_sdk(version))
    return device_checks.check_nvidia_driver(nvidia, paddle.get("cuda") or "")


def _try_out(plan: Plan, visible: int, settings: Settings) -> List[Finding]:
    network = _ask("network", plan, settings)
    error = {"error": network.get("error", "no answer")}
    found = [run_checks.check_evaluation(network.get("evaluation", error))]
    # If the probe crashed, its later steps did not run; reporting them would repeat its error.
    if "evaluation" in network:
        found.append(run_checks.check_probe_memory("evaluation memory", network.get("memory", error)))
    if "memory" in network:
        found.append(run_checks.check_probe_memory("training memory", network.get("step", error)))
    if plan.device != "cpu" and min(plan.devices, visible) < 2:
        ranks: Dict[str, Any] = {"skipped": "one device"}
    else:
        ranks = _ask("ranks", plan, settings)
    found.append(run_checks.check_ranks(ranks))
    return found


def _ask(name: str, plan: Plan, settings: Settings) -> Dict[str, Any]:
    """The answer of a probe; what it printed last under "error" where it did not come to its end."""
    settings.log(f"trying {name}")
    with tempfile.TemporaryDirectory() as folder:
        answer = Path(folder) / "answer.json"
        files.write_json(Path(folder) / "plan.json", as_dict(plan))
        command = [sys.executable, settings.program, "--probe", name, "--plan", str(Path(folder) / "plan.json")]
        command += ["--answer", str(answer)]
        outcome = commands.ask(command, settings.limit_s, _ENVIRONMENT)
        try:
            values: Dict[str, Any] = files.read_json(answer) if answer.exists() else {}
        except InputError:
            values = {}
    if outcome.code != 0 or not values:
        values["error"] = _how_it_ended(outcome, settings.limit_s)
        for line in outcome.output.strip().splitlines()[-_LINES_OF_A_CRASH:]:
            settings.log(f"  {line}")
    return values


def _how_it_ended(outcome: commands.Answer, limit_s: float) -> str:
    if outcome.code is None:
        return f"no end within {limit_s:.0f} s"
    lines: Sequence[str] = [line.strip() for line in outcome.output.splitlines() if line.strip()]
    last = lines[-1][:300] if lines else "without a word"
    if outcome.code < 0:
        # 9: most often the kernel, for want of memory.
        return f"killed by signal {-outcome.code}; last line: {last}"
    return f"ended with code {outcome.code}: {last}"
