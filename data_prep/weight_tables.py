"""What convert_weights.py knows of every architecture: how its config.json follows from the shapes of its tensors, and which tensors,
of which shape, its state dict holds, with the rule by which the public module draws each. The names are the public implementations'.

    config = configs[model](state)      state: {name: tensor}, already in the model's own names
    table = tables[model](config)       {name: Entry(shape, rule)}
"""
import collections, math, re

Entry = collections.namedtuple("Entry", "shape rule")  # rule: (kind, number), or None of what is never drawn

# The study's preprocessing and what gridseg stands on when preprocessor_config.json is silent.
IMAGENET = ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
CLIP = ([0.48145466, 0.4578275, 0.40821073], [0.26862954, 0.26130258, 0.27577711])
PREPROCESS = {"clipseg": (352, IMAGENET), "biomedclipseg": (224, CLIP), "cris": (416, CLIP), "unet": (256, IMAGENET),
              "unetpp": (256, IMAGENET), "deeplabv3plus": (256, IMAGENET)}
SMP_CLASSES = {"unet": "Unet", "unetpp": "UnetPlusPlus", "deeplabv3plus": "DeepLabV3Plus"}
RESNETS = {"resnet18": (False, (2, 2, 2, 2)), "resnet34": (False, (3, 4, 6, 3)), "resnet50": (True, (3, 4, 6, 3)),
           "resnet101": (True, (3, 4, 23, 3)), "resnet152": (True, (3, 8, 36, 3))}
# Parts that a file of the encoder alone lacks, and that are then drawn.
DRAWN = {"clipseg": (), "cris": ("neck.", "decoder.", "proj."), "biomedclipseg": ("decoder.",),
         "unet": ("decoder.", "segmentation_head."), "unetpp": ("decoder.", "segmentation_head."),
         "deeplabv3plus": ("decoder.", "segmentation_head.")}


class Refused(Exception):
    """Wrong usage or input: the text says of which file, what was wanted and what was met."""


# ---------------------------------------------------------------- rules of drawing (torch.nn, transformers, smp)
ZERO, ONE, COUNTER = ("constant", 0.0), ("constant", 1.0), ("counter", 0)


def uniform(bound):
    return ("uniform", bound)


def normal(std):
    return ("normal", std)


def default(fan_in):
    """torch.nn.Linear and torch.nn.Conv2d: kaiming_uniform_(a=sqrt(5)), and their biases."""
    return uniform(1 / math.sqrt(fan_in)) if fan_in > 0 else ZERO


class Table(dict):
    def add(self, name, shape, rule=None):
        self[name] = Entry(tuple(int(n) for n in shape), rule)

    def linear(self, name, into, out, weight="default", bias="default"):
        self.add(f"{name}.weight", (out, into), default(into) if weight == "default" else weight)
        if bias is not False:
            self.add(f"{name}.bias", (out,), default(into) if bias == "default" else bias)

    def conv(self, name, into, out, kernel, weight="default", bias=False, groups=1):
        fan_in = into // groups * kernel * kernel
        self.add(f"{name}.weight", (out, into // groups, kernel, kernel), default(fan_in) if weight == "default" else weight)
        if bias is not False:
            self.add(f"{name}.bias", (out,), default(fan_in) if bias == "default" else bias)

    def conv_transpose(self, name, into, out, kernel):
        fan_in = out * kernel * kernel
        self.add(f"{name}.weight", (into, out, kernel, kernel), default(fan_in))
        self.add(f"{name}.bias", (out,), default(fan_in))

    def layernorm(self, name, width):
        self.add(f"{name}.weight", (width,), ONE)
        self.add(f"{name}.bias", (width,), ZERO)

    def batchnorm(self, name, width):
        self.layernorm(name, width)
        self.add(f"{name}.running_mean", (width,), ZERO)
        self.add(f"{name}.running_var", (width,), ONE)
        self.add(f"{name}.num_batches_tracked", (), COUNTER)

    def multihead(self, name, width):
        """torch.nn.MultiheadAttention."""
        self.add(f"{name}.in_proj_weight", (3 * width, width), uniform(math.sqrt(6 / (4 * width))))
        self.add(f"{name}.in_proj_bias", (3 * width,), ZERO)
        self.linear(f"{name}.out_proj", width, width, bias=ZERO)


class Shapes:
    """Numbers read from shapes; `standard` (the published model's) where a tensor is missing or has another rank, which the
    comparison with the table then tells by name."""

    def __init__(self, state):
        self.state = state

    def has(self, name):
        return name in self.state

    def dim(self, name, axis, standard):
        tensor = self.state.get(name)
        return int(tensor.shape[axis]) if tensor is not None and -tensor.ndim <= axis < tensor.ndim else standard

    def numbers(self, pattern):
        """How many numbers stand in the place of N: blocks of "layer1.N.conv1.weight"."""
        expression = re.compile(re.escape(pattern).replace("N", r"(\d+)", 1))
        return len({m[1] for m in map(expression.match, self.state) if m})

    def count(self, pattern, standard):
        return self.numbers(pattern) or standard


def heads_of(width):
    """CLIP, BERT and ViT-B have heads of 64."""
    return max(1, width // 64)


def square_side(positions, standard):
    side = math.isqrt(max(0, positions - 1))
    return side if side * side + 1 == positions and side > 0 else standard


# ---------------------------------------------------------------- CLIPSeg (transformers)
def decoder_config(state, prefix, given=None):
    """The keys of CLIPSeg's decoder, from a CLIPSeg config.json where there is one."""
    s, given = Shapes(state), given or {}
    reduce = s.dim(f"{prefix}film_mul.weight", 0, 64)
    return {"reduce_dim": reduce, "decoder_num_attention_heads": given.get("decoder_num_attention_heads", 4),
            "decoder_intermediate_size": s.dim(f"{prefix}layers.0.mlp.fc1.weight", 0, 2048),
            "conditional_layer": given.get("conditional_layer", 0),
            "use_complex_transposed_convolution": not s.has(f"{prefix}transposed_convolution.weight")}


def decoder_table(t, prefix, config, width, projection, taps, patch, depth):
    """transformers' CLIPSegDecoder; `depth` of the vision tower enters its _init_weights."""
    reduce, hidden = config["reduce_dim"], config["decoder_intermediate_size"]
    t.linear(f"{prefix}film_mul", projection, reduce, bias=ZERO)
    t.linear(f"{prefix}film_add", projection, reduce, bias=ZERO)
    small = normal(reduce**-0.5 * (2 * depth)**-0.5)
    for i in range(taps):
        t.linear(f"{prefix}reduces.{i}", width, reduce, bias=ZERO)
        layer = f"{prefix}layers.{i}"
        for name in ("q_proj", "k_proj", "v_proj"):
            t.linear(f"{layer}.self_attn.{name}", reduce, reduce, small, ZERO)
        t.linear(f"{layer}.self_attn.out_proj", reduce, reduce, normal(reduce**-0.5), ZERO)
        t.layernorm(f"{layer}.layer_norm1", reduce)
        t.linear(f"{layer}.mlp.fc1", reduce, hidden, normal((2 * reduce)**-0.5), ZERO)
        t.linear(f"{layer}.mlp.fc2", hidden, reduce, small, ZERO)
        t.layernorm(f"{layer}.layer_norm2", reduce)
    head = f"{prefix}transposed_convolution"
    if config["use_complex_transposed_convolution"]:
        t.conv(f"{head}.0", reduce, reduce, 3, bias="default")
        t.conv_transpose(f"{head}.2", reduce, reduce // 2, patch // 4)
        t.conv_transpose(f"{head}.4", reduce // 2, 1, patch // 4)
    else:
        t.conv_transpose(head, reduce, 1, patch)


def clipseg_config(state):
    s, text, vision = Shapes(state), "clip.text_model.", "clip.vision_model."
    width = s.dim(f"{text}final_layer_norm.weight", 0, 512)
    t = {"vocab_size": s.dim(f"{text}embeddings.token_embedding.weight", 0, 49408), "hidden_size": width,
         "max_position_embeddings": s.dim(f"{text}embeddings.position_embedding.weight", 0, 77),
         "intermediate_size": s.dim(f"{text}encoder.layers.0.mlp.fc1.weight", 0, 2048),
         "num_hidden_layers": s.count(f"{text}encoder.layers.N.mlp", 12), "num_attention_heads": heads_of(width),
         "hidden_act": "quick_gelu", "bos_token_id": 49406, "eos_token_id": 49407}
    width, patch = s.dim(f"{vision}post_layernorm.weight", 0, 768), s.dim(f"{vision}embeddings.patch_embedding.weight", 2, 16)
    v = {"hidden_size": width, "patch_size": patch, "num_channels": 3,
         "image_size": patch * square_side(s.dim(f"{vision}embeddings.position_embedding.weight", 0, 485), 22),
         "intermediate_size": s.dim(f"{vision}encoder.layers.0.mlp.fc1.weight", 0, 3072),
         "num_hidden_layers": s.count(f"{vision}encoder.layers.N.mlp", 12), "num_attention_heads": heads_of(width),
         "hidden_act": "quick_gelu"}
    taps = s.count("decoder.reduces.N.weight", 3)
    step = 3 if 3 * taps < v["num_hidden_layers"] else 1
    return {"model_type": "clipseg", "architectures": ["CLIPSegForImageSegmentation"], "text_config": t, "vision_config": v,
            "projection_dim": s.dim("clip.text_projection.weight", 0, 512),
            "extract_layers": [step * (i + 1) for i in range(taps)] if step > 1 else list(range(taps)),
            **decoder_config(state, "decoder.")}


def clipseg_table(config):
    t = Table()
    # what transformers takes where config.json is silent; the older "_config_dict" wins there
    text = {"vocab_size": 49408, "hidden_size": 512, "max_position_embeddings": 77, "intermediate_size": 2048,
            "num_hidden_layers": 12, **(config.get("text_config") or {}), **(config.get("text_config_dict") or {})}
    vision = {"hidden_size": 768, "patch_size": 32, "image_size": 224, "intermediate_size": 3072, "num_hidden_layers": 12,
              **(config.get("vision_config") or {}), **(config.get("vision_config_dict") or {})}
    config = {"projection_dim": 512, "reduce_dim": 64, "decoder_intermediate_size": 2048, "extract_layers": [3, 6, 9],
              "use_complex_transposed_convolution": False, **config}

    def layers(prefix, c):
        for i in range(c["num_hidden_layers"]):
            layer = f"{prefix}encoder.layers.{i}"
            for name in ("k_proj", "v_proj", "q_proj", "out_proj"):
                t.linear(f"{layer}.self_attn.{name}", c["hidden_size"], c["hidden_size"])
            t.layernorm(f"{layer}.layer_norm1", c["hidden_size"])
            t.linear(f"{layer}.mlp.fc1", c["hidden_size"], c["intermediate_size"])
            t.linear(f"{layer}.mlp.fc2", c["intermediate_size"], c["hidden_size"])
            t.layernorm(f"{layer}.layer_norm2", c["hidden_size"])

    part = "clip.text_model."
    t.add("clip.logit_scale", ())
    t.add(f"{part}embeddings.token_embedding.weight", (text["vocab_size"], text["hidden_size"]))
    t.add(f"{part}embeddings.position_embedding.weight", (text["max_position_embeddings"], text["hidden_size"]))
    layers(part, text)
    t.layernorm(f"{part}final_layer_norm", text["hidden_size"])
    part, width, patch = "clip.vision_model.", vision["hidden_size"], vision["patch_size"]
    t.add(f"{part}embeddings.class_embedding", (width,))
    t.add(f"{part}embeddings.patch_embedding.weight", (width, 3, patch, patch))
    t.add(f"{part}embeddings.position_embedding.weight", ((vision["image_size"] // patch)**2 + 1, width))
    t.layernorm(f"{part}pre_layrnorm", width)
    layers(part, vision)
    t.layernorm(f"{part}post_layernorm", width)
    t.linear("clip.visual_projection", width, config["projection_dim"], bias=False)
    t.linear("clip.text_projection", text["hidden_size"], config["projection_dim"], bias=False)
    decoder_table(t, "decoder.", config, width, config["projection_dim"], len(config["extract_layers"]), patch,
                  vision["num_hidden_layers"])
    return t


# ---------------------------------------------------------------- CRIS (the study's repository)
def cris_config(state):
    s, visual = Shapes(state), "backbone.visual."
    width = s.dim(f"{visual}layer1.0.conv1.weight", 0, 64)
    embed = s.dim("backbone.text_projection", 1, 1024)
    text = s.dim("backbone.ln_final.weight", 0, 512)
    context = s.dim("backbone.positional_embedding", 0, 77)
    return {"model_type": "cris",
            "image_resolution": 32 * square_side(s.dim(f"{visual}attnpool.positional_embedding", 0, 50), 7),
            "vision_layers": [s.count(f"{visual}layer{i + 1}.N.conv1", n) for i, n in enumerate((3, 4, 6, 3))],
            "vision_width": width, "embed_dim": embed, "context_length": context,
            "vocab_size": s.dim("backbone.token_embedding.weight", 0, 49408), "transformer_width": text,
            "transformer_heads": heads_of(text), "transformer_layers": s.count("backbone.transformer.resblocks.N.ln_1", 12),
            "word_len": context, "fpn_in": [8 * width, 16 * width, embed],
            "fpn_out": [s.dim("neck.f3_v_proj.0.weight", 0, max(1, text // 2)), s.dim("neck.f2_v_proj.0.weight", 0, text),
                        s.dim("neck.txt_proj.0.weight", 0, 2 * text)],
            "vis_dim": s.dim("decoder.norm.weight", 0, text), "word_dim": embed,
            "num_layers": s.count("decoder.layers.N.norm1", 3), "num_head": 8,
            "dim_ffn": s.dim("decoder.layers.0.ffn.0.weight", 0, 4 * text), "dropout": 0.2, "img_size": 416}


def clip_resnet_table(t, prefix, c):
    width, embed = c["vision_width"], c["embed_dim"]
    for i, (into, out) in enumerate(((3, width // 2), (width // 2, width // 2), (width // 2, width)), 1):
        t.conv(f"{prefix}conv{i}", into, out, 3)
        t.batchnorm(f"{prefix}bn{i}", out)
    into = width
    for stage, blocks in enumerate(c["vision_layers"]):
        planes = width << stage
        for i in range(blocks):
            block = f"{prefix}layer{stage + 1}.{i}"
            for k, (a, b, kernel) in enumerate(((into, planes, 1), (planes, planes, 3), (planes, 4 * planes, 1)), 1):
                t.conv(f"{block}.conv{k}", a, b, kernel)
                t.batchnorm(f"{block}.bn{k}", b)
            if i == 0 and (stage > 0 or into != 4 * planes):
                t.conv(f"{block}.downsample.0", into, 4 * planes, 1)
                t.batchnorm(f"{block}.downsample.1", 4 * planes)
            into = 4 * planes
    pool = f"{prefix}attnpool"
    t.add(f"{pool}.positional_embedding", ((c["image_resolution"] // 32)**2 + 1, into))
    for name, out in (("k_proj", into), ("q_proj", into), ("v_proj", into), ("c_proj", embed)):
        t.linear(f"{pool}.{name}", into, out)
    t.conv(f"{pool}.connect.0", into, embed, 1)
    t.batchnorm(f"{pool}.connect.1", embed)


def cris_table(c):
    t, width = Table(), c["transformer_width"]
    t.add("backbone.positional_embedding", (c["context_length"], width))
    t.add("backbone.text_projection", (width, c["embed_dim"]))
    t.add("backbone.logit_scale", ())
    clip_resnet_table(t, "backbone.visual.", c)
    for i in range(c["transformer_layers"]):
        block = f"backbone.transformer.resblocks.{i}"
        t.multihead(f"{block}.attn", width)
        t.layernorm(f"{block}.ln_1", width)
        t.linear(f"{block}.mlp.c_fc", width, 4 * width)
        t.linear(f"{block}.mlp.c_proj", 4 * width, width)
        t.layernorm(f"{block}.ln_2", width)
    t.add("backbone.token_embedding.weight", (c["vocab_size"], width))
    t.layernorm("backbone.ln_final", width)

    def conv_layer(name, into, out, kernel):
        t.conv(f"{name}.0", into, out, kernel)
        t.batchnorm(f"{name}.1", out)

    fine, middle, coarse = c["fpn_out"]
    into = c["fpn_in"]
    t.linear("neck.txt_proj.0", into[2], coarse, bias=False)
    t.batchnorm("neck.txt_proj.1", coarse)
    conv_layer("neck.f1_v_proj", into[2], coarse, 1)
    t.batchnorm("neck.norm_layer.0", coarse)
    conv_layer("neck.f2_v_proj", into[1], middle, 3)
    conv_layer("neck.f2_cat", coarse + middle, middle, 1)
    conv_layer("neck.f3_v_proj", into[0], fine, 3)
    conv_layer("neck.f3_cat", fine + middle, middle, 1)
    conv_layer("neck.f4_proj5", coarse, middle, 3)
    conv_layer("neck.f4_proj4", middle, middle, 3)
    conv_layer("neck.f4_proj3", middle, middle, 3)
    conv_layer("neck.aggr", 3 * middle, middle, 1)
    conv_layer("neck.coordconv.0.conv1", middle + 2, middle, 3)
    conv_layer("neck.coordconv.1", middle, middle, 3)
    width, hidden = c["vis_dim"], c["dim_ffn"]
    for i in range(c["num_layers"]):
        layer = f"decoder.layers.{i}"
        for name in ("self_attn_norm", "cross_attn_norm", "norm1", "norm2", "norm3"):
            t.layernorm(f"{layer}.{name}", width)
        t.multihead(f"{layer}.self_attn", width)
        t.multihead(f"{layer}.multihead_attn", width)
        t.linear(f"{layer}.ffn.0", width, hidden)
        t.layernorm(f"{layer}.ffn.3", hidden)
        t.linear(f"{layer}.ffn.4", hidden, width)
    t.layernorm("decoder.norm", width)
    half = width // 2
    conv_layer("proj.vis.1", 2 * half, 2 * half, 3)
    conv_layer("proj.vis.3", 2 * half, half, 3)
    t.conv("proj.vis.4", half, half, 1, bias="default")
    t.linear("proj.txt", c["word_dim"], half * 9 + 1)
    return t


# ---------------------------------------------------------------- BiomedCLIPSeg (open_clip, timm, transformers)
def biomedclipseg_config(state):
    s, trunk, bert = Shapes(state), "biomedclip.visual.trunk.", "biomedclip.text.transformer."
    width, patch = s.dim(f"{trunk}patch_embed.proj.weight", 0, 768), s.dim(f"{trunk}patch_embed.proj.weight", 2, 16)
    depth = s.count(f"{trunk}blocks.N.norm1", 12)
    hidden = s.dim(f"{bert}embeddings.word_embeddings.weight", 1, 768)
    positions = s.dim(f"{bert}embeddings.position_embeddings.weight", 0, 512)
    taps = s.count("decoder.reduces.N.weight", 3)
    return {"model_type": "biomedclipseg",
            "vision_config": {"img_size": patch * square_side(s.dim(f"{trunk}pos_embed", 1, 197), 14), "patch_size": patch,
                              "embed_dim": width, "depth": depth, "num_heads": heads_of(width),
                              "mlp_ratio": s.dim(f"{trunk}blocks.0.mlp.fc1.weight", 0, 4 * width) / width},
            "text_config": {"vocab_size": s.dim(f"{bert}embeddings.word_embeddings.weight", 0, 30522), "hidden_size": hidden,
                            "num_hidden_layers": s.count(f"{bert}encoder.layer.N.output", 12),
                            "num_attention_heads": heads_of(hidden),
                            "intermediate_size": s.dim(f"{bert}encoder.layer.0.intermediate.dense.weight", 0, 3072),
                            "max_position_embeddings": positions,
                            "type_vocab_size": s.dim(f"{bert}embeddings.token_type_embeddings.weight", 0, 2),
                            "layer_norm_eps": 1e-12, "hidden_act": "gelu", "pad_token_id": 0, "hidden_dropout_prob": 0.1,
                            "attention_probs_dropout_prob": 0.1},
            "context_length": min(256, positions), "projection_dim": s.dim("biomedclip.visual.head.proj.weight", 0, 512),
            # the study's: after blocks 5, 8 and 11; of a shallower tower the last ones
            "taps": [5, 8, 11] if taps == 3 and depth >= 11 else [max(1, depth - taps + 1 + i) for i in range(taps)],
            **decoder_config(state, "decoder.")}


def biomedclipseg_table(c):
    t, v, b = Table(), c["vision_config"], c["text_config"]
    trunk, width, projection = "biomedclip.visual.trunk.", v["embed_dim"], c["projection_dim"]
    hidden = int(width * v.get("mlp_ratio", 4.0))
    t.add("biomedclip.logit_scale", ())
    t.add(f"{trunk}cls_token", (1, 1, width))
    t.add(f"{trunk}pos_embed", (1, (v["img_size"] // v["patch_size"])**2 + 1, width))
    t.conv(f"{trunk}patch_embed.proj", 3, width, v["patch_size"], bias="default")
    for i in range(v["depth"]):
        block = f"{trunk}blocks.{i}"
        t.layernorm(f"{block}.norm1", width)
        t.linear(f"{block}.attn.qkv", width, 3 * width)
        t.linear(f"{block}.attn.proj", width, width)
        t.layernorm(f"{block}.norm2", width)
        t.linear(f"{block}.mlp.fc1", width, hidden)
        t.linear(f"{block}.mlp.fc2", hidden, width)
    t.layernorm(f"{trunk}norm", width)
    t.linear("biomedclip.visual.head.proj", width, projection, bias=False)
    bert, size = "biomedclip.text.transformer.", b["hidden_size"]
    for name, rows in (("word", b["vocab_size"]), ("position", b["max_position_embeddings"]), ("token_type", b["type_vocab_size"])):
        t.add(f"{bert}embeddings.{name}_embeddings.weight", (rows, size))
    t.layernorm(f"{bert}embeddings.LayerNorm", size)
    for i in range(b["num_hidden_layers"]):
        layer = f"{bert}encoder.layer.{i}"
        for name in ("query", "key", "value"):
            t.linear(f"{layer}.attention.self.{name}", size, size)
        t.linear(f"{layer}.attention.output.dense", size, size)
        t.layernorm(f"{layer}.attention.output.LayerNorm", size)
        t.linear(f"{layer}.intermediate.dense", size, b["intermediate_size"])
        t.linear(f"{layer}.output.dense", b["intermediate_size"], size)
        t.layernorm(f"{layer}.output.LayerNorm", size)
    middle = (size + projection) // 2
    t.linear("biomedclip.text.proj.0", size, middle, bias=False)
    t.linear("biomedclip.text.proj.2", middle, projection, bias=False)
    decoder_table(t, "decoder.", c, width, projection, len(c["taps"]), v["patch_size"], v["depth"])
    return t


# ---------------------------------------------------------------- UNet, UNet++, DeepLabV3+ (segmentation_models_pytorch)
def encoder_name(state):
    s = Shapes(state)
    deep, blocks = s.has("encoder.layer1.0.conv3.weight"), tuple(s.numbers(f"encoder.layer{i}.N.conv1") for i in (1, 2, 3, 4))
    for name, known in RESNETS.items():
        if known == (deep, blocks):
            return name
    if not any(blocks):
        return "resnet50"
    raise Refused(f"the encoder has {blocks} {'bottlenecks' if deep else 'basic blocks'}, which is none of "
                  + ", ".join(f"{n} {b}" for n, (_, b) in RESNETS.items()))


def smp_config(model):
    def config(state):
        s = Shapes(state)
        c = {"model_type": model, "_model_class": SMP_CLASSES[model], "encoder_name": encoder_name(state), "encoder_depth": 5,
             "encoder_weights": None, "in_channels": 3, "classes": s.dim("segmentation_head.0.weight", 0, 1), "activation": None,
             "aux_params": None}
        if model == "deeplabv3plus":
            return c | {"encoder_output_stride": 16, "decoder_channels": s.dim("decoder.aspp.0.project.0.weight", 0, 256),
                        "decoder_atrous_rates": [12, 24, 36], "decoder_aspp_separable": True, "decoder_aspp_dropout": 0.5,
                        "upsampling": 4}
        blocks = [f"decoder.blocks.{i}" if model == "unet" else f"decoder.blocks.x_0_{i}" for i in range(5)]
        channels = [s.dim(f"{b}.conv2.0.weight", 0, n) for b, n in zip(blocks, (256, 128, 64, 32, 16))]
        return c | {"decoder_channels": channels, "decoder_use_norm": "batchnorm", "decoder_attention_type": None,
                    "decoder_interpolation": "nearest"}
    return config


def resnet_table(t, prefix, name):
    """torchvision's names; returns the channels of the six features."""
    deep, stages = RESNETS[name]
    t.conv(f"{prefix}conv1", 3, 64, 7)
    t.batchnorm(f"{prefix}bn1", 64)
    into, channels = 64, [3, 64]
    for stage, blocks in enumerate(stages):
        planes = 64 << stage
        out = 4 * planes if deep else planes
        for i in range(blocks):
            block = f"{prefix}layer{stage + 1}.{i}"
            parts = ((into, planes, 1), (planes, planes, 3), (planes, out, 1)) if deep else ((into, planes, 3), (planes, out, 3))
            for k, (a, b, kernel) in enumerate(parts, 1):
                t.conv(f"{block}.conv{k}", a, b, kernel)
                t.batchnorm(f"{block}.bn{k}", b)
            if into != out:
                t.conv(f"{block}.downsample.0", into, out, 1)
                t.batchnorm(f"{block}.downsample.1", out)
            into = out
        channels.append(out)
    return channels


def smp_block(t, name, into, out):
    for k, a in ((1, into), (2, out)):
        t.conv(f"{name}.conv{k}.0", a, out, 3, uniform(math.sqrt(6 / (9 * a))))  # initialize_decoder
        t.batchnorm(f"{name}.conv{k}.1", out)


def smp_head(t, c, into, kernel, initialized):
    taps = kernel * kernel
    weight = uniform(math.sqrt(6 / (taps * (into + c["classes"])))) if initialized else "default"
    t.conv("segmentation_head.0", into, c["classes"], kernel, weight, ZERO if initialized else "default")


def unet_table(c):
    t, out = Table(), c["decoder_channels"]
    encoded = resnet_table(t, "encoder.", c["encoder_name"])
    skip, into = encoded[4:0:-1] + [0], encoded[5]
    for i in range(5):
        smp_block(t, f"decoder.blocks.{i}", into + skip[i], out[i])
        into = out[i]
    smp_head(t, c, into, 3, True)
    return t


def unetpp_table(c):
    t, out = Table(), c["decoder_channels"]
    encoded = resnet_table(t, "encoder.", c["encoder_name"])
    skip, left = encoded[4:0:-1], [encoded[5]] + list(out[:-1])
    for column in range(4):
        for row in range(column + 1):
            if row == 0:
                into, made, joined = left[column], out[column], skip[column] * (column + 1)
            else:
                into, made, joined = skip[column - 1], skip[column], skip[column] * (column + 1 - row)
            smp_block(t, f"decoder.blocks.x_{row}_{column}", into + joined, made)
    smp_block(t, "decoder.blocks.x_0_4", left[4], out[4])
    smp_head(t, c, out[4], 3, True)
    return t


def deeplabv3plus_table(c):
    t, width = Table(), c["decoder_channels"]
    encoded = resnet_table(t, "encoder.", c["encoder_name"])

    def pointwise(name, at, into, out):
        t.conv(f"{name}.{at}", into, out, 1)
        t.batchnorm(f"{name}.{at + 1}", out)

    def separable(name, norm, into):
        t.conv(f"{name}.0", into, into, 3, groups=into)
        t.conv(f"{name}.1", into, width, 1)
        t.batchnorm(norm, width)

    pyramid = "decoder.aspp.0"
    pointwise(f"{pyramid}.convs.0", 0, encoded[5], width)
    for i in (1, 2, 3):
        separable(f"{pyramid}.convs.{i}.0", f"{pyramid}.convs.{i}.1", encoded[5])
    pointwise(f"{pyramid}.convs.4", 1, encoded[5], width)
    pointwise(f"{pyramid}.project", 0, 5 * width, width)
    separable("decoder.aspp.1", "decoder.aspp.2", width)
    pointwise("decoder.block1", 0, encoded[2], 48)
    separable("decoder.block2.0", "decoder.block2.1", width + 48)
    smp_head(t, c, width, 1, False)
    return t


configs = {"clipseg": clipseg_config, "cris": cris_config, "biomedclipseg": biomedclipseg_config,
           **{m: smp_config(m) for m in SMP_CLASSES}}
tables = {"clipseg": clipseg_table, "cris": cris_table, "biomedclipseg": biomedclipseg_table, "unet": unet_table,
          "unetpp": unetpp_table, "deeplabv3plus": deeplabv3plus_table}
