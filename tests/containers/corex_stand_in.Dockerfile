# What stands in for the image of the CoreX SDK, which is not public: an old system (glibc 2.31, Python 3.9) and an `ixsmi` that
# answers as documented for SDK 3.1.0. No card, no SDK, no Paddle.
ARG BASE_IMAGE=docker.io/library/debian:bullseye-slim
# hadolint ignore=DL3006
FROM ${BASE_IMAGE}
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends python3 \
    && rm -rf /var/lib/apt/lists/* \
    && mkdir -p /usr/local/corex-3.1.0/bin /usr/local/corex-3.1.0/lib64 \
    && ln -s corex-3.1.0 /usr/local/corex
COPY ixsmi /usr/local/corex-3.1.0/bin/ixsmi
