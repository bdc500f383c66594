#!/usr/bin/env python3
"""Proves our logits on published weights: see run.sh, which calls this with the folder of them.

Each known file is converted (data_prep/convert_weights.py), `gridseg predict --logits` runs on pictures of the network's size, and the
public code runs on the same pictures from the published file itself, loaded without the converter. The truth is the public model in
float64. Bounds, of the largest logit: fp32 1e-5 or twice torch float32's own distance (in the worse of its layouts: sums in another
order); bf16 2e-2 or twice that of torch's autocast."""
import argparse, contextlib, fnmatch, pathlib, subprocess, sys, tempfile

import numpy
import torch
from PIL import Image

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "peer"))
import common, models

CONVERT = common.ROOT / "data_prep" / "convert_weights.py"
CNN = ("unet", "unetpp", "deeplabv3plus")
KNOWN = (  # name (of a file or folder, any case), models that it becomes
    ("rn50.pt", ("cris",)), ("cris*.pth", ("cris",)), ("cris*.pt", ("cris",)), ("cris*.ckpt", ("cris",)),
    ("clipseg*", ("clipseg",)), ("biomedclip", ("biomedclipseg",)), ("biomedclip-*", ("biomedclipseg",)),
    ("biomedclipseg*", ("biomedclipseg",)), ("open_clip_*", ("biomedclipseg",)),
    ("resnet*.pth", CNN), ("timm-resnet*", CNN), ("smp-unetpp*", ("unetpp",)), ("smp-unet*", ("unet",)),
    ("smp-deeplabv3plus*", ("deeplabv3plus",)), ("unetpp*", ("unetpp",)), ("unet*", ("unet",)), ("deeplabv3plus*", ("deeplabv3plus",)))
PROMPTS = ("polyp", "one small pink round polyp, located in the centre of the image")
BOUNDS = {"fp32": 1e-5, "bf16": 2e-2}


def find(folder):
    """[(label, file or folder, model, further options)] of what is known in a folder."""
    found, clipseg = [], None
    for path in sorted(pathlib.Path(folder).iterdir()):
        name = path.name.lower()
        weights = path.is_dir() or path.suffix in (".pt", ".pth", ".bin", ".ckpt", ".safetensors")
        wanted = next((m for pattern, m in KNOWN if fnmatch.fnmatch(name, pattern)), ()) if weights else ()
        if wanted == ("clipseg",) and path.is_dir():
            clipseg = path
        options = ["--skip-objects"] if path.suffix == ".ckpt" else []
        found += [(f"{path.name} -> {model}", path, model, options) for model in wanted]
    for label, path, model, options in list(found):
        if model == "biomedclipseg" and clipseg and path.suffix != ".ckpt":
            found.append((f"{label}-D", path, model, options + ["--decoder", str(clipseg)]))
    return found


def convert(path, model, options, out):
    command = [sys.executable, str(CONVERT), "--to", model, "--from", str(path), "--out", str(out), *options]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"convert_weights.py: exit code {done.returncode}: {done.stderr.strip()[-600:]}")


# ---------------------------------------------------------------- the public side
def weights_in(path):
    names = ("model.safetensors", "pytorch_model.bin", "open_clip_model.safetensors", "open_clip_pytorch_model.bin")
    return next(path / n for n in names if (path / n).exists()) if path.is_dir() else path


def published_state(path, model):
    """The published file under the public model's names, without the converter."""
    path = weights_in(path)
    if path.suffix == ".safetensors":
        from safetensors.torch import load_file
        state = load_file(path)
    elif path.name.lower() == "rn50.pt":
        state = torch.jit.load(path, map_location="cpu").float().state_dict()
        state = {f"backbone.{n}": t for n, t in state.items() if n not in ("input_resolution", "context_length", "vocab_size")}
    else:
        state = torch.load(path, map_location="cpu", weights_only=path.suffix != ".ckpt")  # a .ckpt: the user's own, pickled objects
        state = state.get("state_dict", state)
    if path.suffix == ".ckpt":
        state = {n.removeprefix("net.").removeprefix("clipseg."): t for n, t in state.items()}
    state = {n.removeprefix("module."): t for n, t in state.items()}
    if model == "biomedclipseg" and not any(n.startswith("biomedclip.") for n in state):
        state = {f"biomedclip.{n}": t for n, t in state.items()}
    if model in CNN and "conv1.weight" in state:
        state = {f"encoder.{n}": t for n, t in state.items() if not n.startswith("fc.")}
    return {n: t for n, t in state.items() if not n.endswith(("position_ids", "attn_mask"))}


def public_model(directory, path, model):
    """The public model with the published file's own tensors; what the file lacks (a decoder that was drawn) from the directory."""
    m = models.open_model(directory)
    _, unknown = m.net.load_state_dict(published_state(path, model), strict=False)
    if unknown:
        raise RuntimeError(f"the public model has no {unknown[:5]}")
    return m.eval()


def pixels_of(pictures, mean, std, dtype):
    x = torch.from_numpy(numpy.stack(pictures)).to(dtype) / 255
    x = (x - torch.tensor(mean, dtype=dtype)) / torch.tensor(std, dtype=dtype)
    return x.permute(0, 3, 1, 2).contiguous()


@contextlib.contextmanager
def exact(m, dtype):
    """The model in `dtype` all through: transformers makes masks in the default type, the published CRIS rounds its LayerNorms and the
    sine code of its words to float32 (half a rounding of float32 is left of the latter)."""
    held = torch.get_default_dtype(), None
    torch.set_default_dtype(dtype)
    if m.kind == "cris" and dtype == torch.float64:
        norm = type(m.net.backbone.ln_final)
        held = held[0], (norm, norm.forward)
        norm.forward = torch.nn.LayerNorm.forward
    try:
        yield m.to(dtype)
    finally:
        torch.set_default_dtype(held[0])
        if held[1]:
            held[1][0].forward = held[1][1]


def public_logits(m, pictures, preprocess, dtype=torch.float32, autocast=False):
    """[pictures, prompts or planes, S, S] as float64."""
    x, made = pixels_of(pictures, *preprocess, dtype), []
    with torch.no_grad(), exact(m, dtype), torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        for one in x.split(1):
            if not m.has_text:
                made.append(m(one)[0])
                continue
            ids, mask = m.text(PROMPTS)
            made.append(torch.cat([m(one, ids[i:i + 1], mask[i:i + 1])[0] for i in range(len(PROMPTS))]))
    return torch.stack(made).double().numpy()


# ---------------------------------------------------------------- our side
def draw_pictures(size):
    random = numpy.random.default_rng(11)
    y, x = numpy.mgrid[0:size, 0:size] / size
    pictures = []
    for _ in range(2):
        cy, cx, a, b = random.uniform(0.3, 0.7, 2).tolist() + random.uniform(0.1, 0.25, 2).tolist()
        inside = ((y - cy) / a)**2 + ((x - cx) / b)**2 < 1
        shade = 90 + 60 * numpy.sin(6 * x)[..., None] * numpy.array([1.0, 0.5, 0.2]) + 70 * inside[..., None]
        pictures.append((shade + random.normal(0, 12, (size, size, 3))).clip(0, 255).astype(numpy.uint8))
    return pictures


def real_pictures(size):
    """Two pictures of $GRIDSEG_SHARED, at the network's size so that both sides see the same pixels."""
    found = sorted((common.SHARED / "data" / "kvasir_polyp" / "images").glob("*.jpg"))[:2]
    return [numpy.asarray(Image.open(p).convert("RGB").resize((size, size), Image.BILINEAR)) for p in found]


def our_logits(directory, pictures, precision, has_text, folder):
    from safetensors.numpy import load_file
    images = []
    for i, picture in enumerate(pictures):
        Image.fromarray(picture).save(folder / f"picture{i}.png")
        images += ["--image", folder / f"picture{i}.png"]
    prompts = [a for p in PROMPTS for a in ("--prompt", p)] if has_text else []
    command = [common.GRIDSEG, "predict", "--model", directory, *images, *prompts, "--precision", precision, "--out",
               folder / f"masks-{precision}", "--logits", folder / "logits.safetensors"]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"gridseg predict: exit code {done.returncode}: {done.stderr.strip()[-600:]}")
    return load_file(folder / "logits.safetensors")["logits"].astype(numpy.float64)


def own_distance(m, pictures, preprocess, precision, truth):
    """How far torch itself is from the truth in a precision."""
    worst = 0.0
    for layout in (torch.contiguous_format, torch.channels_last) if precision == "fp32" else (torch.contiguous_format,):
        m.to(memory_format=layout)
        made = public_logits(m, pictures, preprocess, torch.float32, precision == "bf16")
        worst = max(worst, numpy.abs(made - truth).max())
    m.to(memory_format=torch.contiguous_format)
    return worst


def measure(directory, path, model, folder):
    """[(precision, difference, bound)] of a converted directory against the published file."""
    m = public_model(directory, path, model)
    size, mean, std = models.preprocess_of(directory)
    pictures = draw_pictures(size) + real_pictures(size)
    truth = public_logits(m, pictures, (mean, std), torch.float64)
    scale = numpy.abs(truth).max()
    rows = []
    for precision, bound in BOUNDS.items():
        own = own_distance(m, pictures, (mean, std), precision, truth)
        ours = our_logits(directory, pictures, precision, m.has_text, folder)
        if ours.shape != truth.shape:
            raise RuntimeError(f"logits {list(ours.shape)}, wanted {list(truth.shape)}")
        rows.append((precision, numpy.abs(ours - truth).max() / scale, max(bound, 2 * own / scale)))
    return rows


def prove(folder):
    found = find(folder)
    if not found:
        print(f"{folder} holds no weights that are known here: {', '.join(p for p, _ in KNOWN)}", file=sys.stderr)
        return 2
    passed = failed = skipped = 0
    print(f"{'weights':44} precision  of the largest logit    bound  result")
    for label, path, model, options in found:
        with tempfile.TemporaryDirectory() as made:
            made = pathlib.Path(made)
            try:
                convert(path, model, options, made / "model")
                rows = measure(made / "model", path, model, made)
            except SystemExit:  # models.py: what the public code of this model needs is not there, and it has said so
                skipped += 1
                print(f"{label:44} skipped", flush=True)
                continue
            except Exception as error:
                failed += 1
                print(f"{label:44} FAILED: {error}", flush=True)
                continue
        for precision, difference, bound in rows:
            fits = difference <= bound
            passed, failed = passed + fits, failed + (not fits)
            print(f"{label:44} {precision:9}  {difference:20.2e} {bound:8.1e}  {'pass' if fits else 'FAIL'}", flush=True)
    print(f"{passed} passed, {failed} failed, {skipped} skipped")
    return 1 if failed or not passed else 0


if __name__ == "__main__":
    common.need_gridseg()
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("folder", help="of published weights")
    sys.exit(prove(p.parse_args().folder))
