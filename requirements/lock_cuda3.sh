#!/usr/bin/env bash
# Resolves paddle-cuda3.in into a hash lock. Its wheels are on Paddle's own index alone, so PADDLE_INDEX must name that index for the
# CUDA that is wanted (cu126, cu129, ...). Needs uv; UV names it where it is not on PATH.
set -euo pipefail
cd "$(dirname "$0")"

if [[ -z ${PADDLE_INDEX:-} ]]; then
    echo "lock-cuda3: PADDLE_INDEX=<address of Paddle's package index for your CUDA>; it is on Paddle's installation page" >&2
    exit 2
fi
# unsafe-best-match: of every other package the best version of both indexes, not what the first one happens to have.
"${UV:-uv}" pip compile --quiet --generate-hashes --no-emit-index-url --custom-compile-command "make lock-cuda3" \
    --python-platform x86_64-manylinux_2_28 --python-version 3.11 --override overrides.txt \
    --index "$PADDLE_INDEX" --index-strategy unsafe-best-match "$@" paddle-cuda3.in --output-file paddle-cuda3.lock
