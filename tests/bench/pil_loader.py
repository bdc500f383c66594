#!/usr/bin/env python3
"""The study's loader, timed on one core: images a second from files to tensors.

usage: pil_loader.py FOLDER [SIZE] [--count N]      FOLDER/images and FOLDER/masks hold files of the same order

Per sample: Image.open, convert("RGB"), resize bilinearly, to float tensor, normalise; mask: convert("L"), resize by
nearest, to float tensor, threshold. (The study also tokenizes the prompt, 0.5 ms a sample; left out here, since packing
does not tokenize.) The same files are packed by pack_bench; with --make N, FOLDER is filled with N generated pictures of
1000 x 800 first. CPU time of the process is counted, so that other work on the machine does not show. Needs: pillow, numpy, torch.
"""
import argparse
import os
import time

import numpy
import torch
from PIL import Image

MEAN = torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1)
STD = torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1)


def make(folder, count):
    rng = numpy.random.default_rng(1)
    os.makedirs(f"{folder}/images", exist_ok=True)
    os.makedirs(f"{folder}/masks", exist_ok=True)
    y, x = numpy.mgrid[0:800, 0:1000]
    for i in range(count):
        low = rng.integers(0, 256, (100, 125, 3), dtype=numpy.uint8)
        picture = numpy.asarray(Image.fromarray(low).resize((1000, 800), Image.BICUBIC)).astype(float)
        picture = numpy.clip(picture + rng.normal(0, 1.5, picture.shape), 0, 255).astype(numpy.uint8)
        a, b, r = rng.integers(200, 800), rng.integers(200, 600), rng.integers(50, 200)
        mask = ((x - a) ** 2 + (y - b) ** 2 < r * r).astype(numpy.uint8) * 255
        Image.fromarray(picture).save(f"{folder}/images/{i:04}.jpg", quality=90)
        Image.fromarray(mask).save(f"{folder}/masks/{i:04}.png")


def to_tensor(picture, channels):
    array = torch.from_numpy(numpy.array(picture, copy=True)).view(picture.height, picture.width, channels)
    return array.permute(2, 0, 1).contiguous().to(torch.float32).div(255)


def load(image, mask, size):
    picture = Image.open(image).convert("RGB").resize((size, size), Image.BILINEAR)
    pixels = (to_tensor(picture, 3) - MEAN) / STD
    label = Image.open(mask).convert("L").resize((size, size), Image.NEAREST)
    return pixels, (to_tensor(label, 1) > 0.5).float()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("folder")
    parser.add_argument("size", type=int, nargs="?", default=352)
    parser.add_argument("--make", type=int, default=0)
    args = parser.parse_args()
    torch.set_num_threads(1)
    if args.make:
        make(args.folder, args.make)
    images = sorted(os.listdir(f"{args.folder}/images"))
    masks = sorted(os.listdir(f"{args.folder}/masks"))
    pairs = [(f"{args.folder}/images/{a}", f"{args.folder}/masks/{b}") for a, b in zip(images, masks)]
    load(*pairs[0], args.size)
    best = 0.0
    for _ in range(3):
        start = time.process_time()
        for image, mask in pairs:
            load(image, mask, args.size)
        best = max(best, len(pairs) / (time.process_time() - start))
    print(f'{{"what": "study loader", "size": {args.size}, "images": {len(pairs)}, "images_per_second_core": {best:.1f}}}')


if __name__ == "__main__":
    main()
