#!/usr/bin/env bash
# engine.sh start FOLDER | stop FOLDER
#
# A Docker engine of one's own with everything it keeps in FOLDER, for machines without a running one, such as CI's. Needs root and
# `dockerd`; touches no network settings, so containers get the host's network or none. `start` prints its DOCKER_HOST.
set -euo pipefail
action=${1:-} folder=$(realpath -m "${2:?engine.sh start|stop FOLDER}")
socket=unix://$folder/docker.sock

case $action in
    start)
        mkdir -p "$folder"
        dockerd --data-root "$folder/data" --exec-root "$folder/exec" --pidfile "$folder/pid" --host "$socket" \
            --bridge=none --iptables=false --ip6tables=false > "$folder/log" 2>&1 < /dev/null &
        for _ in $(seq 100); do
            if DOCKER_HOST=$socket docker version > /dev/null 2>&1; then
                echo "$socket"
                exit 0
            fi
            # Ended already: the log says why.
            kill -0 $! 2> /dev/null || break
            sleep 0.3
        done
        tail -n 5 "$folder/log" >&2
        exit 1
        ;;
    stop)
        if [[ -f $folder/pid ]]; then
            pid=$(< "$folder/pid")
            kill "$pid" 2> /dev/null || true
            for _ in $(seq 100); do
                kill -0 "$pid" 2> /dev/null || break
                sleep 0.3
            done
        fi
        ;;
    *)
        echo "engine.sh: start or stop, not '$action'" >&2
        exit 2
        ;;
esac
