"""What gridseg is timed against besides CLIPSeg: BiomedCLIPSeg, CRIS, UNet, UNet++ and DeepLabV3+ of published size in PyTorch, as
the study runs them, at PyTorch's best: allocator tuned, channels last where that is faster. One case a process, one JSON line
{"name", "value", "unit", ...} on standard output. Needs tests/peer/requirements.txt; CRIS wants $MEDVLSM, a checkout of the study.

    torch_models.py MODEL train|eval|store [--precision fp32|bf16] [--channels-last] [--threads 2] [--batch N] [--steps 5]

MODEL: biomedclipseg cris unet unetpp deeplabv3plus. `store`: the decoder's step on cached tower outputs (biomedclipseg).
"""
import os, sys

THRESHOLDS = {"MALLOC_MMAP_THRESHOLD_": str(16 << 30), "MALLOC_TRIM_THRESHOLD_": str(16 << 30), "MALLOC_TOP_PAD_": str(256 << 20)}
if os.environ.get("MALLOC_TOP_PAD_") is None:
    os.execve(sys.executable, [sys.executable] + sys.argv, {**os.environ, **THRESHOLDS})

import argparse, json, pathlib, resource, statistics, tempfile, time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "peer"))
import torch

import models

BATCH = {"biomedclipseg": 8, "cris": 2, "unet": 8, "unetpp": 8, "deeplabv3plus": 8}
CONFIGS = {
    "biomedclipseg": {"model_type": "biomedclipseg", "vision_config": {"img_size": 224, "patch_size": 16, "embed_dim": 768, "depth": 12,
                      "num_heads": 12}, "text_config": {"vocab_size": 30522, "hidden_size": 768, "num_hidden_layers": 12,
                      "num_attention_heads": 12, "intermediate_size": 3072, "max_position_embeddings": 512}, "context_length": 256,
                      "projection_dim": 512, "taps": [5, 8, 11], "reduce_dim": 64, "use_complex_transposed_convolution": True},
    "cris": {"model_type": "cris", "image_resolution": 224, "vision_layers": [3, 4, 6, 3], "vision_width": 64, "embed_dim": 1024,
             "context_length": 77, "vocab_size": 49408, "transformer_width": 512, "transformer_heads": 8, "transformer_layers": 12,
             "word_len": 77, "fpn_in": [512, 1024, 1024], "fpn_out": [256, 512, 1024], "vis_dim": 512, "word_dim": 1024,
             "num_layers": 3, "num_head": 8, "dim_ffn": 2048, "dropout": 0.2, "img_size": 416},
    **{k: {"_model_class": v, "encoder_name": "resnet50", "classes": 1} for k, v in models.CNNS.items()}}


def open_published(kind):
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as folder:
        (pathlib.Path(folder) / "config.json").write_text(json.dumps(CONFIGS[kind]), encoding="utf-8")
        return models.Public(folder)


def drawn(kind, batch, size):
    g = torch.Generator().manual_seed(1)
    x = torch.randn(batch, 3, size, size, generator=g)
    truth = (torch.rand(batch, size, size, generator=g) < 0.2).float()
    if kind in models.CNNS:
        return x, None, None, truth
    length, start, end, pad, top = (256, 2, 3, 0, 30000) if kind == "biomedclipseg" else (77, 49406, 49407, 0, 49000)
    ids, mask = torch.full((batch, length), pad), torch.zeros(batch, length, dtype=torch.long)
    for b in range(batch):
        ids[b, 0] = start
        ids[b, 1:15] = torch.randint(300, top, (14,), generator=g)
        ids[b, 15] = end
        mask[b, :16] = 1
    return x, ids, mask, truth


def loss_of(logits, truth):
    p = torch.sigmoid(logits)
    dice = 1 - (2 * (p * truth).sum((1, 2)) + 1e-5) / (p.sum((1, 2)) + truth.sum((1, 2)) + 1e-5)
    bce = torch.nn.functional.binary_cross_entropy_with_logits(logits, truth, reduction="none").mean((1, 2))
    return (dice + 0.2 * bce).mean()


def main():
    size, _, lr, decay, *_ = models.RECIPES[A.model]
    batch = A.batch or BATCH[A.model]
    m = open_published(A.model)
    x, ids, mask, truth = drawn(A.model, batch, size)
    if A.channels_last:
        m, x = m.to(memory_format=torch.channels_last), x.contiguous(memory_format=torch.channels_last)
    autocast = lambda: torch.autocast("cpu", torch.bfloat16, enabled=A.precision == "bf16")
    part, forward = m, lambda: m(x, ids, mask)
    if A.case == "store":
        part = m.net.decoder
        g = torch.Generator().manual_seed(2)
        taps = [torch.randn(batch, (size // 16)**2 + 1, 768, generator=g) for _ in range(3)]
        condition = torch.randn(batch, 512, generator=g)
        forward = lambda: part(taps, condition).logits[:, None]
    optimiser = torch.optim.AdamW(part.parameters(), lr=lr, weight_decay=decay)

    def step():
        if A.case == "eval":
            with torch.no_grad(), autocast():
                return forward()
        with autocast():
            logits = forward()
        optimiser.zero_grad(set_to_none=True)
        loss_of(logits.float()[:, 0], truth).backward()
        torch.nn.utils.clip_grad_norm_([p for p in part.parameters() if p.grad is not None], 0.5)
        optimiser.step()

    m.train(A.case != "eval")
    seconds = []
    for i in range(2 + A.steps):
        start = time.perf_counter()
        step()
        seconds.append(time.perf_counter() - start)
    median = statistics.median(seconds[2:])
    print(json.dumps(dict(name=f"torch_{A.model}_{A.case}_{A.precision}" + ("_channels_last" if A.channels_last else ""),
                          value=round(batch / median, 4), unit="images/s", batch=batch, threads=A.threads, torch=torch.__version__,
                          seconds=[round(s, 4) for s in seconds[2:]],
                          peak_mib=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)), flush=True)


p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
p.add_argument("model", choices=BATCH)
p.add_argument("case", choices=("train", "eval", "store"))
p.add_argument("--precision", default="fp32", choices=("fp32", "bf16"))
p.add_argument("--channels-last", action="store_true")
p.add_argument("--threads", type=int, default=2)
p.add_argument("--batch", type=int)
p.add_argument("--steps", type=int, default=5)
A = p.parse_args()
torch.set_num_threads(A.threads)
main()
