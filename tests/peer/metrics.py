#!/usr/bin/env python3
"""Metrics of `gridseg eval` (samples.h5) against MONAI's on the same masks: what eval kept as PNG and the source masks, at
original resolution. No arguments."""
import json, math, pathlib, tempfile

import h5py
import numpy
import torch
from monai.metrics import DiceMetric, HausdorffDistanceMetric, MeanIoU, SurfaceDiceMetric
from PIL import Image

import common

common.need_gridseg()
SIZE = 64


def mask_of(path):
    with Image.open(path) as f:
        return numpy.asarray(f.convert("L")) > 127


def public(predicted, truth):
    """Dice, IoU, HD95, surface Dice (2 px); NaN where MONAI leaves the sample out."""
    p, t = (torch.from_numpy(m[None, None].astype(numpy.float32)) for m in (predicted, truth))
    both_empty = not predicted.any() and not truth.any()
    any_empty = not predicted.any() or not truth.any()
    dice = 1.0 if both_empty else DiceMetric(ignore_empty=False)(p, t).item()
    iou = 1.0 if both_empty else MeanIoU(ignore_empty=False)(p, t).item()
    if any_empty:
        return dice, iou, math.nan, math.nan
    return (dice, iou, HausdorffDistanceMetric(include_background=True, percentile=95)(p, t).item(),
            SurfaceDiceMetric(class_thresholds=[2.0], include_background=True)(p, t).item())


with tempfile.TemporaryDirectory() as name:
    work = pathlib.Path(name)
    common.make_model(work / "model", SIZE)
    common.draw_dataset(work / "data", {"test": 20})
    common.gridseg("pack", "--dataset", "study", "--source", work / "data", "--split", "test", "--size", SIZE, "--out",
                   work / "pools", "--name", "discs")
    config = dict(model=str(work / "model"), pools=dict(root=str(work / "pools"), test=["discs"]), prompts=["p1", "p3"], size=SIZE,
                  masks=True, store=dict(dir="none"), out=str(work / "run"))
    (work / "eval.yaml").write_text(json.dumps(config))
    common.gridseg("eval", work / "eval.yaml")
    compared = left_out = 0
    with h5py.File(work / "run" / "samples.h5") as f:
        text = {c: [v.decode() for v in f[c][:]] for c in ("prompt", "name")}
        measured = {c: f["original_" + c][:] for c in ("dice", "iou", "hd95", "surface_dice")}
    assert len(text["name"]) == 40, len(text["name"])
    for i, (prompt, sample) in enumerate(zip(text["prompt"], text["name"])):
        kept = work / "run" / "masks" / "discs" / prompt / (pathlib.Path(sample).stem + ".png")
        wanted = public(mask_of(kept), mask_of(work / "data" / "masks" / sample))
        for column, value in zip(("dice", "iou", "hd95", "surface_dice"), wanted):
            ours = float(measured[column][i])
            if math.isnan(value):
                assert math.isnan(ours), (sample, prompt, column, ours)
                left_out += 1
            else:
                assert abs(ours - value) <= 1e-6 * max(1.0, abs(value)), (sample, prompt, column, ours, value)
                compared += 1
    print(f"{compared} values equal MONAI's, {left_out} left out on both sides (empty masks)")
    assert compared > 80
