#!/bin/bash
# Everything that needs Debian packages only: sets up, builds, tests. From a fresh clone, and again.
#
#   tests/run.sh [STEP ...]      some of: static unit sanitize valgrind files fuzz onednn3 (all of these without STEP), and
#                                long: CRIS and the CNNs of the published sizes, minutes and 8 GB
#
# GRIDSEG_FUZZ_SECONDS  seconds a fuzz target (30)        CMAKE_PREFIX_PATH  the site's libraries: nothing is installed
# GRIDSEG_JOBS          builds and tests at once (cores)  GRIDSEG_SHARED     real data (../shared); without it those tests skip
#
# The last line counts what ran: `N passed, N failed, N skipped`. Exit code 0 when nothing failed.
set -u
cd "$(dirname "$0")/.." || exit 1
root=$PWD
logs=$root/build/tests-run
jobs=${GRIDSEG_JOBS:-$(nproc)}
steps=${*:-static unit sanitize valgrind files fuzz onednn3}
started=$SECONDS

# Ranks of a test share the cores with others: no binding, more ranks than cores, root as in a container.
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 OMPI_MCA_rmaps_base_oversubscribe=1
export OMPI_MCA_hwloc_base_binding_policy=none OMPI_MCA_btl_vader_single_copy_mechanism=none

mkdir -p "$logs"
results=$logs/results
: >"$results"

say() { printf '\n[%4d s] %s\n' $((SECONDS - started)) "$*"; }
record() { echo "$*" >>"$results"; } # passed|failed|skipped NAME
finish() {
  say "done"
  grep '^skipped' "$results"
  grep '^failed' "$results"
  echo "$(grep -c '^passed' "$results") passed, $(grep -c '^failed' "$results") failed, $(grep -c '^skipped' "$results") skipped"
  if grep -q '^failed' "$results" || ! grep -q '^passed' "$results"; then exit 1; fi
  exit 0
}
# One check: its output goes to the log and, when it fails, to the reader. Exit code 77 is a skip.
check() {
  local name=$1; shift
  local log=$logs/$name.log code
  "$@" >"$log" 2>&1
  code=$?
  case $code in
    0) record "passed $name"; echo "passed  $name ($(tail -n 1 "$log"))" ;;
    77) record "skipped $name"; echo "skipped $name: $(tail -n 1 "$log")" ;;
    *) record "failed $name"; tail -n 60 "$log"; echo "FAILED  $name (exit code $code)" ;;
  esac
  return $code
}
# Configure and build a preset; a build that fails is one failure.
build() {
  local preset=$1; shift
  local folder=build; [ "$preset" = release ] || folder=build-$preset
  local generator=; [ -f "$folder/CMakeCache.txt" ] || ! command -v ninja >/dev/null || generator='-G Ninja'
  # shellcheck disable=SC2086
  check "build-$preset" sh -c "cmake --preset $preset $generator $* >/dev/null && cmake --build $folder -j$jobs"
}
# ctest of a build folder; PREFIX names its tests in the count.
run_ctest() {
  local folder=$1 prefix=$2; shift 2
  local xml=$logs/ctest-$folder.xml
  rm -f "$xml"
  (cd "$folder" && ctest -j"$jobs" --output-on-failure --test-output-size-passed 1000000 --test-output-size-failed 1000000 \
    --output-junit "$xml" "$@") >"$logs/ctest-$folder.log" 2>&1
  if [ ! -s "$xml" ]; then tail -n 20 "$logs/ctest-$folder.log"; record "failed ctest-$folder"; return 1; fi
  python3 tests/count.py "$xml" "$prefix" >"$logs/counted" || record "failed count-$folder"
  cat "$logs/counted" >>"$results"
  # What failed is shown whole, what passed as one line a program.
  if grep -q '^failed' "$logs/counted"; then
    sed -n '/Start/,$p' "$logs/ctest-$folder.log" | tail -n 150
  else
    grep -E 'tests passed|Total Test time' "$logs/ctest-$folder.log"
  fi
}

say "set-up and build"
GRIDSEG_CMAKE_ARGS="${GRIDSEG_CMAKE_ARGS:-} -DCMAKE_BUILD_TYPE=RelWithDebInfo" \
  check set-up cluster/setup.sh --tests || finish
gridseg=$(find build -maxdepth 2 -name gridseg -type f -perm -u+x | head -n 1)
export GRIDSEG=${gridseg:+$root/$gridseg}

for step in $steps; do
  say "$step"
  case $step in
    static)
      check format tests/static/format.sh
      check tidy tests/static/tidy.sh build
      ;;
    unit)
      run_ctest build "" -LE long
      ;;
    long)
      run_ctest build "" -L long
      ;;
    sanitize)
      export ASAN_OPTIONS=fast_unwind_on_malloc=0:detect_leaks=1 UBSAN_OPTIONS=print_stacktrace=1
      export LSAN_OPTIONS=suppressions=$root/tests/lsan.supp:print_suppressions=0
      # Tests labelled slow, long or static add nothing under the sanitizers.
      build sanitize && run_ctest build-sanitize sanitize: -LE 'slow|long|static|nosan'
      unset ASAN_OPTIONS UBSAN_OPTIONS LSAN_OPTIONS
      ;;
    valgrind)
      tests/static/valgrind.sh build "$logs" | tee "$logs/valgrind.out"
      grep -E '^(passed|failed|skipped) ' "$logs/valgrind.out" >>"$results"
      ;;
    files)
      # Debian's Python has Debian's h5py; one that stands before it in the path may not.
      for script in tests/files/*.py; do
        check "$(basename "$script" .py)" "$(PATH=/usr/bin:$PATH command -v python3)" "$script"
      done
      ;;
    fuzz)
      if ! command -v clang >/dev/null; then
        record "skipped fuzz (no clang)"
      elif build fuzz; then
        tests/fuzz/run.sh build-fuzz | tee "$logs/fuzz.out"
        sed -n 's/^\(passed\|failed\) \([a-z0-9_]*\).*/\1 fuzz:\2/p' "$logs/fuzz.out" >>"$results"
      fi
      ;;
    onednn3)
      prefix=${ONEDNN3_PREFIX:-$root/build/onednn3}
      check onednn3-get tests/static/onednn3.sh "$prefix"
      if [ $? = 0 ]; then
        export ONEDNN3_PREFIX=$prefix
        build onednn3 && run_ctest build-onednn3 onednn3: -R 'backend|onednn|test_clipseg$'
      fi
      ;;
    *) echo "no step '$step'"; record "failed $step" ;;
  esac
done
finish
