#!/usr/bin/env python3
"""A small byte-pair vocabulary in CLIP's format, learnt from the prompts of datasets in the study layout.

    make_vocabulary.py [--merges N] --out DIR ANNOTATION.json ...

Writes DIR/vocab.json and DIR/merges.txt as transformers' CLIPTokenizer reads them: 256 bytes, the same at the end of a word, one
token a merge, start and end. A model that starts from drawn weights needs no more than its own words; one with public weights needs
the public vocabulary. Sennrich et al., "Neural machine translation of rare words with subword units", ACL 2016, algorithm 1.
"""
import argparse
import collections
import json
import os
import re


def byte_letters():
    """OpenAI CLIP's printable stand-ins for the 256 bytes (bytes_to_unicode)."""
    plain = list(range(33, 127)) + list(range(161, 173)) + list(range(174, 256))
    letters = {b: chr(b) for b in plain}
    for b in range(256):
        if b not in letters:
            letters[b] = chr(256 + len(letters) - len(plain))
    return letters


def texts(path):
    with open(path) as f:
        for row in json.load(f):
            for prompt in row["prompts"].values():
                yield from prompt if isinstance(prompt, list) else [prompt]


def learn(words, count):
    """The `count` most frequent pairs, one after the other; ties go to the pair that sorts first."""
    merges = []
    while len(merges) < count:
        pairs = collections.Counter()
        for word, times in words.items():
            for pair in zip(word, word[1:]):
                pairs[pair] += times
        if not pairs:
            break
        best = min(pairs, key=lambda p: (-pairs[p], p))
        merges.append(best)
        merged = collections.Counter()
        for word, times in words.items():
            out, i = [], 0
            while i < len(word):
                if word[i:i + 2] == best:
                    out.append("".join(best))
                    i += 2
                else:
                    out.append(word[i])
                    i += 1
            merged[tuple(out)] += times
        words = merged
    return merges


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--merges", type=int, default=256)
    p.add_argument("--out", required=True)
    p.add_argument("annotations", nargs="+")
    a = p.parse_args()
    letters = byte_letters()
    words = collections.Counter()
    for path in a.annotations:
        for text in texts(path):
            for word in re.findall(r"[a-z]+|[0-9]|[^\sa-z0-9]+", text.lower()):
                spelled = [letters[b] for b in word.encode()]
                words[tuple(spelled[:-1] + [spelled[-1] + "</w>"])] += 1
    merges = learn(words, a.merges)
    names = [letters[b] for b in sorted(letters, key=lambda b: (letters[b] > "\u00ff", letters[b]))]
    names += [n + "</w>" for n in names] + ["".join(m) for m in merges] + ["<|startoftext|>", "<|endoftext|>"]
    os.makedirs(a.out, exist_ok=True)
    with open(os.path.join(a.out, "vocab.json"), "w") as f:
        json.dump({n: i for i, n in enumerate(names)}, f, separators=(",", ":"))
        f.write("\n")
    with open(os.path.join(a.out, "merges.txt"), "w") as f:
        f.write("#version: 0.2\n" + "".join(f"{x} {y}\n" for x, y in merges))
    print(f"{len(names)} tokens, {len(merges)} merges")


if __name__ == "__main__":
    main()
