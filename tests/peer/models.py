"""The public implementation of every model, built from a gridseg model directory: transformers, timm and open_clip,
segmentation_models_pytorch, and for CRIS the study's repository, of which $MEDVLSM names a checkout. Versions: requirements.txt.

    model = models.open_model(DIR)                     with the directory's weights, or as drawn when it has none
    logits = model(pixels, ids, mask)                  [B,P,S,S]; pixels normalised [B,3,S,S]; ids, mask None for a CNN
    model.text(["a prompt", ...]) -> ids, mask         by the public tokenizer, padded as the study pads (CRIS: with 0)
"""
import importlib, json, math, os, pathlib, sys

import torch
from torch import nn

CNNS = {"unet": "Unet", "unetpp": "UnetPlusPlus", "deeplabv3plus": "DeepLabV3Plus"}
RECIPES = {  # size, mean, std, lr, weight decay, threshold, batch, plateau
    "clipseg": (352, "imagenet", 2e-3, 1e-3, 0.5, 128, True), "biomedclipseg": (224, "clip", 2e-3, 1e-3, 0.5, 128, True),
    "cris": (416, "clip", 2e-5, 1e-3, 0.35, 32, True), "unet": (256, "imagenet", 1e-3, 0, 0.5, 16, False),
    "unetpp": (256, "imagenet", 1e-3, 0, 0.5, 16, False), "deeplabv3plus": (256, "imagenet", 1e-3, 0, 0.5, 16, False)}
NORMS = {"imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
         "clip": ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711))}


def kind_of(config):
    if "model_type" in config:
        return config["model_type"]
    return {v: k for k, v in CNNS.items()}[config["_model_class"]]


# ---------------------------------------------------------------- architectures
def clipseg(config):
    from transformers import CLIPSegConfig, CLIPSegForImageSegmentation
    return CLIPSegForImageSegmentation(CLIPSegConfig.from_dict(config))


class BiomedCLIPSeg(nn.Module):
    """The study's module: BiomedCLIP's towers, CLIPSeg's decoder."""

    def __init__(self, config):
        super().__init__()
        from open_clip.hf_model import HFTextEncoder
        from timm.models import VisionTransformer
        from transformers import BertConfig, CLIPSegConfig
        from transformers.models.clipseg.modeling_clipseg import CLIPSegDecoder
        v, t = config["vision_config"], config["text_config"]
        visual = nn.Module()
        visual.trunk = VisionTransformer(img_size=v["img_size"], patch_size=v["patch_size"], embed_dim=v["embed_dim"],
                                         depth=v["depth"], num_heads=v["num_heads"], mlp_ratio=v.get("mlp_ratio", 4.0),
                                         num_classes=0, global_pool="token")
        visual.head = nn.Sequential()
        visual.head.add_module("proj", nn.Linear(v["embed_dim"], config["projection_dim"], bias=False))
        bert = BertConfig(**t)
        bert.model_type = "bert"
        text = HFTextEncoder("", config["projection_dim"], config=bert, pooler_type="cls_last_hidden_state_pooler",
                             proj_type="mlp", pretrained=False)
        text.transformer.pooler = None  # built without it
        self.biomedclip = nn.Module()
        self.biomedclip.visual, self.biomedclip.text = visual, text
        self.biomedclip.logit_scale = nn.Parameter(torch.ones([]) * math.log(1 / 0.07))
        keys = ("reduce_dim", "decoder_num_attention_heads", "decoder_intermediate_size", "conditional_layer",
                "use_complex_transposed_convolution")
        self.taps = config.get("taps", [5, 8, 11])
        self.decoder = CLIPSegDecoder(CLIPSegConfig(
            vision_config=dict(hidden_size=v["embed_dim"], image_size=v["img_size"], patch_size=v["patch_size"]),
            projection_dim=config["projection_dim"], extract_layers=list(range(len(self.taps))),
            **{k: config[k] for k in keys if k in config}))
        self.trained_towers = False

    def forward(self, pixels, ids, mask):
        with torch.set_grad_enabled(self.trained_towers and torch.is_grad_enabled()):
            trunk, seen = self.biomedclip.visual.trunk, []
            x = trunk.norm_pre(trunk._pos_embed(trunk.patch_embed(pixels)))
            for block in trunk.blocks:
                x = block(x)
                seen.append(x)
            text = self.biomedclip.text
            condition = text.proj(text.pooler(text.transformer(input_ids=ids, attention_mask=mask), mask))
        return self.decoder([seen[i - 1] for i in self.taps], condition).logits[:, None]


def cris(config):
    repository = os.environ.get("MEDVLSM")
    if not repository:
        print("MEDVLSM does not name a checkout of the study's repository, where CRIS is")
        sys.exit(77)
    sys.path.insert(0, os.path.join(repository, "src", "models"))
    clip, layers, segmenter = (importlib.import_module("cris_model." + n) for n in ("clip", "layers", "segmenter"))
    m = segmenter.CRIS.__new__(segmenter.CRIS)
    nn.Module.__init__(m)
    c = config
    m.img_size = c["img_size"]
    m.backbone = clip.CLIP(c["embed_dim"], c["image_resolution"], tuple(c["vision_layers"]), c["vision_width"], None,
                           c["context_length"], c["word_len"], c["vocab_size"], c["transformer_width"],
                           c["transformer_heads"], c["transformer_layers"]).float()
    m.neck = layers.FPN(in_channels=tuple(c["fpn_in"]), out_channels=tuple(c["fpn_out"]))
    m.decoder = layers.TransformerDecoder(num_layers=c["num_layers"], d_model=c["vis_dim"], nhead=c["num_head"],
                                          dim_ffn=c["dim_ffn"], dropout=c["dropout"], return_intermediate=False)
    m.proj = layers.Projector(c["word_dim"], c["vis_dim"] // 2, 3)
    return m


def cnn(config):
    import segmentation_models_pytorch as smp
    known = ("encoder_name", "encoder_depth", "decoder_channels", "classes", "in_channels", "encoder_output_stride",
             "decoder_atrous_rates", "decoder_use_norm", "decoder_interpolation", "decoder_aspp_separable",
             "decoder_aspp_dropout", "upsampling")
    return getattr(smp, CNNS[kind_of(config)])(encoder_weights=None, **{k: config[k] for k in known if k in config})


class Public(nn.Module):
    def __init__(self, folder):
        super().__init__()
        self.folder = pathlib.Path(folder)
        config = json.loads((self.folder / "config.json").read_text(encoding="utf-8"))
        self.kind = kind_of(config)
        self.net = {"clipseg": clipseg, "biomedclipseg": BiomedCLIPSeg, "cris": cris}.get(self.kind, cnn)(config)
        self.config = config

    @property
    def has_text(self):
        return self.kind not in CNNS

    def forward(self, pixels, ids=None, mask=None):
        if self.kind == "clipseg":
            out = self.net(pixel_values=pixels, input_ids=ids, attention_mask=mask).logits
            return out.reshape(len(pixels), 1, *pixels.shape[2:])
        if self.kind == "biomedclipseg":
            return self.net(pixels, ids, mask)
        return self.net(pixels, ids) if self.kind == "cris" else self.net(pixels)

    def text(self, prompts):
        if not hasattr(self, "tokenizer"):
            self.tokenizer = open_tokenizer(self.folder)
        limit = {"clipseg": 77, "cris": self.config.get("word_len"), "biomedclipseg": self.config.get("context_length", 256)}[self.kind]
        given = self.tokenizer(list(prompts), padding="max_length", max_length=limit, truncation=True, return_tensors="pt")
        ids, mask = given["input_ids"], given["attention_mask"]
        return (ids * mask if self.kind == "cris" else ids), mask  # the published CRIS pads with 0, and masks what is 0


def open_tokenizer(folder):
    from transformers import BertTokenizerFast, CLIPTokenizerFast
    if (folder / "vocab.txt").exists():
        return BertTokenizerFast(vocab_file=str(folder / "vocab.txt"))
    if (folder / "vocab.json").exists():
        return CLIPTokenizerFast(str(folder / "vocab.json"), str(folder / "merges.txt"), pad_token="<|endoftext|>")
    import common, tempfile
    with tempfile.TemporaryDirectory() as made:  # the table that CLIP was published with
        common.write_vocabulary(pathlib.Path(made))
        return CLIPTokenizerFast(os.path.join(made, "vocab.json"), os.path.join(made, "merges.txt"), pad_token="<|endoftext|>")


def state_of(folder):
    from safetensors.torch import load_file
    state = {}
    for shard in sorted(pathlib.Path(folder).glob("model*.safetensors")):
        state |= load_file(shard)
    return state


def open_model(folder):
    m = Public(folder)
    state = state_of(folder)
    if state:
        missing, surplus = m.net.load_state_dict(state, strict=False)
        surplus = [n for n in surplus if not n.endswith("position_ids")]
        missing = [n for n in missing if not n.endswith("position_ids")]
        assert not missing and not surplus, f"{folder}: missing {missing[:5]}, surplus {surplus[:5]}"
    return m.eval()


def preprocess_of(folder):
    """size, mean, std as the directory says, else the recipe's."""
    folder = pathlib.Path(folder)
    kind = kind_of(json.loads((folder / "config.json").read_text(encoding="utf-8")))
    size, (mean, std) = RECIPES[kind][0], NORMS[RECIPES[kind][1]]
    path = folder / "preprocessor_config.json"
    if path.exists():
        given = json.loads(path.read_text(encoding="utf-8"))
        mean, std = given.get("image_mean", mean), given.get("image_std", std)
        side = given.get("size", size)
        size = side if isinstance(side, int) else side.get("height", side.get("shortest_edge", size))
    return size, mean, std
