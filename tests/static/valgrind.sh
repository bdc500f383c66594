#!/bin/sh
# Runs the test programs labelled `valgrind` under memcheck, one rank.
#
#   tests/static/valgrind.sh BUILD LOGS
#
# Prints `passed|failed|skipped valgrind:NAME`. oneDNN is held to instructions that valgrind 3.19 knows.
set -u
cd "$(dirname "$0")/../.."
command -v valgrind >/dev/null || { echo "skipped valgrind (not here)"; exit 0; }
export ONEDNN_MAX_CPU_ISA=AVX2 DNNL_MAX_CPU_ISA=AVX2 OMP_NUM_THREADS=2
(cd "$1" && ctest -L valgrind --show-only=json-v1) |
  python3 -c 'import json,sys
for t in json.load(sys.stdin)["tests"]: print(t["name"], t["command"][-1])' >"$2/valgrind.list"
[ -s "$2/valgrind.list" ] || { echo "skipped valgrind (no test is labelled so)"; exit 0; }
while read -r name program; do
  log=$2/valgrind-$name.log
  timeout 300 valgrind --error-exitcode=99 --leak-check=full --errors-for-leak-kinds=definite --track-fds=no -q \
    --suppressions=/usr/share/openmpi/openmpi-valgrind.supp --suppressions=tests/valgrind.supp \
    "$program" >"$log" 2>&1 </dev/null
  code=$?
  case $code in
    0) echo "passed valgrind:$name" ;;
    77) echo "skipped valgrind:$name" ;;
    *) tail -n 40 "$log"; echo "failed valgrind:$name (exit code $code)" ;;
  esac
done <"$2/valgrind.list"
