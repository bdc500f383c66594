#!/usr/bin/env python3
"""Write golden/: a tiny byte-pair vocabulary, and token ids by transformers' CLIPTokenizerFast for it and for CLIP's own.

usage: make_golden.py BPE_GZ, in this folder. Needs transformers 4.49.0, tokenizers 0.21, Python 3.11 (Unicode 14.0).
"""

import json
import os
import random
import sys
import tempfile

from transformers import CLIPTokenizerFast

sys.path.insert(0, "../peer")
import tokens  # noqa: E402

MERGES = """p o|po l|pol yp</w>|y p</w>|i n</w>|t h|th e</w>|a a|aa aa|aa a</w>|a a</w>|e r</w>|l e|le f|lef t</w>|' s</w>|\u00c3 \u00a9</w>|\u00c3 \u00a9
r o|ro u|rou n|roun d</w>|! !</w>|po l</w>|l l</w>|a l|e e|\u0120 a|o o""".replace("\n", "|").split("|")


def tiny(folder):
    """Few merges, ids with gaps and out of order, and no symbols for some bytes: those become <|endoftext|>."""
    symbols = [s for i, s in enumerate(tokens.byte_symbols()) if i < 150]  # printable ASCII, then part of Latin-1
    merges = [m for m in MERGES]
    names = symbols + [s + "</w>" for s in symbols]
    merges = [m for m in merges if all(p in names or any(p == "".join(q.split()) for q in merges) for p in m.split())]
    names += ["".join(m.split()) for m in merges] + ["<|startoftext|>", "<|endoftext|>"]
    ids = list(range(0, 2 * len(names), 2))
    random.Random(1).shuffle(ids)
    with open(os.path.join(folder, "vocab.json"), "w") as f:
        json.dump(dict(zip(names, ids)), f, separators=(",", ":"))
    with open(os.path.join(folder, "merges.txt"), "w") as f:
        f.write("#version: 0.2\n" + "\n".join(merges) + "\n")


def write(path, folder, texts, limit):
    fast = CLIPTokenizerFast(os.path.join(folder, "vocab.json"), os.path.join(folder, "merges.txt"))
    rows = []
    for text in texts:
        row = {"text": text, "ids": fast(text, truncation=True, max_length=limit)["input_ids"]}
        if len(text) >= 200:
            unit = next(n for n in range(1, 20) if text[:n] * (len(text) // n) == text)
            row = {"text": text[:unit], "repeat": len(text) // unit, "ids": row["ids"]}
        rows.append(json.dumps(row, separators=(",", ":")))
    with open(path, "w") as f:
        f.write("[\n" + ",\n".join(rows) + "\n]\n")


def main():
    rng = random.Random(3)
    hand = [t for t in tokens.HAND if len(t) < 200 or any(t[:n] * (len(t) // n) == t for n in range(1, 20))]
    texts = tokens.strings(None)
    some = hand + rng.sample([t for t in texts if t not in hand and len(t) < 24], 300)
    some += [t for t in ("one medium white round polyp, located in top of the image", "polyp " * 80, "<|endoftext|> " * 40)]
    tiny("golden/tiny")
    write("golden/tiny.json", "golden/tiny", some, 77)
    write("golden/tiny_limit_4.json", "golden/tiny", ["", "polyp", "polyp in the left", "aaaaaaaaaaaaaaa", "<|endoftext|>" * 4], 4)
    with tempfile.TemporaryDirectory() as hub:
        tokens.write_hub_files(sys.argv[1], hub)
        write("golden/clip.json", hub, some, 77)


if __name__ == "__main__":
    main()
