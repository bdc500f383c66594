#!/usr/bin/env python3
"""A small CLIPSeg without weights, for tests of training runs: config.json, preprocessor_config.json and a byte-level
tokenizer without merges (514 tokens). The standard library suffices.

    make_model.py FOLDER [SIZE]
"""
import json
import os
import sys


def byte_letters():
    """CLIP's mapping of bytes to letters (bytes_to_unicode of its tokenizer)."""
    kept = list(range(ord("!"), ord("~") + 1)) + list(range(ord("¡"), ord("¬") + 1)) + list(range(ord("®"), ord("ÿ") + 1))
    letters, extra = list(kept), 0
    for b in range(256):
        if b not in kept:
            kept.append(b)
            letters.append(256 + extra)
            extra += 1
    return [chr(c) for c in letters]


def main():
    folder, size = sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 64
    letters = byte_letters()
    tokens = letters + [c + "</w>" for c in letters] + ["<|startoftext|>", "<|endoftext|>"]
    tower = {"num_attention_heads": 2, "num_hidden_layers": 3}
    config = {
        "architectures": ["CLIPSegForImageSegmentation"], "model_type": "clipseg",
        "projection_dim": 24, "reduce_dim": 16, "decoder_num_attention_heads": 2, "decoder_intermediate_size": 32,
        "extract_layers": [0, 1, 2], "conditional_layer": 0, "use_complex_transposed_convolution": False,
        "text_config": {**tower, "hidden_size": 24, "intermediate_size": 48, "vocab_size": len(tokens),
                        "max_position_embeddings": 77, "bos_token_id": len(tokens) - 2, "eos_token_id": len(tokens) - 1,
                        "pad_token_id": len(tokens) - 1},
        "vision_config": {**tower, "hidden_size": 32, "intermediate_size": 64, "image_size": size, "patch_size": 8},
    }
    mean, std = [0.48145466, 0.4578275, 0.40821073], [0.26862954, 0.26130258, 0.27577711]
    os.makedirs(folder, exist_ok=True)
    for name, value in [("config.json", config), ("vocab.json", {t: i for i, t in enumerate(tokens)}),
                        ("preprocessor_config.json", {"size": {"height": size, "width": size}, "image_mean": mean,
                                                      "image_std": std, "do_normalize": True, "do_resize": True})]:
        with open(os.path.join(folder, name), "w", encoding="utf-8") as f:
            json.dump(value, f)
    with open(os.path.join(folder, "merges.txt"), "w", encoding="utf-8") as f:
        f.write("#version: 0.2\n")


if __name__ == "__main__":
    main()
