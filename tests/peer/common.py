"""What the peer tests share: running gridseg, drawing a small dataset in the study layout, a small CLIPSeg with the real
vocabulary. Versions: requirements.txt."""
import gzip, json, os, pathlib, subprocess, sys

import numpy
from PIL import Image

GRIDSEG = os.environ.get("GRIDSEG", "")
ROOT = pathlib.Path(__file__).resolve().parents[2]
SHARED = pathlib.Path(os.environ.get("GRIDSEG_SHARED", ROOT.parent / "shared"))
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def need_gridseg():
    if not GRIDSEG:
        print("no gridseg built")
        sys.exit(77)


def gridseg(*arguments, wanted=0):
    """Runs gridseg; the exit code must be `wanted`. Its standard output."""
    done = subprocess.run([GRIDSEG, *map(str, arguments)], capture_output=True, text=True, check=False)
    if done.returncode != wanted:
        sys.exit(f"gridseg {' '.join(map(str, arguments))}: exit code {done.returncode}, wanted {wanted}\n{done.stderr[-3000:]}")
    return done.stdout


def draw_dataset(folder, counts, seed=7):
    """Study layout: bright ellipses on noise, of several picture sizes; every fifth mask is empty. `counts` by split."""
    folder = pathlib.Path(folder)
    random = numpy.random.default_rng(seed)
    for sub in ("images", "masks", "anns"):
        (folder / sub).mkdir(parents=True, exist_ok=True)
    number = 0
    for split, count in counts.items():
        rows = []
        for _ in range(count):
            height, width = (int(random.integers(60, 140)) for _ in range(2))
            y, x = numpy.mgrid[0:height, 0:width]
            cy, cx = random.uniform(0.3, 0.7) * height, random.uniform(0.3, 0.7) * width
            a, b = random.uniform(0.1, 0.25) * height, random.uniform(0.1, 0.25) * width
            inside = ((y - cy) / a)**2 + ((x - cx) / b)**2 < 1
            if number % 5 == 4:
                inside[:] = False
            picture = random.integers(0, 110, (height, width, 3)) + 120 * inside[..., None]
            name = f"case{number:03d}.png"
            Image.fromarray(picture.astype(numpy.uint8)).save(folder / "images" / name)
            Image.fromarray((255 * inside).astype(numpy.uint8)).save(folder / "masks" / name)
            side = "left" if cx < width / 2 else "right"
            prompts = {"p0": "", "p1": "disc", "p2": "bright disc", "p3": f"bright disc in the {side}"}
            rows.append({"segment_id": name[:-4], "img_name": name, "mask_name": name, "cat": 0, "bbox": [0, 0, 1, 1],
                         "sentences": [{"idx": 0, "sent_id": number, "sent": ""}], "prompts": prompts})
            number += 1
        with open(folder / "anns" / f"{split}.json", "w", encoding="utf-8") as f:
            json.dump(rows, f)


def write_vocabulary(folder):
    """vocab.json and merges.txt as the hub has them, from the table that CLIP was published with."""
    with gzip.open(SHARED / "data" / "vocab" / "bpe_simple_vocab_16e6.txt.gz") as f:
        merges = f.read().decode().split("\n")[1:49152 - 256 - 2 + 1]
    plain = list(range(33, 127)) + list(range(161, 173)) + list(range(174, 256))
    letters = [chr(b) for b in plain] + [chr(256 + i) for i in range(256 - len(plain))]
    names = letters + [c + "</w>" for c in letters] + ["".join(m.split()) for m in merges]
    names += ["<|startoftext|>", "<|endoftext|>"]
    folder = pathlib.Path(folder)
    (folder / "vocab.json").write_text(json.dumps({n: i for i, n in enumerate(names)}), encoding="utf-8")
    (folder / "merges.txt").write_text("#version: 0.2\n" + "\n".join(merges) + "\n", encoding="utf-8")
    (folder / "tokenizer_config.json").write_text(json.dumps(
        {"tokenizer_class": "CLIPTokenizer", "model_max_length": 77, "bos_token": "<|startoftext|>",
         "eos_token": "<|endoftext|>", "unk_token": "<|endoftext|>", "pad_token": "<|endoftext|>"}), encoding="utf-8")


def make_model(folder, size=64, seed=3):
    """A small CLIPSeg with drawn weights and the real vocabulary, as transformers saves it."""
    import torch
    from transformers import CLIPSegConfig, CLIPSegForImageSegmentation
    torch.manual_seed(seed)
    m = CLIPSegForImageSegmentation(CLIPSegConfig(
        text_config=dict(vocab_size=49408, max_position_embeddings=77, hidden_size=16, intermediate_size=32,
                         num_hidden_layers=2, num_attention_heads=2, bos_token_id=49406, eos_token_id=49407),
        vision_config=dict(hidden_size=24, intermediate_size=48, num_hidden_layers=3, num_attention_heads=3, image_size=48,
                           patch_size=16),
        projection_dim=16, reduce_dim=16, extract_layers=[0, 1, 2], decoder_intermediate_size=32,
        decoder_num_attention_heads=2, use_complex_transposed_convolution=True)).eval()
    with torch.no_grad():  # the published initial scale, 0.02, leaves logits too small to tell right from wrong
        for n, p in m.named_parameters():
            if p.ndim > 1:
                p.mul_(4)
    m.save_pretrained(folder)
    folder = pathlib.Path(folder)
    (folder / "preprocessor_config.json").write_text(json.dumps(
        dict(do_normalize=True, do_rescale=True, do_resize=True, image_mean=MEAN, image_std=STD, resample=2,
             image_processor_type="ViTImageProcessor", rescale_factor=1 / 255, size=dict(height=size, width=size))))
    write_vocabulary(folder)
    return m


def pixel_values(path, size):
    """What both see: RGB, Pillow's bilinear resize, normalised."""
    import torch
    with Image.open(path) as f:
        x = numpy.asarray(f.convert("RGB").resize((size, size), Image.BILINEAR), dtype=numpy.float32) / 255
    x = (x - numpy.float32(MEAN)) / numpy.float32(STD)
    return torch.from_numpy(x).permute(2, 0, 1)[None]


def read_logits(path):
    """The only logits of a `predict --logits` file, [S,S]."""
    from safetensors.numpy import load_file
    tensors = {n: t for n, t in load_file(path).items() if t.dtype == numpy.float32 and t.ndim >= 2}
    if len(tensors) != 1:
        sys.exit(f"{path}: wanted one logits tensor, met {list(tensors)}")
    return next(iter(tensors.values())).squeeze()


def compare_logits(what, ours, theirs, bound=1e-5):
    scale = numpy.abs(theirs).max()
    distance = numpy.abs(ours - theirs).max() / scale
    print(f"{what}: {distance:.2e} of the largest logit {scale:.3g}")
    if ours.shape != theirs.shape or not distance <= bound:
        sys.exit(f"{what}: logits differ by {distance:.3e} of the largest, allowed {bound}")
