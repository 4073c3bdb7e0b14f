#!/usr/bin/env bash
# up.sh start FOLDER | stop FOLDER
#
# A Kubernetes cluster of one node on loopback, with everything it keeps in FOLDER: etcd, API server, controllers, scheduler,
# kubelet and a Docker engine of its own. `start` prints the variables KUBECONFIG and DOCKER_HOST; `stop` ends what was started.
#
# Needs root, dockerd, runc, etcd, kubectl, openssl, gcc, python3, and the four daemons of Kubernetes 1.20 to 1.23 (the last with
# Docker inside the kubelet) on PATH or in KUBERNETES_BIN; docs/cluster.md says how they were built from Debian's source package.
# Pods must use hostNetwork: no network is set up.
set -euo pipefail
action=${1:-} folder=$(realpath -m "${2:?up.sh start|stop FOLDER}")
here=$(dirname "$(realpath "$0")")
export PATH=${KUBERNETES_BIN:+$KUBERNETES_BIN:}$PATH
daemons=(etcd apiserver controller-manager scheduler kubelet)

launch() {
    local name=$1
    shift
    setsid nohup "$@" > "$folder/$name.log" 2>&1 < /dev/null &
    echo $! > "$folder/$name.pid"
}

# until_ready NAME SECONDS COMMAND...: waits, and ends with the daemon's last lines where it does not come.
until_ready() {
    local name=$1 seconds=$2
    shift 2
    for _ in $(seq $((seconds * 2))); do
        "$@" > /dev/null 2>&1 && return
        sleep 0.5
    done
    echo "up.sh: $name does not answer within $seconds s:" >&2
    tail -n 8 "$folder/$name.log" >&2
    exit 1
}

stop() {
    local name pid
    for name in kubelet scheduler controller-manager apiserver etcd engine; do
        [[ -f $folder/$name.pid ]] || continue
        pid=$(< "$folder/$name.pid")
        if [[ $name == engine ]]; then
            # The kubelet is gone: nobody ends its containers.
            docker --host "unix://$folder/docker.sock" ps --quiet | xargs --no-run-if-empty docker --host "unix://$folder/docker.sock" kill > /dev/null 2>&1 || true
        fi
        kill "$pid" 2> /dev/null || true
        for _ in $(seq 100); do
            kill -0 "$pid" 2> /dev/null || break
            sleep 0.2
        done
        rm -f "$folder/$name.pid"
    done
    # Volumes of pods, the kubelet's folder, and the engine's name for the host's network.
    { grep -o " $folder/[^ ]*" /proc/mounts || true; } | sort -r | xargs --no-run-if-empty umount
}

start() {
    local port=16443 etcd_port=12379 name missing=()
    for name in dockerd runc etcd kubectl openssl gcc kube-apiserver kube-controller-manager kube-scheduler kubelet; do
        command -v "$name" > /dev/null || missing+=("$name")
    done
    if ((${#missing[@]})); then
        echo "up.sh: not on this machine: ${missing[*]}" >&2
        exit 3
    fi
    mkdir -p "$folder/certificates" "$folder/bin"
    cd "$folder"

    # Without CAP_SYS_RESOURCE, as inside many containers, the kernel refuses the negative oomScoreAdj that a kubelet asks for.
    install -m 755 "$here/runc" bin/runc
    REAL_RUNC=$(command -v runc) PATH=$folder/bin:$PATH launch engine dockerd --data-root "${DOCKER_DATA:-$folder/docker}" \
        --exec-root "$folder/exec" --pidfile "$folder/docker.pid" --host "unix://$folder/docker.sock" \
        --bridge=none --iptables=false --ip6tables=false
    until_ready engine 60 docker --host "unix://$folder/docker.sock" version
    printf '#include <unistd.h>\nint main(void) { for (;;) pause(); }\n' > pause.c
    gcc -static -Os -o bin/pause pause.c
    tar -C bin -c pause | docker --host "unix://$folder/docker.sock" import --change 'ENTRYPOINT ["/pause"]' - local/pause:1 > /dev/null

    openssl genrsa -out certificates/sa.key 2048 2> /dev/null
    openssl rsa -in certificates/sa.key -pubout -out certificates/sa.pub 2> /dev/null
    echo "$(openssl rand -hex 16),admin,1,system:masters" > certificates/tokens.csv
    launch etcd etcd --data-dir "$folder/etcd" --listen-client-urls "http://127.0.0.1:$etcd_port" \
        --advertise-client-urls "http://127.0.0.1:$etcd_port" --listen-peer-urls http://127.0.0.1:0
    launch apiserver kube-apiserver --etcd-servers "http://127.0.0.1:$etcd_port" --service-cluster-ip-range 10.96.0.0/24 \
        --bind-address 127.0.0.1 --advertise-address 127.0.0.1 --secure-port "$port" --insecure-port 0 \
        --cert-dir certificates --token-auth-file certificates/tokens.csv --authorization-mode AlwaysAllow \
        --service-account-issuer https://localhost --service-account-key-file certificates/sa.pub \
        --service-account-signing-key-file certificates/sa.key --disable-admission-plugins ServiceAccount
    {
        echo "apiVersion: v1"
        echo "kind: Config"
        echo "current-context: local"
        echo "clusters: [{name: local, cluster: {server: 'https://127.0.0.1:$port', insecure-skip-tls-verify: true}}]"
        echo "users: [{name: admin, user: {token: $(cut -d , -f 1 certificates/tokens.csv)}}]"
        echo "contexts: [{name: local, context: {cluster: local, user: admin}}]"
    } > kubeconfig
    chmod 600 kubeconfig certificates/*
    export KUBECONFIG=$folder/kubeconfig
    until_ready apiserver 120 kubectl get --raw /readyz
    launch controller-manager kube-controller-manager --kubeconfig kubeconfig --service-account-private-key-file certificates/sa.key \
        --cert-dir certificates --leader-elect=false --bind-address 127.0.0.1 --port 0
    launch scheduler kube-scheduler --kubeconfig kubeconfig --leader-elect=false --bind-address 127.0.0.1 --port 0
    launch kubelet kubelet --kubeconfig kubeconfig --root-dir "$folder/kubelet" --cert-dir certificates \
        --container-runtime docker --docker-endpoint "unix://$folder/docker.sock" --pod-infra-container-image local/pause:1 \
        --hostname-override localhost --address 127.0.0.1 --cgroup-driver cgroupfs --cgroups-per-qos=false \
        --enforce-node-allocatable= --eviction-hard= --image-gc-high-threshold 100 --fail-swap-on=false --healthz-port 0 --resolv-conf=
    until_ready kubelet 120 bash -c "kubectl get node localhost -o jsonpath='{.status.conditions[?(@.type==\"Ready\")].status}' | grep -q True"
    echo "KUBECONFIG=$folder/kubeconfig"
    echo "DOCKER_HOST=unix://$folder/docker.sock"
}

case $action in
    start | stop) "$action" ;;
    *)
        echo "up.sh: start or stop, not '$action'" >&2
        exit 2
        ;;
esac
