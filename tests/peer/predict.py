#!/usr/bin/env python3
"""`gridseg predict` with the golden model directories against transformers reading the same directories: an image as the
prompt, logits of one picture. No arguments; GRIDSEG names the program."""
import pathlib, tempfile

import numpy
import torch
from PIL import Image
from safetensors.numpy import load_file
from transformers import CLIPSegForImageSegmentation

import common

common.need_gridseg()
with tempfile.TemporaryDirectory() as folder:
    folder = pathlib.Path(folder)
    for name in "abc":
        model = common.ROOT / "tests" / "golden" / f"clipseg_{name}"
        given = load_file(model / "io.safetensors")
        public = CLIPSegForImageSegmentation.from_pretrained(model).eval()
        size = given["pixels"].shape[1]
        for i in range(len(given["pixels"])):
            Image.fromarray(given["pixels"][i]).save(folder / "image.png")
            Image.fromarray(given["prompt_pixels"][i]).save(folder / "prompt.png")
            common.gridseg("predict", "--model", model, "--image", folder / "image.png", "--prompt-image", folder / "prompt.png",
                           "--out", folder / "mask.png", "--logits", folder / "logits.safetensors")
            with torch.no_grad():
                theirs = public(pixel_values=common.pixel_values(folder / "image.png", size),
                                conditional_pixel_values=common.pixel_values(folder / "prompt.png", size)).logits.numpy().squeeze()
            common.compare_logits(f"clipseg_{name}, picture {i}", common.read_logits(folder / "logits.safetensors"), theirs,
                                  bound=2e-5)  # both sides are float32: twice the bound against the truth
            mask = numpy.asarray(Image.open(folder / "mask.png").convert("L")) > 127
            clear = numpy.abs(theirs) > 1e-3
            assert mask.shape == theirs.shape and (mask == (theirs > 0))[clear].all(), "the mask is not the logits' sign"
