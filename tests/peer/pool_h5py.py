#!/usr/bin/env python3
"""A pool read by h5py through pool.h5, and by h5dump: the same pixels, masks, names and prompts as its sources.

usage: pool_h5py.py GRIDSEG [FOLDER ...]     GRIDSEG: the program; FOLDER: datasets in the study layout (else camus and
                                             bkai_polyp of $GRIDSEG_SHARED)

Each folder's test split is packed at 96 in three shards. Needs: h5py, numpy, pillow 13 (Debian's python3-h5py reads the
pool as well; its older Pillow resizes some tall pictures by 1 of 255 differently, which is allowed for).
"""
import io
import json
import os
import shutil
import subprocess
import sys
import tempfile
import zlib

import h5py
import numpy
from PIL import Image

SIZE = 96


def check(what, good):
    if not good:
        sys.exit(f"{what}: not as wanted")


def texts(dataset):
    return [t.decode() for t in dataset[:]]


def check_pool(pool, source, split):
    with open(f"{source}/anns/{split}.json", encoding="utf-8") as f:
        listed = {(a["img_name"], a["mask_name"]): a["prompts"] for a in json.load(f)}
    with h5py.File(f"{pool}/pool.h5") as f:
        names, images, index = texts(f["names"]), texts(f["image_names"]), f["image_index"][:]
        words, kinds = texts(f["prompt_text"]), list(f["prompt_index"].attrs["prompt_kinds"])
        check("samples", len(names) == len(listed))
        check("sources", set(f["prompt_index"].attrs["prompt_source"]) <= {"class", "metadata", "ground_truth", "person"})
        for i, name in enumerate(names):
            prompts = listed[images[index[i]], name]
            picture = Image.open(f"{source}/images/{images[index[i]]}").convert("RGB")
            mask = Image.open(f"{source}/masks/{name}").convert("L")
            want = numpy.asarray(picture.resize((SIZE, SIZE), Image.BILINEAR)).astype(int)
            check(f"pixels of {name}", abs(f["images"][index[i]].astype(int) - want).max() <= 1)
            check(f"mask of {name}",
                  (f["masks"][i] == (numpy.asarray(mask.resize((SIZE, SIZE), Image.NEAREST)) > 127)).all())
            source_mask = numpy.asarray(Image.open(io.BytesIO(f["mask_original"][i].tobytes())))
            check(f"source mask of {name}", (source_mask == (numpy.asarray(mask) > 127)).all())
            check(f"size of {name}", tuple(f["original_size"][index[i]]) == (picture.height, picture.width))
            check(f"CRC of {name}", zlib.crc32(f["masks"][i].tobytes()) == f["mask_crc32"][i])
            check(f"CRC of {images[index[i]]}", zlib.crc32(f["images"][index[i]].tobytes()) == f["image_crc32"][index[i]])
            for k, kind in enumerate(kinds):
                have = [words[j] for j in f["prompt_index"][i, k] if j >= 0]
                wanted = prompts.get(kind, [])
                check(f"{kind} of {name}", have == ([wanted] if isinstance(wanted, str) else wanted))
        return len(names)


def main():
    program = sys.argv[1]
    shared = os.environ.get("GRIDSEG_SHARED", "../shared")
    folders = sys.argv[2:] or [f"{shared}/data/camus", f"{shared}/data/bkai_polyp"]
    with tempfile.TemporaryDirectory() as root:
        for source in folders:
            subprocess.run([program, "pack", "--dataset", "study", "--source", source, "--split", "test", "--size",
                            str(SIZE), "--shards", "3", "--out", root], check=True, stderr=subprocess.DEVNULL)
            pool = f"{root}/{os.path.basename(source)}/test/{SIZE}"
            count = check_pool(pool, source, "test")
            if shutil.which("h5dump"):
                dump = subprocess.run(["h5dump", "-d", "/names", "pool.h5"], cwd=pool, capture_output=True, check=True)
                check("h5dump", dump.stdout.count(b"(") >= count)
            print(f"{source}: {count} samples, all equal")


if __name__ == "__main__":
    main()
