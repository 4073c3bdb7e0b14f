#!/usr/bin/env bash
# run.sh [PYTEST OPTION...]
#
# The unit tests on the oldest interpreter and the oldest Paddles, from hash locks:
#
#   .venv/floor           Python 3.8, else 3.9, with Paddle 2.6.2 for the CPU
#   .venv/floor-paddle24  Python 3.8 with Paddle 2.4.2, the nearest to the CoreX SDK's own 2.4.1; built for CUDA, so it runs
#                         with a stand-in for libcudart, on the CPU. The programs are tried there too (tests/devices).
#
# FLOOR_PYTHON names an interpreter. Says so and ends well where there is none. Both are tried, whatever the first one finds.
set -euo pipefail
cd "$(dirname "$0")/../.."
failed=0

# find_python MINOR...: the first Python 3.MINOR that runs.
find_python() {
    local candidate minor
    for minor in "$@"; do
        for candidate in ${FLOOR_PYTHON:-"python3.$minor" "$HOME"/.pyenv/versions/"3.$minor".*/bin/python"3.$minor"}; do
            # Run, not just found: a pyenv shim is there for versions that are not.
            if "$candidate" -c "import ensurepip, sys; sys.exit(sys.version_info[:2] != (3, $minor))" 2> /dev/null; then
                echo "$candidate"
                return
            fi
        done
    done
    return 1
}

# The vendor's way, see docker/corex.Dockerfile.
export PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION=python

if python=$(find_python 8 9); then
    tests/floor/environment.sh "$PWD/.venv/floor" "$python" paddle-corex.lock floor.lock
    .venv/floor/bin/python -m pytest tests/unit "$@" || failed=1
else
    echo "SKIPPED: the floor was not tested: no Python 3.8 or 3.9 here; name one: FLOOR_PYTHON=/path/to/python3.8" >&2
fi

if ! python=$(find_python 8); then
    echo "SKIPPED: Paddle 2.4 was not tested: no Python 3.8 here; name one: FLOOR_PYTHON=/path/to/python3.8" >&2
elif ! command -v gcc > /dev/null; then
    echo "SKIPPED: Paddle 2.4 was not tested: no gcc to build the stand-in for libcudart" >&2
else
    tests/floor/environment.sh "$PWD/.venv/floor-paddle24" "$python" paddle-corex.lock floor-paddle24.lock
    cudart=$(mktemp -d)
    trap 'rm -rf "$cudart"' EXIT
    "$python" tests/devices/build.py "$cudart"
    LD_LIBRARY_PATH=$cudart .venv/floor-paddle24/bin/python -m pytest tests/unit tests/devices/test_paddle24.py \
        tests/devices/test_kernels.py "$@" || failed=1
fi
exit "$failed"
