#!/usr/bin/env python3
"""Models with BatchNorm, with dropout, with frozen and trained parts of every kind: 1 to 4 ranks with short and empty shares give the same losses
when BatchNorm is synchronised; evaluation gives the same results from any store; runs that are stopped and go on end with the bits of an undisturbed one.

    models.py GRIDSEG [MODEL ...]
"""
import csv
import json
import os
import shutil
import subprocess
import sys

from common import Bench

SIZE = 64
SMP = {"encoder_name": "resnet18", "encoder_depth": 5, "in_channels": 3, "classes": 1, "activation": None}
NARROW = {"decoder_channels": [16, 16, 8, 8, 8]}
CRIS = {"image_resolution": SIZE, "vision_layers": [1, 1, 1, 1], "vision_width": 8, "embed_dim": 32,
        "context_length": 77, "vocab_size": 514, "transformer_width": 32, "transformer_heads": 2,
        "transformer_layers": 2, "word_len": 77, "fpn_in": [64, 128, 32], "fpn_out": [16, 32, 32], "vis_dim": 32,
        "word_dim": 32, "num_layers": 1, "num_head": 4, "dim_ffn": 32, "dropout": 0.2, "img_size": SIZE}
TEXT = {"vocab_size": 61, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64,
        "max_position_embeddings": 256, "type_vocab_size": 2, "hidden_act": "gelu", "pad_token_id": 0,
        "hidden_dropout_prob": 0.1, "attention_probs_dropout_prob": 0.1, "layer_norm_eps": 1e-12}
BIOMED = {"vision_config": {"img_size": SIZE, "patch_size": 16, "embed_dim": 24, "depth": 5, "num_heads": 3, "mlp_ratio": 4.0},
          "text_config": TEXT, "context_length": 128, "projection_dim": 20, "taps": [2, 3, 4], "reduce_dim": 12,
          "decoder_num_attention_heads": 4, "decoder_intermediate_size": 28, "conditional_layer": 0,
          "use_complex_transposed_convolution": True}
BATCHNORM = ("unet", "unetpp", "deeplabv3plus", "cris")
PROMPTS = ("cris", "biomedclipseg", "coop")
MODELS = {"unet": {"_model_class": "Unet", **SMP, **NARROW},
          "unetpp": {"_model_class": "UnetPlusPlus", **SMP, **NARROW},
          "deeplabv3plus": {"_model_class": "DeepLabV3Plus", **SMP, "decoder_channels": 32},
          "cris": {"model_type": "cris", **CRIS},
          "biomedclipseg": {"model_type": "biomedclipseg", **BIOMED},
          "coop": {"model_type": "coop", "n_ctx": 4}}


def make(bench, name):
    """A model directory: the tokenizer files of the small CLIPSeg, and a configuration."""
    shutil.copytree(bench.path("model"), bench.path(name))
    os.remove(bench.path(name, "preprocessor_config.json"))
    with open(bench.path("model", "config.json")) as f:
        small = json.load(f)
    with open(bench.path(name, "config.json"), "w") as f:
        json.dump({**small, **MODELS[name]} if name == "coop" else MODELS[name], f)
    if name != "biomedclipseg":
        return [f"model={name}", "train.batch=6"]
    for file in ("vocab.json", "merges.txt"):
        os.remove(bench.path(name, file))
    letters = "abcdefghijklmnopqrstuvwxyz,."
    with open(bench.path(name, "vocab.txt"), "w") as f:
        f.write("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *letters, *("##" + c for c in letters)]) + "\n")
    return [f"model={name}", "train.batch=6", "quirks=study"]  # its frozen text tower with dropout


def distance(a, b, column):
    return max(abs(float(x[column]) - float(y[column])) / max(abs(float(x[column])), 1e-9) for x, y in zip(a, b))


def same_losses(bench, name, keys):
    """21 samples in batches of 6: the last one of 3 leaves one of four ranks without any. A large epsilon and a low rate:
    where a gradient is nothing but rounding Adam would make a whole step of it, and a few such steps flip ReLUs."""
    keys = [*keys, "train.lr=3e-5", "train.eps=1e-3"]
    for ranks in (0, 2, 4):
        bench.train(ranks, f"out={name}-{ranks}", *keys, "train.epochs=2")
    first = {kind: bench.curves(f"{name}-0", kind) for kind in ("step", "epoch")}
    bench.check(len(first["step"]) == 8, f"{name}: {len(first['step'])} steps, wanted 8")
    bench.check(first["step"][0]["loss"] != first["step"][-1]["loss"], f"{name}: the loss does not move")
    for ranks in (2, 4):
        for kind, column in (("step", "loss"), ("epoch", "val_loss")):
            worst = distance(first[kind], bench.curves(f"{name}-{ranks}", kind), column)
            bench.check(worst <= 5e-4, f"{name}, {ranks} ranks: {column} differs by {worst:.3g} relative, allowed 5e-4")
    if name not in BATCHNORM:
        return
    bench.train(2, f"out={name}-own", *keys, "train.epochs=2", "train.sync_batchnorm=false")
    apart = distance(first["step"], bench.curves(f"{name}-own"), "loss")
    print(f"{name}: BatchNorm of its own share for each rank: {apart:.2g} apart", flush=True)
    bench.check(apart > 1e-3, f"{name}: BatchNorm of each rank's own share makes no difference ({apart:.3g})")


def resumed(bench, name, keys):
    """Stopped after every step (after every epoch where weights are large), with 2 ranks, synchronised or not."""
    for sync in ("true", "false") if name in BATCHNORM else ("true",):
        more = [*keys, f"train.sync_batchnorm={sync}"]
        bench.train(2, f"out={name}-whole", *more, "train.epochs=2")
        if name in PROMPTS:
            for _ in range(8):
                bench.train(2, f"out={name}-cut", *more, "train.epochs=2", "checkpoint.stop_after=1e-6", expect=None)
        else:
            bench.train(2, f"out={name}-cut", *more, "train.epochs=1")
        bench.train(2, f"out={name}-cut", *more, "train.epochs=2")
        bench.check(bench.status(f"{name}-cut")["status"] == "done", f"{name}: {bench.status(f'{name}-cut')}")
        for link in ("last", "best"):
            bench.check(bench.bits(f"{name}-cut", link) == bench.bits(f"{name}-whole", link),
                        f"{name}, sync_batchnorm {sync}: {link} has other bits than the undisturbed run")
        for out in ("whole", "cut"):
            shutil.rmtree(bench.path(f"{name}-{out}"))


def measured(bench, out):
    """cells.csv without keys and times."""
    with open(bench.path(out, "cells.csv")) as f:
        return [{k: v for k, v in row.items() if k not in ("cell_key", "seconds")} for row in csv.DictReader(f)]


def evaluated(bench, name):
    """Any batch, number of ranks and store gives the same results; three prompts where the model takes some."""
    with open(bench.path("eval.yaml"), "w") as f:
        f.write(f"model: {name}-0/checkpoints/best\npools: {{root: pools, test: [phantom], split: train}}\nsize: {SIZE}\n"
                "prompts: [p1, p6, 'a polyp']\nthreads: 1\n")
    for out, ranks, keys in (("one", 0, ("batch=1",)), ("warm", 0, ("batch=1",)), ("none", 2, ("store.dir=none", "batch=5"))):
        launch = ["mpirun", "-np", str(ranks)] if ranks else []
        done = subprocess.run([*launch, bench.binary, "eval", "eval.yaml", f"out={name}-eval-{out}", *keys], cwd=bench.root,
                              capture_output=True, text=True, timeout=240)
        bench.check(done.returncode == 0, f"{name}: eval {out}: {done.stderr}")
    rows = measured(bench, f"{name}-eval-one")
    prompts = {row["prompt"] for row in rows}
    bench.check(prompts == ({"p1", "p6", "a polyp"} if name in PROMPTS else {"none"}), f"{name}: prompts {prompts}")
    bench.check(measured(bench, f"{name}-eval-warm") == rows, f"{name}: other results from a warm store")
    for row, other in zip(rows, measured(bench, f"{name}-eval-none")):
        near = abs(float(row["value"] or 0) - float(other["value"] or 0)) <= 2e-3 * max(1, abs(float(row["value"] or 0)))
        bench.check(near, f"{name}: {row['prompt']} {row['metric']} {row['value']} alone, {other['value']} on two ranks")


def main():
    bench = Bench(sys.argv[1], SIZE)
    for name in sys.argv[2:] or MODELS:
        keys = make(bench, name)
        same_losses(bench, name, keys)
        evaluated(bench, name)
        resumed(bench, name, keys)
        for out in ("0", "2", "4", "own"):
            shutil.rmtree(bench.path(f"{name}-{out}"), ignore_errors=True)
    return bench.finish()


if __name__ == "__main__":
    sys.exit(main())
