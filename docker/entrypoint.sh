#!/usr/bin/env bash
# The first process of every stdc image: Snakemake on the pipeline of the image, results in /results.
# `doctor` as the first argument checks the machine instead.
#
# `docker stop` and Ctrl-C reach only this process. Snakemake alone would wait for a training to end, so the request is
# passed to every process of the container: the trainer saves a checkpoint, and the same command later goes on from it.
set -uo pipefail
home=/opt/stdc

if [[ ${1:-} == doctor ]]; then
    shift
    exec "$STDC_PYTHON" "$home/workflow/scripts/doctor.py" "$@"
fi

# An empty one is how a user says: no device, on the CPU. Snakemake would take it for a wrong name.
[[ -n ${SNAKEMAKE_PROFILE:-} ]] || unset SNAKEMAKE_PROFILE

snakemake --snakefile "$home/Snakefile" --directory /results "$@" &
snakemake=$!

stop() {
    echo "stop requested: saving, then ending; the same command goes on from here" >&2
    kill -TERM -1
}
trap stop TERM INT

while true; do
    wait "$snakemake"
    status=$?
    kill -0 "$snakemake" 2> /dev/null || exit "$status"
done
