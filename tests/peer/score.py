#!/usr/bin/env python3
"""`gridseg score` against MONAI on many masks: random shapes and noise of many sizes, and real masks of ../shared moved, grown,
shrunk, cut and swapped. No arguments; GRIDSEG names the program. HD95 has MONAI's bits, the others agree to its fp32."""
import csv, io, json, math, pathlib, tempfile, warnings

import numpy
import torch
from monai.metrics import DiceMetric, HausdorffDistanceMetric, MeanIoU, SurfaceDiceMetric
from PIL import Image
from scipy import ndimage

import common

common.need_gridseg()
warnings.filterwarnings("ignore")
METRICS = ("dice", "iou", "hd95", "surface_dice")


def public(predicted, truth):
    p, t = (torch.from_numpy(m[None, None].astype(numpy.float32)) for m in (predicted, truth))
    values = [DiceMetric(ignore_empty=False)(p, t).item(), MeanIoU(ignore_empty=False)(p, t).item()]
    if not predicted.any() or not truth.any():
        return values + [math.nan, math.nan]  # left out and counted
    return values + [HausdorffDistanceMetric(include_background=True, percentile=95)(p, t).item(),
                     SurfaceDiceMetric(class_thresholds=[2.0], include_background=True)(p, t).item()]


def shapes(random, height, width):
    y, x = numpy.mgrid[:height, :width]
    mask = numpy.zeros((height, width), bool)
    for _ in range(random.integers(0, 4)):
        a, b = random.uniform(1, height / 2), random.uniform(1, width / 2)
        mask |= ((y - random.uniform(0, height)) / a)**2 + ((x - random.uniform(0, width)) / b)**2 < 1
    return mask ^ (random.random(mask.shape) < random.choice([0, 0, 0.01, 0.3]))


def changed(random, mask, i):
    """What a prediction might look like."""
    shift = tuple(int(v) for v in random.integers(-12, 13, 2))
    kinds = (lambda m: numpy.roll(m, shift, (0, 1)), lambda m: ndimage.binary_dilation(m, iterations=4),
             lambda m: ndimage.binary_erosion(m, iterations=3), lambda m: m & (numpy.arange(m.shape[1]) < m.shape[1] // 2),
             lambda m: m[::-1], lambda m: ~m, lambda m: m)
    return kinds[i % len(kinds)](mask)


def pairs():
    random = numpy.random.default_rng(20)
    for _ in range(150):
        height, width = (int(v) for v in random.integers(17, 150, 2))
        yield shapes(random, height, width), shapes(random, height, width)
    for i, path in enumerate(p for d in ("etis_polyp", "busi", "isic", "camus", "bkai_polyp")
                             for p in sorted((common.SHARED / "data" / d / "masks").rglob("*.*"))[:14]):
        with Image.open(path) as f:
            truth = numpy.asarray(f.convert("L")) > 127
        if truth.size < 2e6:  # MONAI takes seconds for larger ones
            yield changed(random, truth, i), truth


with tempfile.TemporaryDirectory() as name:
    work, rows, wanted = pathlib.Path(name), [], {}
    for folder in ("data/images", "data/masks", "data/anns", "predicted"):
        (work / folder).mkdir(parents=True)
    for i, (predicted, truth) in enumerate(pairs()):
        file = f"{i:04d}.png"
        Image.fromarray(numpy.full((*truth.shape, 3), i % 251, numpy.uint8)).save(work / "data/images" / file)
        Image.fromarray((255 * truth).astype(numpy.uint8)).save(work / "data/masks" / file)
        Image.fromarray((255 * predicted).astype(numpy.uint8)).save(work / "predicted" / file)
        rows.append({"segment_id": file[:-4], "img_name": file, "mask_name": file, "cat": 0, "bbox": [0, 0, 1, 1],
                     "sentences": [], "prompts": {"p0": ""}})
        wanted[file] = public(predicted, truth)
    (work / "data/anns/test.json").write_text(json.dumps(rows))
    common.gridseg("pack", "--dataset", "study", "--source", work / "data", "--split", "test", "--size", 16, "--out", work / "pools")
    told = common.gridseg("score", "--pred", work / "predicted", "--pool", work / "pools/data/test/16", "--csv", work / "s.csv")
    compared = left_out = 0
    with open(work / "s.csv", newline="") as f:
        for row in csv.DictReader(f):
            for metric, value in zip(METRICS, wanted.pop(row["name"])):
                if math.isnan(value):
                    assert row[metric] == "", (row, metric)
                    left_out += 1
                    continue
                bound = 5e-9 * abs(value) if metric == "hd95" else 1e-6  # nine digits are written
                assert abs(float(row[metric]) - value) <= bound, (row, metric, value)
                compared += 1
    assert not wanted, f"not scored: {list(wanted)}"
    for row in csv.DictReader(io.StringIO(told)):
        print(row["metric"], row["value"], row["n"], row["n_excluded"])
    print(f"{compared} values equal MONAI's, {left_out} left out on both sides (empty masks)")
    assert compared > 600
