"""Which kernels our training and evaluation use, and whether this build of Paddle registers each of them for GPUs.

    python tests/devices/kernels/kernels.py [--write] [--json]

No GPU is needed: a training step is run on the CPU with Paddle's log turned up, and each (kernel, dtype) that it names
is looked up in the registry of the same build. `--write` keeps the answer in `tables.json`, which is what the tests
read where that build is not installed: it is written by Paddle 2.4.2 and 2.6.2 for CUDA (2.4.2 needs the stand-in for
libcudart where there is none) and, without a look-up, by a build for the CPU. Registered is not the same as correct or
fast.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any, Dict, Iterable, List, Mapping, Set, Tuple

HERE = Path(__file__).resolve().parent
TABLES = HERE / "tables.json"

#: What several GPUs use in place of the CPU's batch norm; no step on a CPU logs it.
GPU_ONLY = ("sync_batch_norm", "sync_batch_norm_grad")

_KEY = re.compile(r"\] (?P<api>\w+) API kernel key: \[\w+, [^,]+, (?P<dtype>[\w:]+)\]")
#: The same for the operations that Paddle 2.4 still runs through its older tracer.
_TRACED = re.compile(r"kernel name: (?P<name>\w+) \| kernel key: \(\w+, [^,]+, (?P<dtype>[\w:]+)\)")
_KERNEL = re.compile(r"\] (?P<name>\w+) (?:API )?kernel: \{")
#: Names of types in the registry, and in the log.
_TYPES = {
    "float": "float32", "double": "float64", "int": "int32", "int64_t": "int64", "uint8_t": "uint8", "int8_t": "int8",
    "int16_t": "int16", "bool": "bool",
}  # fmt: skip


def used(log: Iterable[str]) -> Dict[str, List[str]]:
    """{kernel: dtypes} of a log at GLOG_v=6, from where the trial begins."""
    found: Dict[str, Set[str]] = {}
    begun, dtype = False, ""
    for line in log:
        begun = begun or line.startswith("BEGIN")
        if not begun:
            continue
        key, kernel, traced = _KEY.search(line), _KERNEL.search(line), _TRACED.search(line)
        if traced:
            found.setdefault(traced["name"], set()).add(traced["dtype"])
        elif key:
            # The name of the kernel follows; it is not always that of the operation.
            dtype = key["dtype"]
        elif kernel and dtype:
            found.setdefault(kernel["name"], set()).add(dtype)
            dtype = ""
    return {name: sorted(dtypes) for name, dtypes in sorted(found.items())}


def run_step() -> Dict[str, List[str]]:
    """What `one_step.py` uses on this interpreter's Paddle."""
    environment = {**os.environ, "GLOG_v": "6", "GLOG_minloglevel": "0", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(HERE / "one_step.py")]
    result = subprocess.run(command, env=environment, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, check=False)
    lines = result.stderr.decode("utf-8", "replace").splitlines()
    if result.returncode != 0:
        raise RuntimeError("\n".join(lines[-20:]))
    return used(lines)


def registered_for_gpu(core: Any) -> Dict[str, Set[str]]:
    """{kernel: dtypes} of this build; empty where it was built for the CPU."""
    found: Dict[str, Set[str]] = {}
    for operation, keys in core._get_all_register_op_kernels("phi").items():
        name = core._get_phi_kernel_name(operation)
        for key in keys:
            if "place[Place(gpu" not in key:
                continue
            dtype = re.search(r"data_type\[([\w:]+)\]", key)
            if dtype:
                found.setdefault(name, set()).add(_TYPES.get(dtype[1], dtype[1]))
                found.setdefault(operation, set()).add(_TYPES.get(dtype[1], dtype[1]))
    return found


def missing(step: Dict[str, List[str]], registered: Dict[str, Set[str]]) -> List[Tuple[str, str]]:
    """The pairs (kernel, dtype) that a step uses and no GPU kernel is registered for."""
    wanted = {**step, **{name: ["float32"] for name in GPU_ONLY}}
    return [
        (name, dtype)
        for name, dtypes in sorted(wanted.items())
        for dtype in dtypes
        if dtype not in registered.get(name, ())
    ]


def look_up() -> Dict[str, Any]:
    """The table of this interpreter's Paddle: "used" and, where it was built for CUDA, "missing"."""
    import paddle

    core = getattr(paddle, "base", None) or paddle.fluid
    step = run_step()
    table: Dict[str, Any] = {"used": step}
    if paddle.is_compiled_with_cuda():
        table["missing"] = [list(pair) for pair in missing(step, registered_for_gpu(core.core))]
    return table


def ask(python: str, environment: Mapping[str, str]) -> Dict[str, Any]:
    """The table of another interpreter's Paddle, made now; `environment` is added to this process's own."""
    command = [python, str(Path(__file__).resolve()), "--json"]
    own = {**os.environ, **environment}
    if "paddle" in sys.modules:
        # Importing Paddle leaves its own folder of plug-ins in this process's environment.
        own.pop("CUSTOM_DEVICE_ROOT", None)
    result = subprocess.run(command, env=own, capture_output=True, text=True, check=False)
    if result.returncode != 0:
        raise RuntimeError(result.stderr[-2000:])
    return json.loads(result.stdout.splitlines()[-1])


def main() -> None:
    import paddle

    table = look_up()
    print(f"paddle {paddle.__version__}: {sum(map(len, table['used'].values()))} pairs of kernel and dtype are used")
    print(f"not registered for GPUs: {table.get('missing', 'not asked, this build is for the CPU')}")
    if "--write" in sys.argv[1:]:
        tables = json.loads(TABLES.read_text()) if TABLES.exists() else {}
        tables[paddle.__version__] = table
        TABLES.write_text(json.dumps(tables, indent=1, sort_keys=True) + "\n")
    if "--json" in sys.argv[1:]:
        print(json.dumps({"version": paddle.__version__, **table}))


if __name__ == "__main__":
    main()
