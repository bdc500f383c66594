#!/bin/sh
# Are our C files as clang-format 14 leaves them? Names those that are not; `--fix` mends them.
set -u
cd "$(dirname "$0")/../.."
format=$(command -v clang-format-14 || command -v clang-format) || { echo "no clang-format here"; exit 77; }
files=$(find src cluster data_prep results tests -name '*.[ch]' 2>/dev/null | sort)
if [ "${1:-}" = --fix ]; then
  # shellcheck disable=SC2086
  exec "$format" -i $files
fi
# shellcheck disable=SC2086
out=$("$format" --dry-run $files 2>&1 | sed -n 's/^\([^:]*\):[0-9]*:.*/\1/p' | sort | uniq -c)
[ -z "$out" ] || { echo "not as clang-format leaves them (places, file); tests/static/format.sh --fix mends them:"; echo "$out"; exit 1; }
