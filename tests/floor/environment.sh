#!/usr/bin/env bash
# environment.sh FOLDER PYTHON LOCK...
#
# A virtual environment in FOLDER that holds what the hash locks name, in this order. Does nothing where it is there already; an
# interrupted set-up is done anew. Two at a time: the second waits for the first. Fails soon where the package index does not answer.
set -euo pipefail
folder=$1 python=$2
shift 2
cd "$(dirname "$0")/../../requirements"

wanted="$python $(cat -- "$@" | sha256sum)"
mkdir -p "$(dirname "$folder")"
exec 9> "$folder.lock"
flock 9
if [[ -f $folder/.installed && $(< "$folder/.installed") == "$wanted" ]]; then
    exit
fi
echo "setting up $folder with $("$python" --version)"
rm -rf "$folder"
"$python" -m venv "$folder"
for lock in "$@"; do
    # Wheels that the cache keeps would take as much disk again.
    "$folder/bin/python" -m pip --disable-pip-version-check --no-cache-dir --retries 2 --timeout 30 install --quiet --require-hashes \
        --no-deps --only-binary=:all: -r "$lock"
done
echo "$wanted" > "$folder/.installed"
