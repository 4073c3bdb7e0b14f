#!/usr/bin/env bash
# link_libraries.sh [FOLDER]
#
# Paddle 2 opens CUDA's libraries by names without a version (stdc/doctor/libraries.py), which only development packages
# have. Links each one that the loader knows by a versioned name alone from FOLDER (default: /usr/local/lib), and renews the
# loader's cache. Used while the cuda image is built; a base without such libraries (Paddle 3 brings them) stays as it is.
set -euo pipefail
folder=${1:-/usr/local/lib}
# For trials: another cache, "-C FILE FOLDER...".
read -r -a options <<< "${LDCONFIG_OPTIONS:-}"
ldconfig=$(command -v ldconfig || echo /sbin/ldconfig)

"$ldconfig" "${options[@]}"
known=$("$ldconfig" "${options[@]:0:2}" -p)
for name in cudnn cublas cublasLt curand cusolver cusparse nccl; do
    if ! grep -q "^[[:space:]]lib$name\.so " <<< "$known"; then
        library=$(sed -n "s/^[[:space:]]lib$name\.so\.[0-9.]* .* => //p" <<< "$known" | sort -V | tail -n 1)
        if [[ -n $library ]]; then
            ln -s "$library" "$folder/lib$name.so"
            echo "link_libraries.sh: $folder/lib$name.so -> $library"
        fi
    fi
done
"$ldconfig" "${options[@]}"
