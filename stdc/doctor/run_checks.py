"""Findings on what a run needs: memory, disk, and what the trials of its steps answered. Pure functions of facts."""

from __future__ import annotations

from typing import Any, Mapping, Optional

from stdc.doctor.findings import OK, PROBLEM, WARNING, Finding
from stdc.doctor.plan import Plan
from stdc.units import bytes_text, counted

#: NCCL's advice for containers, whose default is 64 MB. Source: NCCL user guide, "Troubleshooting", shared memory.
_COLLECTIVE_BYTES = 1 << 30
#: A device's logits may differ from the CPU's by rounding, not by more. TF32 rounds at 1e-3 of values of order one.
_LOGIT_TOLERANCE = 0.05


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
    found = (
        f"{bytes_text(available)} available, about {bytes_text(needed)} needed for {counted(plan.devices, 'process')}"
    )
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


def check_frame_cache(free: int, cached: int, plan: Plan) -> Finding:
    """Whether decoded frames fit on the disk, and what they bring.

    Args:
        free: bytes where the cache is, or, where there is none, in the working directory.
        cached: bytes that frames take there already.
    """
    name = "frame cache"
    wanted = plan.frame_cache_bytes()
    if not plan.train_frames:
        return Finding(OK, name, "not estimated: the training images are still packed, or none are named")
    worth = f"decoded, {plan.train_frames} training frames take {bytes_text(wanted)}"
    room = free + cached
    if plan.frame_cache is None:
        gain = "a third of a sample's processor time, for hardware.frame_cache" if wanted <= room else "too much"
        return Finding(OK, name, f"off; {worth} of {bytes_text(room)} free here: {gain}")
    allowed = min(wanted, int(plan.frame_cache_gb * 1e9))
    found = f"{worth}; {bytes_text(room)} for it in {plan.frame_cache}, {bytes_text(allowed)} allowed"
    if room < allowed:
        fix = "the rest would be decoded for each sample: free some space, or name another folder or a lower"
        return Finding(WARNING, name, found, f"{fix} hardware.frame_cache_gb")
    if allowed < wanted:
        return Finding(OK, name, f"{found}: {100 * allowed / wanted:.0f} % of the frames, the others are decoded")
    return Finding(OK, name, found)


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
    whole = f" of {bytes_text(total)}" if total is not None else ""
    found = f"{answer['what']}: peak {bytes_text(peak)}{whole}, {answer['seconds']:.1f} s"
    if total is not None and peak > 0.9 * total:
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
