"""Golden files for CLIPSeg, made with the public implementation: transformers 4.49.0, torch 2.6.0, monai 1.4.0,
safetensors, numpy 1.26.4.  README.md beside this file says what each file and tensor is.

    make_clipseg.py --size tiny [--out DIR]    clipseg_a, clipseg_b, clipseg_c: whole model directories and io.safetensors
    make_clipseg.py --size full [--out DIR]    clipseg_full: config.json and io.safetensors (kilobytes); 12 GB of memory
    make_clipseg.py --widen [--out DIR]        clipseg_full: torch's own distances also as this processor or setting has them
                                               (ONEDNN_MAX_CPU_ISA=AVX2 MKL_ENABLE_INSTRUCTIONS=AVX2: another order of sums)

The rule of generated weights and inputs, and what else every model shares, is in rule.py.
"""
import argparse, copy, os

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from transformers import CLIPSegConfig, CLIPSegForImageSegmentation

import rule
from rule import (MEAN, SAMPLES, STD, STEPS, discs, loss_of, normalise, picture, project, texts, weight, widest, words, write_json,
                  write_preprocessor)

FIRST = ("clip.text_model.embeddings.token_embedding.weight", "clip.vision_model.embeddings.patch_embedding.weight",
         "clip.vision_model.pre_layrnorm.weight", "clip.text_model.encoder.layers.11.mlp.fc2.bias",
         "decoder.transposed_convolution.2.weight")


def make_inputs(case, cfg):
    size, batch = case["size"], len(case["lengths"])
    ids, mask = texts(case["lengths"], case["context"], case["start"], case["end"])
    assert cfg.text_config.max_position_embeddings >= case["context"]
    return dict(pixels=picture("pixels", batch, size), prompt_pixels=picture("prompt", batch, size),
                masks=discs(batch, size, case["last_mask"]), input_ids=ids, attention=mask,
                lengths=torch.tensor(case["lengths"]))


# ---------------------------------------------------------------- the public model
def conditional(m, x, condition, dtype):
    if condition == "text":
        return m.clip.get_text_features(x["input_ids"], attention_mask=x["attention"])
    return m.clip.get_image_features(normalise(x["prompt_pixels"], dtype))


def forward(m, x, condition, trained, dtype):
    """CLIPSegForImageSegmentation.forward; with `trained` without its no_grad around the towers."""
    with torch.set_grad_enabled(trained):
        seen = m.clip.vision_model(normalise(x["pixels"], dtype), output_hidden_states=True)
        taps = [seen.hidden_states[i + 1] for i in m.extract_layers]
        embedding = conditional(m, x, condition, dtype)
    return m.decoder(taps, embedding).logits, taps, embedding


def public_logits(m, x, condition, dtype):
    given = (dict(input_ids=x["input_ids"], attention_mask=x["attention"]) if condition == "text" else
             dict(conditional_pixel_values=normalise(x["prompt_pixels"], dtype)))
    with torch.no_grad():
        return m(pixel_values=normalise(x["pixels"], dtype), **given).logits


CASES = [("text", "frozen", "dice_ce"), ("text", "frozen", "dice_only"), ("text", "frozen", "monai14"),
         ("text", "trained", "dice_ce"), ("image", "frozen", "dice_ce"), ("image", "trained", "dice_ce")]


def run(model, x, dtype, keep):
    """All outputs at `dtype` as a flat dict; `keep(name, gradient)` is what is held of a gradient."""
    out = {}
    torch.set_default_dtype(dtype)  # transformers makes its causal mask in the default type
    m = copy.deepcopy(model).to(dtype).eval()
    with torch.no_grad():
        for condition in ("text", "image"):
            logits, taps, embedding = forward(m, x, condition, False, dtype)
            assert torch.equal(logits, public_logits(m, x, condition, dtype)), "not the public forward"
            out[condition + "/logits"], out[condition + "/embedding"] = logits, embedding
        for i, tap in enumerate(taps):
            out[f"taps/{i}"] = tap[:1]
    start = {n: p.detach().clone() for n, p in m.named_parameters()}
    for condition, mode, loss_name in CASES:
        with torch.no_grad():
            for n, p in m.named_parameters():
                p.copy_(start[n])
        tag = f"{condition}/{mode}/{loss_name}"
        optimiser = torch.optim.AdamW(m.parameters(), lr=2e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=1e-3)
        losses = []
        for step in range(STEPS + 1):
            optimiser.zero_grad(set_to_none=True)
            logits, _, _ = forward(m, x, condition, mode == "trained", dtype)
            loss = loss_of(loss_name, logits, x["masks"])
            losses.append(loss.item())
            if step == STEPS:
                break
            loss.backward()
            given = {n: p for n, p in m.named_parameters() if p.grad is not None}
            if step == 0:
                for n, p in given.items():
                    kept, seen = keep(n, p.grad), f"{condition}/frozen/{loss_name}/grad/{n}"
                    if seen in out:  # the decoder's gradients do not ask whether the towers train
                        assert torch.allclose(kept, out[seen], rtol=1e-4, atol=1e-9)
                    else:
                        out[f"{tag}/grad/{n}"] = kept
            norm = torch.nn.utils.clip_grad_norm_(list(given.values()), 0.5)
            if step == 0:
                out[tag + "/grad_norm"] = norm.reshape(1).clone()
            optimiser.step()
        out[tag + "/losses"] = torch.tensor(losses, dtype=torch.float64)
        print(tag, ["%.6f" % v for v in losses], "norm %.4g" % out[tag + "/grad_norm"].item(), flush=True)
    return out


class OneDNNLinear(torch.autograd.Function):
    """Linear by torch's other CPU library. torch.compile's frozen graphs use it, eager uses MKL; the two sum in another order."""

    @staticmethod
    def forward(ctx, x, w, b):
        ctx.save_for_backward(x, w)
        ctx.biased = b is not None
        return torch.ops.mkldnn._linear_pointwise(x, w, b, "none", [], "")

    @staticmethod
    def backward(ctx, dy):
        x, w = ctx.saved_tensors
        flat = dy.reshape(-1, dy.shape[-1])
        return dy @ w, flat.T @ x.reshape(-1, x.shape[-1]), flat.sum(0) if ctx.biased else None


def frozen_cases(model, x, keep, alone):
    """Gradients at the start and losses of the cases with frozen towers, which see the pictures together or each `alone`."""
    torch.set_default_dtype(torch.float32)
    m, out = copy.deepcopy(model).eval(), {}
    start = {n: p.detach().clone() for n, p in m.decoder.named_parameters()}
    parts = [{k: v[b:b + 1] for k, v in x.items()} for b in range(len(x["lengths"]))] if alone else [x]
    for condition in ("text", "image"):
        with torch.no_grad():
            seen = [forward(m, part, condition, False, torch.float32) for part in parts]
        taps = [torch.cat([s[1][i] for s in seen]) for i in range(len(seen[0][1]))]
        embedding = torch.cat([s[2] for s in seen])
        for _, _, loss_name in [c for c in CASES if c[:2] == (condition, "frozen")]:
            with torch.no_grad():
                for n, p in m.decoder.named_parameters():
                    p.copy_(start[n])
            tag, losses = f"{condition}/frozen/{loss_name}", []
            optimiser = torch.optim.AdamW(m.decoder.parameters(), lr=2e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=1e-3)
            for step in range(STEPS + 1):
                optimiser.zero_grad(set_to_none=True)
                loss = loss_of(loss_name, m.decoder(taps, embedding).logits, x["masks"])
                losses.append(loss.item())
                if step == STEPS:
                    break
                loss.backward()
                if step == 0:
                    out.update({f"{tag}/grad/decoder.{n}": keep("decoder." + n, p.grad)
                                for n, p in m.decoder.named_parameters()})
                torch.nn.utils.clip_grad_norm_(list(m.decoder.parameters()), 0.5)
                optimiser.step()
            out[tag + "/losses"] = torch.tensor(losses, dtype=torch.float64)
    return out


def float32_runs(model, x, keep):
    """torch's own float32, by each of its two libraries. A ReLU that flips moves gradients by far more than rounding does, and which
    ones flip is chance: one run alone says too little of what float32 is, so the cases with frozen towers also run with other
    threads and with pictures that pass the towers one by one."""
    linear, threads = F.linear, torch.get_num_threads()
    for library in (linear, lambda x, w, b=None: OneDNNLinear.apply(x, w, b)):
        try:
            F.linear = library
            yield run(model, x, torch.float32, keep)
            for count in (1, 2):
                torch.set_num_threads(count)
                yield from (frozen_cases(model, x, keep, alone) for alone in (False, True))
        finally:
            F.linear = linear
            torch.set_num_threads(threads)


def distances(truth, other):
    return rule.distances(truth, other, FULL)


def check_trimming(model, x):
    """What trimming relies on: the text alone, at its own length, has the embedding of the padded text."""
    torch.set_default_dtype(torch.float64)
    m = copy.deepcopy(model).double()
    with torch.no_grad():
        padded = m.clip.get_text_features(x["input_ids"], attention_mask=x["attention"])
        for b, n in enumerate(x["lengths"].tolist()):
            alone = m.clip.get_text_features(x["input_ids"][b:b + 1, :n])
            assert (alone - padded[b]).abs().max() < 1e-12 * padded.abs().max()


# ---------------------------------------------------------------- the models
FULL = False
TINY = {
    "a": dict(size=64, lengths=(9, 16), context=16, start=62, end=63, last_mask=0, config=dict(
        text_config=dict(vocab_size=64, max_position_embeddings=16, hidden_size=12, intermediate_size=40,
                         num_hidden_layers=2, num_attention_heads=2, bos_token_id=62, eos_token_id=63, pad_token_id=63),
        vision_config=dict(hidden_size=16, intermediate_size=36, num_hidden_layers=4, num_attention_heads=2,
                           image_size=64, patch_size=16),
        projection_dim=20, reduce_dim=12, extract_layers=[0, 1, 2], decoder_intermediate_size=28,
        decoder_num_attention_heads=4, use_complex_transposed_convolution=True)),
    "b": dict(size=56, lengths=(3, 20, 11), context=77, start=62, end=63, last_mask=0, config=dict(
        text_config=dict(vocab_size=64, max_position_embeddings=77, hidden_size=15, intermediate_size=20,
                         num_hidden_layers=2, num_attention_heads=3, bos_token_id=0, eos_token_id=2, pad_token_id=1),
        vision_config=dict(hidden_size=14, intermediate_size=22, num_hidden_layers=4, num_attention_heads=2,
                           image_size=40, patch_size=8),
        projection_dim=10, reduce_dim=8, extract_layers=[0, 2], decoder_intermediate_size=24,
        decoder_num_attention_heads=2, conditional_layer=1, use_complex_transposed_convolution=False)),
    "c": dict(size=36, lengths=(12, 5, 7), context=20, start=126, end=127, last_mask=1, config=dict(
        text_config=dict(vocab_size=128, max_position_embeddings=24, hidden_size=8, intermediate_size=32,
                         num_hidden_layers=1, num_attention_heads=1, bos_token_id=126, eos_token_id=127,
                         pad_token_id=127),
        vision_config=dict(hidden_size=18, intermediate_size=30, num_hidden_layers=3, num_attention_heads=3,
                           image_size=44, patch_size=4),
        projection_dim=12, reduce_dim=6, extract_layers=[0, 1, 2], decoder_intermediate_size=16,
        decoder_num_attention_heads=1, use_complex_transposed_convolution=False)),
}
PUBLISHED = dict(size=352, lengths=(9, 14), context=77, start=49406, end=49407, last_mask=0, config=dict(
    text_config=dict(vocab_size=49408, max_position_embeddings=77, hidden_size=512, intermediate_size=2048,
                     num_hidden_layers=12, num_attention_heads=8, bos_token_id=49406, eos_token_id=49407,
                     pad_token_id=49407),
    vision_config=dict(hidden_size=768, intermediate_size=3072, num_hidden_layers=12, num_attention_heads=12,
                       image_size=224, patch_size=16),
    projection_dim=512, reduce_dim=64, extract_layers=[3, 6, 9], use_complex_transposed_convolution=True))


def build(case):
    torch.set_default_dtype(torch.float32)
    m = CLIPSegForImageSegmentation(CLIPSegConfig(**case["config"])).eval()
    with torch.no_grad():
        for n, p in m.named_parameters():
            p.copy_(weight(n, tuple(p.shape)))
    return m


def stored_inputs(x):
    return dict(pixels=x["pixels"], prompt_pixels=x["prompt_pixels"], masks=x["masks"],
                input_ids=x["input_ids"].int(), lengths=x["lengths"].int(),
                mean=torch.tensor(MEAN, dtype=torch.float64), std=torch.tensor(STD, dtype=torch.float64))


def save(path, tensors):
    rule.save(path, tensors, transformers="4.49.0")


def make_tiny(name, case, folder):
    folder = os.path.join(folder, "clipseg_" + name)
    m = build(case)
    x = make_inputs(case, m.config)
    check_trimming(m, x)
    m.save_pretrained(folder)
    if name == "b":  # checkpoints of transformers before 4.31 hold these two buffers as well: loaders step over them
        sd = {n: p.detach().contiguous() for n, p in m.state_dict().items()}
        for tower in ("text", "vision"):
            count = sd[f"clip.{tower}_model.embeddings.position_embedding.weight"].shape[0]
            sd[f"clip.{tower}_model.embeddings.position_ids"] = torch.arange(count)[None]
        save_file(sd, os.path.join(folder, "model.safetensors"), metadata={"format": "pt"})
    write_preprocessor(folder, case["size"])
    truth = run(m, x, torch.float64, lambda n, g: g.clone())
    other = run(m, x, torch.float32, lambda n, g: g.clone())
    out = {n: v if v.numel() <= 8 else v.float() for n, v in truth.items()}
    save(os.path.join(folder, "io.safetensors"), dict(**stored_inputs(x), **out, **distances(truth, other)))


def make_full(folder):
    global FULL
    FULL = True
    folder = os.path.join(folder, "clipseg_full")
    m = build(PUBLISHED)
    x = make_inputs(PUBLISHED, m.config)
    m.config.architectures = ["CLIPSegForImageSegmentation"]
    m.config.save_pretrained(folder)
    truth = run(m, x, torch.float64, project)
    inputs = {"samples": torch.from_numpy((words("samples", 0, SAMPLES) %
                                           np.uint32(truth["text/logits"].numel())).astype(np.int32))}
    for n in FIRST:  # the rule itself
        inputs["first/" + n] = m.get_parameter(n).detach().reshape(-1)[:8].clone()
    for n in ("pixels", "prompt_pixels", "masks"):  # the last 64 bytes, which every part of the rule reaches
        inputs["last/" + n] = x[n].reshape(-1)[-64:].clone()
    inputs["input_ids"], inputs["lengths"] = x["input_ids"].int(), x["lengths"].int()
    d = widest(distances(truth, other) for other in float32_runs(m, x, project))
    out = {n: v.float() if "/grad/" in n else v for n, v in truth.items() if not n.startswith("taps/")}
    for n in ("text/logits", "image/logits"):
        out[n + "_max"] = truth[n].abs().max().reshape(1)
        out[n] = truth[n].reshape(-1)[inputs["samples"].long()]
    save(os.path.join(folder, "io.safetensors"), dict(**inputs, **out, **{n: v for n, v in d.items()
                                                                         if not n.startswith("taps/")}))


def widen_full(folder):
    global FULL
    FULL = True
    path = os.path.join(folder, "clipseg_full", "io.safetensors")
    held = load_file(path)
    truth = {n: v for n, v in held.items() if "#torch" not in n and "/frozen/" in n}
    m = build(PUBLISHED)
    x = make_inputs(PUBLISHED, m.config)
    found = [{n: v for n, v in held.items() if "#torch" in n}]
    linear = F.linear
    for library in (linear, lambda x, w, b=None: OneDNNLinear.apply(x, w, b)):
        F.linear = library
        found += [distances(truth, frozen_cases(m, x, project, alone)) for alone in (False, True)]
    F.linear = linear
    save(path, dict(**{n: v for n, v in held.items() if "#torch" not in n}, **widest(found)))


if __name__ == "__main__":
    args = argparse.ArgumentParser()
    args.add_argument("--size", choices=("tiny", "full"), default="tiny")
    args.add_argument("--only", default="abc")
    args.add_argument("--widen", action="store_true")
    args.add_argument("--threads", type=int, default=1)
    args.add_argument("--out", default=os.path.dirname(os.path.abspath(__file__)))
    args = args.parse_args()
    torch.set_num_threads(args.threads)
    if args.widen:
        widen_full(args.out)
    elif args.size == "full":
        make_full(args.out)
    for name in args.only if args.size == "tiny" and not args.widen else "":
        make_tiny(name, TINY[name], args.out)
