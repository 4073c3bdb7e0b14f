#!/usr/bin/env bash
# finish_venv.sh FOLDER...
#
# The last step for a virtual environment of an image: what only its making needed goes, and what stays is the same bytes in
# every build of the same locks. Compiled files are tied to their source by a hash instead of a time, and are not compared
# with it at each import; all times are SOURCE_DATE_EPOCH.
set -euo pipefail
export SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-1577836800}

for folder in "$@"; do
    packages=$(echo "$folder"/lib/python3*/site-packages)
    # In the image nothing is installed, nothing is compiled against Paddle, and no library tests itself: 0.2 GB.
    rm -rf "$folder"/bin/pip* "$packages"/pip "$packages"/pip-*.dist-info
    rm -rf "$packages/paddle/include" "$packages/onnx/backend/test" "$packages/Crypto/SelfTest"
    for package in pandas numpy matplotlib networkx; do
        [[ ! -d $packages/$package ]] || find "$packages/$package" -depth -type d -name tests -exec rm -rf {} +
    done
    find "$folder" -depth -type d -name __pycache__ -exec rm -rf {} +
    # Some packages carry examples that are no valid Python; what cannot be compiled is left as it is. Without -S the start
    # imports _distutils_hack, whose own compiled file then differs from build to build.
    "$folder/bin/python" -S -m compileall -q -j 0 --invalidation-mode unchecked-hash "$packages" > /dev/null || true
    find "$folder" -exec touch --no-dereference --date="@$SOURCE_DATE_EPOCH" {} +
done
