# stdc on the CPU: the whole pipeline, no accelerator, no network needed at run time.

# For a release, pin the digest: debian:bookworm-slim@sha256:...
ARG BASE_IMAGE=docker.io/library/debian:bookworm-slim

# hadolint ignore=DL3006
FROM ${BASE_IMAGE} AS base
SHELL ["/bin/bash", "-o", "pipefail", "-c"]
# Logs and caches differ from build to build, and no program here needs another user's rights.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends ca-certificates libgomp1 python3 \
    && rm -rf /var/lib/apt/lists/* /var/cache/apt/* /var/cache/ldconfig/* /var/log/* \
    && find / -xdev -type f -perm /6000 -exec chmod a-s {} +

FROM base AS builder
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends python3-venv \
    && rm -rf /var/lib/apt/lists/*
COPY docker/create_venv.sh docker/finish_venv.sh /build/
COPY requirements/build.lock requirements/workflow.lock requirements/paddle-cpu.lock /build/
RUN --mount=type=secret,id=ca_bundle,required=false --mount=type=secret,id=pip_conf,required=false \
    bash /build/create_venv.sh python3 /opt/workflow /build/build.lock /build/workflow.lock \
    && /opt/workflow/bin/python -m pip check
RUN --mount=type=secret,id=ca_bundle,required=false --mount=type=secret,id=pip_conf,required=false \
    bash /build/create_venv.sh python3 /opt/train /build/paddle-cpu.lock
RUN bash /build/finish_venv.sh /opt/workflow /opt/train

FROM base AS runtime
ARG BASE_IMAGE
# The commit (40 hex digits), and 1 where the tree differed from it; docker/build.sh tells both.
ARG REVISION
ARG REVISION_DIRTY
LABEL org.opencontainers.image.title="stdc" \
      org.opencontainers.image.description="STDC-Seg on Cityscapes, reproduced: PaddlePaddle on the CPU" \
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
ENV PATH=/opt/workflow/bin:/usr/local/bin:/usr/bin:/bin \
    STDC_PYTHON=/opt/train/bin/python \
    STDC_COMMIT="${REVISION}" STDC_COMMIT_DIRTY="${REVISION_DIRTY}" \
    STDC_DIRECTORY=/results HOME=/tmp USER=stdc LOGNAME=stdc XDG_CACHE_HOME=/tmp/cache MPLCONFIGDIR=/tmp/matplotlib \
    PYTHONDONTWRITEBYTECODE=1
RUN mkdir --mode=1777 /results && mkdir /data
VOLUME ["/results"]
WORKDIR /opt/stdc
USER 10001:10001
HEALTHCHECK NONE
ENTRYPOINT ["/opt/stdc/docker/entrypoint.sh"]
CMD ["--cores", "all"]
