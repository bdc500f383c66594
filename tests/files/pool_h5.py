#!/usr/bin/env python3
"""A pool is read by programs that know nothing of gridseg: h5py and h5dump, through pool.h5, from any directory. Debian's
python3-h5py and hdf5-tools; GRIDSEG names the program, exit code 77 where there is none."""
import hashlib, json, os, pathlib, shutil, subprocess, sys, tempfile, zlib

gridseg = os.environ.get("GRIDSEG")
if not gridseg or not shutil.which("h5dump"):
    print("no gridseg built, or no h5dump")
    sys.exit(77)
try:
    import h5py
    import numpy
except ImportError:
    print("no python3-h5py")
    sys.exit(77)

SIZE, SHARDS = 64, 2


def run(*arguments, wanted=0):
    done = subprocess.run([str(a) for a in arguments], capture_output=True, text=True, check=False)
    if done.returncode != wanted:
        sys.exit(f"{arguments}: exit code {done.returncode}, wanted {wanted}\n{done.stderr[-2000:]}")
    return done


def check_view(folder):
    described = json.loads((folder / "pool.json").read_text())
    shards = sorted(folder.glob("shard-*.h5"))
    assert len(shards) == SHARDS, shards
    text = json.dumps(described)
    for shard in shards:
        digest = hashlib.sha256(shard.read_bytes()).hexdigest()
        assert shard.name in text and digest in text, f"{shard.name}: pool.json does not hold its SHA-256"
    with h5py.File(folder / "pool.h5") as f:
        images, masks, index = f["images"], f["masks"], f["image_index"][:]
        m, n = len(images), len(masks)
        assert images.shape == (m, SIZE, SIZE, 3) and images.dtype == numpy.uint8, images
        assert masks.shape == (n, SIZE, SIZE) and masks.dtype == numpy.uint8, masks
        assert set(numpy.unique(masks[:])) == {0, 1}, "masks hold 0 and 1"
        assert index.shape == (n,) and index.min() == 0 and index.max() == m - 1
        size = f["original_size"][:]
        assert size.shape == (m, 2) and (size > 0).all()
        names = [v.decode() if isinstance(v, bytes) else v for v in f["names"][:]]
        assert len(set(names)) == n, "names are the samples' identity"
        for dataset, crc, count in ((images, f["image_crc32"][:], m), (masks, f["mask_crc32"][:], n)):
            for i in range(count):
                assert zlib.crc32(dataset[i].tobytes()) == int(crc[i]) & 0xFFFFFFFF, f"{dataset.name}[{i}]"
        for i, png in enumerate(f["mask_original"][:]):
            assert bytes(png[:8]) == b"\x89PNG\r\n\x1a\n", f"mask_original[{i}]"
            height, width = (int.from_bytes(bytes(png[at:at + 4]), "big") for at in (20, 16))
            assert (height, width) == tuple(size[index[i]]) and png[24] == 1, f"mask_original[{i}]: 1 bit, the picture's size"
        prompts, words = f["prompt_index"], [v.decode() if isinstance(v, bytes) else v for v in f["prompt_text"][:]]
        kinds = [v.decode() if isinstance(v, bytes) else v for v in prompts.attrs["prompt_kinds"]]
        assert prompts.shape[0] == n and prompts.shape[1] == len(kinds) == len(prompts.attrs["prompt_source"])
        assert prompts[:].min() >= -1 and prompts[:].max() < len(words)
        p1 = words[prompts[0, kinds.index("p1"), 0]]
        assert p1 and all(w == w.strip() for w in words), words[:5]
        print(f"{m} images, {n} masks in {SHARDS} shards, prompts {kinds[0]}..{kinds[-1]}, such as '{p1}'")
        return n


with tempfile.TemporaryDirectory() as name:
    work = pathlib.Path(name)
    run(gridseg, "phantom", "--domain", "endoscopy", "--count", 12, "--seed", 5, "--out", work / "drawn")
    run(gridseg, "pack", "--dataset", "study", "--source", work / "drawn", "--split", "train", "--size", SIZE, "--out",
        work / "pools", "--name", "drawn", "--shards", SHARDS)
    pool = work / "pools" / "drawn" / "train" / str(SIZE)
    os.chdir("/")  # the view's paths are relative to itself, not to where the reader stands
    count = check_view(pool)
    header = run("h5dump", "-H", pool / "pool.h5").stdout
    assert 'DATASET "images"' in header and "H5T_STD_U8LE" in header, header[:500]
    values = run("h5dump", "-d", "/image_index", "-y", pool / "pool.h5").stdout
    numbers = [int(t) for t in values.split("DATA {")[1].split("}")[0].replace(",", " ").split()]
    assert len(numbers) == count, numbers
    run(gridseg, "info", pool)
    shard = pool / "shard-00001.h5"
    content = bytearray(shard.read_bytes())
    content[len(content) // 2] ^= 1
    shard.chmod(0o644)
    shard.write_bytes(content)
    told = run(gridseg, "info", pool, wanted=2).stderr
    assert shard.name in told, told
