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


def build_plugin(folder: Path, headers: Path) -> Path:
    """The stand-in for the plug-in in `folder`, which then is a CUSTOM_DEVICE_ROOT; returns the library.

    Args:
        headers: `paddle.sysconfig.get_include()` of the Paddle that will load it.
    """
    library = folder / "libdouble.so"
    source = str(HERE / "plugin" / "double.cc")
    _compile("g++", "-std=c++17", "-Wno-cast-function-type", "-I", str(headers), source, "-lrt", output=library)
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
