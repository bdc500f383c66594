"""Golden files for BiomedCLIPSeg, made with the public implementations that the study joins: open_clip 3.3.0 (its adapters of timm 1.0.31
and transformers 4.49.0) and CLIPSeg's decoder of transformers; torch 2.6.0, monai 1.4.0, safetensors, numpy 1.26.4.  README.md beside
this file says what each file and tensor is.

    make_biomed.py --size tiny [--only ab] [--out DIR]    biomed_a (with weights), biomed_b (without): config.json, io.safetensors
    make_biomed.py --size full [--modes frozen] [--out DIR]    biomed_full: config.json and io.safetensors (kilobytes); with frozen towers
                                                          alone 5 GB of memory, with trained ones too 12 GB

The forward is that of the study's src/models/biomedclipseg.py, without its inference_mode, which cannot train. Texts end in pads of id 0,
which are masked. Dropout is 0 (its random stream is torch's own).
"""
import argparse, math, os

import timm
import torch
from open_clip.hf_model import HFTextEncoder
from open_clip.timm_model import TimmModel
from safetensors.torch import load_file, save_file
from transformers import BertConfig, CLIPSegConfig, CLIPSegForImageSegmentation

import rule

MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
RECIPE = dict(lr=2e-3, weight_decay=1e-3)
VERSIONS = dict(open_clip="3.3.0", timm="1.0.31", transformers="4.49.0")
FIRST = ("biomedclip.visual.trunk.pos_embed", "biomedclip.visual.trunk.blocks.11.attn.qkv.bias", "biomedclip.visual.head.proj.weight",
         "biomedclip.text.transformer.embeddings.word_embeddings.weight", "biomedclip.text.proj.2.weight",
         "biomedclip.text.transformer.encoder.layer.11.output.LayerNorm.weight", "decoder.transposed_convolution.2.weight")


class BiomedCLIPSeg(torch.nn.Module):
    """The study's module, from our config.json."""

    def __init__(self, c):
        super().__init__()
        v, t = c["vision_config"], c["text_config"]
        clip = self.biomedclip = torch.nn.Module()
        if v == PUBLISHED["config"]["vision_config"]:
            clip.visual = TimmModel("vit_base_patch16_224", c["projection_dim"], image_size=224, pool="", proj="linear")
        else:  # TimmModel makes only sizes that timm has a name for
            clip.visual = torch.nn.Module()
            clip.visual.trunk = timm.models.VisionTransformer(**v, num_classes=0)
            clip.visual.head = torch.nn.Sequential()
            clip.visual.head.add_module("proj", torch.nn.Linear(v["embed_dim"], c["projection_dim"], bias=False))
        clip.text = HFTextEncoder("", c["projection_dim"], config=BertConfig(**t), proj_type="mlp", pretrained=False,
                                  pooler_type="cls_last_hidden_state_pooler")
        clip.text.transformer.pooler = None  # the published configuration has none
        clip.logit_scale = torch.nn.Parameter(torch.ones([]) * math.log(1 / 0.07))
        keys = ("reduce_dim", "decoder_num_attention_heads", "decoder_intermediate_size", "conditional_layer",
                "use_complex_transposed_convolution", "projection_dim")
        self.decoder = CLIPSegForImageSegmentation(CLIPSegConfig(
            text_config=dict(hidden_size=8, num_hidden_layers=1, num_attention_heads=1, intermediate_size=8),
            vision_config=dict(hidden_size=v["embed_dim"], num_hidden_layers=v["depth"], num_attention_heads=v["num_heads"],
                               patch_size=v["patch_size"], image_size=v["img_size"]),
            extract_layers=[n - 1 for n in c["taps"]], **{k: c[k] for k in keys})).decoder
        self.taps = c["taps"]

    def forward(self, pixels, ids, mask):
        trunk, states = self.biomedclip.visual.trunk, []
        x = trunk.norm_pre(trunk._pos_embed(trunk.patch_embed(pixels)))
        for block in trunk.blocks:
            x = block(x)
            states.append(x)
        text = self.biomedclip.text
        condition = text.proj(text.pooler(text.transformer(input_ids=ids, attention_mask=mask), mask))
        return self.decoder([states[n - 1] for n in self.taps], condition).logits


def forward(m, x, dtype):
    return m(rule.normalise(x["pixels"], dtype, MEAN, STD), x["input_ids"], x["attention"])


def config(vision, text, **given):
    text = dict(text, hidden_act="gelu", pad_token_id=0, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0, layer_norm_eps=1e-12)
    return dict(model_type="biomedclipseg", vision_config=vision, text_config=text, **given)


TINY = {
    "a": dict(size=64, lengths=(5, 12, 8), start=62, end=63, last_mask=0, config=config(
        dict(img_size=64, patch_size=16, embed_dim=24, depth=5, num_heads=3, mlp_ratio=4.0),
        dict(vocab_size=64, hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64, max_position_embeddings=20,
             type_vocab_size=2),
        context_length=12, projection_dim=20, taps=[2, 3, 4], reduce_dim=12, decoder_num_attention_heads=4, decoder_intermediate_size=28,
        conditional_layer=0, use_complex_transposed_convolution=True)),
    "b": dict(size=56, lengths=(9, 3, 14, 6), start=126, end=127, config=config(
        dict(img_size=56, patch_size=8, embed_dim=20, depth=2, num_heads=2, mlp_ratio=3.0),
        dict(vocab_size=128, hidden_size=24, num_hidden_layers=1, num_attention_heads=3, intermediate_size=40, max_position_embeddings=14,
             type_vocab_size=1),
        context_length=14, projection_dim=13, taps=[1, 2], reduce_dim=6, decoder_num_attention_heads=1, decoder_intermediate_size=20,
        conditional_layer=1, use_complex_transposed_convolution=False)),
}
PUBLISHED = dict(size=224, lengths=(9, 14), start=30520, end=30521, config=config(
    dict(img_size=224, patch_size=16, embed_dim=768, depth=12, num_heads=12, mlp_ratio=4.0),
    dict(vocab_size=30522, hidden_size=768, num_hidden_layers=12, num_attention_heads=12, intermediate_size=3072,
         max_position_embeddings=512, type_vocab_size=2),
    context_length=256, projection_dim=512, taps=[5, 8, 11], reduce_dim=64, decoder_num_attention_heads=4,
    decoder_intermediate_size=2048, conditional_layer=0, use_complex_transposed_convolution=True))


def make_inputs(case):
    batch, size = len(case["lengths"]), case["size"]
    ids, mask = rule.texts(case["lengths"], case["config"]["context_length"], case["start"], case["end"], pad=0)
    return dict(pixels=rule.picture("pixels", batch, size), masks=rule.discs(batch, size, case.get("last_mask")), input_ids=ids,
                attention=mask, lengths=torch.tensor(case["lengths"]))


MODES = dict(frozen=lambda n: n.startswith("decoder."), trained=lambda n: True)


def make(folder, case, full, modes):
    torch.set_default_dtype(torch.float32)
    m, x = rule.draw_weights(BiomedCLIPSeg(case["config"])), make_inputs(case)
    os.makedirs(folder, exist_ok=True)
    rule.write_json(os.path.join(folder, "config.json"), case["config"])
    held = {"first/" + n: m.state_dict()[n].reshape(-1)[:8].clone() for n in FIRST} if full else {}
    if folder.endswith("_a"):
        save_file({n: v.contiguous() for n, v in m.state_dict().items()}, os.path.join(folder, "model.safetensors"),
                  metadata={"format": "pt"})
    rule.make_case(folder, m, forward, x, RECIPE, full=full, versions=VERSIONS, last=case.get("last_mask"),
                   modes=[(mode, MODES[mode]) for mode in modes])
    if held:
        path = os.path.join(folder, "io.safetensors")
        rule.save(path, dict(load_file(path), **held), **VERSIONS)


if __name__ == "__main__":
    args = argparse.ArgumentParser()
    args.add_argument("--size", choices=("tiny", "full"), default="tiny")
    args.add_argument("--only", default="ab")
    args.add_argument("--modes", nargs="+", choices=sorted(MODES), default=["frozen", "trained"])
    args.add_argument("--threads", type=int, default=1)
    args.add_argument("--out", default=os.path.dirname(os.path.abspath(__file__)))
    args = args.parse_args()
    torch.set_num_threads(args.threads)
    if args.size == "full":
        make(os.path.join(args.out, "biomed_full"), PUBLISHED, True, args.modes)
    else:
        for name in args.only:
            make(os.path.join(args.out, "biomed_" + name), TINY[name], False, args.modes)
