#!/usr/bin/env python3
"""compare.py LINES.jsonl: medians of what tests/bench/run.sh timed, and the ratios that the project asks of itself."""
import collections, json, statistics, sys

# ours, theirs, at least (None: stated only), what is compared
ASKED = [
    ("clipseg_train_towers_fp32", "torch_clipseg_train_towers_fp32", 1.4, "towers running, fp32, against eager"),
    ("clipseg_train_towers_bf16", "torch_clipseg_train_towers_bf16", 1.5, "towers running, bf16, against eager autocast"),
    ("clipseg_train_towers_fp32", "torch_clipseg_train_towers_compile_fp32", 1.1, "towers running, fp32, against torch.compile"),
    ("clipseg_train_store_fp32", "torch_clipseg_train_towers_fp32", 30, "from the store, fp32, against the study's step"),
    ("clipseg_train_store_bf16", "torch_clipseg_train_towers_fp32", None, "from the store, bf16, against the study's step"),
    ("clipseg_train_store_fp32", "torch_clipseg_train_store_fp32", 1.6, "from the store, fp32, against PyTorch's decoder on cached towers"),
    ("clipseg_train_store_bf16", "torch_clipseg_train_store_bf16", 1.6, "from the store, bf16, against PyTorch's decoder on cached towers"),
    ("clipseg_eval_10_prompts", "torch_clipseg_eval_10_prompts", 8, "ten prompts an image"),
    ("clipseg_finetune_fp32", "torch_clipseg_finetune_fp32", 8, "a whole finetuning, process start to exit"),
    ("pack", "torch_pack", 5, "packing, per core, against the study's PIL loader"),
    ("read_pool", None, 2000, "packed samples in random order, images/s a core"),
    ("clipseg_ranks_2x1_over_1x1", None, 1.9, "2 ranks of one thread over 1, from the store"),
]

# Every other model: asked of a training step and of evaluation, against the better of PyTorch's two layouts.
for model, fp32 in (("cris", 1.25), ("unet", 1.15), ("unetpp", 1.05), ("deeplabv3plus", 1.15)):
    for case in ("train", "eval"):
        for precision, least in (("fp32", fp32), ("bf16", 1.3)):
            ASKED.append((f"{model}_{case}_{precision}", f"torch_{model}_{case}_{precision}", least, f"{model} {case}, {precision}"))
for precision in ("fp32", "bf16"):
    ASKED += [
        (f"biomedclipseg_train_towers_{precision}", f"torch_biomedclipseg_train_{precision}", 1.5, f"biomedclipseg, towers running, {precision}"),
        (f"biomedclipseg_train_store_{precision}", f"torch_biomedclipseg_train_{precision}", 25, f"biomedclipseg from the store, {precision}, against the study's step"),
        (f"biomedclipseg_train_store_{precision}", f"torch_biomedclipseg_store_{precision}", None, f"biomedclipseg from the store, {precision}, against PyTorch's decoder on cached towers"),
        (f"biomedclipseg_eval_{precision}", f"torch_biomedclipseg_eval_{precision}", 1.5, f"biomedclipseg eval, {precision}"),
    ]
EPOCHS = 15  # of the finetuning that is asked about


def whole_finetuning(row):
    """The rival's time of all epochs, where it ran fewer: every epoch does the same, what stands around them stays."""
    each = statistics.mean(row["epoch_seconds"])
    whole = row["value"] + (EPOCHS - row["epochs"]) * each
    print(f"{row['name']}: {whole:.1f} s computed from {row['epochs']} epochs of {each:.1f} s and {row['ready_seconds']} s until ready")
    return whole



values, units, peaks = collections.defaultdict(list), {}, {}
with open(sys.argv[1]) as f:
    lines = f.readlines()
for line in lines:
    if not line.startswith("{"):
        continue
    row = json.loads(line)
    if "epoch_seconds" in row and row["epochs"] != EPOCHS:
        row["value"] = whole_finetuning(row)
    values[row["name"]].append(row["value"])
    units[row["name"]] = row.get("unit", "")
    if "peak_mib" in row:
        peaks[row["name"]] = max(row["peak_mib"], peaks.get(row["name"], 0))

print(f"{'case':44} {'median':>10} {'min':>10} {'max':>10} {'n':>2} {'MiB':>6}  unit")
for name in sorted(values):
    v = values[name]
    print(f"{name:44} {statistics.median(v):10.4g} {min(v):10.4g} {max(v):10.4g} {len(v):2} {peaks.get(name, ''):>6}  {units[name]}")
print()
for ours, theirs, least, what in ASKED:
    if ours not in values or (theirs and theirs not in values):
        continue
    ratio = statistics.median(values[ours])
    if theirs:
        other = statistics.median(values[theirs])
        last = theirs + "_channels_last"
        if last in values:
            other = max(other, statistics.median(values[last]))
        ratio = other / ratio if units[ours] == "s" else ratio / other
    verdict = "" if least is None else f"  asked {least}: {'reached' if ratio >= least else 'NOT reached'}"
    print(f"{what}: {ratio:.3g}{'x' if theirs else ''}{verdict}")
