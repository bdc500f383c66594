#!/usr/bin/env python3
"""The same recipe in PyTorch (baseline.py) and in gridseg, from the same pools and weights: the curves of a small UNet, UNet++,
DeepLabV3+ and CLIPSeg must run together, step by step, as far as rounding lets them; UNet's with augmentation too. No arguments."""
import csv, json, pathlib, subprocess, sys, tempfile

import numpy as np
import torch

import common, models

SIZE, EPOCHS = 64, 3
common.need_gridseg()


def curve(path, kind, column):
    with open(path, newline="", encoding="utf-8") as f:
        return np.array([float(r[column]) for r in csv.DictReader(f) if r["kind"] == kind])


def make(kind, folder):
    if kind == "clipseg":
        return common.make_model(folder, SIZE)
    import segmentation_models_pytorch as smp
    torch.manual_seed(1)
    given = dict(encoder_name="resnet18", encoder_weights=None)
    given |= dict(decoder_channels=16, decoder_aspp_dropout=0.0) if kind == "deeplabv3plus" else dict(decoder_channels=(32, 16, 16, 8, 8))
    net = getattr(smp, models.CNNS[kind])(**given)
    net.save_pretrained(folder)


AUGMENT = {"mirror": True, "flip": True, "turns": True, "scale": 0.3, "brightness": 0.1, "contrast": 0.2}


def check(work, kind, augment=None):
    each = work / f"{kind}-{bool(augment)}"
    folder, out, theirs = each / "model", each / "run", each / "theirs.csv"
    folder.mkdir(parents=True)
    make(kind, folder)
    lr = 1e-3 if kind == "clipseg" else 1e-4
    config = dict(model=str(folder), pools=dict(root=str(work / "pools"), train=["discs"]), prompt="p1", size=SIZE,
                  train=dict(epochs=EPOCHS, batch=4, lr=lr), store=dict(dir="none"), augment=augment or {}, out=str(out))
    views = [k if v is True else f"{k}={v}" for k, v in (augment or {}).items()]
    (work / "train.yaml").write_text(json.dumps(config))
    common.gridseg("train", work / "train.yaml")
    done = subprocess.run([sys.executable, pathlib.Path(__file__).parent / "baseline.py", "--model", folder, "--pools", work / "pools",
                           "--train", "discs", "--prompt", "p1", "--epochs", str(EPOCHS), "--batch", "4", "--lr", str(lr), "--size",
                           str(SIZE), "--out", theirs, *(["--augment", *views] if views else [])], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    ours = next(out.rglob("curves.csv"))
    # The first step sees the same weights; the small CLIPSeg has weights so large that torch's own float32 is 1e-5 off. Later
    # steps drift: Adam's first ones take the sign of gradients that may be rounding.
    begin = 5e-4 if kind == "clipseg" else 2e-5
    for what, column, first, last in (("step", "loss", begin, 2e-2), ("epoch", "val_loss", 2e-2, 5e-2)):
        a, b = curve(ours, what, column), curve(theirs, what, column)
        assert len(a) == len(b) > 0, (kind, what, len(a), len(b))
        difference = np.abs(a - b)
        assert difference[0] <= first and difference.max() <= last, (kind, column, a, b)
        print(f"{kind}{' augmented' if augment else ''} {column}: {len(a)} values, first {difference[0]:.1e}, largest difference {difference.max():.1e}")


with tempfile.TemporaryDirectory() as name:
    base = pathlib.Path(name)
    common.draw_dataset(base / "data", {"train": 12, "val": 4})
    for split in ("train", "val"):
        common.gridseg("pack", "--dataset", "study", "--source", base / "data", "--split", split, "--size", SIZE, "--out",
                       base / "pools", "--name", "discs")
    for each in ("unet", "unetpp", "deeplabv3plus", "clipseg"):
        check(base, each)
    check(base, "unet", AUGMENT)
