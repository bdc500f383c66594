#!/usr/bin/env python3
"""Write golden/: a tiny byte-pair vocabulary and a tiny WordPiece vocabulary, and token ids by transformers' CLIPTokenizerFast and
BertTokenizerFast for them, for CLIP's own and for bert-base-uncased's.

usage: make_golden.py BPE_GZ VOCAB_TXT, in this folder. Needs transformers 4.49.0, tokenizers 0.21, Python 3.11 (Unicode 14.0).
"""

import json
import os
import random
import sys
import tempfile

from transformers import BertTokenizerFast, CLIPTokenizerFast

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


def tiny_words(folder):
    """Letters but q, few words, a token that stands twice, an empty line, Windows' ends of lines and none at the end."""
    names = ["[PAD]", "one", "[UNK]", "[CLS]", "[SEP]", "", "[MASK]"]
    names += [c for c in "abcdefghijklmnoprstuvwxyz0123456789.,-'[]\u4f60\u00e9\u0430\u1100\u1161"]
    names += ["##" + c for c in "abcdefghijklmnoprstuvwxy0123456789\u0301\u00e9\u0430\u1161"]
    names += ["polyp", "pol", "##yp", "##yps", "one", "the", "image", "##ima", "##image", "\u606f", "Polyp", "caf\u00e9", "cafe", "a ", "##"]
    with open(os.path.join(folder, "vocab.txt"), "w", newline="") as f:
        f.write("\n".join(names[:20]) + "\r\n" + "\r".join(names[20:30]) + "\n" + "\n".join(names[30:]))


def write_words(path, vocabulary, texts, limit, **options):
    write(path, BertTokenizerFast(vocabulary, **options), texts, limit)


def write(path, fast, texts, limit):
    rows = []
    for text in texts:
        row = {"text": text, "ids": fast(text, truncation=True, max_length=limit)["input_ids"]}
        if len(text) >= 200:
            unit = next(n for n in range(1, 20) if text[:n] * (len(text) // n) == text)
            row = {"text": text[:unit], "repeat": len(text) // unit, "ids": row["ids"]}
        rows.append(json.dumps(row, separators=(",", ":")))
    with open(path, "w") as f:
        f.write("[\n" + ",\n".join(rows) + "\n]\n")


def clip(folder):
    return CLIPTokenizerFast(os.path.join(folder, "vocab.json"), os.path.join(folder, "merges.txt"))


def main():
    rng = random.Random(3)
    hand = [t for t in tokens.HAND if len(t) < 200 or any(t[:n] * (len(t) // n) == t for n in range(1, 20))]
    texts = tokens.strings(None)
    some = hand + rng.sample([t for t in texts if t not in hand and len(t) < 24], 300)
    some += [t for t in ("one medium white round polyp, located in top of the image", "polyp " * 80, "<|endoftext|> " * 40)]
    tiny("golden/tiny")
    write("golden/tiny.json", clip("golden/tiny"), some, 77)
    write("golden/tiny_limit_4.json", clip("golden/tiny"), ["", "polyp", "polyp in the left", "aaaaaaaaaaaaaaa", "<|endoftext|>" * 4], 4)
    with tempfile.TemporaryDirectory() as hub:
        tokens.write_hub_files(sys.argv[1], hub)
        write("golden/clip.json", clip(hub), some, 77)
    few = [t for t in tokens.WORDS_HAND if len(t) < 200 or any(t[:n] * (len(t) // n) == t for n in range(1, 20))] + some[::3]
    os.makedirs("golden/words", exist_ok=True)
    os.makedirs("golden/words_cased", exist_ok=True)
    tiny_words("golden/words")
    tiny_words("golden/words_cased")
    cased = {"do_lower_case": False, "tokenize_chinese_chars": False, "cls_token": "[CLS]", "unk_token": {"content": "[UNK]"}}
    with open("golden/words_cased/tokenizer_config.json", "w") as f:
        json.dump(cased, f)
    write_words("golden/words.json", "golden/words/vocab.txt", few, 256)
    write_words("golden/words_limit_4.json", "golden/words/vocab.txt", ["", "polyp", "polyps [SEP] the image", "q", "[MASK]" * 4], 4)
    write_words("golden/words_cased.json", "golden/words_cased/vocab.txt", few, 256, do_lower_case=False, tokenize_chinese_chars=False)
    write_words("golden/bert.json", sys.argv[2], few, 256)


if __name__ == "__main__":
    main()
