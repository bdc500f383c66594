#!/usr/bin/env python3
"""1, 2, 3 and 4 ranks with a short last batch give the same losses; the same run twice, with a cold and a warm store,
and without a store folder gives the same bits; towers frozen and trained.

    ranks.py GRIDSEG
"""
import os
import sys

from common import Bench


def distance(a, b, column):
    return max(abs(float(x[column]) - float(y[column])) / max(abs(float(x[column])), 1e-9) for x, y in zip(a, b))


def same_losses(bench, name, *keys):
    rows = {}
    for ranks in (0, 1, 2, 3, 4):
        out = f"{name}-{ranks}"
        bench.train(ranks, f"out={out}", *keys)
        rows[ranks] = bench.curves(out)[:20]
        epochs = bench.curves(out, "epoch")
        bench.check(len(rows[ranks]) == 20, f"{out}: {len(rows[ranks])} steps, wanted 20")
        worst = distance(rows[0], rows[ranks], "loss")
        bench.check(worst <= 1e-5, f"{out}: losses differ by {worst:.3g} relative, allowed 1e-5")
        worst = distance(bench.curves(f"{name}-0", "epoch"), epochs, "val_loss")
        bench.check(worst <= 1e-5, f"{out}: validation losses differ by {worst:.3g} relative, allowed 1e-5")
    first, last = float(rows[0][0]["loss"]), float(rows[0][-1]["loss"])
    bench.check(first != last, f"{name}: the loss does not move")


def main():
    bench = Bench(sys.argv[1])
    same_losses(bench, "frozen")
    same_losses(bench, "towers", "train.encoders=true", "train.lr=1e-4", "prompt=random")
    bench.check(os.path.isdir(bench.path("store")), "no store was written")
    for ranks in (1, 2):
        bench.train(ranks, "out=again")
        bench.check(bench.bits("again") == bench.bits(f"frozen-{ranks}"), f"{ranks} ranks, warm store: other bits")
        bench.train(ranks, "out=cold", "store.dir=store-cold")
        bench.check(bench.bits("cold") == bench.bits(f"frozen-{ranks}"), f"{ranks} ranks, cold store: other bits")
        bench.train(ranks, "out=memory", "store.dir=none")
        bench.check(bench.bits("memory") == bench.bits(f"frozen-{ranks}"), f"{ranks} ranks, no store folder: other bits")
        for name in ("again", "cold", "memory"):
            os.rename(bench.path(name), bench.path(f"{name}-{ranks}"))
        os.rename(bench.path("store-cold"), bench.path(f"store-cold-{ranks}"))
    return bench.finish()


if __name__ == "__main__":
    sys.exit(main())
