#!/bin/sh
# Puts oneDNN 3.x (C library for libgomp, from PyPI) into PREFIX, for the build that shows that both versions compile and
# agree: Debian 12 has 2.6 only. Exit code 77 where it cannot be had (no pip, no network).
set -u
[ $# = 1 ] || { echo "usage: onednn3.sh PREFIX" >&2; exit 2; }
[ -f "$1/include/oneapi/dnnl/dnnl.h" ] && { echo "oneDNN 3 is in $1"; exit 0; }
python3 -m pip --version >/dev/null 2>&1 || { echo "oneDNN 3.x cannot be had: no pip"; exit 77; }
log=$(mktemp)
trap 'rm -f "$log"' EXIT
for extra in '' --break-system-packages; do
  # shellcheck disable=SC2086
  timeout 300 python3 -m pip install -q $extra --prefix "$1" --ignore-installed --no-deps --no-warn-script-location \
    onednn-devel-cpu-gomp==2023.2.0 onednn-cpu-gomp==2023.2.0 >"$log" 2>&1 && break
done
# Debian's pip puts --prefix installs under local/.
[ -d "$1/local/include" ] && ! [ -e "$1/include" ] && ln -s local/include "$1/include" && ln -s local/lib "$1/lib"
[ -f "$1/include/oneapi/dnnl/dnnl.h" ] || { tail -n 3 "$log"; echo "oneDNN 3.x cannot be had here"; exit 77; }
echo "oneDNN 3 is in $1"
