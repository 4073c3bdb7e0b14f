# A CPython for Snakemake (>= 3.11) that runs on images whose own Python is older: Ubuntu 20.04 (CoreX SDK 3.1.0),
# Ubuntu 22.04 (nvidia/cuda 11.8). Built on glibc 2.31, the oldest of them; everything but glibc lies in /opt/python.
# The other images copy /opt/python out of this one.

# For a release, pin the digest: debian:bullseye-slim@sha256:...
ARG BASE_IMAGE=docker.io/library/debian:bullseye-slim

# hadolint ignore=DL3006
FROM ${BASE_IMAGE} AS builder
SHELL ["/bin/bash", "-o", "pipefail", "-c"]
# The source is upstream's tarball as Debian carries it; the hash, not the mirror, says that it is the right one.
ARG DEBIAN_SUITE=trixie
ARG PYTHON_VERSION=3.13.5
ARG PYTHON_SHA256=93e583f243454e6e9e4588ca2c2662206ad961659863277afcdb96801647d640
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends \
        gcc libc6-dev make pkg-config xz-utils \
        libbz2-dev libffi-dev liblzma-dev libsqlite3-dev libssl-dev uuid-dev zlib1g-dev \
    && mirror="$(awk '$1 == "deb" {print $2; exit}' /etc/apt/sources.list)" \
    && printf 'deb-src %s %s main\n' "${mirror}" "${DEBIAN_SUITE}" > /etc/apt/sources.list.d/source.list \
    && apt-get update
WORKDIR /build
RUN apt-get source --download-only --only-source "python${PYTHON_VERSION%.*}=$(apt-cache showsrc "python${PYTHON_VERSION%.*}" \
        | awk -v upstream="${PYTHON_VERSION}-" '$1 == "Version:" && index($2, upstream) == 1 {print $2; exit}')" \
    && mv "python${PYTHON_VERSION%.*}_${PYTHON_VERSION}.orig.tar.xz" python.tar.xz \
    && printf '%s  python.tar.xz\n' "${PYTHON_SHA256}" | sha256sum --check --strict - \
    && tar --strip-components=1 -xf python.tar.xz
# DT_RPATH (not DT_RUNPATH) so that the bundled libssl finds the bundled libcrypto. No profile-guided optimization:
# it takes half an hour, and this interpreter only schedules.
RUN ./configure --prefix=/opt/python --quiet --disable-test-modules \
        LDFLAGS="-Wl,-rpath,/opt/python/lib -Wl,--disable-new-dtags" \
    && { make --silent -j "$(nproc)" > make.log 2>&1 || { tail -n 50 make.log; exit 1; }; }
RUN make --silent install > install.log 2>&1 || { tail -n 50 install.log; exit 1; }
RUN find /opt/python -name '*.a' -delete \
    && find /opt/python -depth -type d \( -name __pycache__ -o -name idlelib -o -name tkinter -o -name turtledemo \) -exec rm -rf {} + \
    && find /opt/python -name '*.so' -exec ldd {} + | awk '$2 == "=>" && $3 ~ /^\// {print $3}' | sort -u \
        | grep -v -E '/(libc|libm|libdl|libpthread|librt|libutil|libresolv|libnsl|ld-linux[^/]*)[.-]' \
        | xargs -I '{}' cp --dereference '{}' /opt/python/lib/ \
    && /opt/python/bin/python3 -c 'import bz2, ctypes, hashlib, lzma, sqlite3, ssl, uuid, zlib'

FROM scratch
ARG REVISION
LABEL org.opencontainers.image.title="CPython in /opt/python for the stdc images" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.licenses="PSF-2.0"
COPY --from=builder /opt/python /opt/python
USER 10001:10001
