# stdc on NVIDIA GPUs. Two routes, one file:
#
#   Paddle 2.6.2 (the default)  base with CUDA 11.8 and cuDNN 8; the wheel is on the general index
#   Paddle 3.x                  any recent slim base, TRAIN_LOCK=paddle-cuda3.lock; the wheels bring CUDA with them, but lie on
#                               Paddle's own index alone: make the lock first (`make lock-cuda3`), give the index by PIP_CONF

# For a release, pin the digests.
ARG BASE_IMAGE=docker.io/nvidia/cuda:11.8.0-cudnn8-runtime-ubuntu22.04
# Snakemake's interpreter, docker/python.Dockerfile: Ubuntu 22.04 has Python 3.10, Snakemake needs 3.11.
ARG PYTHON_IMAGE=stdc-python:3.13

# hadolint ignore=DL3006
FROM ${PYTHON_IMAGE} AS python

# hadolint ignore=DL3006
FROM ${BASE_IMAGE} AS base
SHELL ["/bin/bash", "-o", "pipefail", "-c"]
ENV DEBIAN_FRONTEND=noninteractive
# Logs and caches differ from build to build, and no program here needs another user's rights.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends ca-certificates libgomp1 python3 \
    && rm -rf /var/lib/apt/lists/* /var/cache/apt/* /var/cache/ldconfig/* /var/log/* \
    && find / -xdev -type f -perm /6000 -exec chmod a-s {} +
COPY --from=python /opt/python /opt/python
# The base has libcudnn.so.8 and its like; Paddle 2 opens libcudnn.so.
COPY docker/link_libraries.sh /build/
RUN bash /build/link_libraries.sh

FROM base AS builder
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends python3-venv \
    && rm -rf /var/lib/apt/lists/*
ARG TRAIN_LOCK=paddle-cuda.lock
COPY docker/create_venv.sh docker/finish_venv.sh /build/
COPY requirements/build.lock requirements/workflow.lock requirements/${TRAIN_LOCK} /build/
RUN --mount=type=secret,id=ca_bundle,required=false --mount=type=secret,id=pip_conf,required=false \
    bash /build/create_venv.sh /opt/python/bin/python3 /opt/workflow /build/build.lock /build/workflow.lock \
    && /opt/workflow/bin/python -m pip check
RUN --mount=type=secret,id=ca_bundle,required=false --mount=type=secret,id=pip_conf,required=false \
    bash /build/create_venv.sh python3 /opt/train "/build/${TRAIN_LOCK}"
RUN bash /build/finish_venv.sh /opt/workflow /opt/train

FROM base AS runtime
ARG BASE_IMAGE
# The commit (40 hex digits), and 1 where the tree differed from it; docker/build.sh tells both.
ARG REVISION
ARG REVISION_DIRTY
LABEL org.opencontainers.image.title="stdc" \
      org.opencontainers.image.description="STDC-Seg on Cityscapes, reproduced: PaddlePaddle on NVIDIA GPUs" \
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
# SNAKEMAKE_PROFILE: the device settings; --profile on the command line takes its place, an empty value means the CPU.
ENV PATH=/opt/workflow/bin:${PATH} \
    STDC_PYTHON=/opt/train/bin/python \
    STDC_COMMIT="${REVISION}" STDC_COMMIT_DIRTY="${REVISION_DIRTY}" \
    STDC_DEVICE=gpu SNAKEMAKE_PROFILE=/opt/stdc/profiles/cuda \
    NVIDIA_VISIBLE_DEVICES=all NVIDIA_DRIVER_CAPABILITIES=compute,utility \
    STDC_DIRECTORY=/results HOME=/tmp USER=stdc LOGNAME=stdc XDG_CACHE_HOME=/tmp/cache MPLCONFIGDIR=/tmp/matplotlib \
    PYTHONDONTWRITEBYTECODE=1
RUN mkdir --mode=1777 /results && mkdir /data
VOLUME ["/results"]
WORKDIR /opt/stdc
# Importing Paddle does not miss a library of CUDA's; its first operation on a GPU does. No GPU is needed to look for them.
# 0: for a trial on a base without CUDA, whose image cannot compute on a GPU.
ARG CHECK_LIBRARIES=1
RUN if [ "${CHECK_LIBRARIES}" = 1 ]; then /opt/train/bin/python -c "from stdc.doctor.libraries import require; require()"; fi
USER 10001:10001
HEALTHCHECK NONE
ENTRYPOINT ["/opt/stdc/docker/entrypoint.sh"]
CMD ["--cores", "all"]
