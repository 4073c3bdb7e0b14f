"""Findings on drivers and devices. Pure functions of facts that come in as arguments."""

from __future__ import annotations

import re
from typing import Dict, Optional, Sequence

from stdc.doctor.findings import OK, PROBLEM, WARNING, Finding
from stdc.doctor.software_checks import version_of
from stdc.machine.architectures import HOPPER, has_code_for

#: First driver branch of each CUDA release family. Source: NVIDIA, CUDA Compatibility, "Minor Version Compatibility".
_OLDEST_DRIVER = {11: (450, 80, 2), 12: (525, 60, 13), 13: (580, 65, 6)}


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


def check_no_driver(nvidia: Optional[str], iluvatar: Optional[str]) -> Finding:
    """On the CPU none is needed; a card that stays idle is worth a word."""
    idle = [name for name, output in (("nvidia-smi", nvidia), ("ixsmi", iluvatar)) if output is not None]
    note = f"; {' and '.join(idle)} answers, but the run is on the CPU" if idle else ""
    return Finding(OK, "driver", f"not needed on the CPU{note}")


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
    fix = HOPPER if max(unfit) >= (9, 0) else "take a Paddle that was built for these devices"
    return Finding(PROBLEM, "compute capability", f"{named}: paddle {paddle_version} has no code for it", fix)


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


def _first_line(output: str) -> str:
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    return lines[0] if lines else "no output"
