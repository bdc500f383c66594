#!/bin/bash
# A whole experiment in a few minutes: set up, draw two synthetic modalities, pack them, finetune a small CLIPSeg on two ranks (towers
# included, from drawn weights), evaluate it per dataset and prompt, print the table and draw what it found.
#
#   cluster/demo.sh [SEED]      results in build/demo/SEED; run again, it goes on where it was
set -eu
cd "$(dirname "$0")/.."
seed=${1:-1}
cluster/setup.sh
gridseg=$PWD/build/gridseg
out=$PWD/build/demo/$seed
mkdir -p "$out"

domains="endoscopy dermoscopy"
for domain in $domains; do
  [ -d "$out/data/$domain" ] || "$gridseg" phantom --domain "$domain" --count 300 --seed "$seed" --out "$out/data/$domain"
  for split in train val test; do
    "$gridseg" pack --dataset study --source "$out/data/$domain" --split $split --size 96 --out "$out/pools"
  done
done

# Open MPI refuses root unless told, and counts cores rather than asking.
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
mpirun --oversubscribe --bind-to none -np 2 "$gridseg" train cluster/demo/train.yaml \
  model="$PWD/cluster/demo/model" pools.root="$out/pools" train.seed="$seed" out="$out/run"
"$gridseg" eval cluster/demo/eval.yaml model="$out/run/checkpoints/best" pools.root="$out/pools" out="$out/eval" | tee "$out/table.txt"

for domain in $domains; do
  word=polyp
  [ "$domain" = dermoscopy ] && word="skin lesion"
  first=$(grep -o '"img_name": "[^"]*"' "$out/data/$domain/anns/test.json" | cut -d'"' -f4 | head -n 6)
  mkdir -p "$out/some/$domain"
  for name in $first; do cp "$out/data/$domain/images/$name" "$out/some/$domain/"; done
  "$gridseg" predict --model "$out/run/checkpoints/best" --images "$out/some/$domain" --prompt "$word" \
    --out "$out/overlays/$domain" --overlay
done
echo
echo "table     $out/table.txt"
echo "cells     $out/eval/cells.csv"
echo "curves    $out/run/curves.csv (and TensorBoard events beside it)"
echo "overlays  $out/overlays"
