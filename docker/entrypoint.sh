#!/usr/bin/env bash
# The first process of every stdc image: Snakemake on the pipeline of the image, results in /results.
# `doctor` as the first argument checks the machine instead.
#
# `docker stop` and Ctrl-C reach only this process. Snakemake alone would wait for a training to end, so the request is
# passed to every process below it: the trainer saves a checkpoint, and the same command later goes on from it.
set -uo pipefail
home=$(dirname "$(dirname "$(realpath "$0")")")

if [[ ${1:-} == doctor ]]; then
    shift
    exec "$STDC_PYTHON" "$home/workflow/scripts/doctor.py" "$@"
fi

# An empty one is how a user says: no device, on the CPU. Snakemake would take it for a wrong name.
[[ -n ${SNAKEMAKE_PROFILE:-} ]] || unset SNAKEMAKE_PROFILE

snakemake --snakefile "$home/Snakefile" --directory "${STDC_DIRECTORY:-/results}" "$@" &
snakemake=$!

# Its descendants alone: with `--pid host` the rest of the machine is in sight too.
stop() {
    local -A chosen=([$snakemake]=1)
    local found=1 stat pid line parent
    echo "stop requested: saving, then ending; the same command goes on from here" >&2
    while ((found)); do
        found=0
        for stat in /proc/[0-9]*/stat; do
            pid=${stat//[!0-9]/}
            if [[ -z ${chosen[$pid]:-} ]] && { read -r line < "$stat"; } 2> /dev/null; then
                # pid (name) state parent ...; the name may hold spaces and brackets.
                read -r _ parent _ <<< "${line##*) }"
                if [[ -n ${chosen[$parent]:-} ]]; then
                    chosen[$pid]=1
                    found=1
                fi
            fi
        done
    done
    kill -TERM "${!chosen[@]}" 2> /dev/null
}
trap stop TERM INT

while true; do
    wait "$snakemake"
    status=$?
    kill -0 "$snakemake" 2> /dev/null || exit "$status"
done
