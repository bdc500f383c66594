#!/usr/bin/env python3
"""memcheck.py GRIDSEG: pack, train (towers too), eval and predict in one process under valgrind's memcheck: no error and no lost
memory. On the reference backend: valgrind knows no AVX-512, and oneDNN's generated code is not ours to check. Exit code 77 without
valgrind."""
import os
import shutil
import sys

import common

if not shutil.which("valgrind"):
    print("no valgrind here")
    sys.exit(77)

bench = common.Bench(sys.argv[1], size=16)
supp = os.path.join(common.HERE, "..", "valgrind.supp")
valgrind = ["valgrind", "--quiet", "--error-exitcode=9", "--leak-check=full", "--errors-for-leak-kinds=definite",
            "--suppressions=" + supp, bench.binary]
with open(bench.path("eval.yaml"), "w") as f:
    f.write("model: out/checkpoints/best\npools: {root: pools, test: [phantom], split: val}\nsize: 16\nprompts: [p0, p6]\n"
            "masks: true\nthreads: 1\ndevice: reference\nout: scored\n")
picture = os.path.join("phantom", "images", sorted(os.listdir(bench.path("phantom", "images")))[0])
runs = {
    "pack": ["pack", "--dataset", "study", "--source", "phantom", "--split", "val", "--size", "16", "--out", "again"],
    "train": ["train", "train.yaml", "train.epochs=1", "device=reference", "store.dir=store"],
    "train with towers": ["train", "train.yaml", "train.epochs=1", "device=reference", "train.encoders=true", "out=towers"],
    "eval": ["eval", "eval.yaml"],
    "predict": ["predict", "--model", "out/checkpoints/best", "--image", picture, "--prompt", "polyp", "--out", "mask.png",
                "--overlay", "--device", "reference"],
    "info": ["info", "out"],
}
failed = 0
for name, arguments in runs.items():
    done = common.subprocess.run([*valgrind, "--quiet", *arguments], cwd=bench.root, capture_output=True, text=True, timeout=500)
    print(("passed " if done.returncode == 0 else "failed ") + name)
    if done.returncode:
        failed += 1
        print(f"exit code {done.returncode}\n{done.stdout[-1000:]}\n{done.stderr[-4000:]}")
shutil.rmtree(bench.root)
print(f"{len(runs) - failed} passed, {failed} failed")
sys.exit(1 if failed else 0)
