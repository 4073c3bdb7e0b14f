#!/usr/bin/env bash
# base_image.sh SUITE IMAGE
#
# Makes a Debian base image (bookworm, bullseye …) from the packages that apt is set up for, where no image registry can be
# reached: base_image.sh bookworm local/debian:bookworm. Needs root, debootstrap and a running Docker engine.
set -euo pipefail
suite=$1 image=$2

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
if ! debootstrap --variant=minbase --include=ca-certificates "$suite" "$folder/root" > "$folder/log" 2>&1; then
    tail -n 20 "$folder/log" >&2
    exit 1
fi
tar -C "$folder/root" --numeric-owner --exclude='./var/cache/apt/archives/*.deb' --exclude='./var/lib/apt/lists/*' -c . \
    | docker import --change 'CMD ["/bin/bash"]' \
        --change 'ENV PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin' - "$image"
