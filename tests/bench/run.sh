#!/bin/bash
# gridseg beside PyTorch on this machine, in one run: same threads, cases in turn, medians and ratios at the end.
#
#   tests/bench/run.sh [--rounds N] [--quick] [NAME ...]
#
#   NAME       a case as `gridseg bench` names it (all): clipseg_train_towers_fp32 clipseg_train_towers_bf16
#              clipseg_train_store_fp32 clipseg_train_store_bf16 clipseg_eval_10_prompts clipseg_finetune_fp32 read_pool pack
#   --rounds   how often each pair of programs is timed (3); the finetuning always once
#   --quick    leaves out torch.compile (a minute and a half to compile) and the finetuning (about fifteen minutes)
#
# Wants a built gridseg ($GRIDSEG, else build/), a Python with torch ($GRIDSEG_PEER_VENV, else build/peer-venv as
# tests/peer/run.sh makes it) and real images ($GRIDSEG_SHARED, else ../shared). Other programs on the machine spoil it: the
# load is printed. Results: build/bench/lines.jsonl, and a table of medians and ratios on standard output.
set -u
cd "$(dirname "$0")/../.." || exit 1
rounds=3 quick=no names=
while [ $# -gt 0 ]; do
  case "$1" in
    --rounds) rounds=$2; shift ;;
    --quick) quick=yes ;;
    -*) sed -n '2,15s/^# \{0,1\}//p' "$0" >&2; exit 2 ;;
    *) names="$names $1" ;;
  esac
  shift
done
export GRIDSEG_SHARED=${GRIDSEG_SHARED:-$PWD/../shared}
threads=${OMP_NUM_THREADS:-2}
export OMP_NUM_THREADS=$threads
python=${GRIDSEG_PEER_VENV:-$PWD/build/peer-venv}/bin/python
gridseg=${GRIDSEG:-$(find build -maxdepth 2 -name gridseg -type f -perm -u+x | head -n 1)}
out=build/bench
mkdir -p "$out"
lines=$out/lines.jsonl
: >"$lines"

wanted() { [ -z "$names" ] || [[ " $names " == *" $1 "* ]]; }
ours() { # NAME
  [ -n "$gridseg" ] && "$gridseg" bench "$1" 2>>"$out/gridseg.log" >>"$lines"
}
theirs() { # ARGUMENTS of torch_clipseg.py
  [ -x "$python" ] && "$python" tests/bench/torch_clipseg.py "$@" --threads "$threads" 2>>"$out/torch.log" >>"$lines"
}
pair() { # NAME ARGUMENTS...
  local name=$1; shift
  wanted "$name" || return 0
  echo "  $name (load $(cut -d' ' -f1 /proc/loadavg))" >&2
  theirs "$@"
  ours "$name"
}
[ -n "$gridseg" ] || echo "no gridseg built: PyTorch alone" >&2
[ -x "$python" ] || echo "no torch at $python: gridseg alone (tests/peer/run.sh makes the environment)" >&2

for round in $(seq "$rounds"); do
  echo "round $round of $rounds" >&2
  for precision in fp32 bf16; do
    pair "clipseg_train_towers_$precision" train_towers --precision $precision
    pair "clipseg_train_store_$precision" train_store --precision $precision
  done
  pair clipseg_eval_10_prompts eval_prompts
  pair pack load
  wanted read_pool && ours read_pool
done
if [ $quick = no ]; then
  wanted clipseg_train_towers_fp32 && theirs train_towers --compile
  pair clipseg_finetune_fp32 finetune
fi
python3 tests/bench/compare.py "$lines"
