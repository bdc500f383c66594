#!/bin/bash
# Compares gridseg with the public implementations: Pillow's pixels, transformers' tokens and models, MONAI's metrics,
# TensorBoard's reader, the safetensors package. Needs a build with tests (tests/run.sh or cluster/setup.sh --tests).
#
#   tests/peer/run.sh [NAME ...]      all, or some: pixels pool tokens safetensors predict train dump batchnorm cris cnn metrics score curves convert published,
#                                  and on request phantom (half an hour: what UNet reaches from random weights, beside PyTorch)
#
# GRIDSEG_PEER_VENV  a Python environment that holds requirements.txt; else build/peer-venv is made (2 to 6 GB, some minutes)
# GRIDSEG_SHARED     folder of real images, prompts and the CLIP vocabulary (../shared); what needs it skips without
# GRIDSEG_BUILD      the build folder (build)
# MEDVLSM            a checkout of the study's repository (naamiinepal/medvlsm), where CRIS is; what needs it skips without
#
# The last line counts: `N passed, N failed, N skipped`.
set -u
cd "$(dirname "$0")/../.." || exit 1
build=${GRIDSEG_BUILD:-$PWD/build}
export GRIDSEG_SHARED=${GRIDSEG_SHARED:-$PWD/../shared}
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 PYTHONDONTWRITEBYTECODE=1 TF_CPP_MIN_LOG_LEVEL=3
names=${*:-pixels pool tokens safetensors predict train dump batchnorm cris cnn metrics score curves convert published}

venv=${GRIDSEG_PEER_VENV:-$build/peer-venv}
if [ ! -x "$venv/bin/python" ]; then
  echo "making $venv" >&2
  python3 -m venv "$venv" || { rm -rf "$venv"; echo "python3 -m venv failed (Debian: python3-venv)" >&2; exit 1; }
  "$venv/bin/python" -m pip install -q -r tests/peer/requirements.txt || { rm -rf "$venv"; echo "pip failed" >&2; exit 1; }
fi
python=$venv/bin/python
GRIDSEG=${GRIDSEG:-$(find "$build" -maxdepth 2 -name gridseg -type f -perm -u+x | head -n 1)}
export GRIDSEG
tool() { find "$build" -name "$1" -type f -perm -u+x | head -n 1; }
vocabulary=$GRIDSEG_SHARED/data/vocab/bpe_simple_vocab_16e6.txt.gz

passed=0 failed=0 skipped=0
peer() { # NAME COMMAND...; an empty argument is a tool that this build lacks
  local name=$1 code argument; shift
  echo "== $name" >&2
  for argument in "$@"; do
    [ -n "$argument" ] || { skipped=$((skipped + 1)); echo "skipped $name (its tool is not built)"; return; }
  done
  "$@"
  code=$?
  case $code in
    0) passed=$((passed + 1)); echo "passed $name" ;;
    77) skipped=$((skipped + 1)); echo "skipped $name" ;;
    *) failed=$((failed + 1)); echo "FAILED $name (exit code $code)" ;;
  esac
}
shared() { # NAME COMMAND...: one that needs real data
  if [ -d "$GRIDSEG_SHARED/data" ]; then peer "$@"; else skipped=$((skipped + 1)); echo "skipped $1 (no $GRIDSEG_SHARED/data)"; fi
}

for name in $names; do
  case $name in
    pixels) shared pixels "$python" tests/peer/pixels.py "$(tool pixels_tool)" "$GRIDSEG_SHARED/data" ;;
    pool) shared pool "$python" tests/peer/pool_h5py.py "$GRIDSEG" ;;
    tokens) shared tokens "$python" tests/peer/tokens.py "$(tool tool_tokens)" "$vocabulary" "$GRIDSEG_SHARED/data/prompts" \
      --words "$GRIDSEG_SHARED/data/vocab/bert-base-uncased-vocab.txt" ${GRIDSEG:+--gridseg "$GRIDSEG"} ;;
    safetensors) peer safetensors "$python" tests/peer/peer_safetensors.py "$build" ;;
    predict) peer predict "$python" tests/peer/predict.py ;;
    train) shared train "$python" tests/peer/train.py ;;
    cris) shared cris "$python" tests/peer/cris.py ;;
    cnn) peer cnn "$python" tests/peer/cnn.py ;;
    dump) shared dump "$python" tests/peer/dump.py ;;
    batchnorm) peer batchnorm "$python" tests/peer/batchnorm.py ;;
    metrics) shared metrics "$python" tests/peer/metrics.py ;;
    convert) peer convert "$python" tests/data_prep/convert_weights.py ;;
    published) peer published "$python" tests/published/test_prove.py ;;
    score) shared score "$python" tests/peer/score.py ;;
    curves) shared curves "$python" tests/peer/curves.py ;;
    phantom) peer phantom "$python" tests/peer/phantom.py ;;
    *) echo "no peer test '$name'" >&2; failed=$((failed + 1)) ;;
  esac
done
echo "$passed passed, $failed failed, $skipped skipped"
[ $failed = 0 ] && [ $((passed + skipped)) -gt 0 ]
