"""What the golden files of every model share: the rule of generated weights and inputs, the loss, the recording of one model's outputs,
and the distances of torch's own float32.  README.md beside this file says what the tensors are; generated.h has the rule in C.

The rule of generated values.  Weights and inputs of the published sizes are too large to commit, so both sides make them
from the counter-based generator of src/base/rng.h (Philox 4x32-10), and the tiny models use the same rule:

    word(name, i)   = rng_block(seed, rng_stream(name), i / 4)[i % 4]                     an unsigned 32-bit word
    unit(name, i)   = (word(name, i) >> 8) * 2^-23 - 1                                    in [-1, 1), exact in float32
    weight(name, i) = centre + a * unit(name, i)   in float32: product rounded, then sum rounded; i is row-major

with `seed` = 42 and, told by the parameter's name (first match):

    logit_scale                                               centre 2.6592, a 0
    num_batches_tracked (int64)                               centre 0, a 0
    running_var                                               centre 1, a 0.3
    running_mean                                              centre 0, a 0.1
    bn3.weight (the end of a bottleneck's residual branch)    centre 0.25, a 0.1: at 1 a deep random ResNet is chaotic
    "norm" in the name, ends in ".weight", or any other
    ".weight" of fan 1 (BatchNorm in a Sequential)            centre 1, a 0.1
    ends in "bias"                                            centre 0, a 0.1
    ends in "embedding.weight", "embeddings.weight", or is
    a class_embedding, positional_embedding, cls_token,
    pos_embed                                                 centre 0, a 0.5      (patch_embedding is a convolution)
    proj.txt.weight (makes the kernels of CRIS)               centre 0, a = float32(0.1 * sqrt(3 / fan))
    any other weight                                          centre 0, a = float32(sqrt(3 / fan))

fan = elements / first dimension. A transposed convolution (decoder.transposed_convolution.weight, or .2.weight and
.4.weight of the complex head) has a = float32(2 * sqrt(3 / first dimension)): logits of a few units, gradients that the
clipping reaches. Square root and product are taken in float64.

    pixels[b,y,x,c]        = (word("pixels.coarse", ((b*G + y/16)*G + x/16)*3 + c) >> 25)
                           + (word("pixels.fine",   ((b*S + y)*S + x)*3 + c) >> 25),   G = ceil(S/16): bytes 0..254
    prompt_pixels          the same with "prompt.coarse", "prompt.fine"
    input_ids[b,t]         start id, then 3 + word("ids", b*L + t) % (start - 3), then the end id from length-1 on
    masks[b]               1 where (x - S*(3+2b)/10)^2 + (y - S*(6-2b)/10)^2 < (S*(2+b)/10)^2 (integer divisions);
                           the last of three images: as the case says
    plane[b]               (b + 1) % planes: the sample's own plane of a model with several

Large tensors are committed as norm and 16 projections. Projection k of tensor `name` is the sum over i of
g[i] * (bit k of word(name + "#projections", i) ? -1 : +1), in float64. For two tensors the root mean square over k of the
projections' differences estimates the L2 norm of the difference. Sampled logits: index word("samples", j) % elements.
"""
import copy, json, math, os, sys

import numpy as np
import torch
import torch.nn.functional as F
from monai.losses import DiceCELoss, DiceLoss
from safetensors.torch import load_file, save_file

SEED = 42
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
STEPS, PROJECTIONS, SAMPLES = 5, 16, 512


# ---------------------------------------------------------------- the rule
def stream(name):
    h = 0xCBF29CE484222325
    for byte in name.encode():
        h = (h ^ byte) * 0x100000001B3 & 0xFFFFFFFFFFFFFFFF
    return h


def philox(seed, stream, counter):
    """uint32 [n, 4]: rng_block(seed, stream, counter) of src/base/rng.h for a uint64 array of counters."""
    counter, low = np.asarray(counter, np.uint64), np.uint64(0xFFFFFFFF)
    c0, c1 = counter & low, counter >> np.uint64(32)
    c2, c3 = np.full(counter.shape, stream & 0xFFFFFFFF, np.uint64), np.full(counter.shape, stream >> 32, np.uint64)
    k0, k1 = seed & 0xFFFFFFFF, seed >> 32
    for _ in range(10):
        p0, p1 = np.uint64(0xD2511F53) * c0, np.uint64(0xCD9E8D57) * c2
        c0, c1, c2, c3 = ((p1 >> np.uint64(32)) ^ c1 ^ np.uint64(k0), p1 & low,
                          (p0 >> np.uint64(32)) ^ c3 ^ np.uint64(k1), p0 & low)
        k0, k1 = (k0 + 0x9E3779B9) & 0xFFFFFFFF, (k1 + 0xBB67AE85) & 0xFFFFFFFF
    return np.stack([c0, c1, c2, c3], 1).astype(np.uint32)


def words(name, first, count):
    """uint32 [count]: word(name, first ...); `first` is a multiple of 4."""
    blocks = (count + 3) // 4
    return philox(SEED, stream(name), np.arange(first // 4, first // 4 + blocks)).reshape(-1)[:count]


def chunks(count, size=1 << 20):
    return ((i, min(size, count - i)) for i in range(0, count, size))


def centre_and_amplitude(name, shape):
    """The first clause of the rule that fits."""
    fan = int(np.prod(shape)) // shape[0] if len(shape) else 1
    if name.endswith("logit_scale"):
        return 2.6592, 0.0
    if name.endswith("num_batches_tracked"):
        return 0.0, 0.0
    if name.endswith("running_var"):
        return 1.0, 0.3
    if name.endswith("running_mean"):
        return 0.0, 0.1
    if name.endswith("bn3.weight"):
        return 0.25, 0.1
    if name.endswith(".weight") and ("norm" in name or fan == 1):
        return 1.0, 0.1
    if name.endswith("bias"):
        return 0.0, 0.1
    if name.endswith(("token_embedding.weight", "position_embedding.weight", "_embeddings.weight", "class_embedding",
                      "positional_embedding", "cls_token", "pos_embed")):
        return 0.0, 0.5
    if name.startswith("decoder.transposed_convolution.") and not name.endswith(".0.weight"):
        return 0.0, 2 * math.sqrt(3.0 / shape[0])
    if name == "proj.txt.weight":
        return 0.0, 0.1 * math.sqrt(3.0 / fan)
    return 0.0, math.sqrt(3.0 / fan)


def weight(name, shape):
    count = int(np.prod(shape)) if len(shape) else 1
    centre, a = centre_and_amplitude(name, shape)
    out = np.empty(count, np.float32)
    for i, n in chunks(count):
        unit = (words(name, i, n) >> np.uint32(8)).astype(np.float32) * np.float32(2.0**-23) - np.float32(1)
        out[i:i + n] = np.float32(centre) + np.float32(a) * unit
    return torch.from_numpy(out.reshape(shape))


def draw_weights(m):
    """Parameters and BatchNorm's statistics, by the rule."""
    with torch.no_grad():
        for n, p in list(m.named_parameters()) + list(m.named_buffers()):
            if n in m.state_dict():
                p.copy_(weight(n, tuple(p.shape)))
    return m


def project(name, g):
    g = g.detach().double().reshape(-1).numpy()
    out = np.zeros(1 + PROJECTIONS)
    for i, n in chunks(g.size):
        w, part = words(name + "#projections", i, n), g[i:i + n]
        out[0] += np.dot(part, part)
        for k in range(PROJECTIONS):
            out[1 + k] += np.dot(part, 1.0 - 2.0 * ((w >> np.uint32(k)) & np.uint32(1)).astype(np.float64))
    out[0] = math.sqrt(out[0])
    return torch.from_numpy(out)


def whole(_name, g):
    """What the tiny cases keep of a gradient."""
    return g.detach().clone()


def picture(name, batch, size):
    grid = (size + 15) // 16
    coarse = (words(name + ".coarse", 0, batch * grid * grid * 3) >> np.uint32(25)).reshape(batch, grid, grid, 3)
    fine = (words(name + ".fine", 0, batch * size * size * 3) >> np.uint32(25)).reshape(batch, size, size, 3)
    at = np.arange(size) // 16
    return torch.from_numpy((coarse[:, at][:, :, at] + fine).astype(np.uint8))


def discs(batch, size, last=None):
    """Masks; `last` (0 or 1) fills the last of three."""
    y, x = np.mgrid[0:size, 0:size]
    masks = np.zeros((batch, size, size), np.uint8)
    for b in range(batch):
        masks[b] = (x - size * (3 + 2 * b) // 10)**2 + (y - size * (6 - 2 * b) // 10)**2 < (size * (2 + b) // 10)**2
    if batch == 3 and last is not None:
        masks[2] = last
    return torch.from_numpy(masks)


def texts(lengths, limit, start, end, pad=None):
    """Token ids [B,L] (after the end: `pad`, else the end id) and the attention mask."""
    batch = len(lengths)
    ids = np.full((batch, limit), end if pad is None else pad, np.int64)
    drawn = 3 + words("ids", 0, batch * limit).astype(np.int64).reshape(batch, limit) % (start - 3)
    mask = np.zeros((batch, limit), np.int64)
    for b, length in enumerate(lengths):
        ids[b, 0] = start
        ids[b, 1:length - 1] = drawn[b, 1:length - 1]
        ids[b, length - 1] = end
        mask[b, :length] = 1
    return torch.from_numpy(ids), torch.from_numpy(mask)


# ---------------------------------------------------------------- losses
def normalise(pixels, dtype, mean=MEAN, std=STD):
    x = pixels.permute(0, 3, 1, 2).to(dtype) / 255
    return (x - torch.tensor(mean, dtype=dtype).view(1, 3, 1, 1)) / torch.tensor(std, dtype=dtype).view(1, 3, 1, 1)


def loss_of(name, logits, masks):
    z, t = logits[:, None], masks[:, None].to(logits.dtype)
    p = torch.sigmoid(z)
    if name == "dice_only":
        return DiceLoss()(p, t)
    if name == "monai14":
        return DiceCELoss(lambda_dice=1.0, lambda_ce=0.2)(p, t)
    return DiceLoss()(p, t) + 0.2 * F.binary_cross_entropy_with_logits(z, t)


# ---------------------------------------------------------------- one model's outputs
def own_plane(logits, x):
    """[B,S,S] of logits [B,S,S] or [B,S,S,P]: each sample's own plane."""
    return logits if logits.dim() == 3 else logits[torch.arange(len(logits)), :, :, x["plane"]]


def record(model, forward, x, dtype, keep, recipe, modes=(("trained", lambda _n: True),), loss="dice_ce"):
    """The outputs that tests/models/parity.c compares, at `dtype`. forward(m, x, dtype) gives logits [B,S,S] or [B,S,S,P]; keep(name,
    gradient) is what is held of a gradient; recipe has lr and weight_decay; modes: name and which parameters it trains."""
    out = {}
    torch.set_default_dtype(dtype)  # transformers makes its causal mask in the default type
    m = copy.deepcopy(model).to(dtype).eval()
    start = {n: v.clone() for n, v in m.state_dict().items()}
    with torch.no_grad():
        out["eval/logits"] = forward(m, x, dtype)
    for mode, trains in modes:
        m.load_state_dict(start)
        m.train()
        for n, p in m.named_parameters():
            p.requires_grad_(trains(n))
        given = {n: p for n, p in m.named_parameters() if p.requires_grad}
        optimiser = torch.optim.AdamW(given.values(), lr=recipe["lr"], betas=(0.9, 0.999), eps=1e-8,
                                      weight_decay=recipe["weight_decay"])
        losses = []
        for step in range(STEPS + 1):
            optimiser.zero_grad(set_to_none=True)
            logits = forward(m, x, dtype)
            value = loss_of(loss, own_plane(logits, x), x["masks"])
            losses.append(value.item())
            if step == STEPS:
                break
            value.backward()
            used = {n: p for n, p in given.items() if p.grad is not None}
            if step == 0:
                out[mode + "/logits"] = own_plane(logits.detach(), x)
                for n, p in used.items():
                    out[f"{mode}/grad/{n}"] = keep(n, p.grad)
            norm = torch.nn.utils.clip_grad_norm_(list(used.values()), 0.5)
            if step == 0:
                out[mode + "/grad_norm"] = norm.reshape(1).clone()
            optimiser.step()
            if step == 0:
                for n, v in m.state_dict().items():
                    if n.endswith(("running_mean", "running_var")):
                        out[f"{mode}/state/{n}"] = v.clone()
        out[mode + "/losses"] = torch.tensor(losses, dtype=torch.float64)
        print(mode, dtype, ["%.6f" % v for v in losses], "norm %.4g" % out[mode + "/grad_norm"].item(), flush=True)
    return out


def float32_runs(run, counts=(1, 2), own=True):
    """torch's own float32 in more than one order of sums. A ReLU that flips moves gradients by far more than rounding does, and which
    ones flip is chance: one run says too little of what float32 is. run(format, swapped) records at float32 with that memory format,
    the pictures of the batch in the other order; `counts` of threads; `own`: also by torch's convolutions without oneDNN."""
    threads = torch.get_num_threads()
    try:
        for count in counts:
            torch.set_num_threads(count)
            for layout in (torch.contiguous_format, torch.channels_last):
                yield run(layout, False)
        if own:
            with torch.backends.mkldnn.flags(enabled=False):
                yield run(torch.contiguous_format, False)
        yield run(torch.contiguous_format, True)
    finally:
        torch.set_num_threads(threads)


def widest(distances):
    out = {}
    for given in distances:
        for n, d in given.items():
            out[n] = torch.maximum(out[n], d) if n in out else d
    return out


def distances(truth, other, full=False):
    """The distance of the float32 run from the float64 run: largest absolute difference; for gradients L2. Twice a
    distance loosens a bound of 1e-5 relative: only those that do, over 5e-6, are kept, and none of gradients that are
    zero but for rounding (norm under 1e-6 of the whole: the biases of keys), which are to be compared absolutely.
    `full`: gradients are norm and projections."""
    out = {}
    for n, v in truth.items():
        if n not in other:
            continue
        v = v.double()
        d = other[n].double() - v
        if "/grad/" not in n:
            d, size = d.abs().max(), v.abs().max()
        elif full:
            d, size = d[1:].square().mean().sqrt(), v[0]
        else:
            d, size = d.norm(), v.norm()
        if "/grad/" in n and size < 1e-6 * truth[n.split("/grad/")[0] + "/grad_norm"].item():
            continue
        if d > 5e-6 * size:
            out[n + "#torch"] = d.reshape(1)
    return out


# ---------------------------------------------------------------- files
def write_json(path, value):
    with open(path, "w") as f:
        json.dump(value, f, indent=2)
        f.write("\n")


def write_preprocessor(folder, size):
    write_json(os.path.join(folder, "preprocessor_config.json"),
               dict(do_normalize=True, do_rescale=True, do_resize=True, image_mean=list(MEAN), image_std=list(STD),
                    image_processor_type="ViTImageProcessor", resample=2, rescale_factor=1 / 255,
                    size=dict(height=size, width=size)))


def save(path, tensors, **versions):
    save_file({n: t.detach().contiguous().clone() for n, t in tensors.items()}, path,
              metadata=dict(made_by="tests/golden/" + os.path.basename(sys.argv[0]), torch="2.6.0", **versions, monai="1.4.0"))
    print(path, os.path.getsize(path))


def float32_run(model, forward, x, keep, recipe, layout, swapped, **options):
    m = copy.deepcopy(model)
    if layout == torch.channels_last:
        m = m.to(memory_format=layout)
    if not swapped:
        return record(m, forward, x, torch.float32, keep, recipe, **options)
    out = record(m, forward, {n: v.flip(0) for n, v in x.items()}, torch.float32, keep, recipe, **options)
    return {n: v.flip(0) if n.endswith("/logits") else v for n, v in out.items()}


def sampled(logits):
    at = words("samples", 0, SAMPLES) % np.uint32(logits.numel())
    return logits.reshape(-1)[torch.from_numpy(at.astype(np.int64))]


def widen_case(path, model, forward, x, recipe, runs, **versions):
    """Adds the distances of more float32 `runs` (layout, swapped) to a file that holds projections."""
    held = load_file(path)
    truth = {n: v for n, v in held.items() if n.endswith(("/logits", "/losses", "/grad_norm")) or "/grad/" in n and "#" not in n}
    found = [{n: v for n, v in held.items() if "#torch" in n}]
    for layout, swapped in runs:
        other = float32_run(model, forward, x, project, recipe, layout, swapped)
        found.append(distances(truth, {n: sampled(v) if n.endswith("/logits") else v for n, v in other.items()}, True))
    save(path, dict(**{n: v for n, v in held.items() if "#torch" not in n}, **widest(found)), **versions)


def make_case(folder, model, forward, x, recipe, full=False, **options):
    """`folder`/io.safetensors of a model whose config.json the caller has written; `versions` of what made it. The tiny case holds whole
    tensors; `full` norms, projections and sampled logits, and no inputs but `batch_size`, the ids and the last bytes; `last`: what fills
    the last of three masks."""
    own = options.pop("own", True)
    slow = x["pixels"].shape[1] > 200  # the published sizes: minutes a run
    keep, versions, last = project if full else whole, options.pop("versions", {}), options.pop("last", None)
    truth = record(model, forward, x, torch.float64, keep, recipe, **options)

    def once(layout, swapped):
        return float32_run(model, forward, x, keep, recipe, layout, swapped, **options)

    d = widest(distances(truth, other, full) for other in float32_runs(once, (2,) if slow else (1, 2), own))
    held = {n: x[n].int() for n in ("input_ids", "lengths", "plane") if n in x}
    held["batch_size"] = torch.tensor(x["pixels"].shape[:2], dtype=torch.int32)
    if last is not None:
        held["last_mask"] = torch.tensor([last], dtype=torch.int32)
    held["recipe"] = torch.tensor([recipe["lr"], recipe["weight_decay"]], dtype=torch.float64)
    if full:
        for n in ("pixels", "masks"):  # the last 64 bytes, which every part of the rule reaches
            held["last/" + n] = x[n].reshape(-1)[-64:].clone()
        for n in [n for n in truth if n.endswith("/logits")]:
            held[n + "_max"] = truth[n].abs().max().reshape(1)
            truth[n] = sampled(truth[n])
        out = {n: v.float() if "/grad/" in n else v for n, v in truth.items() if "/state/" not in n}
        for n, v in truth.items():  # statistics by projection, too: a deep encoder has many
            if "/state/" in n:
                out[n] = project(n.split("/state/")[1], v).float()
    else:
        held.update(pixels=x["pixels"], masks=x["masks"])
        out = {n: v if v.numel() <= 8 else v.float() for n, v in truth.items()}
    save(os.path.join(folder, "io.safetensors"), dict(**held, **out, **d), **versions)
