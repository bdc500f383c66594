#!/bin/sh
# clang-tidy (checks: .clang-tidy) over our own sources, two at a time, for at most GRIDSEG_TIDY_SECONDS (300).
#
#   tests/static/tidy.sh BUILD      BUILD holds compile_commands.json
#
# Files that were not reached in time are counted; exit 77 when there is no clang-tidy.
set -u
cd "$(dirname "$0")/../.."
tidy=$(command -v clang-tidy-14 || command -v clang-tidy) || { echo "no clang-tidy here"; exit 77; }
limit=${GRIDSEG_TIDY_SECONDS:-300}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
find src cluster data_prep results -name '*.c' 2>/dev/null | sort >"$work/files"
grep -F "\"file\":" "$1/compile_commands.json" | sed 's/.*"file": "\(.*\)".*/\1/' >"$work/known"
while read -r file; do # what this build leaves out (another backend, say) is not looked at
  grep -qxF "$PWD/$file" "$work/known" && echo "$file"
done <"$work/files" >"$work/list"
# GCC's warning names are unknown to clang; that alone is no finding.
timeout "$limit" xargs -r -P 2 -n 1 sh -c '
  '"$tidy"' -p "$1" --quiet --extra-arg=-Wno-unknown-warning-option "$3" >"$2/$(echo "$3" | tr / _).out" 2>&1
  echo "$3" >>"$2/done"' sh "$1" "$work" <"$work/list"
total=$(wc -l <"$work/list")
reached=$(sort -u "$work/done" 2>/dev/null | wc -l)
[ "$reached" = "$total" ] || echo "clang-tidy reached $reached of $total files in $limit s"
found=$(cat "$work"/*.out 2>/dev/null | grep -E ': (error|warning): ' | sort -u)
[ -z "$found" ] || { echo "$found"; exit 1; }
[ "$reached" -gt 0 ] || { echo "clang-tidy looked at no file"; exit 1; }
echo "clang-tidy: $reached files"
