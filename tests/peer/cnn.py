#!/usr/bin/env python3
"""UNet, UNet++ and DeepLabV3+ there and back: what segmentation_models_pytorch saves is finetuned by `gridseg train`; the checkpoint loads
with smp.from_pretrained, every tensor in its place, and gives the logits that `gridseg predict` gives, for one plane and for several.
Arguments: some of the MODELS, else all; GRIDSEG names the program."""
import json, pathlib, sys, tempfile

import segmentation_models_pytorch as smp
import torch
from safetensors.torch import load_file
from transformers import AutoImageProcessor

import common

SIZE, EPOCHS, BATCH, IMAGES = 64, 2, 4, 8
SMALL = (16, 12, 8, 8, 4)
MODELS = {
    "unet": lambda: smp.Unet("resnet18", encoder_weights=None, decoder_channels=SMALL),
    "unetpp": lambda: smp.UnetPlusPlus("resnet18", encoder_weights=None, decoder_channels=SMALL),
    "deeplabv3plus": lambda: smp.DeepLabV3Plus("resnet18", encoder_weights=None, decoder_channels=24),
    "planes": lambda: smp.Unet("resnet34", encoder_weights=None, decoder_channels=SMALL, classes=3),
}
LABELS = ("polyp", "disc", "left ventricle")


def check_logits(what, folder, model, image, given, bound=2e-5):
    out = folder / "logits.safetensors"
    common.gridseg("predict", "--model", model, "--image", image, *given, "--out", folder / "masks", "--logits", out)
    ours = load_file(out)["logits"].numpy()[0]  # [planes,S,S]
    with torch.no_grad():
        theirs = smp.from_pretrained(str(model)).eval()(common.pixel_values(image, SIZE)).numpy()[0]
    common.compare_logits(what, ours, theirs, bound)


def check_moved(before, after, steps):
    assert before.keys() == after.keys(), before.keys() ^ after.keys()
    for n, v in after.items():
        assert v.shape == before[n].shape and v.dtype == before[n].dtype, (n, v.dtype)
        if n.endswith("num_batches_tracked"):
            assert v.item() == steps, (n, v.item())
        else:
            assert not torch.equal(v, before[n]), f"{n} has not moved"


common.need_gridseg()
with tempfile.TemporaryDirectory() as name:
    work = pathlib.Path(name)
    common.draw_dataset(work / "data", {"train": IMAGES, "val": 4})
    image = work / "data" / "images" / "case003.png"
    for split in ("train", "val"):
        common.gridseg("pack", "--dataset", "study", "--source", work / "data", "--split", split, "--size", SIZE, "--out",
                       work / "pools", "--name", "discs")
    for kind in sys.argv[1:] or MODELS:
        torch.manual_seed(3)
        folder = work / kind
        MODELS[kind]().save_pretrained(folder / "model")
        if kind == "planes":
            config = json.loads((folder / "model" / "config.json").read_text())
            config["id2label"] = {str(i): label for i, label in enumerate(LABELS)}
            (folder / "model" / "config.json").write_text(json.dumps(config))
            check_logits("planes from smp", folder, folder / "model", image, ["--size", SIZE])
            continue
        check_logits(f"{kind} from smp", folder, folder / "model", image, ["--size", SIZE])
        (folder / "train.yaml").write_text(json.dumps(  # JSON is YAML
            dict(model=str(folder / "model"), pools=dict(root=str(work / "pools"), train=["discs"]), size=SIZE,
                 train=dict(epochs=EPOCHS, batch=BATCH), store=dict(dir=str(work / "store")), out=str(folder / "run"))))
        common.gridseg("train", folder / "train.yaml")
        last = (folder / "run" / "checkpoints" / "last").resolve()
        check_moved(load_file(folder / "model" / "model.safetensors"), load_file(last / "model.safetensors"),
                    EPOCHS * IMAGES // BATCH)
        check_logits(f"{kind} finetuned here", folder, last, image, [])  # at the size that it was trained at
        seen = AutoImageProcessor.from_pretrained(last)
        assert dict(seen.size) == dict(height=SIZE, width=SIZE) and seen.image_mean == [0.485, 0.456, 0.406], seen
