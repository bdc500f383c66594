#!/usr/bin/env python3
"""Compare gridseg's tokenizers with transformers' CLIPTokenizerFast and BertTokenizerFast on 5,000 strings and more.

usage: tokens.py TOOL_TOKENS BPE_GZ [PROMPTS_DIR] [--words VOCAB_TXT] [--gridseg BINARY]

TOOL_TOKENS is the built tests/peer/tool_tokens; BPE_GZ is bpe_simple_vocab_16e6.txt.gz; VOCAB_TXT is bert-base-uncased's
vocabulary; PROMPTS_DIR holds annotation files with prompts (json or json.gz). With --gridseg, texts without newlines and zero bytes also go through `gridseg tokens`.
Needs transformers 4.49.0, tokenizers 0.21, Python 3.11 (Unicode 14.0).
"""

import argparse
import glob
import gzip
import json
import os
import random
import struct
import subprocess
import sys
import tempfile
import unicodedata

from transformers import BertTokenizerFast, CLIPTokenizerFast

LIMIT = 77
WORDS_LIMIT = 256


def byte_symbols():
    bytes_ = list(range(33, 127)) + list(range(161, 173)) + list(range(174, 256))
    codes = bytes_[:]
    for b in range(256):
        if b not in bytes_:
            codes.append(256 + len(codes) - 188)
    return [chr(c) for c in codes]


def write_hub_files(bpe_gz, folder):
    """vocab.json and merges.txt as the hub has them, from the table that CLIP was published with."""
    merges = gzip.open(bpe_gz).read().decode().split("\n")[1:49152 - 256 - 2 + 1]
    tokens = byte_symbols()
    tokens += [t + "</w>" for t in tokens] + ["".join(m.split()) for m in merges]
    tokens += ["<|startoftext|>", "<|endoftext|>"]
    with open(os.path.join(folder, "vocab.json"), "w") as f:
        json.dump({t: i for i, t in enumerate(tokens)}, f, ensure_ascii=False)
    with open(os.path.join(folder, "merges.txt"), "w") as f:
        f.write("#version: 0.2\n" + "\n".join(merges) + "\n")


def prompts(folder):
    found = set()
    for path in glob.glob(os.path.join(folder, "**", "*.json*"), recursive=True):
        data = gzip.open(path).read() if path.endswith(".gz") else open(path, "rb").read()
        for row in json.loads(data):
            for text in row.get("prompts", {}).values():
                found.update(text if isinstance(text, list) else [text])
    return sorted(found)


HAND = [
    "", " ", "\n", "a", "A photo of a cat", "  lead and   trail  ", "tab\there\r\nnewline\u2028line\u3000wide\u00a0nbsp\x85nel",
    "it's they're we've I'm he'll she'd 's 't 're 've 'm 'll 'd ''s !'s 'sx 'RE 'LL 'l 'r 'v '", "12345 \u0661\u0662 \u00bd\u2460\u216b 3.14",
    "<|startoftext|>", "<|endoftext|>", "a<|endoftext|>b", "<|STARTOFTEXT|> x", "<|endoftext|<|endoftext|>>", "<|endoftext",
    "x<|endoftext|>'s<|startoftext|>", "<| endoftext |>", "a" * 10240, "A" * 10240, "ab" * 5120, " a" * 5120, "1" * 10240, "!" * 10240,
    "\u00e9" * 5000, "e\u0301" * 5000, "a" + "\u0301\u0316" * 4000, "\u0316\u0301\u0334" * 3000,
    "caf\u00e9 cafe\u0301 \u1e9b\u0323 \u212b \u2126 \ufb01 \u0344", "\u0130stanbul I\u0307 \u0131 \u1e9e \u00df", "\u039f\u0394\u03a5\u03a3\u03a3\u0395\u03a5\u03a3 \u03a3 \u03a3\u03a3 \u1fbc \u1f88",
    "\u4f60\u597d\uff0c\u4e16\u754c\u3002 \u606f\u8089\u4f4d\u4e8e\u56fe\u50cf\u53f3\u4fa7", "\uac00\u1100\u1161\u11a8\uac01 \u1100\u1161\u11a7 \uac00\u11c2",
    "\U0001f600\U0001f468\u200d\U0001f469\u200d\U0001f467 \U0001f1e9\U0001f1ea \u2764\ufe0f \U0001f44d\U0001f3fd", "\x00", "a\x00b", "\x01\x1b[0m\x7f\x9f",
    "\ufeffbom \u200b zero\u200dwidth \u2060", "\U0001d15e\U0001d1bb \U00011938 \U00011935\u0334\U00011930 \U000110ab", "\u0958 \u0929 \u09cb\u09c7\u09be \u0cca\u0cd5",
    "\u1ac1\u0316 q\u0316\u1ac1 \u0898\u0316 q\u0345\u0dfd", "\ue000 \U0010fffd \ufdd0 \uffff", "\U00016e40\U00016e5f \U0001e900 \u2c2f \ua7c0 \u10a0 \u13a0\uab70 \u1c90",
    "polyp, located in right of the image", "One small circle-shaped benign tumor at the top left in the breast ultrasound image.",
]


def strings(folder):
    """The prompts, the list above, and random texts of code points assigned in Unicode 14; at least 5,000."""
    assert unicodedata.unidata_version == "14.0.0"
    rng = random.Random(14)
    assigned = [c for c in range(0x110000) if not 0xD800 <= c < 0xE000 and unicodedata.category(chr(c)) != "Cn"]
    marks = [c for c in assigned if unicodedata.category(chr(c))[0] == "M"]
    combining = [c for c in assigned if unicodedata.combining(chr(c))]
    composed = [c for c in assigned if unicodedata.normalize("NFD", chr(c)) != chr(c)]
    parts = sorted({ord(p) for c in composed for p in unicodedata.normalize("NFD", chr(c))})
    cased = [c for c in assigned if chr(c).lower() != chr(c) or chr(c).upper() != chr(c)]
    small = [c for c in assigned if c < 0x3000]
    emoji = list(range(0x1F300, 0x1F650)) + [0x200D, 0xFE0F, 0x1F3FB, 0x1F3FF, 0x1F1E6, 0x1F1FF, 0x2764]
    greek = list(range(0x391, 0x3CA)) + list(range(0x1F00, 0x1F16)) + [0x301, 0x313, 0x345, 32]
    greek.remove(0x3A2)
    chinese = list(range(0x4E00, 0x4E00 + 3000)) + [0x3002, 0xFF0C, 32]
    ascii_ = list(range(128)) + [39] * 20 + [32] * 20 + [ord(c) for c in "stdmrevl" * 8]
    jamo = list(range(0x1100, 0x1113)) + list(range(0x1161, 0x1176)) + list(range(0x11A7, 0x11C3)) + list(range(0xAC00, 0xAC40))
    spaces = [9, 10, 11, 12, 13, 32, 0x85, 0xA0, 0x1680, 0x2000, 0x200A, 0x2028, 0x2029, 0x202F, 0x205F, 0x3000, 0x180E, 0x1C, 65, 98]
    pools = [assigned, small, marks, combining + [97, 113], composed + marks, parts + combining, cased, emoji, greek, chinese, ascii_,
             jamo, spaces, assigned + spaces * 2000]
    out = HAND + (prompts(folder) if folder else [])
    k = 0
    while len(out) < 5000 or k < 2800:
        pool = pools[k % len(pools)]
        out.append("".join(chr(rng.choice(pool)) for _ in range(rng.choice((1, 2, 3, 5, 8, 20, 60)))))
        k += 1
    # Every assigned code point by itself and between letters, in chunks, so that each class table is seen whole.
    for i in range(0, len(assigned), 12):
        out.append("".join("q" + chr(c) for c in assigned[i:i + 12]))
    for i in range(0, len(combining), 4):
        out.append("".join("q\u0345" + chr(c) + "\u0334" for c in combining[i:i + 4]))
    return out


WORDS_HAND = [
    "[CLS]", "[SEP] x", "a[MASK]b", "[PAD][UNK]", "[cls]", "[ SEP ]", "[SE\u0301P]", "[SEP", "[[SEP]]", "x[SEP]\u0301\u0316y", "[CLS" * 300,
    "a" * 99, "a" * 100, "a" * 101, "\u00e9" * 100, "\u00e9" * 101, "e\u0301" * 100, "e\u0301" * 101, "\u4f60" * 300, "." * 300, "a. " * 300,
    "unaffable", "##able", "## able", "#", "##", "naive na\u00efve NAI\u0308VE", "\u0130 I\u0307 \u0131 \u00df \u1e9e \ufb01 \u01c4",
    "tab\tnew\nline\rfeed\x0bvt\x0cff\x85nel", "zero\u200bwidth\u200d\ufeff\ufffd\x00x", "\u4f60\u597d\uff0cworld\u3002x\u3400y\U00020000z\U0002b820q\U0002b920",
    "don't e.g. 3.14 $5 a+b=c <x> `y` ^z |~", "\u00bfqu\u00e9? \u00a1s\u00ed! \u2026 \u2014 \u201cq\u201d \u00a7 \u20ac", "\u0958\u0929 \u09cb \U0001d15e \u302e\u0316q \uac01\u1100",
    "a\u1ab0\u0898b \u0488c", "\U00016fe4 \U00013430 \u2e43 \u061d",
]


def words_strings(vocabulary, folder):
    """What the byte pairs are asked, BERT's own corners, and every token of the vocabulary: by itself, and within a word."""
    names = open(vocabulary, encoding="utf-8").read().split("\n")[:-1]
    inside = [n[2:] if n.startswith("##") else n for n in names]
    rng = random.Random(15)
    out = strings(folder) + WORDS_HAND + names
    out += ["".join(rng.choice(inside) for _ in range(rng.choice((2, 3, 5)))) for _ in range(2000)]
    return out + [" ".join(rng.choice(inside) for _ in range(rng.choice((2, 20, 300)))) for _ in range(1000)]


def compare_words(a):
    """BERT's tokenizer in the forms that tokenizer_config.json can ask for."""
    bad = 0
    texts = words_strings(a.words, a.prompts)
    for options in ({}, {"do_lower_case": False}, {"strip_accents": False}, {"do_lower_case": False, "strip_accents": True},
                    {"tokenize_chinese_chars": False}):
        with tempfile.TemporaryDirectory() as folder:
            os.symlink(os.path.abspath(a.words), os.path.join(folder, "vocab.txt"))
            if options:
                with open(os.path.join(folder, "tokenizer_config.json"), "w") as f:
                    json.dump(options, f)
            fast = BertTokenizerFast(os.path.join(folder, "vocab.txt"), **options)
            truth = fast(texts, truncation=True, max_length=WORDS_LIMIT)["input_ids"]
            bad += count_mismatches(f"vocab.txt {options}", texts, ask_tool(a.tool, folder, texts, WORDS_LIMIT), truth)
            if a.gridseg and not options:
                with open(os.path.join(folder, "config.json"), "w") as f:
                    json.dump({"context_length": WORDS_LIMIT, "text_config": {"max_position_embeddings": 512}}, f)
                keep = [i for i, t in enumerate(texts) if "\n" not in t]
                lines = [texts[i] for i in keep]
                bad += count_mismatches("gridseg tokens", lines, ask_gridseg(a.gridseg, folder, lines), [truth[i] for i in keep])
    return bad


def ask_tool(tool, folder, texts, limit=LIMIT):
    data = b"".join(struct.pack("<I", len(t.encode())) + t.encode() for t in texts)
    raw = subprocess.run([tool, folder, str(limit)], input=data, stdout=subprocess.PIPE, check=True).stdout
    out, at = [], 0
    for _ in texts:
        (n,) = struct.unpack_from("<I", raw, at)
        out.append(list(struct.unpack_from(f"<{n}i", raw, at + 4)))
        at += 4 + 4 * n
    assert at == len(raw)
    return out


def ask_gridseg(binary, folder, texts):
    data = "".join(t + "\n" for t in texts).encode()
    raw = subprocess.run([binary, "tokens", "--model", folder], input=data, stdout=subprocess.PIPE, check=True).stdout
    return [[int(x) for x in line.split()] for line in raw.decode().splitlines()]


def count_mismatches(name, texts, ours, truth):
    bad = [i for i in range(len(texts)) if ours[i] != truth[i]]
    print(f"{name}: {len(texts)} texts, mismatches = {len(bad)}")
    for i in bad[:10]:
        print(f"  {ascii(texts[i])[:200]}\n    ours  {ours[i][:40]}\n    truth {truth[i][:40]}")
    return len(bad) + abs(len(ours) - len(truth))


def main():
    args = argparse.ArgumentParser()
    args.add_argument("tool")
    args.add_argument("bpe")
    args.add_argument("prompts", nargs="?")
    args.add_argument("--words")
    args.add_argument("--gridseg")
    a = args.parse_args()
    texts = strings(a.prompts)
    with tempfile.TemporaryDirectory() as hub, tempfile.TemporaryDirectory() as packed:
        write_hub_files(a.bpe, hub)
        os.symlink(os.path.abspath(a.bpe), os.path.join(packed, "bpe_simple_vocab_16e6.txt.gz"))
        fast = CLIPTokenizerFast(os.path.join(hub, "vocab.json"), os.path.join(hub, "merges.txt"))
        truth = fast(texts, truncation=True, max_length=LIMIT)["input_ids"]
        bad = count_mismatches("vocab.json + merges.txt", texts, ask_tool(a.tool, hub, texts), truth)
        bad += count_mismatches("bpe_simple_vocab_16e6.txt.gz", texts, ask_tool(a.tool, packed, texts), truth)
        if a.gridseg:
            keep = [i for i, t in enumerate(texts) if "\n" not in t]
            lines = [texts[i] for i in keep]
            bad += count_mismatches("gridseg tokens", lines, ask_gridseg(a.gridseg, packed, lines), [truth[i] for i in keep])
    if a.words:
        bad += compare_words(a)
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
