# What stands in for nvidia/cuda:11.8.0-cudnn8-runtime-ubuntu22.04 where no image registry can be reached: a Debian with libraries of
# the names that a runtime image of CUDA 11.8 has, each with its version and each empty. No CUDA, no cuDNN, no NCCL.
ARG BASE_IMAGE=docker.io/library/debian:bookworm-slim
# hadolint ignore=DL3006
FROM ${BASE_IMAGE} AS builder
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends gcc libc6-dev \
    && rm -rf /var/lib/apt/lists/* \
    && mkdir -p /usr/local/cuda-11.8/lib64
WORKDIR /usr/local/cuda-11.8/lib64
RUN echo 'int stand_in;' > /tmp/stand_in.c \
    && for name in cudnn.so.8 cublas.so.11 cublasLt.so.11 curand.so.10 cusolver.so.11 cusparse.so.11 nccl.so.2; do \
        gcc -shared -fPIC /tmp/stand_in.c -Wl,-soname,"lib$name" -o "lib$name" || exit 1; \
    done

# hadolint ignore=DL3006
FROM ${BASE_IMAGE}
COPY --from=builder /usr/local/cuda-11.8 /usr/local/cuda-11.8
RUN echo /usr/local/cuda-11.8/lib64 > /etc/ld.so.conf.d/cuda.conf && ldconfig
