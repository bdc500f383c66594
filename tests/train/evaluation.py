#!/usr/bin/env python3
"""eval, score and predict from end to end on a phantom dataset: any number of ranks gives the same files, cells that are there are
not computed again, what is left out is named and counted, score and predict agree with eval, and mistakes are told with exit code 2.
The standard library suffices.

    evaluation.py GRIDSEG
"""
import csv
import json
import os
import shutil
import struct
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "fault"))
from common import Bench  # noqa: E402

PROMPTS = "[p0, p1, p2, p3, p4, p5, p6, random, \"a round thing\"]"


class Evaluation(Bench):
    def __init__(self, binary):
        super().__init__(binary)
        self.call("pack", "--dataset", "study", "--source", "phantom", "--split", "test", "--size", "32", "--out", "pools")
        with open(self.path("eval.yaml"), "w") as f:
            f.write(f"model: out/checkpoints/best\npools: {{root: pools, test: [phantom], split: train}}\nprompts: {PROMPTS}\n"
                    "threads: 1\nstore: {dir: none}\nout: o\n")

    def run(self, *arguments, ranks=0, expect=0, says=()):
        launch = [] if ranks == 0 else ["mpirun", "-np", str(ranks)]
        done = subprocess.run([*launch, self.binary, *arguments], cwd=self.root, capture_output=True, text=True, timeout=240)
        what = " ".join(arguments)
        self.check(done.returncode == expect, f"{what}: exit code {done.returncode}, wanted {expect}:\n{done.stderr}")
        for text in says:
            self.check(text in done.stderr, f"{what}: '{text}' is not said:\n{done.stderr}")
        return done.stdout

    def bytes_of(self, *parts):
        with open(self.path(*parts), "rb") as f:
            return f.read()

    def cells(self, out, times=True):
        with open(self.path(out, "cells.csv"), newline="") as f:
            rows = list(csv.DictReader(f))
        if not times:
            for row in rows:
                del row["seconds"]
        return rows

    def value(self, out, prompt, metric, resolution="original", column="value"):
        found = [r[column] for r in self.cells(out) if (r["prompt"], r["metric"], r["resolution"]) == (prompt, metric, resolution)]
        self.check(len(found) == 1, f"{out}: {len(found)} rows of {prompt} {metric} {resolution}")
        return found[0]


def png_size(data):
    return struct.unpack(">II", data[16:24])


def ranks_and_reruns(b):
    for ranks in (0, 2, 3, 4):
        b.run("eval", "eval.yaml", f"out=o{ranks}", "masks=true", "batch=5", ranks=ranks)
        b.check(b.bytes_of(f"o{ranks}", "samples.h5") == b.bytes_of("o0", "samples.h5"), f"{ranks} ranks: other samples.h5")
        b.check(b.cells(f"o{ranks}", False) == b.cells("o0", False), f"{ranks} ranks: other cells.csv")
        for name in sorted(os.listdir(b.path("o0", "masks", "phantom-train", "p6"))):
            same = b.bytes_of(f"o{ranks}", "masks", "phantom-train", "p6", name) == b.bytes_of("o0", "masks", "phantom-train", "p6", name)
            b.check(same, f"{ranks} ranks: other mask {name}")
    before = b.bytes_of("o0", "cells.csv")
    table = b.run("eval", "eval.yaml", "out=o0", "masks=true", says=["9 of 9 cells are there already"])
    b.check(b.bytes_of("o0", "cells.csv") == before, "a second run changes cells.csv")
    b.check("phantom-train" in table and "a round thing" in table and "mean" in table, f"the table:\n{table}")
    b.run("eval", "eval.yaml", "out=o0", "prompts=[p6, p1]", "threshold=0.4")
    b.check(len(b.cells("o0")) == 11 * 12, "another threshold is another cell")
    os.remove(b.path("o2", "samples.h5"))  # lines without their samples are not trusted
    b.run("eval", "eval.yaml", "out=o2", "store.dir=store")
    b.check(b.bytes_of("o2", "samples.h5") == b.bytes_of("o3", "samples.h5"), "recomputed samples.h5 differs")
    b.run("eval", "eval.yaml", "out=o5", "store.dir=store")  # a warm store
    b.check(b.bytes_of("o5", "samples.h5") == b.bytes_of("o3", "samples.h5"), "a warm store changes samples.h5")


def numbers(b):
    kinds = [float(b.value("o3", f"p{i}", "dice")) for i in range(1, 7)]
    b.check(abs(float(b.value("o3", "random", "dice")) - sum(kinds) / 6) < 1e-7, "random is not the mean over p1..p6")
    b.check(b.value("o3", "p6", "dice", column="n") == "21", "21 samples")
    b.check(b.value("o3", "p6", "dice", column="leak") == "21", "every image of the train split was trained on")
    b.check(b.value("o3", "p6", "dice", column="trained_on") == "phantom", "trained_on")
    b.check(b.value("o3", "p6", "dice", column="seed") == "42", "seed")
    b.check(b.value("o3", "a round thing", "dice", column="prompt_source") == "person", "a literal prompt is a person's")
    b.run("eval", "eval.yaml", "out=t", "pools.split=test", "prompts=[p1, p6]")
    b.check(b.value("t", "p6", "dice", column="leak") == "0", "no test image was trained on")
    b.check(b.value("t", "p6", "dice", column="tested_on") == "phantom", "tested_on")
    low, value, high = (float(b.value("o3", "p6", "dice", column=c)) for c in ("lo", "value", "hi"))
    b.check(0 <= low < value < high <= 1, f"interval {low} {value} {high}")
    # The same words as a literal prompt give the same numbers.
    with open(b.path("phantom", "anns", "test.json")) as f:
        rows = json.load(f)
    words = {r["prompts"]["p1"] if isinstance(r["prompts"]["p1"], str) else r["prompts"]["p1"][0] for r in rows}
    if len(words) == 1:
        b.run("eval", "eval.yaml", "out=l", "pools.split=test", f"prompts=[\"{words.pop()}\"]")
        mine = [r["value"] for r in b.cells("l")]
        b.check(mine == [r["value"] for r in b.cells("t") if r["prompt"] == "p1"], "p1 as a literal prompt")


def left_out(b):
    shutil.copytree(b.path("phantom"), b.path("lacking"))
    path = b.path("lacking", "anns", "test.json")
    with open(path) as f:
        rows = json.load(f)
    del rows[0]["prompts"]["p3"]
    with open(path, "w") as f:
        json.dump(rows, f)
    b.run("pack", "--dataset", "study", "--source", "lacking", "--split", "test", "--size", "32", "--out", "pools")
    name = rows[0]["mask_name"]
    b.run("eval", "eval.yaml", "out=x", "pools.split=test", "pools.test=[lacking, phantom]", "prompts=[p3, p6]",
          says=[name, f"1 of {len(rows)} samples lack the prompt p3"])
    cells = [r for r in b.cells("x") if (r["metric"], r["resolution"], r["prompt"], r["tested_on"]) == ("dice", "original", "p3", "lacking")]
    b.check([(r["n"], r["n_excluded"]) for r in cells] == [(str(len(rows) - 1), "1")], f"counted: {cells}")
    b.run("eval", "eval.yaml", "out=y", "prompts=[p77]", expect=2, says=["p77"])
    b.run("eval", "eval.yaml", "out=y", "pools.test=[nowhere]", expect=2, says=["nowhere"])
    b.run("eval", "eval.yaml", "out=y", "treshold=0.4", expect=2, says=["threshold"])
    b.run("eval", "--bogus", expect=2, says=["--bogus", "usage"])
    b.run("eval", "eval.yaml", "out=y", "pools.test=[nowhere]", ranks=2, expect=2, says=["nowhere"])


def scores(b):
    masks = ("o3", "masks", "phantom-train", "p6")
    told = b.run("score", "--pred", os.path.join(*masks), "--pool", "pools/phantom/train/32", "--csv", "s.csv")
    ours = {r["metric"]: r for r in csv.DictReader(told.splitlines())}
    for metric in ("dice", "iou", "hd95", "surface_dice", "dice_dataset", "iou_dataset"):
        for column in ("value", "lo", "hi", "n", "n_groups"):
            b.check(ours[metric][column] == b.value("o3", "p6", metric, column=column), f"score {metric} {column}")
    with open(b.path("s.csv")) as f:
        rows = list(csv.DictReader(f))
    b.check(len(rows) == 21, "one line a sample")
    shutil.copytree(b.path(*masks), b.path("worse"))
    name, other = rows[3]["file"], rows[4]["file"]
    os.remove(b.path("worse", name))
    b.run("score", "--pred", "worse", "--pool", "pools/phantom/train/32", expect=2, says=[name, "1 of 21"])
    shutil.copy(b.path("phantom", "masks", other), b.path("worse", name))
    with open(b.path("worse", name), "rb") as f, open(b.path("phantom", "masks", rows[3]["name"]), "rb") as g:
        same = png_size(f.read()) == png_size(g.read())
    b.run("score", "--pred", "worse", "--pool", "pools/phantom/train/32", expect=0 if same else 2, says=[] if same else [name])
    small = b.path("worse", name)
    b.run("predict", "--model", "model", "--image", small, "--prompt", "x", "--size", "32", "--out", "worse/again.png")
    b.run("score", "--pred", "worse", "--pool", "pools/phantom", expect=2, says=["ROOT/NAME/SPLIT/SIZE"])
    b.run("score", "--pred", "nowhere", "--pool", "pools/phantom/train/32", expect=2, says=["nowhere"])


def predictions(b):
    with open(b.path("phantom", "anns", "train.json")) as f:
        row = json.load(f)[0]
    words = row["prompts"]["p6"] if isinstance(row["prompts"]["p6"], str) else row["prompts"]["p6"][0]
    image, stem = os.path.join("phantom", "images", row["img_name"]), os.path.splitext(row["img_name"])[0]
    model = ("--model", "out/checkpoints/best")
    b.run("predict", *model, "--image", image, "--prompt", words, "--out", "one.png", "--overlay", "--logits", "l.safetensors")
    name = row["mask_name"] if row["mask_name"].endswith(".png") else row["mask_name"] + ".png"
    b.check(b.bytes_of("one.png") == b.bytes_of("o3", "masks", "phantom-train", "p6", name), "predict and eval give one mask")
    width, height = png_size(b.bytes_of("one-overlay.png"))
    b.check(width == png_size(b.bytes_of("one.png"))[0] and height >= png_size(b.bytes_of("one.png"))[1], "the overlay's size")
    header = json.loads(b.bytes_of("l.safetensors")[8:8 + struct.unpack("<Q", b.bytes_of("l.safetensors")[:8])[0]])
    b.check(header["logits"]["shape"] == [1, 1, 32, 32] and json.loads(header["__metadata__"]["prompts"]) == [words], str(header))
    os.makedirs(b.path("pictures"))
    for r in json.load(open(b.path("phantom", "anns", "test.json"))):
        shutil.copy(b.path("phantom", "images", r["img_name"]), b.path("pictures"))
    count = len(os.listdir(b.path("pictures")))
    b.run("predict", *model, "--images", "pictures", "--prompt", "a polyp", "--prompt", "", "--out", "p")
    made = os.listdir(b.path("p"))
    b.check(len(made) == 2 * count and sum(n.endswith("-a-polyp.png") for n in made) == count, f"files: {made}")
    with open(b.path("pictures", "notes.txt"), "w") as f:
        f.write("no picture")
    b.run("predict", *model, "--images", "pictures", "--prompt", "a polyp", "--out", "q", expect=2,
          says=["notes.txt", f"1 of {count + 1} pictures"])
    b.check(len(os.listdir(b.path("q"))) == count, "the other pictures are done")
    b.run("predict", *model, "--image", image, "--prompt-image", image, "--out", "r")
    b.check(os.listdir(b.path("r")) == [stem + ".png"], "a picture as the prompt")
    b.run("predict", *model, "--image", image, "--image", image, "--prompt", "x", "--out", "r", expect=2, says=["both"])
    b.run("predict", *model, "--image", image, "--prompt", "x", "--prompt", "y", "--out", "r.png", expect=2, says=["one file"])
    b.run("predict", *model, "--image", image, "--out", "r", expect=2, says=["--prompt"])
    b.run("predict", *model, "--image", "pictures/notes.txt", "--prompt", "x", "--out", "r", expect=2, says=["notes.txt"])
    b.run("predict", *model, "--image", image, "--prompt", "x", "--threshold", "1.5", "--out", "r", expect=2, says=["--threshold"])


def main():
    b = Evaluation(sys.argv[1])
    b.train(0, "train.encoders=true", "train.epochs=15", "store.dir=none")
    ranks_and_reruns(b)
    numbers(b)
    left_out(b)
    scores(b)
    predictions(b)
    return b.finish()


if __name__ == "__main__":
    sys.exit(main())
