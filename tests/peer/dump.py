#!/usr/bin/env python3
"""debug.dump against torch: logits, losses and every gradient of one training step of a CLIPSeg whose towers are trained,
on one rank and on two, from the pool's own pixels. The truth is torch's float64 run; allowed is 1e-5 or twice the distance
of torch's own float32 run, whichever is larger (tensors whose norm is under 1e-6 of the whole gradient's: 1e-6 of it). The batch holds all samples, so that their order, which the
reduction does not depend on, needs no agreement: samples are matched by their logits. No arguments."""
import pathlib, subprocess, sys, tempfile

import h5py
import numpy
import torch
from safetensors.numpy import load_file
from transformers import CLIPSegForImageSegmentation, CLIPTokenizerFast

import common

SIZE = 64
common.need_gridseg()


def dice_ce(logits, target):
    """Soft Dice + 0.2 BCE of each sample."""
    p, t = torch.sigmoid(logits).flatten(1), target.flatten(1)
    dice = 1 - (2 * (p * t).sum(1) + 1e-5) / (p.sum(1) + t.sum(1) + 1e-5)
    bce = torch.nn.functional.binary_cross_entropy_with_logits(logits, target, reduction="none").flatten(1).mean(1)
    return dice + 0.2 * bce


def with_gradient(model, pixels, ids, attention):
    """CLIPSegForImageSegmentation.forward without its no_grad around the towers."""
    clip = model.clip
    vision = clip.vision_model(pixel_values=pixels, output_hidden_states=True, interpolate_pos_encoding=True)
    text = clip.text_projection(clip.text_model(input_ids=ids, attention_mask=attention).pooler_output)
    taps = [vision.hidden_states[i + 1] for i in model.extract_layers]
    return model.decoder(taps, text).logits


def public_step(folder, pool, dtype):
    torch.set_default_dtype(dtype)  # transformers makes its causal mask in the default type
    model = CLIPSegForImageSegmentation.from_pretrained(folder / "model", torch_dtype=dtype).eval()
    tokens = CLIPTokenizerFast.from_pretrained(folder / "model")
    mean, std = (torch.tensor(v, dtype=dtype)[:, None, None] for v in (common.MEAN, common.STD))
    with h5py.File(pool / "pool.h5") as f:
        images, masks, index = f["images"][:], f["masks"][:], f["image_index"][:]
    pixels = (torch.from_numpy(images).permute(0, 3, 1, 2).to(dtype) / 255 - mean) / std
    given = tokens(["disc"] * len(masks), padding="max_length", max_length=77, return_tensors="pt")
    logits = with_gradient(model, pixels[index], given["input_ids"], given["attention_mask"])
    loss = dice_ce(logits, torch.from_numpy(masks).to(dtype))
    loss.mean().backward()
    gradients = {n: p.grad.double().numpy() for n, p in model.named_parameters() if p.grad is not None}
    return logits.detach().double().numpy(), loss.detach().double().numpy(), gradients


def gradient_distance(a, b, whole):
    norm = numpy.linalg.norm(b)
    return numpy.linalg.norm(a - b) / (norm if norm >= 1e-6 * whole else whole)


def compare(name, dump, truth, own):
    logits, losses, gradients = truth
    met = load_file(dump)
    assert met["logits"].shape == logits.shape, (met["logits"].shape, logits.shape)
    scale, taken = numpy.abs(logits).max(), set()
    allowed = max(1e-5, 2 * numpy.abs(own[0] - logits).max() / scale)
    for ours, loss in zip(met["logits"], met["loss"]):
        distance = numpy.abs(logits - ours).max((1, 2)) / scale
        k = int(distance.argmin())
        assert distance[k] <= allowed, f"{name}: no sample has these logits; the nearest differ by {distance[k]:.2e}"
        assert abs(losses[k] - loss) <= 1e-5, f"{name}: loss {loss}, torch has {losses[k]}"
        taken.add(k)
    assert len(taken) == len(losses), f"{name}: samples met twice"
    whole = numpy.sqrt(sum((g**2).sum() for g in gradients.values()))
    worst = ("", 0.0, 1.0)
    for n, g in gradients.items():
        small = numpy.linalg.norm(g) < 1e-6 * whole
        bound = 1e-6 if small else max(1e-5, 2 * gradient_distance(own[2][n], g, whole))
        distance = gradient_distance(met["grad." + n], g, whole)
        worst = max(worst, (n, distance, bound), key=lambda x: x[1] / x[2])
    extra = [n for n in met if n.startswith("grad.") and n[5:] not in gradients and numpy.abs(met[n]).max() > 0]
    assert not extra, f"{name}: gradients that torch does not have: {extra}"
    print(f"{name}: {len(gradients)} gradients; nearest to its bound: {worst[0]}, {worst[1]:.2e} of {worst[2]:.2e}")
    assert worst[1] <= worst[2], worst


with tempfile.TemporaryDirectory() as place:
    work = pathlib.Path(place)
    model = common.make_model(work / "model", SIZE)
    with torch.no_grad():  # well conditioned: float32 runs then agree
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.mul_(0.5)
    model.save_pretrained(work / "model")
    common.draw_dataset(work / "data", {"train": 5})
    common.gridseg("pack", "--dataset", "study", "--source", work / "data", "--split", "train", "--size", SIZE, "--out",
                   work / "pools", "--name", "discs")
    pool = work / "pools" / "discs" / "train" / str(SIZE)
    truth, own = (public_step(work, pool, dtype) for dtype in (torch.float64, torch.float32))
    for ranks in (1, 2):
        (work / "train.yaml").write_text(
            f"model: {work}/model\npools: {{root: {work}/pools, train: [discs], val: none}}\nsize: {SIZE}\nprompt: p1\n"
            f"train: {{encoders: true, batch: 8, epochs: 1}}\nstore: {{dir: none}}\nthreads: 1\n"
            f"debug: {{dump: {work}/dump-{ranks}}}\nout: {work}/out-{ranks}\n")
        launch = ["mpirun", "--oversubscribe", "--bind-to", "none", "-np", "2"] if ranks == 2 else []
        done = subprocess.run([*launch, common.GRIDSEG, "train", work / "train.yaml"], capture_output=True, text=True,
                              check=False)
        if done.returncode:
            sys.exit(f"{ranks} ranks: exit code {done.returncode}\n{done.stderr[-3000:]}")
        compare(f"{ranks} rank(s)", work / f"dump-{ranks}" / "step-00000001.safetensors", truth, own)
