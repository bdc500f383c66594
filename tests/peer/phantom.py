#!/usr/bin/env python3
"""UNet from random weights on phantom endoscopy, three seeds each by gridseg and by PyTorch (baseline.py: segmentation_models_pytorch,
its own initialisation), with and without augmentation: the Dice that both reach must agree within the spread of the seeds.
Twelve trainings, about half an hour on two cores; `tests/peer/run.sh phantom`.

    phantom.py [--seeds 3] [--epochs 12] [--size 128] [--count 250] [--encoder resnet50]
"""
import argparse, csv, json, pathlib, statistics, subprocess, sys, tempfile

import common

AUGMENT = {"mirror": True, "flip": True, "scale": 0.2, "brightness": 0.1, "contrast": 0.1}
BATCH = 8


def reached(curves):
    """The best validation Dice, as the best checkpoint is chosen."""
    with open(curves, newline="", encoding="utf-8") as f:
        return max(float(r["val_dice"]) for r in csv.DictReader(f) if r["kind"] == "epoch")


def ours(work, seed, augment, a):
    out = work / f"ours-{seed}-{bool(augment)}"
    (work / "train.yaml").write_text(json.dumps(dict(
        model=str(work / "model"), init="random", pools=dict(root=str(work / "pools"), train=["endoscopy"]), prompt="p1", size=a.size,
        train=dict(epochs=a.epochs, batch=BATCH, seed=seed, early_stop=dict(patience=-1)), augment=augment, store=dict(dir="none"), out=str(out))))
    common.gridseg("train", work / "train.yaml")
    return reached(next(out.rglob("curves.csv")))


def theirs(work, seed, augment, a):
    out = work / f"theirs-{seed}-{bool(augment)}.csv"
    views = [k if v is True else f"{k}={v}" for k, v in augment.items()]
    done = subprocess.run([sys.executable, pathlib.Path(__file__).parent / "baseline.py", "--model", work / "model", "--pools",
                           work / "pools", "--train", "endoscopy", "--prompt", "p1", "--size", str(a.size), "--batch", str(BATCH), "--epochs",
                           str(a.epochs), "--seed", str(seed), "--out", out, *(["--augment", *views] if views else [])],
                          capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return reached(out)


def compare(work, augment, a):
    dice = {who.__name__: [who(work, seed, augment, a) for seed in range(1, 1 + a.seeds)] for who in (ours, theirs)}
    mean = {who: statistics.mean(v) for who, v in dice.items()}
    spread = {who: statistics.stdev(v) for who, v in dice.items()}
    for who, v in dice.items():
        print(f"{'augmented' if augment else 'plain'} {who}: Dice {mean[who]:.4f} +- {spread[who]:.4f} ({', '.join(f'{x:.4f}' for x in v)})", flush=True)
    # two standard errors of the difference of the means; seeds that fall together by chance say no more than two hundredths
    allowed = max(2 * (sum(s * s for s in spread.values()) / a.seeds)**0.5, 0.02)
    assert min(mean.values()) > 0.5, "nothing was learnt"
    assert abs(mean["ours"] - mean["theirs"]) <= allowed, f"{abs(mean['ours'] - mean['theirs']):.4f} apart, {allowed:.4f} allowed"


p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
p.add_argument("--seeds", type=int, default=3)
p.add_argument("--epochs", type=int, default=12)
p.add_argument("--size", type=int, default=128)
p.add_argument("--count", type=int, default=250)
p.add_argument("--encoder", default="resnet50")
given = p.parse_args()
common.need_gridseg()
with tempfile.TemporaryDirectory() as name:
    base = pathlib.Path(name)
    common.gridseg("phantom", "--domain", "endoscopy", "--count", given.count, "--seed", 7, "--out", base / "endoscopy")
    for split in ("train", "val"):
        common.gridseg("pack", "--dataset", "study", "--source", base / "endoscopy", "--split", split, "--size", given.size, "--out",
                       base / "pools")
    (base / "model").mkdir()
    (base / "model" / "config.json").write_text(json.dumps(
        {"_model_class": "Unet", "encoder_name": given.encoder, "encoder_weights": None, "in_channels": 3, "classes": 1}))
    for how in ({}, AUGMENT):
        compare(base, how, given)
