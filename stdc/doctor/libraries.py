"""The libraries that Paddle opens by name once it computes on a GPU; importing Paddle does not miss them."""

from __future__ import annotations

import ctypes
from typing import List, Sequence

from stdc.errors import InputError

#: Read out of the loader in the wheels of paddlepaddle-gpu 2.4.2 and 2.6.2: without a version, as development packages
#: have them. Images with the runtime alone have libcudnn.so.8 and its like. Paddle 3 brings its own and opens those.
OPENED_BY_PADDLE_2 = (
    "libcudnn.so",
    "libcublas.so",
    "libcublasLt.so",
    "libcurand.so",
    "libcusolver.so",
    "libcusparse.so",
    "libnccl.so",
)


def opened_by(paddle_version: str) -> Sequence[str]:
    """Names that this Paddle's build for CUDA opens; () where it brings its own libraries."""
    return OPENED_BY_PADDLE_2 if paddle_version.startswith("2.") else ()


def missing(names: Sequence[str]) -> List[str]:
    """Those that the dynamic loader does not find, with its reason."""
    problems = []
    for name in names:
        try:
            ctypes.CDLL(name)
        except OSError as error:
            problems.append(f"{name} ({error})")
    return problems


def require() -> None:
    """While an image is built: refuse one in which the first operation on a GPU would fail.

    Raises:
        InputError: a library is not found; names all of them.
    """
    from importlib import metadata

    try:
        version = metadata.version("paddlepaddle-gpu")
    except metadata.PackageNotFoundError:
        raise InputError("no paddlepaddle-gpu in this environment") from None
    problems = missing(opened_by(version))
    if problems:
        raise InputError(
            f"paddlepaddle-gpu {version} opens libraries that are not here: {'; '.join(problems)}; take a base image "
            "that has them, or link the versioned ones to these names (docker/link_libraries.sh)"
        )
