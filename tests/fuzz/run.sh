#!/bin/sh
# Runs every fuzz target of BUILD/tests/fuzz for GRIDSEG_FUZZ_SECONDS (30) each, two at a time, from the seeds in the repository.
#
#   tests/fuzz/run.sh BUILD
#
# Prints `passed NAME`, or `failed NAME` with the end of its log and where the input is kept; fails when one failed.
set -u
here=$(cd "$(dirname "$0")" && pwd)
build=$(cd "$1" && pwd)/tests/fuzz
seconds=${GRIDSEG_FUZZ_SECONDS:-30}
export ASAN_OPTIONS=fast_unwind_on_malloc=1:detect_leaks=1:allocator_may_return_null=1
export LSAN_OPTIONS=suppressions=$here/../lsan.supp:print_suppressions=0
export UBSAN_OPTIONS=print_stacktrace=1

run_one() {
  program=$1
  name=$(basename "$program"); name=${name#fuzz_}
  work=$build/work-$name
  mkdir -p "$work/corpus" "$work/found"
  set -- "$work/corpus"
  [ -d "$here/seeds/$name" ] && set -- "$@" "$here/seeds/$name"
  # One CPU minute, no more than two of wall time; a single input may take 10 s and 2 GiB.
  if timeout $((seconds * 2 + 60)) "$program" -max_total_time="$seconds" -timeout=10 -rss_limit_mb=2048 -max_len=65536 \
      -print_final_stats=1 -artifact_prefix="$work/found/" "$@" >"$work/log" 2>&1; then
    runs=$(sed -n 's/^stat::number_of_executed_units: *//p' "$work/log")
    echo "passed $name (${runs:-?} inputs)"
  else
    echo "failed $name: $work/log, input in $work/found"
    tail -n 25 "$work/log" | sed 's/^/    /'
  fi
}

if [ "${2:-}" = --one ]; then
  run_one "$3"
  exit 0
fi
out=$(find "$build" -maxdepth 1 -name 'fuzz_*' -type f -perm -u+x | sort |
      xargs -r -n 1 -P 2 "$0" "$1" --one)
printf '%s\n' "$out"
! printf '%s\n' "$out" | grep -q '^failed '
