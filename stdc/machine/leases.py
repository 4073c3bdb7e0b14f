"""Which devices of this machine a process computes on, where several compute side by side.

A lease is the kernel's lock on one small file per device. Programs that were started beside each other, by one run or
by several, each take the first devices that are free; a lease ends with its process, also at `kill -9`. Where a
scheduler has given a job exactly the devices that it asked for, there is nothing to share out and no lease.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import socket
import stat
import tempfile
import time
from pathlib import Path
from typing import Any, Dict, Iterator, List, Mapping, MutableMapping, Optional, Tuple

from stdc.errors import RunError
from stdc.machine import ranks
from stdc.progress import Log

#: Where leases lie, instead of the machine's shared memory; "0" takes none.
FOLDER_VARIABLE = "STDC_LEASES"
#: What a process that holds a lease tells the ranks that it starts, and itself where it begins again.
LEASE_VARIABLE = "STDC_LEASE"

#: What hides devices, by kind of device. The first one that is set says which may be used; a lease sets all of them.
#: The plug-in computes through CoreX, which obeys CUDA's variable; Paddle's launcher reads that of the plug-in's name.
_VARIABLES: Mapping[str, Tuple[str, ...]] = {
    "gpu": ("CUDA_VISIBLE_DEVICES",),
    "iluvatar_gpu": ("ILUVATAR_GPU_VISIBLE_DEVICES", "CUDA_VISIBLE_DEVICES"),
}
_DEVICE_FILES = re.compile(r"(nvidia|iluvatar)\d+")
#: Numbers of a job of SLURM, PBS and LSF. In a job devices may be numbered from 0 again, so leases are the job's own.
_JOBS = ("SLURM_JOB_ID", "PBS_JOBID", "LSB_JOBID")
_SHARED_MEMORY = Path("/dev/shm")
_GATE = "gate"
#: A training takes hours, and who waits behind one wants its device.
LIMIT_S = 24 * 3600.0


def current(environment: Optional[Mapping[str, str]] = None) -> Optional[Dict[str, Any]]:
    """The lease that this process or its watcher holds: {"devices", "of", "others"}; None without one.

    `devices` are entries of the variable that hides the others, `of` is how many there were to choose from, `others`
    how many of them were taken already.
    """
    held = _told(os.environ if environment is None else environment)
    return None if held is None else {key: held[key] for key in ("devices", "of", "others")}


@contextlib.contextmanager
def leased(
    device: str,
    count: int,
    log: Log,
    *,
    limit_s: float = LIMIT_S,
    environment: Optional[MutableMapping[str, str]] = None,
    poll_s: float = 1.0,
) -> Iterator[None]:
    """Hold `count` devices, and hide the others from this process; call it before paddle is imported.

    Takes none for a CPU, where it is not known which devices there are, or where a scheduler gave exactly so many.

    Args:
        device: kind of device, see `stdc.machine.kinds.KINDS`.
        limit_s: how long to wait for devices that others hold.
        environment: changed where a lease is taken; this process's own by default.
    Raises:
        RunError: still held by others after `limit_s` seconds; names the holders.
    """
    variables = os.environ if environment is None else environment
    if ranks.in_rank():
        # Its watcher holds the lease for all ranks.
        yield
        return
    before = _told(variables)
    if before is not None:
        # This process has begun again: what it held ended with its former self, and what was hidden then is in sight.
        _restore(variables, before["before"])
    folder = _folder(variables)
    visible = None if device not in _VARIABLES or folder is None else _visible(device, variables)
    given = visible is not None and len(visible) == count and any(name in variables for name in _JOBS)
    if folder is None or not visible or len(visible) < count or given:
        # Fewer than are needed is told, in words of its own, by whoever counts them with Paddle.
        yield
        return
    files = _open(folder, [f"{_GATE}-{_safe(device)}", *(_file_name(device, entry, variables) for entry in visible)])
    hidden = {name: variables.get(name) for name in _VARIABLES[device]}
    try:
        taken, others = _wait(files, count, log=log, limit_s=limit_s, poll_s=poll_s)
        devices = [visible[place] for place in taken]
        for name in hidden:
            variables[name] = ",".join(devices)
        variables[LEASE_VARIABLE] = json.dumps(
            {"devices": devices, "of": len(visible), "others": others, "before": hidden}
        )
        if len(visible) > count:
            log(f"device {', '.join(devices)} of {', '.join(visible)}")
        yield
    finally:
        for handle in files:
            os.close(handle)
        if LEASE_VARIABLE in variables:
            _restore(variables, hidden)


def held_by_others(device: str, environment: Optional[Mapping[str, str]] = None) -> int:
    """How many leases other processes of this machine hold for devices of a kind, whether this one sees them or not."""
    variables = os.environ if environment is None else environment
    folder = _folder(variables)
    if folder is None or not folder.is_dir():
        return 0
    own = set((current(variables) or {}).get("devices", ()))
    mine = {_file_name(device, entry, variables) for entry in own}
    count = 0
    for path in folder.glob(f"{_safe(device)}-*"):
        if path.name not in mine:
            with contextlib.suppress(OSError):
                handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
                try:
                    # Asked for an instant; who wants the device at this instant tries again within a second.
                    count += not _free(handle)
                finally:
                    os.close(handle)
    return count


def _told(environment: Mapping[str, str]) -> Optional[Dict[str, Any]]:
    try:
        held = json.loads(environment.get(LEASE_VARIABLE, ""))
        return held if isinstance(held, dict) and {"devices", "of", "others", "before"} <= set(held) else None
    except ValueError:
        return None


def _restore(environment: MutableMapping[str, str], hidden: Mapping[str, Optional[str]]) -> None:
    environment.pop(LEASE_VARIABLE, None)
    for name, value in hidden.items():
        if value is None:
            environment.pop(name, None)
        else:
            environment[name] = value


def _folder(environment: Mapping[str, str]) -> Optional[Path]:
    """Where leases of all users of this machine lie, and of no other machine; None: none are to be taken."""
    told = environment.get(FOLDER_VARIABLE, "")
    if told:
        return None if told == "0" else Path(told)
    if _SHARED_MEMORY.is_dir():
        return _SHARED_MEMORY / "stdc-devices"
    return Path(tempfile.gettempdir()) / f"stdc-devices-{_safe(socket.gethostname())}"


def _visible(device: str, environment: Mapping[str, str]) -> Optional[List[str]]:
    """The devices that this process may use, as the variables name them; None: not known without asking Paddle."""
    told = next((environment[name] for name in _VARIABLES[device] if name in environment), None)
    if told is not None and told != "all":
        entries: List[str] = []
        for entry in (part.strip() for part in told.split(",")):
            # As CUDA does: a device named twice hides all, and the list ends at the first entry that is no device.
            if entry in entries:
                return []
            if not re.fullmatch(r"\d+|GPU-[\w-]+|MIG-[\w/-]+", entry):
                break
            entries.append(entry)
        return entries
    files = [path for path in Path("/dev").iterdir() if _DEVICE_FILES.fullmatch(path.name)]
    # A container or a scheduler's cgroup shows files that it forbids to open; the others are numbered from 0.
    count = sum(os.access(path, os.R_OK | os.W_OK) and _opens(path) for path in files)
    return [str(number) for number in range(count)] or None


def _opens(path: Path) -> bool:
    try:
        os.close(os.open(path, os.O_RDWR | os.O_CLOEXEC))
    except OSError:
        return False
    return True


def _safe(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9]", "_", text)


def _file_name(device: str, entry: str, environment: Mapping[str, str]) -> str:
    job = next((f"{name}_{environment[name]}" for name in _JOBS if name in environment), "machine")
    return f"{_safe(device)}-{_safe(job)}-{_safe(entry)}"


def _open(folder: Path, names: List[str]) -> List[int]:
    """Descriptors of the gate and of one file per device; none inherited by programs that this process starts."""
    handles: List[int] = []
    try:
        if not folder.is_dir():
            with contextlib.suppress(FileExistsError):
                folder.mkdir(parents=True)
                # For all users of the machine, none of whom can remove another one's files.
                folder.chmod(stat.S_ISVTX | 0o777)
        for name in names:
            handles.append(_open_file(folder / name))
    except OSError as error:
        for handle in handles:
            os.close(handle)
        raise RunError(
            f"{error.filename or folder}: {error.strerror}; leases of devices lie there. Name another folder by the "
            f"variable {FOLDER_VARIABLE}, or set it to 0 where nothing else computes on this machine"
        ) from None
    return handles


def _open_file(path: Path) -> int:
    flags = os.O_CLOEXEC | os.O_NOFOLLOW
    try:
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | flags, 0o666)
        os.fchmod(handle, 0o666)
        return handle
    except FileExistsError:
        pass
    try:
        return os.open(path, os.O_RDWR | flags)
    except PermissionError:
        # Another user's: a lock needs no more than reading.
        return os.open(path, os.O_RDONLY | flags)


def _wait(handles: List[int], count: int, *, log: Log, limit_s: float, poll_s: float) -> Tuple[List[int], int]:
    """Places of the devices that were taken, and how many others are held; the first handle is the gate's."""
    gate, files = handles[0], handles[1:]
    deadline = time.monotonic() + limit_s
    waiting = False
    while True:
        if _lock(gate):
            # Behind the gate, so that two processes that need several devices do not hold half of them each.
            taken: List[int] = []
            for place, handle in enumerate(files):
                if len(taken) < count and _lock(handle):
                    taken.append(place)
            others = sum(place not in taken and not _free(handle) for place, handle in enumerate(files))
            if len(taken) == count:
                for place in taken:
                    _sign(files[place])
                fcntl.flock(gate, fcntl.LOCK_UN)
                return taken, others
            for place in taken:
                fcntl.flock(files[place], fcntl.LOCK_UN)
            fcntl.flock(gate, fcntl.LOCK_UN)
        holders = "; ".join(dict.fromkeys(_holder(handle) for handle in files if not _free(handle)))
        if not waiting:
            log(f"waiting for {count} of {len(files)} devices, {limit_s:.0f} s at most; held by {holders or 'others'}")
            waiting = True
        if time.monotonic() > deadline:
            raise RunError(
                f"devices: {count} of {len(files)} needed, but for {limit_s:.0f} s they were held by "
                f"{holders or 'others'}; wait for them, or make others visible"
            )
        time.sleep(poll_s)


def _lock(handle: int) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _free(handle: int) -> bool:
    """Whether nobody holds it. Ask of handles without a lock alone: theirs would be given up."""
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    fcntl.flock(handle, fcntl.LOCK_UN)
    return True


def _sign(handle: int) -> None:
    """Say who holds it, for those who wait. Another user's file cannot be written, and then says what it said."""
    with contextlib.suppress(OSError):
        text = f"process {os.getpid()} since {time.strftime('%Y-%m-%d %H:%M:%S')}\n"
        os.ftruncate(handle, 0)
        os.pwrite(handle, text.encode(), 0)


def _holder(handle: int) -> str:
    with contextlib.suppress(OSError, UnicodeDecodeError):
        text = os.pread(handle, 200, 0).decode("ascii").strip()
        if text.isprintable() and text:
            return text
    return "another process"
