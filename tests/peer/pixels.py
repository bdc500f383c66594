#!/usr/bin/env python3
"""Our pixels against Pillow's, picture by picture.

usage: pixels.py PIXELS_TOOL FOLDER [SIZE ...]      (sizes: 352 416)

Every JPEG, PNG and TIFF under FOLDER is read by pixels_tool (tests/data) and by Pillow, as RGB resized bilinearly and
as luminance resized by nearest, at its own size and at each SIZE. Allowed: 1 of 255 anywhere, 0.05 in the mean.
Needs: pillow (seen equal with 9.4 and 13.0), numpy.
"""
import os
import subprocess
import sys

import numpy
from PIL import Image

KINDS = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp")


def ours(tool, path, channels, size):
    made = subprocess.run([tool, path, str(channels), str(size), str(size)], capture_output=True, check=False)
    if made.returncode != 0:
        return made.stderr.decode().strip()
    height, width, pixels = made.stdout.split(b"\n", 2)
    shape = (int(height), int(width)) + ((3,) if channels == 3 else ())
    return numpy.frombuffer(pixels, numpy.uint8).reshape(shape)


def theirs(path, channels, size):
    picture = Image.open(path).convert("RGB" if channels == 3 else "L")
    if size:
        picture = picture.resize((size, size), Image.BILINEAR if channels == 3 else Image.NEAREST)
    return numpy.asarray(picture)


def main():
    tool, folder = sys.argv[1:3]
    sizes = [int(s) for s in sys.argv[3:]] or [352, 416]
    files = sorted(os.path.join(at, name) for at, _, names in os.walk(folder) for name in names
                   if name.lower().endswith(KINDS))
    bad, different, count, worst, worst_mean = 0, 0, 0, 0, 0.0
    for path in files:
        for channels in (3, 1):
            for size in [0] + sizes:
                got, want = ours(tool, path, channels, size), theirs(path, channels, size)
                if isinstance(got, str) or got.shape != want.shape:
                    print(f"{path} {channels} {size}: {got if isinstance(got, str) else (got.shape, want.shape)}")
                    bad += 1
                    continue
                far = numpy.abs(got.astype(int) - want.astype(int))
                count += 1
                different += int(far.max() > 0)
                worst, worst_mean = max(worst, int(far.max())), max(worst_mean, float(far.mean()))
                if far.max() > 1 or far.mean() > 0.05:
                    print(f"{path} {channels} {size}: largest {far.max()}, mean {far.mean():.4f}")
                    bad += 1
    print(f"{len(files)} files, {count} comparisons, {different} not equal bit for bit, largest difference {worst}, "
          f"largest mean {worst_mean:.5f}, {bad} failures")
    if not files or bad:
        sys.exit(1)


if __name__ == "__main__":
    main()
