#!/usr/bin/env python3
"""What `gridseg train` leaves behind, read by the public tools: transformers loads the checkpoint and gives the logits that
`gridseg predict` gives; TensorBoard's reader finds in the event files what curves.csv says. No arguments."""
import csv, json, pathlib, tempfile

import numpy
import torch
from safetensors.numpy import load_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from transformers import CLIPSegForImageSegmentation, CLIPTokenizerFast

import common

SIZE, EPOCHS = 64, 3
common.need_gridseg()


def check_export(folder, checkpoint):
    public = CLIPSegForImageSegmentation.from_pretrained(checkpoint).eval()
    tokens = CLIPTokenizerFast.from_pretrained(checkpoint)
    before, after = load_file(folder / "model" / "model.safetensors"), {}
    for shard in checkpoint.glob("model*.safetensors"):  # one file, or the frozen part in a shard of its own
        after |= load_file(shard)
    assert before.keys() == after.keys(), before.keys() ^ after.keys()
    moved = sorted(n for n in before if not numpy.array_equal(before[n], after[n]))
    still = sorted(n for n in before if n not in moved)
    assert all(n.startswith("decoder.") for n in moved) and len(moved) > 40, moved
    assert all(n.startswith("clip.") for n in still), still
    image = folder / "data" / "images" / "case003.png"
    for text in ("disc", "a bright disc, in the left of the picture", ""):
        common.gridseg("predict", "--model", checkpoint, "--image", image, "--prompt", text, "--out", folder / "mask.png",
                       "--logits", folder / "logits.safetensors")
        given = tokens(text, padding="max_length", max_length=77, truncation=True, return_tensors="pt")
        with torch.no_grad():
            theirs = public(pixel_values=common.pixel_values(image, SIZE), **given).logits.numpy().squeeze()
        common.compare_logits(f"exported model, {text!r}", common.read_logits(folder / "logits.safetensors"), theirs, 2e-5)


def check_events(out):
    places = {p.parent for p in out.rglob("events.out.tfevents.*")}
    assert len(places) == 1, f"event files in {places}"
    events = EventAccumulator(str(places.pop()))
    events.Reload()
    tags = events.Tags()["scalars"]
    with open(next(out.rglob("curves.csv")), newline="", encoding="utf-8") as f:
        rows = list(csv.DictReader(f))
    compared = 0
    for kind, prefix in (("step", "train"), ("epoch", "epoch")):
        of_kind = [r for r in rows if r["kind"] == kind]
        assert len(of_kind) == (EPOCHS if kind == "epoch" else EPOCHS * 3), (kind, len(of_kind))
        for column in ("loss", "dice", "lr", "val_loss", "val_dice"):
            tag = f"{prefix}/{column}"
            if tag not in tags:
                assert kind == "step" and column.startswith("val_") or kind == "epoch" and column == "lr", f"no {tag} in {tags}"
                continue
            seen = {e.step: e.value for e in events.Scalars(tag)}
            want = {int(r["step"]): float(r[column]) for r in of_kind if r[column]}
            assert seen.keys() == want.keys(), (tag, seen, want)
            for step, value in want.items():
                assert abs(seen[step] - value) <= 1e-6 * max(1.0, abs(value)), (tag, step, seen[step], value)
            compared += len(want)
    print(f"{compared} scalars of {len(tags)} tags equal curves.csv")


with tempfile.TemporaryDirectory() as name:
    work = pathlib.Path(name)
    common.make_model(work / "model", SIZE)
    common.draw_dataset(work / "data", {"train": 11, "val": 4})
    for split in ("train", "val"):
        common.gridseg("pack", "--dataset", "study", "--source", work / "data", "--split", split, "--size", SIZE, "--out",
                       work / "pools", "--name", "discs")
    config = dict(model=str(work / "model"), pools=dict(root=str(work / "pools"), train=["discs"]), prompt="p1", size=SIZE,
                  train=dict(epochs=EPOCHS, batch=4), store=dict(dir=str(work / "store")), out=str(work / "run"))
    (work / "train.yaml").write_text(json.dumps(config))  # JSON is YAML
    common.gridseg("train", work / "train.yaml")
    check_events(work / "run")
    check_export(work, (work / "run" / "checkpoints" / "best").resolve())
