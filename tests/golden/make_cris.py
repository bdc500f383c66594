"""Golden files for CRIS, made with the modules that the study's repository publishes (naamiinepal/medvlsm, src/models/cris_model),
torch 2.6.0, monai 1.4.0, safetensors, numpy 1.26.4.  README.md beside this file says what each file and tensor is.

    MEDVLSM=CHECKOUT make_cris.py --size tiny [--out DIR]    cris_a (with weights), cris_b (without): config.json, io.safetensors
    MEDVLSM=CHECKOUT make_cris.py --size full [--out DIR]    cris_full: config.json and io.safetensors (kilobytes); 18 GB of memory

Texts end in pads of id 0, which the public forward masks. Dropout is 0 (its random stream is torch's own). The published size has three
pictures: of two, the BatchNorm of the texts makes +1 and -1 whatever they are, and gradients through it are noise. The float64 truth
has two roundings to float32 taken out that the public code does whatever its type: CLIP's LayerNorm and the sine code of the words.
"""
import argparse, contextlib, math, os, sys

import torch
from safetensors.torch import load_file, save_file

import rule

MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
RECIPE = dict(lr=2e-5, weight_decay=1e-3)
MODES = (("trained", lambda n: True), ("frozen", lambda n: not n.startswith("backbone.")))
RECIPE_FULL = dict(lr=1e-7, weight_decay=1e-3)  # drawn weights of this size are no minimum: at 5e-7 torch's float32 is 1.8e-4 off after five steps, gridseg's 6e-4
VERSIONS = dict(medvlsm="src/models/cris_model")
FIRST = ("backbone.token_embedding.weight", "backbone.visual.layer4.2.conv2.weight", "backbone.visual.attnpool.connect.1.running_var",
         "backbone.transformer.resblocks.11.attn.in_proj_bias", "decoder.layers.2.ffn.3.weight", "proj.txt.weight")


def public():
    sys.path.insert(0, os.path.join(os.environ["MEDVLSM"], "src", "models"))
    from cris_model import clip, layers, segmenter
    return clip, layers, segmenter


def build(c, dropout=0.0):
    """segmenter.CRIS without its constructor, which loads a checkpoint of CLIP; from our config.json."""
    clip, layers, segmenter = public()
    torch.set_default_dtype(torch.float32)
    m = segmenter.CRIS.__new__(segmenter.CRIS)
    torch.nn.Module.__init__(m)
    m.img_size = c["img_size"]
    m.backbone = clip.CLIP(c["embed_dim"], c["image_resolution"], tuple(c["vision_layers"]), c["vision_width"], None,
                           c["context_length"], c["word_len"], c["vocab_size"], c["transformer_width"], c["transformer_heads"],
                           c["transformer_layers"]).float()
    m.neck = layers.FPN(in_channels=c["fpn_in"], out_channels=c["fpn_out"])
    m.decoder = layers.TransformerDecoder(num_layers=c["num_layers"], d_model=c["vis_dim"], nhead=c["num_head"],
                                          dim_ffn=c["dim_ffn"], dropout=dropout, return_intermediate=False)
    m.proj = layers.Projector(c["word_dim"], c["vis_dim"] // 2, 3)
    return m


def sine_code(width, length):
    """TransformerDecoder.pos1d in the default type."""
    angle = torch.arange(length)[:, None] * torch.exp(torch.arange(0, width, 2) * (-math.log(10000.0) / width))
    return torch.stack([angle.sin(), angle.cos()], 2).reshape(length, 1, width)


@contextlib.contextmanager
def exact(dtype):
    clip, layers, _ = public()
    held = clip.LayerNorm.forward, layers.TransformerDecoder.pos1d
    if dtype == torch.float64:
        clip.LayerNorm.forward, layers.TransformerDecoder.pos1d = torch.nn.LayerNorm.forward, staticmethod(sine_code)
    try:
        yield
    finally:
        clip.LayerNorm.forward, layers.TransformerDecoder.pos1d = held[0], staticmethod(held[1])


def forward(m, x, dtype):
    if not m.backbone.logit_scale.requires_grad:
        m.backbone.eval()  # a frozen BatchNorm keeps its statistics; the study's own trainer leaves it in training mode
    with exact(dtype):
        return m(rule.normalise(x["pixels"], dtype, MEAN, STD), x["input_ids"])[:, 0]


def config(**given):
    return dict(model_type="cris", **given)


TINY = {
    "a": dict(size=96, lengths=(5, 12, 8), start=62, end=63, last_mask=0, config=config(
        image_resolution=96, vision_layers=[1, 2, 1, 1], vision_width=4, embed_dim=20, context_length=12, vocab_size=64,
        transformer_width=16, transformer_heads=2, transformer_layers=2, word_len=12, fpn_in=[32, 64, 20], fpn_out=[12, 16, 24],
        vis_dim=16, word_dim=20, num_layers=2, num_head=4, dim_ffn=28, dropout=0.0, img_size=96)),
    "b": dict(size=64, lengths=(9, 3, 14, 6), start=126, end=127, config=config(
        image_resolution=160, vision_layers=[2, 1, 1, 2], vision_width=6, embed_dim=28, context_length=20, vocab_size=128,
        transformer_width=24, transformer_heads=3, transformer_layers=1, word_len=14, fpn_in=[48, 96, 28], fpn_out=[10, 24, 18],
        vis_dim=24, word_dim=28, num_layers=1, num_head=3, dim_ffn=40, dropout=0.0, img_size=64)),
}
PUBLISHED = dict(size=416, lengths=(9, 14, 6), start=49406, end=49407, config=config(
    image_resolution=224, vision_layers=[3, 4, 6, 3], vision_width=64, embed_dim=1024, context_length=77, vocab_size=49408,
    transformer_width=512, transformer_heads=8, transformer_layers=12, word_len=77, fpn_in=[512, 1024, 1024],
    fpn_out=[256, 512, 1024], vis_dim=512, word_dim=1024, num_layers=3, num_head=8, dim_ffn=2048, dropout=0.0, img_size=416))


def make_inputs(case):
    batch, size = len(case["lengths"]), case["size"]
    ids, mask = rule.texts(case["lengths"], case["config"]["word_len"], case["start"], case["end"], pad=0)
    return dict(pixels=rule.picture("pixels", batch, size), masks=rule.discs(batch, size, case.get("last_mask")), input_ids=ids,
                attention=mask, lengths=torch.tensor(case["lengths"]))


def edited(m, x):
    """Logits after one word of each prompt was changed: what an edit at inference does to the mask."""
    ids = x["input_ids"].clone()
    ids[:, 1] = 3 + (ids[:, 1] - 3 + 7) % 50
    torch.set_default_dtype(torch.float64)
    with torch.no_grad():
        logits = forward(m.double().eval(), dict(x, input_ids=ids), torch.float64)
    return {"edited/input_ids": ids.int(), "edited/logits": logits}


def extend(folder, more):
    """io.safetensors with more, and without what a frozen backbone leaves as it is."""
    path = os.path.join(folder, "io.safetensors")
    held = {n: v for n, v in load_file(path).items() if not n.startswith("frozen/state/backbone.")}
    rule.save(path, dict(held, **more), **VERSIONS)


def write_config(folder, case):
    os.makedirs(folder, exist_ok=True)
    rule.write_json(os.path.join(folder, "config.json"), case["config"])


def make_tiny(name, case, out):
    folder = os.path.join(out, "cris_" + name)
    m, x = rule.draw_weights(build(case["config"])), make_inputs(case)
    write_config(folder, case)
    if name == "a":  # without weights: drawn by the rule; without preprocessor: the recipe's mean and std, which are these
        save_file({n: v.contiguous() for n, v in m.state_dict().items()}, os.path.join(folder, "model.safetensors"),
                  metadata={"format": "pt"})
        rule.write_json(os.path.join(folder, "preprocessor_config.json"),
                        dict(do_normalize=True, do_rescale=True, do_resize=True, image_mean=list(MEAN), image_std=list(STD),
                             resample=2, rescale_factor=1 / 255, size=dict(height=case["size"], width=case["size"])))
    rule.make_case(folder, m, forward, x, RECIPE, modes=MODES, versions=VERSIONS, last=case.get("last_mask"))
    more = edited(m, x) if name == "a" else {}
    extend(folder, {n: v if v.dtype == torch.int32 else v.float() for n, v in more.items()})


def make_full(out):
    folder = os.path.join(out, "cris_full")
    m, x = rule.draw_weights(build(PUBLISHED["config"])), make_inputs(PUBLISHED)
    first = {"first/" + n: m.state_dict()[n].reshape(-1)[:8].clone() for n in FIRST}
    write_config(folder, PUBLISHED)
    rule.make_case(folder, m, forward, x, RECIPE_FULL, full=True, versions=VERSIONS, own=False)
    extend(folder, first)


if __name__ == "__main__":
    args = argparse.ArgumentParser()
    args.add_argument("--size", choices=("tiny", "full"), default="tiny")
    args.add_argument("--only", default="ab")
    args.add_argument("--threads", type=int, default=1)
    args.add_argument("--out", default=os.path.dirname(os.path.abspath(__file__)))
    args = args.parse_args()
    torch.set_num_threads(args.threads)
    if args.size == "full":
        make_full(args.out)
    else:
        for name in args.only:
            make_tiny(name, TINY[name], args.out)
