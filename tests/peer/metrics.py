#!/usr/bin/env python3
"""Metrics of `gridseg eval` (samples.h5) and `gridseg score` against MONAI's on the same masks at original resolution: what
eval kept as PNG, and masks that somebody else drew. No arguments."""
import csv, io, json, math, pathlib, tempfile

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

    # Somebody's masks: the truth moved, a block, nothing.
    drawn = work / "drawn"
    drawn.mkdir()
    rows, sums = [], numpy.zeros(3)
    for i, path in enumerate(sorted((work / "data" / "masks").iterdir())):
        truth = mask_of(path)
        predicted = numpy.roll(truth, (i % 5, -(i % 3)), (0, 1))
        if i % 4 == 1:
            predicted[5:20, 10:40] = True
        if i % 7 == 6:
            predicted[:] = False
        Image.fromarray((255 * predicted).astype(numpy.uint8)).save(drawn / path.name)
        rows.append(public(predicted, truth))
        sums += predicted.sum(), truth.sum(), (predicted & truth).sum()
    told = csv.DictReader(io.StringIO(common.gridseg("score", "--pred", drawn, "--pool", work / "pools" / "discs" / "test" / str(SIZE))))
    told = {r["metric"]: (float(r["value"]), int(r["n"])) for r in told}
    wanted = {c: (numpy.nanmean(v), numpy.isfinite(v).sum()) for c, v in
              zip(("dice", "iou", "hd95", "surface_dice"), numpy.array(rows).T)}
    wanted["dice_dataset"] = 2 * sums[2] / (sums[0] + sums[1]), len(rows)
    wanted["iou_dataset"] = sums[2] / (sums[0] + sums[1] - sums[2]), len(rows)
    for metric, (value, n) in wanted.items():
        ours, counted = told[metric]
        assert abs(ours - value) <= 1e-6 * max(1.0, abs(value)) and counted == n, (metric, ours, value, counted, n)
    print(f"score: {', '.join(f'{m} {v:.4f} (n {n})' for m, (v, n) in wanted.items())}")
