#!/usr/bin/env python3
"""Whole gridseg programs timed from outside, on the images of torch_clipseg.py. One JSON line {"name", "value", "unit", ...} a
figure on standard output. Needs the standard library only.

    gridseg_runs.py dataset    the images as one dataset in the study's layout: OUT/data/polyps, links to DIR
    gridseg_runs.py finetune   `gridseg train` on 100 images, 24 to validate, 15 epochs: cold store, process start to exit
    gridseg_runs.py eval       `gridseg eval` of 24 images with ten prompts: process start to exit, nothing stored
    gridseg_runs.py ranks      2 ranks of one thread beside 1 rank of one thread: decoder steps from a warm store

Common: --gridseg PROGRAM --out OUT --data DIR --threads 2 --size 352. The program's own messages: OUT/gridseg.log. Pools are
packed beforehand, which is timed by itself (pack_whole). Weights are drawn: the model directory holds none.
"""
import argparse, csv, json, os, resource, shutil, statistics, subprocess, sys, time

HERE = os.path.dirname(os.path.abspath(__file__))
FOLDERS = ("kvasir_polyp", "clinicdb_polyp")
# Split -> the list it is taken from, its first so many rows in the order of the files: what torch_clipseg.py's rows() takes.
SPLITS = {"train": ("train", 100), "val": ("val", 24), "test": ("test", 24), "load": ("train", 200)}
# CIDAS/clipseg-rd64-refined in the keys that differ from the defaults.
PUBLISHED = {"model_type": "clipseg", "use_complex_transposed_convolution": True,
             "text_config": {"model_type": "clipseg_text_model"},
             "vision_config": {"model_type": "clipseg_vision_model", "patch_size": 16}}
PROMPTS = [f"p{i}" for i in range(10)]


def report(name, value, unit, **more):
    print(json.dumps(dict(name=name, value=round(value, 4), unit=unit, **more)), flush=True)


def peak_mib():
    """Of the largest program run so far."""
    return resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss // 1024


def out(*parts):
    return os.path.join(A.out, *parts)


def fresh(path):
    shutil.rmtree(path, ignore_errors=True)
    return path


def gridseg(*arguments, before=(), threads=None):
    """Wall seconds of the program, process start to exit."""
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads or A.threads)}
    with open(out("gridseg.log"), "a") as log:
        start = time.perf_counter()
        code = subprocess.call([*before, A.gridseg, *arguments], stdout=log, stderr=log, env=environment)
        seconds = time.perf_counter() - start
    if code:
        sys.exit(f"gridseg {' '.join(arguments)} ended with {code}: see {out('gridseg.log')}")
    return seconds


# ---------------------------------------------------------------- what the programs work on
def dataset():
    base = fresh(out("data", "polyps"))
    for kind in ("images", "masks", "anns"):
        os.makedirs(os.path.join(base, kind))
    for split, (source, limit) in SPLITS.items():
        rows = []
        for folder in FOLDERS:
            with open(os.path.join(A.data, folder, "anns", source + ".json")) as f:
                rows += [{**row, "folder": folder} for row in json.load(f)]
        rows = rows[:limit]
        for row in rows:
            folder = row.pop("folder")
            for kind, key in (("images", "img_name"), ("masks", "mask_name")):
                link = os.path.join(base, kind, f"{folder}-{row[key]}")
                if not os.path.islink(link):
                    os.symlink(os.path.join(A.data, folder, kind, row[key]), link)
                row[key] = os.path.basename(link)
        with open(os.path.join(base, "anns", split + ".json"), "w") as f:
            json.dump(rows, f)


def pools(*splits):
    dataset()
    fresh(out("pools"))
    seconds = sum(gridseg("pack", "--dataset", "study", "--source", out("data", "polyps"), "--split", split, "--size", str(A.size),
                          "--threads", str(A.threads), "--out", out("pools")) for split in splits)
    images = sum(SPLITS[split][1] for split in splits)
    report("pack_whole", seconds, "s", images=images, threads=A.threads, splits=splits)
    return out("pools")


def model():
    os.makedirs(fresh(out("model")))
    with open(out("model", "config.json"), "w") as f:
        json.dump(PUBLISHED, f)
    name = "bpe_simple_vocab_16e6.txt.gz"
    os.symlink(os.path.join(A.data, "vocab", name), out("model", name))
    return out("model")


def train(run, *keys, store="store", **how):
    return gridseg("train", out("train.yaml"), f"store.dir={out(store)}", f"out={fresh(out(run))}", *keys, **how)


def train_yaml():
    with open(out("train.yaml"), "w") as f:
        f.write(f"model: '{model()}'\ninit: random\npools: {{root: '{pools('train', 'val')}', train: [polyps]}}\n"
                f"size: {A.size}\nprompt: p6\nthreads: {A.threads}\n"
                "train: {batch: 4, lr: 2e-3, epochs: 15, early_stop: {patience: -1}}\n")


# ---------------------------------------------------------------- what is timed
def curve(run, kind):
    with open(out(run, "curves.csv"), newline="") as f:
        return [row for row in csv.DictReader(f) if row["kind"] == kind]


def finetune():
    train_yaml()
    fresh(out("store"))
    seconds = train("finetune")
    epochs = curve("finetune", "epoch")
    report("clipseg_finetune_fp32", seconds, "s", epochs=len(epochs), images=SPLITS["train"][1], threads=A.threads,
           peak_mib=peak_mib(), loss=[float(epochs[i]["loss"]) for i in (0, -1)], dice=float(epochs[-1]["val_dice"]))


def evaluate():
    with open(out("eval.yaml"), "w") as f:
        f.write(f"model: '{model()}'\npools: {{root: '{pools('test')}', test: [polyps]}}\nsize: {A.size}\n"
                f"prompts: [{', '.join(PROMPTS)}]\nstore: {{dir: none}}\nthreads: {A.threads}\nout: '{fresh(out('eval'))}'\n")
    seconds = gridseg("eval", out("eval.yaml"))
    images = SPLITS["test"][1]
    pairs = images * len(PROMPTS)
    # The start of the program, drawing its weights and both resolutions' metrics are in; the rival's figure is its loop alone.
    report("clipseg_eval_10_prompts", pairs / seconds, "pairs/s", seconds=round(seconds, 2), images=images, pairs=pairs,
           threads=A.threads, peak_mib=peak_mib())


def ranks():
    train_yaml()
    keys = ("train.batch=8", "pools.val=none", "threads=1")
    train("warm", "train.epochs=1", "pools.val=none")
    rates = {}
    for count in (1, 2):
        before = ("mpirun", "--oversubscribe", "--bind-to", "none", "-np", str(count)) if count > 1 else ()
        train(f"ranks-{count}", "train.epochs=3", *keys, before=before, threads=1)
        rates[count] = [float(row["images_per_s"]) for row in curve(f"ranks-{count}", "step")]
    median = {count: statistics.median(rate) for count, rate in rates.items()}
    report("clipseg_ranks_2x1_over_1x1", median[2] / median[1], "ratio", images_per_s=[median[1], median[2]], batch=8,
           steps=len(rates[1]), threads=1)


if __name__ == "__main__":
    cases = dict(dataset=dataset, finetune=finetune, eval=evaluate, ranks=ranks)
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("case", choices=cases)
    p.add_argument("--gridseg", default=os.path.join(HERE, "../../build/gridseg"))
    p.add_argument("--out", default=os.path.join(HERE, "../../build/bench"))
    p.add_argument("--data", default=os.path.join(os.environ.get("GRIDSEG_SHARED", os.path.join(HERE, "../../../shared")), "data"))
    p.add_argument("--threads", type=int, default=2)
    p.add_argument("--size", type=int, default=352)
    A = p.parse_args()
    A.gridseg, A.out, A.data = (os.path.abspath(path) for path in (A.gridseg, A.out, A.data))
    os.makedirs(A.out, exist_ok=True)
    os.environ.update(OMPI_ALLOW_RUN_AS_ROOT="1", OMPI_ALLOW_RUN_AS_ROOT_CONFIRM="1")
    cases[A.case]()
