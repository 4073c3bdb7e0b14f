#!/usr/bin/env bash
# create_venv.sh [--system-site-packages] PYTHON FOLDER LOCK...
#
# A virtual environment that holds the packages of the locks and nothing else: every file is checked against its hash,
# nothing is resolved, nothing is compiled but the one package that has no wheel. Used while an image is built.
set -euo pipefail

venv_options=()
if [[ ${1:-} == --system-site-packages ]]; then
    venv_options+=("$1")
    shift
fi
python=$1 folder=$2
shift 2

# Build secrets, both optional: a private certificate authority and a pip.conf that names another index.
if [[ -s /run/secrets/ca_bundle ]]; then
    export PIP_CERT=/run/secrets/ca_bundle SSL_CERT_FILE=/run/secrets/ca_bundle
fi
if [[ -s /run/secrets/pip_conf ]]; then
    export PIP_CONFIG_FILE=/run/secrets/pip_conf
fi
export PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1

"$python" -m venv "${venv_options[@]}" "$folder"
for lock in "$@"; do
    # connection-pool, which Snakemake needs, is published as source only; without build isolation it is built by the
    # setuptools of the lock before, which was checked by hash too.
    # finish_venv.sh compiles.
    "$folder/bin/python" -m pip install --quiet --no-compile --require-hashes --no-deps --only-binary=:all: \
        --no-binary=connection-pool --no-build-isolation --requirement "$lock"
done
