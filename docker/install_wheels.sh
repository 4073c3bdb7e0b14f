#!/usr/bin/env bash
# install_wheels.sh PYTHON FOLDER
#
# Installs the vendor's wheels of FOLDER, after their SHA256SUMS; without any, insists that PYTHON has a Paddle already.
# Used while the corex image is built.
set -euo pipefail
python=$1 folder=$2
cd "$folder"

shopt -s nullglob
wheels=(*.whl)
if [[ ${#wheels[@]} -gt 0 ]]; then
    if [[ ! -f SHA256SUMS ]]; then
        echo "install_wheels.sh: docker/wheels/ has wheels but no SHA256SUMS; write it from the vendor's figures" >&2
        exit 1
    fi
    sha256sum --check --strict SHA256SUMS
    for wheel in "${wheels[@]}"; do
        if ! grep -q -F -- "$wheel" SHA256SUMS; then
            echo "install_wheels.sh: $wheel is not in SHA256SUMS" >&2
            exit 1
        fi
    done
    # Only from the folder, and nothing that the wheels ask for: that is in the lock.
    "$python" -m pip install --quiet --no-index --no-deps "${wheels[@]}"
elif ! "$python" -c 'import importlib.util, sys; sys.exit(importlib.util.find_spec("paddle") is None)'; then
    echo "install_wheels.sh: no wheel in docker/wheels/ and no Paddle in the base image; put the vendor's wheel" >&2
    echo "  (paddlepaddle-2.4.1+corex.3.1.0 for SDK 3.1.0) and a SHA256SUMS into docker/wheels/" >&2
    exit 1
fi
