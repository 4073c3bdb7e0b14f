# stdc on Iluvatar cards. Two device models, one file:
#
#   SDK 3.1.0 to 4.x (the default)  Paddle's vendor build `+corex` takes the card for a CUDA one: device `gpu`
#   Paddle 3 with the plug-in       TRAIN_LOCK=paddle-corex3.lock STDC_DEVICE=iluvatar_gpu: device `iluvatar_gpu`
#
# Neither the SDK's image nor the wheels are public. Both come from the vendor and are inputs here: the image as BASE_IMAGE,
# the wheels in docker/wheels/ with their SHA256SUMS. Without wheels, the base must hold a Paddle of its own.

# The name that the vendor's docker installer gives to the image it makes.
ARG BASE_IMAGE=corex:3.1.0
# Snakemake's interpreter, docker/python.Dockerfile. Its glibc 2.31 is that of Ubuntu 20.04; a CentOS 7 base needs one built on
# an older system.
ARG PYTHON_IMAGE=stdc-python:3.13

# hadolint ignore=DL3006
FROM ${PYTHON_IMAGE} AS python

# hadolint ignore=DL3006
FROM ${BASE_IMAGE} AS base
# The SDK's images start as root, but say so nowhere. The next stages need it; the last one gives it up.
# hadolint ignore=DL3002
USER 0:0
SHELL ["/bin/bash", "-o", "pipefail", "-c"]
ENV DEBIAN_FRONTEND=noninteractive
# Logs and caches differ from build to build, and no program here needs another user's rights.
# Some releases of the SDK stand on Ubuntu, some on CentOS. libGL is for images whose own OpenCV is not the headless one.
# hadolint ignore=DL3008,DL3032,DL3033
RUN if command -v apt-get > /dev/null; then \
        apt-get update \
        && apt-get install -y --no-install-recommends ca-certificates libgl1 libglib2.0-0 libgomp1 \
        && rm -rf /var/lib/apt/lists/*; \
    elif command -v yum > /dev/null; then \
        yum install -y ca-certificates mesa-libGL glib2 libgomp && yum clean all; \
    else \
        echo "corex.Dockerfile: the base has neither apt-get nor yum" >&2; exit 1; \
    fi \
    && rm -rf /var/cache/apt/* /var/cache/ldconfig/* /var/log/* \
    && find / -xdev -type f -perm /6000 -exec chmod a-s {} +
COPY --from=python /opt/python /opt/python

FROM base AS builder
# The interpreter that the SDK's Paddle was built for; 3.8 by all evidence, its name differs between releases.
ARG SDK_PYTHON=python3
# hadolint ignore=DL3008
RUN if ! "${SDK_PYTHON}" -c 'import ensurepip, venv' 2> /dev/null; then \
        apt-get update && apt-get install -y --no-install-recommends python3-venv && rm -rf /var/lib/apt/lists/*; \
    fi
ARG TRAIN_LOCK=paddle-corex.lock
COPY docker/create_venv.sh docker/finish_venv.sh docker/install_wheels.sh /build/
COPY requirements/build.lock requirements/workflow.lock requirements/${TRAIN_LOCK} /build/
RUN --mount=type=secret,id=ca_bundle,required=false --mount=type=secret,id=pip_conf,required=false \
    bash /build/create_venv.sh /opt/python/bin/python3 /opt/workflow /build/build.lock /build/workflow.lock \
    && /opt/workflow/bin/python -m pip check
RUN --mount=type=secret,id=ca_bundle,required=false --mount=type=secret,id=pip_conf,required=false \
    bash /build/create_venv.sh --system-site-packages "${SDK_PYTHON}" /opt/train "/build/${TRAIN_LOCK}"
# A pattern, since the folder may be absent; the scripts beside it are the match that is always there.
COPY docker/install_wheels.sh docker/wheels*/* /build/wheels/
RUN bash /build/install_wheels.sh /opt/train/bin/python /build/wheels \
    && bash /build/finish_venv.sh /opt/workflow /opt/train

FROM base AS runtime
ARG BASE_IMAGE
# gpu, or iluvatar_gpu for Paddle 3 with the plug-in.
ARG STDC_DEVICE=gpu
# The commit (40 hex digits), and 1 where the tree differed from it; docker/build.sh tells both.
ARG REVISION
ARG REVISION_DIRTY
LABEL org.opencontainers.image.title="stdc" \
      org.opencontainers.image.description="STDC-Seg on Cityscapes, reproduced: PaddlePaddle on Iluvatar cards" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.base.name="${BASE_IMAGE}"
COPY --from=builder /opt/workflow /opt/workflow
COPY --from=builder /opt/train /opt/train
COPY Snakefile pyproject.toml LICENSE* /opt/stdc/
COPY config /opt/stdc/config
COPY profiles /opt/stdc/profiles
COPY workflow /opt/stdc/workflow
COPY tools /opt/stdc/tools
COPY stdc /opt/stdc/stdc
COPY docker/entrypoint.sh /opt/stdc/docker/
# Any user may be given with --user, known to the image or not, so nothing depends on a home folder.
# Both library folders: the vendor's documents use one or the other. The pure Python protobuf is what the vendor's own Paddle
# examples run with.
ENV PATH=/opt/workflow/bin:/usr/local/corex/bin:${PATH} \
    LD_LIBRARY_PATH=/usr/local/corex/lib64:/usr/local/corex/lib${LD_LIBRARY_PATH:+:${LD_LIBRARY_PATH}} \
    PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION=python \
    STDC_PYTHON=/opt/train/bin/python \
    STDC_COMMIT="${REVISION}" STDC_COMMIT_DIRTY="${REVISION_DIRTY}" \
    STDC_DEVICE="${STDC_DEVICE}" \
    SNAKEMAKE_PROFILE=/opt/stdc/profiles/corex \
    IX_VISIBLE_DEVICES=all \
    STDC_DIRECTORY=/results HOME=/tmp USER=stdc LOGNAME=stdc XDG_CACHE_HOME=/tmp/cache MPLCONFIGDIR=/tmp/matplotlib \
    PYTHONDONTWRITEBYTECODE=1
RUN mkdir -m 1777 /results && mkdir -p /data
VOLUME ["/results"]
WORKDIR /opt/stdc
USER 10001:10001
HEALTHCHECK NONE
ENTRYPOINT ["/opt/stdc/docker/entrypoint.sh"]
CMD ["--cores", "all"]
