#!/usr/bin/env python3
"""What a run says and does about its folder: the clock that stops it, another recipe, changed pools, two runs at once,
a damaged checkpoint, mistakes in the file.

    stop.py GRIDSEG
"""
import os
import shutil
import sys
import time

from common import Bench, wait_for


def clocks(bench):
    text = bench.train(2, "out=clock", "train.epochs=100000", "train.early_stop.patience=-1",
                       "checkpoint.stop_after=0.02", expect=75)
    bench.check("stop_after" in text, f"the reason is not named: {text}")
    bench.check(bench.status("clock")["status"] == "preempted", "status.json does not say preempted")
    os.environ["SLURM_JOB_END_TIME"] = str(int(time.time()) + 60)
    text = bench.train(0, "out=slurm", "train.epochs=100000", "checkpoint.stop_before=1", expect=75)
    bench.check("SLURM_JOB_END_TIME" in text, f"the reason is not named: {text}")
    del os.environ["SLURM_JOB_END_TIME"]


def folders(bench):
    bench.train(0)
    text = bench.train(0, "train.lr=1e-3", expect=2)
    bench.check("'train.lr'" in text and "out/config.yaml" in text, f"other recipe: {text}")
    before = len(bench.curves("out"))
    bench.train(0, "train.epochs=8", "threads=1")
    bench.check(len(bench.curves("out")) == before + 3, "an eighth epoch was not added")
    text = bench.train(2, "train.epochs=9")
    bench.check("ranks 1, now it is 2" in text, f"no warning about the number of ranks: {text}")
    shutil.copytree(bench.path("pools"), bench.path("pools-kept"))
    bench.call("phantom", "--domain", "endoscopy", "--count", "25", "--seed", "4", "--out", "other")
    bench.call("pack", "--dataset", "study", "--source", "other", "--split", "train", "--size", "32", "--out", "pools",
               "--name", "phantom", "--force")
    text = bench.train(0, "train.epochs=10", expect=2)
    bench.check("other content" in text, f"changed pools: {text}")
    shutil.rmtree(bench.path("pools"))
    os.rename(bench.path("pools-kept"), bench.path("pools"))


def two_at_once(bench):
    run = bench.start(0, "out=shared", "train.epochs=100000", "train.early_stop.patience=-1")
    wait_for(lambda: os.path.exists(bench.path("shared", "curves.csv")))
    text = bench.train(0, "out=shared", expect=2)
    bench.check("another run" in text, f"two runs in one folder: {text}")
    run.terminate()
    run.communicate(timeout=60)
    bench.check(run.returncode == 75, f"SIGTERM: exit code {run.returncode}, wanted 75")


def damage(bench):
    bench.train(0, "out=damage", "checkpoint.keep=3")
    truth = bench.bits("damage")
    last = os.path.realpath(bench.path("damage", "checkpoints", "last"))
    with open(os.path.join(last, "optimizer.safetensors"), "r+b") as f:
        f.seek(-3, os.SEEK_END)
        f.write(b"\x7f")
    text = bench.train(0, "out=damage", "checkpoint.keep=3")
    bench.check("passed over" in text and "SHA-256" in text, f"the damage is not named: {text}")
    bench.check(bench.bits("damage") == truth, "after a damaged checkpoint: other bits")


def mistakes(bench):
    for keys, wanted in [(["train.epoch=3"], "'train.epochs'"), (["model=nowhere"], "nowhere"),
                         (["pools.train=nowhere"], "nowhere"), (["prompt=p77"], "'p77'"), (["size=33"], "33"),
                         (["init=weights"], "no weights")]:
        text = bench.train(0, "out=mistake", *keys, expect=None)
        bench.check(wanted in text, f"{keys}: '{wanted}' is not in: {text}")
    text = bench.train(2, "out=mistake-2", "prompt=p77", expect=2)
    bench.check("'p77'" in text, f"on two ranks: {text}")


def main():
    bench = Bench(sys.argv[1])
    for part in (clocks, folders, two_at_once, damage, mistakes):
        part(bench)
    return bench.finish()


if __name__ == "__main__":
    sys.exit(main())
