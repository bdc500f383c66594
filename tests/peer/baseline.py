#!/usr/bin/env python3
"""A grown-up baseline: any of the models finetuned by PyTorch with the same recipe, from the same packed pools, in the same order
of samples and prompts as `gridseg train` with the same seed, so that the two curves can stand side by side.

    baseline.py --model DIR --pools ROOT --train NAME ... [--val NAME ... | --val same | --val none] [--prompt p6] [--epochs N]
                [--batch N] [--lr X] [--size S] [--loss dice_ce] [--seed 42] [--precision fp32] [--encoders]
                [--augment mirror flip turns scale=0.2 brightness=0.1 contrast=0.1] --out CURVES.csv

Writes the rows that gridseg writes to curves.csv. --model holds weights; the defaults are the study's recipe of its architecture.
Dropout draws differ. --augment shows the views that gridseg shows with the same `augment` (an image encoder that trains: a fresh
view every epoch), for models without words. `--compare CURVES.csv` prints both curves epoch by epoch.
"""
import argparse, csv, math, pathlib, sys, time

import h5py
import numpy as np
import torch
import torch.nn.functional as F

import models

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "golden"))
import make_augment  # views of a picture by NumPy and PyTorch
import rule  # the counter-based generator of src/base/rng.h


class Pool:
    def __init__(self, root, name, split, size):
        self.file = h5py.File(pathlib.Path(root) / name / split / str(size) / "pool.h5")
        self.images, self.masks, self.index = self.file["images"], self.file["masks"], self.file["image_index"][:]
        self.prompts = self.file["prompt_index"][:]
        self.kinds = [k if isinstance(k, str) else k.decode() for k in self.file["prompt_index"].attrs["prompt_kinds"]]
        self.texts = [t.decode() for t in self.file["prompt_text"][:]]
        self.classes = [c.decode() for c in self.file["class"][:]]
        self.name, self.image_names = name, [n.decode() for n in self.file["image_names"][:]]

    def wordings(self, sample, kind):
        return int((self.prompts[sample, kind] >= 0).sum())


def block(stream, counter, seed):
    return [int(w) for w in rule.philox(seed, stream & 0xFFFFFFFFFFFFFFFF, [counter])[0]]


class Draws:
    """Numbers one after the other, as src/base/rng.c draws them."""

    def __init__(self, seed, stream, counter=0):
        self.seed, self.stream, self.counter, self.words = seed, stream, counter, []

    def u64(self):
        two = []
        for _ in range(2):
            if not self.words:
                self.words = block(self.stream, self.counter, self.seed)
                self.counter += 1
            two.append(self.words.pop(0))
        return two[0] << 32 | two[1]

    def below(self, n):
        limit = (1 << 64) - 1 - ((1 << 64) - 1) % n
        while (x := self.u64()) >= limit:
            pass
        return x % n

    def between(self, low, high):
        return low + (high - low) * ((self.u64() >> 11) * 2.0**-53)


def permutation(seed, stream, n):
    order, draws = list(range(n)), Draws(seed, stream)
    for i in range(n - 1, 0, -1):
        k = draws.below(i + 1)
        order[i], order[k] = order[k], order[i]
    return order


def view_of(how, seed, pool, image, side, epoch):
    """What src/data/augment.c draws: mirror, flip, turns, zoom, left, top, contrast, brightness."""
    d = Draws(seed, rule.stream(f"augment view {pool}/{image}"), epoch << 16)
    mirror, flip, turns = d.below(2), d.below(2), d.below(4)
    zoom = math.exp(d.between(-1, 1) * math.log1p(how.get("scale", 0)))
    room = side - side / zoom
    left, top = d.between(0, 1) * room, d.between(0, 1) * room
    contrast = 1 + how.get("contrast", 0) * d.between(-1, 1)
    brightness = 255 * how.get("brightness", 0) * d.between(-1, 1)
    return mirror * ("mirror" in how), flip * ("flip" in how), turns * ("turns" in how), zoom, left, top, contrast, brightness


class Union:
    def __init__(self, pools, prompt):
        self.pools, self.prompt = pools, prompt
        self.where = [(p, i) for p in range(len(pools)) for i in range(len(pools[p].index))]
        self.taking = [w for w, (p, i) in enumerate(self.where) if self.kinds(p, i)]

    def kinds(self, p, i):
        pool = self.pools[p]
        wanted = [k for k in pool.kinds if k != "p0"] if self.prompt == "random" else [self.prompt]
        return [k for k, name in enumerate(pool.kinds) if name in wanted and pool.wordings(i, k)]

    def place(self, whole, seed, epoch, shuffle):
        p, i = self.where[whole]
        word = block(rule.stream("sampler prompt") + epoch, whole, seed)
        kinds = self.kinds(p, i)
        kind = kinds[word[0] * len(kinds) >> 32] if self.prompt == "random" else kinds[0]
        wording = word[1] * self.pools[p].wordings(i, kind) >> 32 if shuffle else 0
        return p, i, self.pools[p].texts[self.pools[p].prompts[i, kind, wording]]


def loss_of(name, logits, truth):
    """One a sample: src/backend/backend.h, SEGMENT_LOSS."""
    p = torch.sigmoid(logits)
    axes = (1, 2)
    dice = 1 - (2 * (p * truth).sum(axes) + 1e-5) / (p.sum(axes) + truth.sum(axes) + 1e-5)
    if name == "dice_only":
        return dice
    x = p if name == "monai14" else logits
    return dice + 0.2 * F.binary_cross_entropy_with_logits(x, truth, reduction="none").mean(axes)


def dice_of(logits, truth, threshold):
    cut = np.log(threshold / (1 - threshold))
    seen, t = logits >= cut, truth > 0.5
    both, all_of = (seen & t).sum((1, 2)).double(), (seen.sum((1, 2)) + t.sum((1, 2))).double()
    return torch.where(all_of > 0, 2 * both / all_of.clamp_min(1), torch.ones(()).double())


class Runner:
    def __init__(self, a):
        self.a, self.model = a, models.open_model(a.model)
        _, self.mean, self.std = models.preprocess_of(a.model)
        labels = self.model.config.get("id2label") or {}
        self.planes = {name: int(number) for number, name in labels.items()}
        self.many = self.model.config.get("classes", 1) > 1
        self.augment = dict((k, float(v or 1)) for k, _, v in (x.partition("=") for x in a.augment))
        if self.augment and self.model.has_text:
            sys.exit("--augment is for models without words: theirs would have to turn with the picture")
        if a.encoders and hasattr(self.model.net, "trained_towers"):
            self.model.net.trained_towers = True

    def picture(self, pool, i, epoch):
        """Image and mask of a sample; `epoch`: as that epoch of training shows them, None: as they are."""
        which = pool.index[i]
        image, mask = pool.images[which], pool.masks[i]
        if epoch is None or not self.augment:
            return image, mask
        v = view_of(self.augment, self.a.seed, pool.name, pool.image_names[which], len(image), epoch)
        return make_augment.view(image, v, False), make_augment.view(mask[..., None], v, True)[..., 0]

    def batch(self, union, places, epoch=None):
        pools = union.pools
        pictures = [self.picture(pools[p], i, epoch) for p, i, _ in places]
        images, masks = (np.stack(x) for x in zip(*pictures))
        x = torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255
        x = (x - torch.tensor(self.mean).view(1, 3, 1, 1)) / torch.tensor(self.std).view(1, 3, 1, 1)
        planes = torch.tensor([self.planes[pools[p].classes[i]] if self.many else 0 for p, i, _ in places])
        return x, [t for _, _, t in places], torch.from_numpy(masks).float(), planes

    def forward(self, x, texts, planes):
        ids, mask = self.model.text(texts) if self.model.has_text else (None, None)
        with torch.autocast("cpu", torch.bfloat16, enabled=self.a.precision == "bf16"):
            logits = self.model(x, ids, mask)
        return logits.float()[torch.arange(len(x)), planes]

    def score(self, union, threshold):
        self.model.eval()
        loss = dice = count = 0
        with torch.no_grad():
            for at in range(0, len(union.taking), self.a.batch):
                places = [union.place(w, self.a.seed, 0, False) for w in union.taking[at:at + self.a.batch]]
                x, texts, truth, planes = self.batch(union, places)
                logits = self.forward(x, texts, planes)
                loss += loss_of(self.a.loss, logits, truth).sum().item()
                dice += dice_of(logits, truth, threshold).sum().item()
                count += len(places)
        return loss / count, dice / count


def run(a):
    size, _, lr, decay, threshold, batch, plateau = models.RECIPES[models.Public(a.model).kind]
    a.size, a.lr, a.batch = a.size or size, a.lr or lr, a.batch or batch
    torch.manual_seed(a.seed)  # what is drawn by torch: dropout, and the weights of a directory that has none
    r = Runner(a)
    train = Union([Pool(a.pools, n, "train", a.size) for n in a.train], a.prompt)
    val_names = a.train if a.val == ["same"] else [] if a.val == ["none"] else a.val
    val = Union([Pool(a.pools, n, "val", a.size) for n in val_names], a.prompt) if val_names else None
    optimiser = torch.optim.AdamW(r.model.parameters(), lr=a.lr, weight_decay=decay)
    schedule = torch.optim.lr_scheduler.ReduceLROnPlateau(optimiser, factor=0.1, patience=5) if plateau else None
    with open(a.out, "w", newline="", encoding="utf-8") as f:
        rows = csv.writer(f)
        rows.writerow("kind epoch step loss dice lr val_loss val_dice images_per_s seconds".split())
        step = 0
        for epoch in range(a.epochs):
            order = permutation(a.seed, rule.stream("sampler order") + epoch, len(train.taking))
            losses, dices, began = [], [], time.perf_counter()
            for at in range(0, len(order), a.batch):
                start = time.perf_counter()
                r.model.train()
                places = [train.place(train.taking[k], a.seed, epoch, True) for k in order[at:at + a.batch]]
                x, texts, truth, planes = r.batch(train, places, epoch)
                logits = r.forward(x, texts, planes)
                each = loss_of(a.loss, logits, truth)
                optimiser.zero_grad(set_to_none=True)
                each.mean().backward()
                torch.nn.utils.clip_grad_norm_([p for p in r.model.parameters() if p.grad is not None], 0.5)
                optimiser.step()
                step += 1
                losses += each.tolist()
                dices += dice_of(logits.detach(), truth, threshold).tolist()
                took = time.perf_counter() - start
                rows.writerow(["step", epoch + 1, step, f"{each.mean().item():.9g}", f"{np.mean(dices[-len(places):]):.9g}",
                               optimiser.param_groups[0]["lr"], "", "", f"{len(places) / took:.4g}", f"{took:.3f}"])
            val_loss, val_dice = r.score(val, threshold) if val else ("", "")
            took = time.perf_counter() - began
            rows.writerow(["epoch", epoch + 1, step, f"{np.mean(losses):.9g}", f"{np.mean(dices):.9g}",
                           optimiser.param_groups[0]["lr"], val_loss, val_dice, f"{len(order) / took:.4g}", f"{took:.3f}"])
            f.flush()
            print(f"epoch {epoch + 1}: loss {np.mean(losses):.4f} Dice {np.mean(dices):.4f}, validation {val_loss} {val_dice}", flush=True)
            if schedule and val:
                schedule.step(val_loss)


def compare(ours, theirs):
    print(f"{'epoch':>5} {'loss':>9} {'theirs':>9} {'val loss':>9} {'theirs':>9} {'val Dice':>9} {'theirs':>9}")
    read = lambda path: [r for r in csv.DictReader(open(path, newline="", encoding="utf-8")) if r["kind"] == "epoch"]
    for a, b in zip(read(ours), read(theirs)):
        cells = [x[k] for k in ("loss", "val_loss", "val_dice") for x in (a, b)]
        print(f"{a['epoch']:>5} " + " ".join(f"{float(c):9.5f}" if c else " " * 9 for c in cells))


if __name__ == "__main__":
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--model", required=True)
    p.add_argument("--pools", required=True)
    p.add_argument("--train", nargs="+", required=True)
    p.add_argument("--val", nargs="+", default=["same"])
    p.add_argument("--prompt", default="p6")
    p.add_argument("--epochs", type=int, default=10)
    p.add_argument("--batch", type=int)
    p.add_argument("--lr", type=float)
    p.add_argument("--size", type=int)
    p.add_argument("--loss", default="dice_ce", choices=("dice_ce", "dice_only", "monai14"))
    p.add_argument("--seed", type=int, default=42)
    p.add_argument("--precision", default="fp32", choices=("fp32", "bf16"))
    p.add_argument("--encoders", action="store_true", help="train BiomedCLIPSeg's towers too")
    p.add_argument("--augment", nargs="+", default=[], metavar="KEY[=VALUE]")
    p.add_argument("--out", required=True)
    p.add_argument("--compare", help="gridseg's curves.csv of the same recipe")
    given = p.parse_args()
    run(given)
    if given.compare:
        compare(given.compare, given.out)
