#!/bin/bash
# gridseg beside PyTorch on this machine, in one run: same threads, cases in turn, medians and ratios at the end.
#
#   tests/bench/run.sh [--rounds N] [--quick] [--finetune-epochs N] [NAME ...]
#
#   NAME       some of them (all): clipseg_train_towers_fp32 clipseg_train_towers_bf16 clipseg_train_store_fp32
#              clipseg_train_store_bf16 clipseg_eval_10_prompts clipseg_ranks_2x1_over_1x1 read_pool pack clipseg_finetune_fp32,
#              and for biomedclipseg cris unet unetpp deeplabv3plus: MODEL, or MODEL_train_fp32 MODEL_train_bf16 MODEL_eval_fp32
#              MODEL_eval_bf16 (biomedclipseg: train_towers, train_store). CRIS wants $MEDVLSM, a checkout of the study's code
#   --rounds   how often each pair of programs is timed (3); the finetuning always once
#   --quick    leaves out torch.compile (a minute and a half to compile) and the finetuning (about twenty minutes)
#   --finetune-epochs   PyTorch finetunes for so many epochs only; the time of 15 is computed from them. gridseg does all 15.
#
# Wants a built gridseg ($GRIDSEG, else build/gridseg), a Python with torch ($GRIDSEG_PEER_VENV, else build/peer-venv as
# tests/peer/run.sh makes it) and real images ($GRIDSEG_SHARED, else ../shared). Other programs on the machine spoil it: the
# load is printed. Results: build/bench/lines.jsonl, and a table of medians and ratios on standard output.
set -u
cd "$(dirname "$0")/../.." || exit 1
rounds=3 quick=no epochs=15 names=
while [ $# -gt 0 ]; do
  case "$1" in
    --rounds) rounds=${2:-}; shift ;;
    --quick) quick=yes ;;
    --finetune-epochs) epochs=${2:-}; shift ;;
    -*) sed -n '2,17s/^# \{0,1\}//p' "$0" >&2; exit 2 ;;
    *) names="$names $1" ;;
  esac
  [ $# -gt 0 ] && shift
done
for number in "$rounds" "$epochs"; do
  [[ $number =~ ^[1-9][0-9]*$ ]] || { echo "--rounds and --finetune-epochs want a number, met '$number'" >&2; exit 2; }
done
export GRIDSEG_SHARED=${GRIDSEG_SHARED:-$PWD/../shared}
threads=${OMP_NUM_THREADS:-2}
export OMP_NUM_THREADS=$threads
python=${GRIDSEG_PEER_VENV:-$PWD/build/peer-venv}/bin/python
gridseg=${GRIDSEG:-$PWD/build/gridseg}
out=build/bench
mkdir -p "$out"
lines=$out/lines.jsonl
: >"$lines"
: >"$out/gridseg.log"
: >"$out/torch.log"
failed=0

model_case() { # MODEL CASE_OF_TORCH CASE_OF_OURS PRECISION: PyTorch in both of its layouts, ours once
  local name=$1_$3_$4
  wanted "$1" || wanted "$name" || return 0
  say "$name"
  rival "$1" "$2" --precision "$4"
  case $1 in unet* | deeplab* | cris) rival "$1" "$2" --precision "$4" --channels-last ;; esac
  ours --steps 5 "$name"
}
wanted() { [ -z "$names" ] || [[ " $names " == *" $1 "* ]]; }
say() { echo "  $1 (load $(cut -d' ' -f1 /proc/loadavg))" >&2; }
ours() { # ARGUMENTS of gridseg bench
  [ -x "$gridseg" ] || return 0
  "$gridseg" bench --threads "$threads" "$@" 2>>"$out/gridseg.log" >>"$lines" && return
  echo "gridseg bench $* failed: $out/gridseg.log" >&2
  failed=1
}
whole() { # CASE of gridseg_runs.py
  [ -x "$gridseg" ] || return 0
  python3 tests/bench/gridseg_runs.py "$1" --gridseg "$gridseg" --out "$out" --threads "$threads" >>"$lines" || failed=1
}
theirs() { # ARGUMENTS of torch_clipseg.py
  [ -x "$python" ] || return 0
  "$python" tests/bench/torch_clipseg.py "$@" --threads "$threads" 2>>"$out/torch.log" >>"$lines" && return
  echo "torch_clipseg.py $* failed: $out/torch.log" >&2
  failed=1
}
rival() { # ARGUMENTS of torch_models.py
  [ -x "$python" ] || return 0
  "$python" tests/bench/torch_models.py "$@" --threads "$threads" 2>>"$out/torch.log" >>"$lines" && return
  echo "torch_models.py $* failed: $out/torch.log" >&2
  failed=1
}
[ -x "$gridseg" ] || echo "no gridseg at $gridseg: PyTorch alone" >&2
[ -x "$python" ] || echo "no torch at $python: gridseg alone (tests/peer/run.sh makes the environment)" >&2

for round in $(seq "$rounds"); do
  echo "round $round of $rounds" >&2
  for precision in fp32 bf16; do
    for kind in towers store; do
      name=clipseg_train_${kind}_$precision
      wanted "$name" || continue
      say "$name"
      theirs "train_$kind" --precision $precision
      ours "$name"
    done
  done
  for precision in fp32 bf16; do
    for model in cris unet unetpp deeplabv3plus; do
      model_case $model train train $precision
      model_case $model eval eval $precision
    done
    model_case biomedclipseg train train_towers $precision
    model_case biomedclipseg store train_store $precision
    model_case biomedclipseg eval eval $precision
  done
  if wanted clipseg_eval_10_prompts; then
    say clipseg_eval_10_prompts
    theirs eval_prompts # a rate over 8 images; ours over 24, so that its start, which counts, is not everything
    whole eval
  fi
  if wanted pack; then
    say pack
    theirs load
    whole dataset && ours --source "$out/data/polyps" --split load pack
  fi
  if wanted read_pool; then
    say read_pool
    ours read_pool
  fi
  if wanted clipseg_ranks_2x1_over_1x1; then
    say clipseg_ranks_2x1_over_1x1
    whole ranks
  fi
done
if [ $quick = no ]; then
  if wanted clipseg_train_towers_fp32; then
    say "clipseg_train_towers_fp32 against torch.compile"
    theirs train_towers --compile
  fi
  if wanted clipseg_finetune_fp32; then
    say clipseg_finetune_fp32
    theirs finetune --epochs "$epochs"
    whole finetune
  fi
fi
python3 tests/bench/compare.py "$lines" || failed=1
exit $failed
