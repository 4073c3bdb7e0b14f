#!/usr/bin/env bash
# The first process of every stdc image: Snakemake on the pipeline of the image, results in /results. Instead of Snakemake's
# arguments, the first word may be
#   doctor     check the machine; its options follow
#   bash, sh   look around inside; what follows is theirs
# One pod of several that share a training (PADDLE_NNODES above 1) runs Snakemake on node 0 and joins its trainings on the others.
#
# `docker stop`, the end of a pod and Ctrl-C reach only this process. Snakemake alone would wait for a training to end, so the
# request is passed to every process below it: the trainer saves a checkpoint, and the same command later goes on from it.
# Exit codes are Snakemake's: 0 done, 2 the input is wrong, 75 stopped on request (start again to go on), else a fault.
set -uo pipefail
home=$(dirname "$(dirname "$(realpath "$0")")")
directory=${STDC_DIRECTORY:-/results}

case ${1:-} in
    doctor)
        shift
        exec "$STDC_PYTHON" "$home/workflow/scripts/doctor.py" "$@"
        ;;
    bash | sh)
        exec "$@"
        ;;
    snakemake)
        shift
        ;;
esac

# An empty one is how a user says: no device, on the CPU. Snakemake would take it for a wrong name.
[[ -n ${SNAKEMAKE_PROFILE:-} ]] || unset SNAKEMAKE_PROFILE

# The folder is mounted by the user, and an engine makes a missing one for root.
if [[ ! -d $directory || ! -w $directory ]]; then
    owner=$(stat --format 'it belongs to %u:%g, mode %a' "$directory" 2> /dev/null || echo 'there is no such folder')
    echo "stdc: $directory: user $(id -u):$(id -g) cannot write there ($owner). Make the folder before it is mounted and run as" \
        "its owner: mkdir -p results; docker run --user \"\$(id -u):\$(id -g)\" -v \"\$PWD/results:$directory\" ...; in a pod:" \
        "securityContext.fsGroup" >&2
    exit 2
fi

# A person who names a target or an option means it of a run on all cores, as it is without arguments.
cores=(--cores all)
for word in "$@"; do
    case $word in
        --cores | --cores=* | -c* | --jobs | --jobs=* | -j* | --profile | --profile=* | --workflow-profile*) cores=() ;;
    esac
done

# Several pods share the trainings of one workflow, which runs on node 0.
join=("${STDC_PYTHON:-}" "$home/tools/join_training.py" --runs "$directory/runs")
if ((${PADDLE_NNODES:-1} > 1)); then
    mkdir -p "$directory/runs"
    node=$("${join[@]}" --number) || exit
    ((node == 0)) || exec "${join[@]}"
    export STDC_NODES_JOIN=1
fi

snakemake --snakefile "$home/Snakefile" --directory "$directory" "${cores[@]}" "$@" &
snakemake=$!
stopping=0

# Its descendants alone: with `--pid host` the rest of the machine is in sight too.
stop() {
    local -A chosen=([$snakemake]=1)
    local found=1 stat pid line parent
    stopping=1
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
    kill -0 "$snakemake" 2> /dev/null || break
done
case $status in
    137)
        echo "stdc: Snakemake was killed (SIGKILL), most often for want of memory: give the container more" \
            "(docker run --memory, limits.memory of a pod) or lower hardware.workers; the same command goes on" >&2
        ;;
    143)
        # Before Snakemake could take the request in its own way: nothing was begun.
        ((stopping)) && status=75
        ;;
esac
if [[ -n ${STDC_NODES_JOIN:-} ]]; then
    "${join[@]}" --over "$status"
fi
exit "$status"
