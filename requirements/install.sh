#!/usr/bin/env bash
# install.sh NAME LOCK...
#
# Makes .venv/NAME hold exactly what the hash locks name, in this order. Does nothing when it does so already: no network then.
# PYTHON names the interpreter to use; without it the first suitable one is taken.
set -euo pipefail
cd "$(dirname "$0")/.."

name=$1
shift
venv=$PWD/.venv/$name

find_python() {
    local candidate candidates=(python3 python3.13 python3.12 python3.11)
    [[ -n ${PYTHON:-} ]] && candidates=("$PYTHON")
    for candidate in "${candidates[@]}"; do
        # Run, not just found: a pyenv shim is there for versions that are not.
        if "$candidate" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' 2> /dev/null; then
            echo "$candidate"
            return
        fi
    done
    {
        echo "install.sh: no Python 3.11, 3.12 or 3.13 (tried ${candidates[*]});"
        echo "  install one, or name it: make setup PYTHON=/path/to/python3.11"
    } >&2
    exit 2
}

# One set-up at a time; the second then finds it done.
mkdir -p .venv
exec 9> .venv/.lock
flock 9

# The scripts of a venv name its place, so a moved checkout starts anew.
wanted="$venv $(cat -- "${@/#/requirements/}" | sha256sum | cut -c 1-64)"
if [[ -f $venv/.installed && $(< "$venv/.installed") == "$wanted" && -x $venv/bin/python ]]; then
    exit 0
fi

python=$(find_python)
if ! "$python" -c 'import ensurepip, venv' 2> /dev/null; then
    echo "install.sh: $python has no venv module; on Debian and Ubuntu: apt install python3-venv" >&2
    exit 2
fi

# Another lock or place: from nothing, so that no forgotten package stays. No stamp: an interrupted set-up, which pip completes.
if [[ -f $venv/.installed ]] || ! "$venv/bin/python" -c '' 2> /dev/null; then
    rm -rf "$venv"
    "$python" -m venv "$venv"
fi
rm -f "$venv/.installed"

for lock in "$@"; do
    echo "setting up .venv/$name: requirements/$lock, $(grep -c '^[a-z].*==' "requirements/$lock") packages$(
        [[ $lock == paddle-cpu.lock ]] && echo ', 1.5 GB, a minute or two'
    )"
    # A package without a wheel is built with the setuptools of build.lock.
    options=(--only-binary=:all:)
    [[ $lock == workflow.lock ]] && options+=(--no-binary=connection-pool --no-build-isolation)
    "$venv/bin/python" -m pip --disable-pip-version-check install --quiet --progress-bar off --require-hashes --no-deps \
        "${options[@]}" -r "requirements/$lock"
done
echo "$wanted" > "$venv/.installed"
