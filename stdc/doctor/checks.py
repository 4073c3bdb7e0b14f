"""Findings from facts. Pure functions: what the machine holds comes in as arguments."""

from __future__ import annotations

import re
from typing import Any, Dict, Mapping, Optional, Sequence, Tuple

from stdc.doctor.findings import OK, PROBLEM, WARNING, Finding
from stdc.doctor.libraries import has_code_for
from stdc.doctor.plan import Plan
from stdc.units import bytes_text

Version = Tuple[int, ...]

_OLDEST_PYTHON = (3, 8)
_OLDEST_WORKFLOW_PYTHON = (3, 11)
_OLDEST_SNAKEMAKE = (9,)
_OLDEST_PADDLE = (2, 4)
#: First driver branch of each CUDA release family. Source: NVIDIA, CUDA Compatibility, "Minor Version Compatibility".
_OLDEST_DRIVER = {11: (450, 80, 2), 12: (525, 60, 13), 13: (580, 65, 6)}
#: NCCL's advice for containers, whose default is 64 MB. Source: NCCL user guide, "Troubleshooting", shared memory.
_COLLECTIVE_BYTES = 1 << 30
#: A device's logits may differ from the CPU's by rounding, not by more. TF32 rounds at 1e-3 of values of order one.
_LOGIT_TOLERANCE = 0.05
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


def read_nvidia_smi(output: str) -> Dict[str, str]:
    """ "driver" and "cuda" (the newest that the driver runs) from the head of `nvidia-smi`; {} where they are not."""
    driver = re.search(r"Driver Version:\s*(\d[\d.]*)", output)
    cuda = re.search(r"CUDA Version:\s*(\d[\d.]*)", output)
    return {"driver": driver.group(1), "cuda": cuda.group(1)} if driver and cuda else {}


def read_ixsmi(output: str) -> Dict[str, str]:
    """ "driver" and "sdk" from the head of `ixsmi`; {} where they are not."""
    sdk = re.search(r"IX-ML:\s*(\d[\d.]*)", output)
    driver = re.search(r"Driver Version:\s*(\d[\d.]*)", output)
    return {"driver": driver.group(1), "sdk": sdk.group(1)} if driver and sdk else {}


def check_nvidia_driver(output: Optional[str], cuda: str) -> Finding:
    """Driver against the CUDA that Paddle was built for.

    Args:
        output: of `nvidia-smi`; None: it is not there or did not answer.
        cuda: "11.8".
    """
    if output is None:
        fix = "is a driver installed? In a container: docker run --gpus all (needs the NVIDIA container toolkit)"
        return Finding(PROBLEM, "driver", "nvidia-smi is not there or gives no answer", fix)
    facts = read_nvidia_smi(output)
    if not facts:
        return Finding(PROBLEM, "driver", f"nvidia-smi: {_first_line(output)}", "install or reload the NVIDIA driver")
    found = f"driver {facts['driver']} (runs up to CUDA {facts['cuda']}), Paddle's CUDA {cuda}"
    family = version_of(cuda)[:1]
    oldest = _OLDEST_DRIVER.get(family[0]) if family else None
    if oldest and version_of(facts["driver"]) < oldest:
        needed = ".".join(f"{part:02d}" if index else str(part) for index, part in enumerate(oldest))
        fix = f"CUDA {cuda} needs driver {needed} or later, or take a Paddle built for an older CUDA"
        return Finding(PROBLEM, "driver", found, fix)
    if version_of(facts["cuda"])[:2] < version_of(cuda)[:2]:
        fix = "works within the release family; if a kernel is missing, update the driver"
        return Finding(WARNING, "driver", found, fix)
    return Finding(OK, "driver", found)


def check_iluvatar_driver(output: Optional[str], sdk: str) -> Finding:
    """Kernel driver against SDK; the vendor releases them together.

    Args:
        output: of `ixsmi`; None: it is not there or did not answer.
        sdk: version of the SDK by Paddle's name or the folder's; empty where neither tells.
    """
    if output is None:
        fix = (
            "is the driver loaded (lspci -d 1e3e:)? In a container: --privileged -v /dev:/dev, or --runtime iluvatar; "
            "/usr/local/corex/bin must be on PATH"
        )
        return Finding(PROBLEM, "driver", "ixsmi is not there or gives no answer", fix)
    facts = read_ixsmi(output)
    if not facts:
        return Finding(PROBLEM, "driver", f"ixsmi: {_first_line(output)}", "load the driver of the SDK's release")
    # The tool comes with the SDK, so it speaks for it where nothing else does.
    sdk = sdk or facts["sdk"]
    found = f"driver {facts['driver']}, SDK {sdk}"
    driver, wanted = version_of(facts["driver"]), version_of(sdk)
    if driver[:1] != wanted[:1]:
        return Finding(PROBLEM, "driver", found, f"install driver {sdk} on the host, or take the SDK of the driver")
    if driver[:2] != wanted[:2]:
        return Finding(WARNING, "driver", found, f"the vendor pairs equal versions: driver {sdk} on the host is safer")
    return Finding(OK, "driver", found)


def check_libraries(missing: Sequence[str]) -> Finding:
    """The libraries that Paddle opens by name at its first operation on a GPU.

    Args:
        missing: those that the dynamic loader does not find, with its reasons.
    """
    if missing:
        fix = (
            "use the image stdc:cuda, or link the versioned libraries to these names (docker/link_libraries.sh), or "
            "name their folders by LD_LIBRARY_PATH"
        )
        return Finding(PROBLEM, "CUDA libraries", f"Paddle will not find {'; '.join(missing)}", fix)
    return Finding(OK, "CUDA libraries", "all that Paddle opens by name are found")


def check_capability(paddle_version: str, capabilities: Sequence[Sequence[int]]) -> Finding:
    """Whether Paddle has code for the devices.

    Args:
        capabilities: (major, minor) of each visible device.
    """
    shown = ", ".join(sorted({f"{major}.{minor}" for major, minor in capabilities}))
    unfit = {(major, minor) for major, minor in capabilities if not has_code_for(paddle_version, (major, minor))}
    if not unfit:
        return Finding(OK, "compute capability", shown)
    named = ", ".join(f"{major}.{minor}" for major, minor in sorted(unfit))
    fix = (
        'H100, H200 and later need Paddle 3: docker/README.md, "Hopper and later"'
        if max(unfit) >= (9, 0)
        else "take a Paddle that was built for these devices"
    )
    return Finding(PROBLEM, "compute capability", f"{named}: paddle {paddle_version} has no code for it", fix)


def check_no_driver(nvidia: Optional[str], iluvatar: Optional[str]) -> Finding:
    """On the CPU none is needed; a card that stays idle is worth a word."""
    idle = [name for name, output in (("nvidia-smi", nvidia), ("ixsmi", iluvatar)) if output is not None]
    note = f"; {' and '.join(idle)} answers, but the run is on the CPU" if idle else ""
    return Finding(OK, "driver", f"not needed on the CPU{note}")


def check_devices(device: str, asked: int, visible: Optional[int], closed_nodes: Sequence[str] = ()) -> Finding:
    """Devices that Paddle sees against those the run wants.

    Args:
        visible: None: Paddle could not be asked.
        closed_nodes: device files that this user may not open.
    """
    if device == "cpu":
        found = "CPU" if asked == 1 else f"CPU, {asked} processes"
        return Finding(OK, "devices", found)
    if visible is None:
        return Finding(PROBLEM, "devices", f"{asked} x {device} asked for, Paddle could not be asked", "see above")
    found = f"{visible} x {device} visible, {asked} asked for"
    if closed_nodes and visible < asked:
        fix = "docker run --group-add <group of the device files>, or --user 0; on a host join that group"
        return Finding(PROBLEM, "devices", f"{found}; no permission for {', '.join(closed_nodes)}", fix)
    if visible < asked:
        shown = (
            "make them visible (CUDA_VISIBLE_DEVICES; docker run --gpus all, CoreX: --runtime iluvatar or --privileged)"
        )
        if device == "iluvatar_gpu":
            shown = "make them visible (docker run --runtime iluvatar, or --privileged -v /dev:/dev)"
        fix = f"{shown}, or fewer: STDC_DEVICES={visible}" if visible else f"{shown}, or take --device cpu"
        return Finding(PROBLEM, "devices", found, fix)
    if visible > asked:
        return Finding(OK, "devices", f"{found}; the others stay idle")
    return Finding(OK, "devices", found)


def check_shared_memory(free: Optional[int], plan: Plan) -> Finding:
    """/dev/shm: the collective library of several devices lives there; batches are in memory without a name.

    Args:
        free: bytes; None: there is no such folder, or it is not writable.
    """
    found = "not there or not writable" if free is None else f"{bytes_text(free)} free"
    if plan.device == "cpu" or plan.devices == 1:
        return Finding(OK, "/dev/shm", f"{found}; one process needs none, nor do ranks on the CPU")
    if free is None or free < _COLLECTIVE_BYTES:
        found = f"{found}; {plan.devices} devices exchange gradients here: {bytes_text(_COLLECTIVE_BYTES)}"
        return Finding(PROBLEM, "/dev/shm", found, "docker run --shm-size 8g (compose: shm_size), or --ipc host")
    return Finding(OK, "/dev/shm", found)


def check_memory(available: int, plan: Plan) -> Finding:
    """Main memory against the batches in flight and one process of Paddle per device."""
    needed = plan.memory_needs()
    found = f"{bytes_text(available)} available, about {bytes_text(needed)} needed for {plan.devices} process(es)"
    if available < needed:
        return Finding(WARNING, "memory", found, "fewer workers (hardware.workers), or a machine with more memory")
    return Finding(OK, "memory", found)


def check_disk(free: int, needs: Mapping[str, int], folder: str) -> Finding:
    """Free space against what the run will write."""
    needed = sum(needs.values())
    parts = ", ".join(f"{name} {bytes_text(count)}" for name, count in needs.items())
    found = f"{bytes_text(free)} free in {folder}, {bytes_text(needed)} needed ({parts})"
    fix = "free some space, lower train.keep_checkpoint_max, or run elsewhere with --directory"
    if free < needed:
        return Finding(PROBLEM, "disk", found, fix)
    if free < 2 * needed:
        return Finding(WARNING, "disk", found, fix)
    return Finding(OK, "disk", found)


def check_writable(error: Optional[str], folder: str) -> Finding:
    """Whether the run may write where it will."""
    if error:
        fix = 'in a container: docker run --user "$(id -u):$(id -g)" with a folder of yours at /results'
        return Finding(PROBLEM, "results folder", f"{folder}: {error}", fix)
    return Finding(OK, "results folder", f"{folder} is writable")


def check_evaluation(answer: Mapping[str, Any]) -> Finding:
    """Two images from file to confusion matrix; on a device, its logits against the CPU's.

    Args:
        answer: "error", or "pixels" counted, "expected" pixels, "finite", "difference" to the CPU (None on the CPU),
            "seconds".
    """
    name = "two images evaluated"
    if "error" in answer:
        fix = "the last lines above say why; with memory errors take a smaller size or free the device"
        return Finding(PROBLEM, name, answer["error"], fix)
    difference = answer["difference"]
    found = f"{answer['pixels']} pixels counted in {answer['seconds']:.1f} s"
    if answer["pixels"] != answer["expected"]:
        return Finding(PROBLEM, name, f"{found}, {answer['expected']} expected", "this Paddle computes wrongly here")
    if not answer["finite"]:
        return Finding(PROBLEM, name, f"{found}, logits are not finite", "this Paddle computes wrongly on this device")
    if difference is None:
        return Finding(OK, name, found)
    found += f", logits within {difference:.1e} of the CPU's"
    if difference > _LOGIT_TOLERANCE:
        return Finding(PROBLEM, name, found, f"more than {_LOGIT_TOLERANCE} is no rounding: check driver and SDK")
    return Finding(OK, name, found)


def check_probe_memory(name: str, answer: Mapping[str, Any]) -> Finding:
    """Peak memory of a trial at the run's own size.

    Args:
        answer: "error", "skipped" (with the reason), or "peak" and "total" bytes (None: not told) and "seconds".
    """
    if "skipped" in answer:
        return Finding(WARNING, name, f"not tried: {answer['skipped']}", "try it on the machine of the run")
    if "error" in answer:
        fix = "smaller crops or more devices for the same global batch; in evaluation fewer or smaller scales"
        return Finding(PROBLEM, name, answer["error"], fix)
    peak, total = answer["peak"], answer["total"]
    if peak is None:
        return Finding(OK, name, f"{answer['what']} fits, {answer['seconds']:.1f} s (memory is not told here)")
    found = f"{answer['what']}: peak {bytes_text(peak)} of {bytes_text(total)}, {answer['seconds']:.1f} s"
    if peak > 0.9 * total:
        return Finding(WARNING, name, found, "little is left: other programs on this device may end the run")
    return Finding(OK, name, found)


def check_ranks(answer: Mapping[str, Any]) -> Finding:
    """All-reduce between processes, started as training starts them.

    Args:
        answer: "error", "skipped" (with the reason), or "ranks", "bytes", "seconds", "correct",
            "sync_batch_norm" (what synchronizes batch norm, in words).
    """
    name = "all-reduce"
    if "skipped" in answer:
        return Finding(OK, name, f"not needed: {answer['skipped']}")
    if "error" in answer:
        fix = (
            "does the host name resolve to a reachable address (GLOO_SOCKET_IFNAME, NCCL_SOCKET_IFNAME)? "
            "NCCL_DEBUG=INFO says more; /dev/shm large enough?"
        )
        return Finding(PROBLEM, name, answer["error"], fix)
    found = f"{answer['ranks']} ranks, {bytes_text(answer['bytes'])} in {answer['seconds']:.3f} s"
    found += f"; batch norm is synchronized {answer['sync_batch_norm']}"
    if not answer["correct"]:
        return Finding(
            PROBLEM, name, f"{found}, wrong sum", "the collective library computes wrongly: check driver and SDK"
        )
    return Finding(OK, name, found)


def _first_line(output: str) -> str:
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    return lines[0] if lines else "no output"
