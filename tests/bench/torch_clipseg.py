"""What gridseg is timed against: CLIPSeg of published size in PyTorch, as the study runs it. One case a process, one JSON
line {"name", "value", "unit", ...} on standard output. Needs torch 2.6.0, transformers 4.49.0, monai 1.4.0, Pillow, safetensors.

    torch_clipseg.py train_towers [--precision fp32|bf16] [--compile]   the study's step: towers without gradient, decoder trained
    torch_clipseg.py train_store  [--precision fp32|bf16] [--batch N]   decoder-only step on cached tower outputs: the honest rival
    torch_clipseg.py eval_prompts [--images N] [--data DIR]             ten prompts an image, each a whole forward, as the study's script
    torch_clipseg.py finetune     [--epochs N] [--data DIR]             a whole finetuning on 100 real images, from process start
    torch_clipseg.py load         [--data DIR]                          the study's PIL loader: decode, resize, mask; one core

Common: --threads 2 --batch 4 --steps 5 --size 352. DIR holds datasets in the study layout (default ../shared/data beside the
checkout). The C library's allocator thresholds are raised by starting again with them set: without that PyTorch spends up to
half of a step faulting freed memory in again, and the comparison would flatter us.
"""
import os, sys, time

STARTED = time.time()
THRESHOLDS = {"MALLOC_MMAP_THRESHOLD_": str(16 << 30), "MALLOC_TRIM_THRESHOLD_": str(16 << 30), "MALLOC_TOP_PAD_": str(256 << 20)}
if os.environ.get("MALLOC_TOP_PAD_") is None:
    os.execve(sys.executable, [sys.executable] + sys.argv, {**os.environ, **THRESHOLDS})

import argparse, gzip, json, resource, statistics, tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def report(name, value, unit, **more):
    # The main process alone: the pages of a loader's workers are mostly shared with it, so adding them would be unfair.
    print(json.dumps(dict(name="torch_" + name, value=round(value, 4), unit=unit, torch=torch.__version__, threads=A.threads,
                          peak_mib=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024, **more)), flush=True)


# ---------------------------------------------------------------- the model, the study's loss and step
def build():
    from transformers import CLIPSegConfig, CLIPSegForImageSegmentation
    torch.manual_seed(0)
    return CLIPSegForImageSegmentation(CLIPSegConfig(
        text_config=dict(vocab_size=49408, max_position_embeddings=77, hidden_size=512, intermediate_size=2048,
                         num_hidden_layers=12, num_attention_heads=8, bos_token_id=49406, eos_token_id=49407),
        vision_config=dict(hidden_size=768, intermediate_size=3072, num_hidden_layers=12, num_attention_heads=12,
                           image_size=224, patch_size=16),
        projection_dim=512, reduce_dim=64, extract_layers=[3, 6, 9], use_complex_transposed_convolution=True))


def amp():
    return torch.autocast("cpu", torch.bfloat16, enabled=A.precision == "bf16")


def drawn_batch(count):
    g = torch.Generator().manual_seed(1)
    ids = torch.full((count, 77), 49407)
    mask = torch.zeros(count, 77, dtype=torch.long)
    for b in range(count):
        n = 8 + 5 * b % 16
        ids[b, 0] = 49406
        ids[b, 1:n - 1] = torch.randint(300, 49000, (n - 2,), generator=g)
        mask[b, :n] = 1
    return (torch.randn(count, 3, A.size, A.size, generator=g), ids, mask,
            (torch.rand(count, 1, A.size, A.size, generator=g) < 0.2).float())


def optimise(optimiser, loss, parameters):
    loss.backward()
    torch.nn.utils.clip_grad_norm_([p for p in parameters if p.grad is not None], 0.5)
    optimiser.step()
    optimiser.zero_grad(set_to_none=True)


def timed(step, warm=2):
    seconds = []
    for i in range(warm + A.steps):
        start = time.perf_counter()
        step()
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds[warm:]), [round(s, 4) for s in seconds[warm:]], seconds[0]


def train_towers():
    from monai.losses import DiceCELoss
    m = build().train()
    run = torch.compile(m) if A.compile else m
    optimiser = torch.optim.AdamW(m.parameters(), lr=2e-3, weight_decay=1e-3)
    criterion = DiceCELoss(lambda_dice=1.0, lambda_ce=0.2)
    pixels, ids, mask, truth = drawn_batch(A.batch)

    def step():
        with amp():
            logits = run(input_ids=ids, pixel_values=pixels, attention_mask=mask).logits
        optimise(optimiser, criterion(torch.sigmoid(logits.float())[:, None], truth), m.parameters())

    median, all_seconds, first = timed(step)
    report("clipseg_train_towers_" + ("compile_" if A.compile else "") + A.precision, A.batch / median, "images/s",
           batch=A.batch, seconds=all_seconds, first_seconds=round(first, 2))


def train_store():
    from monai.losses import DiceCELoss
    decoder = build().decoder.train()
    optimiser = torch.optim.AdamW(decoder.parameters(), lr=2e-3, weight_decay=1e-3)
    criterion = DiceCELoss(lambda_dice=1.0, lambda_ce=0.2)
    g = torch.Generator().manual_seed(2)
    tokens = (A.size // 16)**2 + 1
    taps = [torch.randn(A.batch, tokens, 768, generator=g) for _ in range(3)]
    condition = torch.randn(A.batch, 512, generator=g)
    truth = drawn_batch(A.batch)[3]

    def step():
        with amp():
            logits = decoder(taps, condition).logits
        optimise(optimiser, criterion(torch.sigmoid(logits.float())[:, None], truth), decoder.parameters())

    A.steps *= 4
    median, all_seconds, _ = timed(step, 4)
    report("clipseg_train_store_" + A.precision, A.batch / median, "images/s", batch=A.batch, seconds=all_seconds)


# ---------------------------------------------------------------- real images, as the study's loader reads them
def rows(split, limit, folders=("kvasir_polyp", "clinicdb_polyp")):
    out = []
    for folder in folders:
        base = os.path.join(A.data, folder)
        with open(os.path.join(base, "anns", split + ".json")) as f:
            out += [(os.path.join(base, "images", r["img_name"]), os.path.join(base, "masks", r["mask_name"]), r["prompts"])
                    for r in json.load(f)]
    return out[:limit]


def load_pair(image, mask):
    import numpy
    from PIL import Image
    size = (A.size, A.size)
    with Image.open(image) as f:
        x = torch.from_numpy(numpy.array(f.convert("RGB").resize(size, Image.BILINEAR))).permute(2, 0, 1).float() / 255
    with Image.open(mask) as f:
        y = torch.from_numpy(numpy.array(f.convert("L").resize(size, Image.NEAREST)))[None].float() / 255
    return (x - torch.tensor(MEAN).view(3, 1, 1)) / torch.tensor(STD).view(3, 1, 1), (y > 0.5).float()


def tokenizer():
    """CLIPTokenizerFast from the table that CLIP was published with."""
    from transformers import CLIPTokenizerFast
    with gzip.open(os.path.join(A.data, "vocab", "bpe_simple_vocab_16e6.txt.gz")) as f:
        merges = f.read().decode().split("\n")[1:49152 - 256 - 2 + 1]
    plain = list(range(33, 127)) + list(range(161, 173)) + list(range(174, 256))
    letters = [chr(b) for b in plain] + [chr(256 + i) for i in range(256 - len(plain))]
    names = letters + [c + "</w>" for c in letters] + ["".join(m.split()) for m in merges]
    names += ["<|startoftext|>", "<|endoftext|>"]
    folder = tempfile.mkdtemp()
    with open(folder + "/vocab.json", "w") as f:
        json.dump({n: i for i, n in enumerate(names)}, f)
    with open(folder + "/merges.txt", "w") as f:
        f.write("#version: 0.2\n" + "\n".join(merges) + "\n")
    return CLIPTokenizerFast(folder + "/vocab.json", folder + "/merges.txt", model_max_length=77)


def first_wording(prompt):
    return prompt[0] if isinstance(prompt, list) else prompt


class Samples:
    def __init__(self, split, limit, prompt):
        self.rows, self.prompt, self.tokens = rows(split, limit), prompt, tokenizer()

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, i):
        image, mask, prompts = self.rows[i]
        x, y = load_pair(image, mask)
        t = self.tokens(first_wording(prompts[self.prompt]), padding="max_length", truncation=True, return_tensors="pt")
        return x, y, t["input_ids"][0], t["attention_mask"][0]


def dice_of(logits, truth):
    p = (torch.sigmoid(logits) > 0.5).float()
    both = p.sum((1, 2, 3)) + truth.sum((1, 2, 3))
    return torch.where(both > 0, 2 * (p * truth).sum((1, 2, 3)) / both.clamp(min=1), 1.0)


def finetune():
    from monai.losses import DiceCELoss
    from torch.utils.data import DataLoader
    m = build()
    optimiser = torch.optim.AdamW(m.parameters(), lr=2e-3, weight_decay=1e-3)
    criterion = DiceCELoss(lambda_dice=1.0, lambda_ce=0.2)
    train = DataLoader(Samples("train", 100, "p6"), batch_size=A.batch, shuffle=True, num_workers=2, persistent_workers=True)
    val = DataLoader(Samples("val", 24, "p6"), batch_size=A.batch, num_workers=2, persistent_workers=True)
    ready = time.time() - STARTED
    epochs = []
    for _ in range(A.epochs):
        start = time.time()
        m.train()
        for x, y, ids, mask in train:
            with amp():
                logits = m(input_ids=ids, pixel_values=x, attention_mask=mask).logits[:, None]
            optimise(optimiser, criterion(torch.sigmoid(logits.float()), y), m.parameters())
        m.eval()
        dice = []
        with torch.no_grad():
            for x, y, ids, mask in val:
                with amp():
                    logits = m(input_ids=ids, pixel_values=x, attention_mask=mask).logits.view(-1, 1, A.size, A.size)
                dice += dice_of(logits.float(), y).tolist()
        epochs.append(time.time() - start)
    torch.save(m.state_dict(), os.path.join(tempfile.mkdtemp(), "last.ckpt"))
    # From the first line of this process to here; what the interpreter takes to start and to leave is left out.
    report("clipseg_finetune_" + A.precision, time.time() - STARTED, "s", epochs=A.epochs, images=len(train.dataset),
           ready_seconds=round(ready, 1), epoch_seconds=[round(e, 1) for e in epochs], dice=round(sum(dice) / len(dice), 4))


def eval_prompts():
    m, tokens = build().eval(), tokenizer()
    kinds = [f"p{i}" for i in range(10)]
    given = rows("test", A.images)
    start, pairs, dice = time.perf_counter(), 0, []
    with torch.no_grad():
        for kind in kinds:  # one pass over the data set a prompt, as the study's script starts one process a prompt
            for first in range(0, len(given), A.batch):
                part = given[first:first + A.batch]
                x, y = zip(*(load_pair(image, mask) for image, mask, _ in part))
                t = tokens([first_wording(p[kind]) for _, _, p in part], padding="max_length", truncation=True, return_tensors="pt")
                with amp():
                    logits = m(pixel_values=torch.stack(x), **t).logits.view(-1, 1, A.size, A.size)
                dice += dice_of(logits.float(), torch.stack(y)).tolist()
                pairs += len(part)
    report("clipseg_eval_10_prompts", pairs / (time.perf_counter() - start), "pairs/s", precision=A.precision, images=len(given),
           pairs=pairs, dice=round(sum(dice) / len(dice), 4))


def load():
    torch.set_num_threads(1)
    given = rows("train", 200)
    for image, mask, _ in given[:10]:
        load_pair(image, mask)
    start = time.perf_counter()
    for image, mask, _ in given:
        load_pair(image, mask)
    report("pack", len(given) / (time.perf_counter() - start), "images/s", images=len(given))


if __name__ == "__main__":
    cases = dict(train_towers=train_towers, train_store=train_store, finetune=finetune, eval_prompts=eval_prompts, load=load)
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("case", choices=cases)
    p.add_argument("--precision", choices=("fp32", "bf16"), default="fp32")
    p.add_argument("--compile", action="store_true")
    p.add_argument("--threads", type=int, default=2)
    p.add_argument("--batch", type=int, default=4)
    p.add_argument("--steps", type=int, default=5)
    p.add_argument("--size", type=int, default=352)
    p.add_argument("--images", type=int, default=8)
    p.add_argument("--epochs", type=int, default=15)
    p.add_argument("--data", default=os.path.join(os.environ.get("GRIDSEG_SHARED", os.path.join(HERE, "../../../shared")), "data"))
    A = p.parse_args()
    import torch
    torch.set_num_threads(A.threads)
    torch.set_num_interop_threads(1)
    cases[A.case]()
