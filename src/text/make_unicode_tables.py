#!/usr/bin/env python3
"""Write unicode_class.inc and unicode_nfc.inc, the tables behind unicode.c.

Classes and lower case are Unicode 14's, as Oniguruma 6.9.8 and Rust's char::to_lowercase know them; both were compared with
Python's for every assigned code point. Normalisation is different: tokenizers 0.21 composes with a crate
whose tables stopped at Unicode 9, so that 98 younger combining marks have class 0 there and U+11938 is no composite. Tokens
have to equal those of tokenizers, so each combining class and composite is kept only if tokenizers acts on it. BERT's cleaning,
stripping of accents and cutting at punctuation go by another crate's tables, of Unicode 8: they are asked of tokenizers.

Needs Python 3.11 (unicodedata 14.0.0) and tokenizers 0.21.4. Usage: make_unicode_tables.py, in this folder.
"""

import sys
import unicodedata

from tokenizers.normalizers import NFC, NFD, BertNormalizer, Lowercase
from tokenizers.pre_tokenizers import BertPreTokenizer

assert unicodedata.unidata_version == "14.0.0", "wants the Unicode 14 tables of Python 3.11"

ALL = [c for c in range(0x110000) if not 0xD800 <= c < 0xE000 and unicodedata.category(chr(c)) != "Cn"]
HANGUL = range(0xAC00, 0xAC00 + 11172)
nfc = NFC().normalize_str
nfd = NFD().normalize_str


def ranges(codes):
    out = []
    for c in codes:
        if out and out[-1][1] == c - 1:
            out[-1][1] = c
        else:
            out.append([c, c])
    return out


def hexa(n):
    return f"0x{n:X}"


def emit(out, kind, name, rows, comment):
    out.append(f"// {comment}")
    out.append(f"static const {kind} {name}[] = {{")
    line = "   "
    for row in rows:
        text = " {" + ", ".join(row) + "}," if len(row) > 1 else " " + row[0] + ","
        if len(line) + len(text) > 118:
            out.append(line)
            line = "   "
        line += text
    out.append(line)
    out.append("};")


def combining_class(c):
    """Python's class, or 0 when tokenizers does not reorder by it."""
    ours = unicodedata.combining(chr(c))
    if ours == 0:
        return 0
    # U+0334 has class 1 and U+0345 has 240, the lowest but for a few and the highest: one of them has to move past c.
    for text in ("q" + chr(c) + "\u0334", "q\u0345" + chr(c)):
        if unicodedata.normalize("NFD", text) != text:
            return ours if nfc(text) != text else 0
    raise AssertionError(hexa(c))


def pair(c):
    """One step of canonical decomposition: (first, second or 0), or None."""
    field = unicodedata.decomposition(chr(c))
    if not field or field.startswith("<") or c in HANGUL:
        return None
    parts = [int(x, 16) for x in field.split()]
    text = unicodedata.normalize("NFD", chr(c))
    if unicodedata.normalize("NFC", text) == chr(c) and nfc(text) != chr(c):
        return None
    return (parts + [0])[:2]


def lower_rows():
    """Runs (first, last, step, distance): every step-th code point of the run moves by the distance."""
    moved = []
    for c in ALL:
        low = chr(c).lower()
        assert low == Lowercase().normalize_str(chr(c)), hexa(c)
        if low == chr(c):
            continue
        if len(low) > 1:
            assert (c, low) == (0x130, "i\u0307"), "the one code point whose lower case is two"
            continue
        moved.append((c, ord(low) - c))
    rows = []
    for c, d in moved:
        if rows and rows[-1][3] == d:
            first, last, step, _ = rows[-1]
            if c - last == (step or c - last) and c - last <= 2:
                rows[-1] = (first, c, c - last, d)
                continue
        rows.append((c, c, 0, d))
    return [(hexa(a), hexa(b), str(s or 1), str(d)) for a, b, s, d in rows]


def bert(**steps):
    """BertNormalizer with no step but those asked for."""
    every = dict(clean_text=False, handle_chinese_chars=False, strip_accents=False, lowercase=False)
    return BertNormalizer(**{**every, **steps}).normalize_str


def bert_tables():
    """(name, code points, comment) of what BERT's normalizer drops and its pre-tokenizer cuts at; the rest is checked."""
    clean, strip, cut = bert(clean_text=True), bert(strip_accents=True), BertPreTokenizer().pre_tokenize_str
    accents = {c for c in ALL if strip(chr(c)) == ""}
    for c in ALL:
        assert clean(chr(c)) in ("", " ", chr(c)), hexa(c)
        assert strip(chr(c)) == "".join(k for k in nfd(chr(c)) if ord(k) not in accents), hexa(c)
        spaces = (c in (9, 10, 13, 32, 0xA0, 0x1680, 0x2028, 0x2029, 0x202F, 0x205F, 0x3000) or 0x2000 <= c <= 0x200A)
        assert (clean(chr(c)) == " ") == spaces, "is_clean_space() in wordpiece.c"
    yield "dropped", [c for c in ALL if clean(chr(c)) == ""], "What BERT's cleaning deletes: about general category C."
    yield "accent", sorted(accents), "What BERT strips as an accent after NFD: about general category Mn."
    parts = {c: len(cut("q" + chr(c) + "q")) for c in ALL}
    yield "punctuation", [c for c in ALL if parts[c] == 3], "What is a word by itself to BERT: about general category P."


def main():
    head = "// Made by make_unicode_tables.py from Unicode 14.0.0 and tokenizers 0.21.4. clang-format off"
    out = [head]
    for name, first in (("letter", "L"), ("number", "N")):
        codes = [c for c in ALL if unicodedata.category(chr(c))[0] == first]
        emit(out, "struct range", f"{name}_range", [(hexa(a), hexa(b)) for a, b in ranges(codes)],
             f"General category {first}: first and last of each run.")
    for name, codes, comment in bert_tables():
        emit(out, "struct range", f"{name}_range", [(hexa(a), hexa(b)) for a, b in ranges(codes)], comment)
    emit(out, "struct lower_run", "lower_run", lower_rows(), "First, last, step, distance to the lower case.")
    open("unicode_class.inc", "w").write("\n".join(out) + "\n")

    out = [head]
    runs = []
    for c in ALL:
        k = combining_class(c)
        if not k:
            continue
        if runs and runs[-1][1] == c - 1 and runs[-1][2] == k:
            runs[-1][1] = c
        else:
            runs.append([c, c, k])
    emit(out, "struct class_run", "class_run", [(hexa(a), hexa(b), str(k)) for a, b, k in runs],
         "Canonical combining class, where it isn't 0: first, last, class.")
    pairs = [(c, *pair(c)) for c in ALL if pair(c)]
    emit(out, "struct pair", "pair_of", [(hexa(a), hexa(b), hexa(c)) for a, b, c in pairs],
         "One step of canonical decomposition: code point, first, second (0: none).")
    codes = {c for c, _, _ in pairs}
    assert not any(b in codes for _, _, b in pairs), "decompose() in unicode_nfc.c follows first components only"
    assert max(len(unicodedata.normalize("NFD", chr(c))) for c in ALL) == 4, "unicode_nfc() makes room for 4"
    kept = {c for c, _, _ in pairs} | set(HANGUL)
    assert all((nfd(chr(c)) != chr(c)) == (c in kept) for c in ALL), "unicode_nfd() decomposes by the same table"
    composes = [i for i, (c, a, b) in enumerate(pairs) if b and unicodedata.normalize("NFC", chr(c)) == chr(c)]
    composes.sort(key=lambda i: pairs[i][1:])
    emit(out, "uint16_t", "compose_order", [(str(i),) for i in composes],
         "Places in pair_of that also compose, ordered by (first, second).")
    open("unicode_nfc.inc", "w").write("\n".join(out) + "\n")


if __name__ == "__main__":
    sys.exit(main())
