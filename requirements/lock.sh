#!/usr/bin/env bash
# Resolves the *.in files anew into hash locks; what is pinned already stays, unless --upgrade is given.
# Needs uv; UV names it where it is not on PATH.
set -euo pipefail
cd "$(dirname "$0")"

compile() {
    "${UV:-uv}" pip compile --quiet --generate-hashes --no-emit-index-url --custom-compile-command "make lock" "$@"
}

compile --universal --python-version 3.11 "$@" workflow.in --output-file workflow.lock
compile --universal --python-version 3.11 "$@" --constraint workflow.lock build.in --output-file build.lock
compile --universal --python-version 3.11 "$@" --override overrides.txt paddle-cpu.in --output-file paddle-cpu.lock
# Into the same environment, hence in agreement with it.
compile --universal --python-version 3.11 "$@" --constraint paddle-cpu.lock dev.in --output-file dev.lock
compile --universal --python-version 3.11 "$@" crate.in --output-file crate.lock
# The images: the Python of the CoreX SDK, and the Ubuntu 22.04 of NVIDIA's.
compile --universal --python-version 3.8 "$@" --override overrides.txt paddle-corex.in --output-file paddle-corex.lock
compile --python-platform x86_64-manylinux_2_28 --python-version 3.10 "$@" --override overrides.txt paddle-cuda.in \
    --output-file paddle-cuda.lock
compile --python-platform x86_64-manylinux_2_28 --python-version 3.10 "$@" --override overrides.txt paddle-corex3.in \
    --output-file paddle-corex3.lock
# The oldest interpreter and Paddle, into the environment of paddle-corex.lock.
compile --python-platform x86_64-manylinux_2_28 --python-version 3.8 "$@" --constraint paddle-corex.lock floor.in \
    --output-file floor.lock
compile --python-platform x86_64-manylinux_2_28 --python-version 3.8 "$@" --constraint paddle-corex.lock \
    --override floor-overrides.txt floor-paddle24.in --output-file floor-paddle24.lock
# The peers of `make parity`.
compile --universal --python-version 3.11 "$@" --override parity-overrides.txt parity-paddle3.in \
    --output-file parity-paddle3.lock
compile --python-platform x86_64-manylinux_2_28 --python-version 3.11 "$@" --override parity-overrides.txt \
    parity-paddle2.in --output-file parity-paddle2.lock
