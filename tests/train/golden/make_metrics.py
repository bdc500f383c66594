"""Write metrics.json: pairs of masks and what MONAI says of them.

Needs monai 1.4.0, torch 2.6.0, numpy 1.26.4, scipy. Masks are rows of bits, most significant first, as hexadecimal digits.
"""
import json
import pathlib
import warnings

import numpy as np
import torch
from monai.metrics import DiceMetric, HausdorffDistanceMetric, MeanIoU, SurfaceDiceMetric

warnings.filterwarnings("ignore")


def measure(predicted, truth):
    p, t = (torch.from_numpy(m.astype(np.float32))[None, None] for m in (predicted, truth))
    values = {}
    for name, metric in (
        ("dice", DiceMetric(include_background=True, ignore_empty=False)),
        ("iou", MeanIoU(include_background=True, ignore_empty=False)),
        ("hd95", HausdorffDistanceMetric(include_background=True, percentile=95)),
        ("surface_dice", SurfaceDiceMetric(class_thresholds=[2.0], include_background=True)),
    ):
        values[name] = float(metric(p, t)[0, 0])
    if not predicted.any() or not truth.any():
        values["hd95"] = values["surface_dice"] = None  # left out and counted (DESIGN, "Numbers")
    return values


def disc(height, width, y, x, ry, rx):
    gy, gx = np.mgrid[:height, :width]
    return ((gy - y) / ry) ** 2 + ((gx - x) / rx) ** 2 <= 1


def cases():
    rng = np.random.default_rng(7)
    one = np.zeros((9, 13), bool)
    one[4, 6] = True
    corner = np.zeros((9, 13), bool)
    corner[0, 0] = True
    full, none = np.ones((9, 13), bool), np.zeros((9, 13), bool)
    named = {"one": one, "corner": corner, "full": full, "none": none}
    for a in named:
        for b in named:
            yield f"{a} against {b}", named[a], named[b]
    yield "one pixel", np.ones((1, 1), bool), np.ones((1, 1), bool)
    yield "one row", rng.random((1, 40)) < 0.3, rng.random((1, 40)) < 0.3
    yield "one column", rng.random((40, 1)) < 0.3, rng.random((40, 1)) < 0.3
    ring = disc(48, 60, 24, 30, 20, 25) & ~disc(48, 60, 24, 30, 12, 9)
    yield "ring against its inside", ring, disc(48, 60, 24, 30, 12, 9)
    yield "cut by the border", disc(40, 56, 2, 50, 15, 20), disc(40, 56, 0, 55, 18, 14)
    yield "far apart", disc(60, 90, 5, 5, 4, 4), disc(60, 90, 50, 80, 6, 9)
    yield "wide lines", np.indices((30, 120))[0] == 3, np.indices((30, 120))[0] == 25
    board = np.indices((30, 80)).sum(0) % 2 == 0
    yield "checkerboard against a corner", board, np.pad(np.ones((2, 3), bool), ((28, 0), (77, 0)))
    for i in range(10):
        h, w = rng.integers(5, 64, 2)
        yield f"noise {i}", rng.random((h, w)) < rng.random(), rng.random((h, w)) < rng.random()
    for i in range(16):
        h, w = rng.integers(20, 72, 2)
        pair = []
        for _ in range(2):
            m = np.zeros((h, w), bool)
            for _ in range(rng.integers(1, 4)):
                m |= disc(h, w, rng.uniform(0, h), rng.uniform(0, w), rng.uniform(1, h / 2), rng.uniform(1, w / 2))
            pair.append(m ^ (rng.random((h, w)) < 0.01 * (i % 3)))
        yield f"shapes {i}", *pair


def bits(mask):
    return np.packbits(mask.reshape(-1)).tobytes().hex()


def main():
    rows = []
    for name, predicted, truth in cases():
        height, width = predicted.shape
        rows.append({"name": name, "height": height, "width": width, "predicted": bits(predicted), "truth": bits(truth),
                     **measure(predicted, truth)})
    text = "[\n" + ",\n".join(json.dumps(r) for r in rows) + "\n]\n"
    (pathlib.Path(__file__).parent / "metrics.json").write_text(text)


if __name__ == "__main__":
    main()
