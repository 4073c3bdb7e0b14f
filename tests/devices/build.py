"""Builds the stand-ins of this folder with the compiler of this machine."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent

#: The name that the wheel of paddlepaddle-gpu 2.4.2 is linked against.
CUDART = "libcudart.so.10.2"


def build_cudart(folder: Path) -> Path:
    """The stand-in for libcudart in `folder`, which then belongs on LD_LIBRARY_PATH; returns the library."""
    library = folder / CUDART
    _compile(
        "gcc", "-Wno-builtin-declaration-mismatch", f"-Wl,-soname,{CUDART}",
        f"-Wl,--version-script={HERE / 'cudart' / 'versions.map'}", str(HERE / "cudart" / "stub.c"),
        output=library,
    )  # fmt: skip
    return library


def build_plugin(folder: Path, headers: Path, wrong_norm: bool = False) -> Path:
    """The stand-in for the plug-in in `folder`, which then is a CUSTOM_DEVICE_ROOT; returns the library.

    Args:
        headers: `paddle.sysconfig.get_include()` of the Paddle that will load it.
        wrong_norm: it brings a kernel for synchronized batch norm that looks at each rank's own batch alone.
    """
    library = folder / "libdouble.so"
    options = ["-std=c++17", "-Wno-cast-function-type", "-I", str(headers), str(HERE / "plugin" / "double.cc")]
    if wrong_norm:
        # Paddle's own headers of kernels are not free of warnings.
        options += [
            "-w",
            "-DPADDLE_WITH_CUSTOM_DEVICE",
            "-DPADDLE_WITH_CUSTOM_KERNEL",
            "-I",
            str(headers / "third_party"),
        ]
        options += [str(HERE / "plugin" / "local_norm.cc"), "-L", str(headers.parent / "libs"), "-lphi_core", "-lphi"]
        options += ["-lcommon"]
    _compile("g++", *options, "-lrt", output=library)
    return library


def missing_compiler() -> str:
    """The compiler that is not here; empty: both are."""
    return next((name for name in ("gcc", "g++") if shutil.which(name) is None), "")


def _compile(compiler: str, *arguments: str, output: Path) -> None:
    command = [compiler, "-shared", "-fPIC", "-O1", "-Wall", "-Wextra", *arguments, "-o", str(output)]
    subprocess.run(command, check=True, capture_output=True, text=True)


if __name__ == "__main__":
    # For `make floor`: the stand-in for libcudart in the folder that is named.
    print(build_cudart(Path(sys.argv[1])))
