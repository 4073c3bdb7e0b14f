#!/usr/bin/env bash
# build.sh [--engine docker|buildah] IMAGE [BUILD OPTION...]
#
# Builds docker/IMAGE.Dockerfile (python, cpu, cuda, corex) as stdc:IMAGE (python: stdc-python:3.13) with the commit in
# its labels. What follows IMAGE goes to the engine, for example --build-arg TRAIN_LOCK=paddle-cuda3.lock.
# PYTHON_BASE_IMAGE, CPU_BASE_IMAGE, CUDA_BASE_IMAGE and COREX_BASE_IMAGE name other bases than the Dockerfiles do.
# CA_BUNDLE and PIP_CONF name files that are handed over as build secrets; neither ends in a layer.
set -euo pipefail
cd "$(dirname "$0")/.."

engine=docker
if [[ ${1:-} == --engine ]]; then
    engine=$2
    shift 2
fi
if [[ $# -lt 1 || ! -f docker/$1.Dockerfile ]]; then
    echo "build.sh: name one of: $(cd docker && ls -- *.Dockerfile | sed 's/[.]Dockerfile//' | tr '\n' ' ')" >&2
    exit 2
fi
image=$1
shift
tag=stdc:$image
[[ $image == python ]] && tag=stdc-python:3.13

options=(--network host --file "docker/$image.Dockerfile" --tag "$tag")
base=${image^^}_BASE_IMAGE
[[ -n ${!base:-} ]] && options+=(--build-arg "BASE_IMAGE=${!base}")
if revision=$(git rev-parse HEAD 2> /dev/null); then
    dirty=0
    [[ -n $(git status --porcelain --untracked-files=no) ]] && dirty=1
    options+=(--build-arg "REVISION=$revision")
    [[ $image != python ]] && options+=(--build-arg "REVISION_DIRTY=$dirty")
fi
[[ -n ${CA_BUNDLE:-} ]] && options+=(--secret "id=ca_bundle,src=$CA_BUNDLE")
[[ -n ${PIP_CONF:-} ]] && options+=(--secret "id=pip_conf,src=$PIP_CONF")

# A client that can build: before version 23 each can, later ones need the buildx plugin. Debian's stands beside others' at times.
find_client() {
    local client major
    for client in ${DOCKER:-docker /usr/bin/docker}; do
        major=$("$client" version --format '{{.Client.Version}}' 2> /dev/null | cut -d . -f 1) || true
        if [[ -n $major ]] && { ((major < 23)) || "$client" buildx version > /dev/null 2>&1; }; then
            echo "$client"
            return
        fi
    done
    echo "build.sh: no docker client that can build (version 23 and later: install docker-buildx); or: --engine buildah" >&2
    return 2
}

case $engine in
    docker)
        client=$(find_client)
        # Old clients use BuildKit only when asked, new ones have nothing else.
        DOCKER_BUILDKIT=1 "$client" build --progress plain "${options[@]}" "$@" .
        ;;
    buildah)
        # No daemon and no cgroups: works where a CI machine forbids both. The docker format keeps SHELL and HEALTHCHECK.
        buildah bud --format docker --isolation chroot --layers "${options[@]}" "$@" .
        ;;
    *)
        echo "build.sh: --engine $engine; expected docker or buildah" >&2
        exit 2
        ;;
esac
