"""Write bootstrap.json: intervals of ratios over groups, by numpy. Needs numpy 1.26.4.

The draws are Philox 4x32-10 (Salmon et al. 2011) of (seed, resample), written here from the paper, and turned into indices
without modulo bias.
"""
import json
import pathlib

import numpy as np

MASK = 0xFFFFFFFF


def philox(counter, key):
    c, k = list(counter), list(key)
    for _ in range(10):
        p0, p1 = 0xD2511F53 * c[0], 0xCD9E8D57 * c[2]
        c = [(p1 >> 32) ^ c[1] ^ k[0], p1 & MASK, (p0 >> 32) ^ c[3] ^ k[1], p0 & MASK]
        k = [(k[0] + 0x9E3779B9) & MASK, (k[1] + 0xBB67AE85) & MASK]
    return c


def indices(seed, stream, groups, count):
    words, block = [], 0
    limit = (2**64 - 1) - (2**64 - 1) % groups
    out = []
    while len(out) < count:
        if len(words) < 2:
            words += philox((block & MASK, block >> 32, stream & MASK, stream >> 32), (seed & MASK, seed >> 32))
            block += 1
        high, low = words[0], words[1]
        words = words[2:]
        x = high << 32 | low
        if x < limit:
            out.append(x % groups)
    return out


def main():
    rng = np.random.default_rng(11)
    rows = []
    for groups, seed in ((1, 1), (2, 5), (7, 2026), (40, 2**40 + 3)):
        sums = np.stack([rng.random((groups, 3)) * 5, rng.integers(0, 4, (groups, 3)).astype(float)], -1)
        sums[..., 0] *= sums[..., 1] > 0  # nothing over nothing where a group has no value
        sums[:, 1, 1] += 1
        empty = [None, 0.0, 1.0]
        draws = [indices(seed, b, groups, groups) for b in range(2000)]
        for k in range(3):
            values = []
            for d in draws:
                a, b = sums[d, k].sum(0)
                if b:
                    values.append(a / b)
                elif empty[k] is not None:
                    values.append(empty[k])
            if not values:
                raise SystemExit("a case without a value: choose another seed of the data")
            low, high = np.percentile(values, [2.5, 97.5])
            a, b = sums[:, k].sum(0)
            rows.append({"groups": groups, "seed": seed, "empty": empty[k], "sums": sums[:, k].tolist(),
                         "value": a / b if b else empty[k], "low": low, "high": high})
    text = "[\n" + ",\n".join(json.dumps(r) for r in rows) + "\n]\n"
    (pathlib.Path(__file__).parent / "bootstrap.json").write_text(text)


if __name__ == "__main__":
    main()
