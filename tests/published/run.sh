#!/bin/bash
# Proves our logits against the public code on published weights, in fp32 and bf16: one line for each file that is known, and model.
#
#   tests/published/run.sh DIR
#
# DIR holds, under the names that they are published with (README, "Weights"), any of:
#   RN50.pt  cris_best.pth                      with CLIP's vocab.json and merges.txt (or bpe_simple_vocab_16e6.txt.gz) beside them
#   clipseg-rd64-refined/                       the hub's folder: config.json, weights, tokenizer files
#   BiomedCLIP/  BiomedCLIP-PubMedBERT.../      the hub's folder: open_clip_pytorch_model.bin (or .safetensors), vocab.txt
#   resnet50-*.pth  timm-resnet50*/             torchvision's file, the hub's folder of timm's
#   smp-MODEL*/  MODEL*.pt  MODEL*.ckpt         save_pretrained of segmentation_models_pytorch, state dicts, the study's checkpoints
#
# GRIDSEG_PEER_VENV  a Python environment that holds tests/peer/requirements.txt; else build/peer-venv is made
# MEDVLSM            a checkout of the study's repository, where the public CRIS is; its rows are skipped without
# GRIDSEG_SHARED     real pictures (../shared); drawn ones do without       GRIDSEG  the program (the one under build)
#
# A .ckpt is unpickled whole by the public side: prove only your own.
set -u
if [ $# != 1 ] || [ ! -d "$1" ]; then
  sed -n '2,/^set/{/^set/d;s/^# \{0,1\}//;p}' "$0" >&2
  exit 2
fi
folder=$(cd "$1" && pwd)
cd "$(dirname "$0")/../.." || exit 1
build=${GRIDSEG_BUILD:-$PWD/build}
export GRIDSEG_SHARED=${GRIDSEG_SHARED:-$PWD/../shared} PYTHONDONTWRITEBYTECODE=1
export GRIDSEG=${GRIDSEG:-$(find "$build" -maxdepth 2 -name gridseg -type f -perm -u+x | head -n 1)}
if [ -z "$GRIDSEG" ]; then echo "no gridseg under $build: build it first (tests/run.sh, cluster/setup.sh)" >&2; exit 1; fi
venv=${GRIDSEG_PEER_VENV:-$build/peer-venv}
if [ ! -x "$venv/bin/python" ]; then
  echo "making $venv" >&2
  if ! { python3 -m venv "$venv" && "$venv/bin/python" -m pip install -q -r tests/peer/requirements.txt; }; then
    rm -rf "$venv"
    echo "$venv cannot be made (Debian: python3-venv)" >&2
    exit 1
  fi
fi
exec "$venv/bin/python" tests/published/prove.py "$folder"
