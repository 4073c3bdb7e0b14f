#!/usr/bin/env bash
# run.sh [PYTEST OPTION...]
#
# The unit tests on the oldest interpreter that can be had (Python 3.8, else 3.9) with the oldest Paddle that can (2.6.2), from
# hash locks, in .venv/floor. FLOOR_PYTHON names an interpreter. Says so and ends well where there is none.
set -euo pipefail
cd "$(dirname "$0")/../.."

find_python() {
    local candidate
    for candidate in ${FLOOR_PYTHON:-python3.8 "$HOME"/.pyenv/versions/3.8.*/bin/python3.8 python3.9 "$HOME"/.pyenv/versions/3.9.*/bin/python3.9}; do
        # Run, not just found: a pyenv shim is there for versions that are not.
        if "$candidate" -c 'import ensurepip, sys; sys.exit(sys.version_info >= (3, 10))' 2> /dev/null; then
            echo "$candidate"
            return
        fi
    done
    return 1
}

if ! python=$(find_python); then
    echo "SKIPPED: the floor was not tested: no Python 3.8 or 3.9 here; name one: FLOOR_PYTHON=/path/to/python3.8" >&2
    exit 0
fi

venv=.venv/floor
wanted="$python $(cat requirements/paddle-corex.lock requirements/floor.lock | sha256sum)"
if [[ ! -f $venv/.installed || $(< "$venv/.installed") != "$wanted" ]]; then
    echo "setting up $venv with $("$python" --version)"
    rm -rf "$venv"
    "$python" -m venv "$venv"
    for lock in paddle-corex.lock floor.lock; do
        "$venv/bin/python" -m pip --disable-pip-version-check install --quiet --require-hashes --no-deps --only-binary=:all: \
            -r "requirements/$lock"
    done
    echo "$wanted" > "$venv/.installed"
fi

# The vendor's way, see docker/corex.Dockerfile.
export PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION=python
exec "$venv/bin/python" -m pytest tests/unit "$@"
