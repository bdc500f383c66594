#!/usr/bin/env python3
"""CRIS there and back: weights that the study's own class drew are finetuned by `gridseg train`; the checkpoint loads in that class
without a tensor missing or left over, and gives the logits that `gridseg predict` gives, in fp32 and, near enough, in bf16. $MEDVLSM names
a checkout of the study's repository (skipped without). No arguments; GRIDSEG names the program."""
import json, pathlib, tempfile

import numpy
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

import common, models

SIZE, EPOCHS, BATCH, IMAGES = 64, 2, 4, 9
CONFIG = dict(model_type="cris", image_resolution=96, vision_layers=[1, 1, 2, 1], vision_width=8, embed_dim=40, context_length=77,
              vocab_size=49408, transformer_width=32, transformer_heads=4, transformer_layers=2, word_len=40, fpn_in=[64, 128, 40],
              fpn_out=[24, 32, 40], vis_dim=32, word_dim=40, num_layers=2, num_head=4, dim_ffn=64, dropout=0.1, img_size=SIZE)
PROMPTS = ("disc", "a bright disc, in the left of the picture", "", "disc " * 60)  # the last is cut off at word_len


def make_model(folder):
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(CONFIG), encoding="utf-8")
    mean, std = models.NORMS["clip"]
    (folder / "preprocessor_config.json").write_text(json.dumps(dict(image_mean=mean, image_std=std, size=SIZE)), encoding="utf-8")
    common.write_vocabulary(folder)
    torch.manual_seed(5)
    net = models.open_model(folder).net
    with torch.no_grad():
        for n, p in net.named_parameters():
            if n.endswith("bn3.weight"):  # drawn as 0: a bottleneck would say nothing
                p.fill_(0.5)
    save_file({n: v.contiguous() for n, v in net.state_dict().items()}, folder / "model.safetensors", metadata={"format": "pt"})


def pixels(path):
    mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in models.NORMS["clip"])
    with Image.open(path) as f:
        x = numpy.asarray(f.convert("RGB").resize((SIZE, SIZE), Image.BILINEAR), dtype=numpy.float32) / 255
    return (torch.from_numpy(x).permute(2, 0, 1)[None] - mean) / std


def check_trained(before, after, steps):
    assert before.keys() == after.keys(), before.keys() ^ after.keys()
    for n, v in after.items():
        assert v.shape == before[n].shape and v.dtype == before[n].dtype, n
        if n.endswith("num_batches_tracked"):
            assert v.item() == steps, (n, v.item(), steps)
        elif n == "backbone.logit_scale":  # no logit depends on it
            assert torch.equal(v, before[n])
        else:
            assert not torch.equal(v, before[n]), f"{n} has not moved"


common.need_gridseg()
with tempfile.TemporaryDirectory() as name:
    work = pathlib.Path(name)
    make_model(work / "model")
    common.draw_dataset(work / "data", {"train": IMAGES, "val": 3})
    for split in ("train", "val"):
        common.gridseg("pack", "--dataset", "study", "--source", work / "data", "--split", split, "--size", SIZE, "--out",
                       work / "pools", "--name", "discs")
    (work / "train.yaml").write_text(json.dumps(  # JSON is YAML
        dict(model=str(work / "model"), pools=dict(root=str(work / "pools"), train=["discs"]), size=SIZE,
             train=dict(epochs=EPOCHS, batch=BATCH), store=dict(dir=str(work / "store")), out=str(work / "run"))))
    common.gridseg("train", work / "train.yaml", "prompt=p3")
    last = (work / "run" / "checkpoints" / "last").resolve()
    check_trained(load_file(work / "model" / "model.safetensors"), models.state_of(last), EPOCHS * -(-IMAGES // BATCH))
    public = models.open_model(last)  # every tensor, and none besides
    image = work / "data" / "images" / "case003.png"
    for precision, bound in (("fp32", 2e-5), ("bf16", 8e-2)):
        for text in PROMPTS:
            common.gridseg("predict", "--model", last, "--image", image, "--prompt", text, "--precision", precision, "--out",
                           work / "mask.png", "--logits", work / "logits.safetensors")
            with torch.no_grad():
                theirs = public(pixels(image), *public.text([text])).numpy().squeeze()
            common.compare_logits(f"exported CRIS in {precision}, {text[:45]!r}", common.read_logits(work / "logits.safetensors"),
                                  theirs, bound)
