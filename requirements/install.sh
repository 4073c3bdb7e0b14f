#!/usr/bin/env bash
# install.sh NAME LOCK...
#
# Makes .venv/NAME hold exactly what the hash locks name, in this order. Does nothing when it does so already: no network then.
# PYTHON names the interpreter to use; without it the first suitable one is taken. UV names the program uv, which installs in
# a fraction of pip's time; it is used where it is found, and pip where it is not or where it fails.
#
# A link is never followed to delete or to write: an environment behind one is used as it is, or left alone.
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

wanted_packages=$(cat -- "${@/#/requirements/}" | sha256sum | cut -c 1-64)

# An environment of somebody else's, linked: fit for use, or replaced by one of our own. What the link points to stays.
for link in .venv ".venv/$name"; do
    if [[ -L $link ]]; then
        if [[ -f $venv/.installed && $(< "$venv/.installed") == *" $wanted_packages" ]] && "$venv/bin/python" -c '' 2> /dev/null; then
            exit 0
        fi
        echo "install.sh: $link is a link to $(readlink "$link"), which does not hold what the locks name; making one here instead"
        rm "$link"
    fi
done

# One set-up at a time; the second then finds it done.
mkdir -p .venv
exec 9> .venv/.lock
flock 9

# The scripts of a venv name its place, so a moved checkout starts anew.
wanted="$venv $wanted_packages"
if [[ -f $venv/.installed && $(< "$venv/.installed") == "$wanted" && -x $venv/bin/python ]]; then
    exit 0
fi

python=$(find_python)
if ! "$python" -c 'import ensurepip, venv' 2> /dev/null; then
    echo "install.sh: $python has no venv module; on Debian and Ubuntu: apt install python3-venv" >&2
    exit 2
fi

# Another lock or place: from nothing, so that no forgotten package stays. No stamp: an interrupted set-up, which pip completes.
# The old one goes when the new one is complete, and comes back when that fails: a venv cannot be built elsewhere and moved.
old=.venv/.old-$name
if [[ -f $venv/.installed ]] || ! "$venv/bin/python" -c '' 2> /dev/null; then
    rm -rf "$old"
    if [[ -f $venv/.installed ]]; then
        mv "$venv" "$old"
        trap 'if [[ -d $old ]]; then rm -rf "$venv"; mv "$old" "$venv"; fi' EXIT
    fi
    rm -rf "$venv"
    "$python" -m venv "$venv"
fi
rm -f "$venv/.installed"

# With uv where there is one; it reads no settings of pip, so it is told the index and the certificates.
uv_install() {
    local uv index
    uv=$(command -v "${UV:-uv}") || return 1
    index=${PIP_INDEX_URL:-$("$venv/bin/python" -m pip config get global.index-url 2> /dev/null || true)}
    [[ -n $index ]] && export UV_DEFAULT_INDEX=${UV_DEFAULT_INDEX:-$index}
    [[ -n ${PIP_CERT:-} ]] && export SSL_CERT_FILE=${SSL_CERT_FILE:-$PIP_CERT}
    "$uv" pip install --quiet --python "$venv/bin/python" --require-hashes --no-deps "$@" || {
        echo "install.sh: uv could not install it; trying pip" >&2
        return 1
    }
}

for lock in "$@"; do
    echo "setting up .venv/$name: requirements/$lock, $(grep -c '^[a-z].*==' "requirements/$lock") packages$(
        [[ $lock == paddle-cpu.lock ]] && echo ', 1.5 GB, a minute or two'
    )"
    # A package without a wheel is built with the setuptools of build.lock.
    options=(--only-binary=:all:)
    [[ $lock == workflow.lock ]] && options+=(--no-binary=connection-pool --no-build-isolation)
    # Older versions of pip announce at length what later ones will do without these options; both do the same with them.
    uv_install "${options[@]}" -r "requirements/$lock" ||
        "$venv/bin/python" -m pip --disable-pip-version-check install --quiet --progress-bar off --require-hashes \
            --no-deps "${options[@]}" -r "requirements/$lock" 2> >(sed '/DEPRECATION: /d' >&2)
done
echo "$wanted" > "$venv/.installed"
rm -rf "$old"
