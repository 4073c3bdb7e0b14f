#!/usr/bin/env bash
# Makes the environments of the peers under .venv/: parity-paddle3, parity-paddle2, parity-torch. Does nothing when they are there.
# Paddle 2.6 has wheels up to Python 3.12; PYTHON names the interpreter to use.
set -euo pipefail
cd "$(dirname "$0")/../.."

if [[ -z ${PYTHON:-} ]]; then
    for candidate in python3.11 python3.12; do
        if "$candidate" -c '' 2> /dev/null; then
            export PYTHON=$candidate
            break
        fi
    done
fi

requirements/install.sh parity-paddle3 parity-paddle3.lock
requirements/install.sh parity-paddle2 parity-paddle2.lock

# No hash lock: whether `torch` is the CPU or the CUDA build depends on the registry, and either will do. It only draws the
# reference; nothing of it enters the results of the pipeline.
torch=.venv/parity-torch
if ! "$torch/bin/python" -c 'import torch; assert torch.__version__.startswith("2.13.0")' 2> /dev/null; then
    echo "setting up $torch: torch 2.13.0"
    "${PYTHON:-python3}" -m venv --clear "$torch"
    "$torch/bin/python" -m pip --disable-pip-version-check install --quiet --progress-bar off torch==2.13.0 numpy
fi
