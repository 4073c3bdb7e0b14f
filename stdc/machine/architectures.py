"""For which NVIDIA devices a wheel of Paddle has code."""

from __future__ import annotations

from typing import Sequence, Tuple

from stdc.errors import InputError

#: Compute capabilities that the device code of a wheel was compiled for, counted in its binaries. Code runs on devices
#: of the same major version and an equal or later minor one.
ARCHITECTURES: Sequence[Tuple[str, Sequence[Tuple[int, int]]]] = (
    ("2.4.", ((3, 5), (5, 0), (5, 2), (6, 0), (6, 1), (7, 0), (7, 5))),
    ("2.6.", ((6, 1), (7, 0), (7, 5), (8, 0), (8, 6))),
)

#: What a person with a later card does.
HOPPER = 'H100, H200 and later need Paddle 3: docker/README.md, "Hopper and later"'


def has_code_for(paddle_version: str, capability: Tuple[int, int]) -> bool:
    """Whether a wheel has device code for this compute capability; True for wheels that nobody has counted."""
    for version, architectures in ARCHITECTURES:
        # The vendor's own build for its cards, which call themselves CUDA devices.
        if paddle_version.startswith(version) and "corex" not in paddle_version:
            return any(capability[0] == major and capability[1] >= minor for major, minor in architectures)
    return True


def check_capability(paddle_version: str, capability: Tuple[int, int]) -> None:
    """Refuse a device that this Paddle's first operation would fail on, with an error that names neither.

    Raises:
        InputError: says which Paddle to take.
    """
    if not has_code_for(paddle_version, capability):
        fix = HOPPER if capability >= (9, 0) else "take a Paddle that was built for it"
        shown = f"{capability[0]}.{capability[1]}"
        raise InputError(
            f"device: its compute capability is {shown}, for which paddle {paddle_version} has no code; {fix}"
        )
