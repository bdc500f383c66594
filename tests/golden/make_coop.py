"""Golden files for CoOp (arXiv 2109.01134) on CLIPSeg: transformers' model with the context vectors put between the start token and the
words, as the authors' PromptLearner does (class token at the end, one context for all classes).  transformers 4.49.0, torch 2.6.0,
monai 1.4.0, safetensors, numpy 1.26.4.  README.md beside this file says what each file and tensor is.

    make_coop.py [--out DIR]    coop_a: config.json and io.safetensors; weights by the rule
"""
import argparse, os

import torch
from transformers import CLIPSegConfig, CLIPSegForImageSegmentation
from transformers.modeling_attn_mask_utils import _create_4d_causal_attention_mask

import rule

CONTEXTS, LENGTHS, LIMIT = 5, (9, 4, 12), 20
CONFIG = dict(
    model_type="coop", n_ctx=CONTEXTS,
    text_config=dict(vocab_size=64, max_position_embeddings=LIMIT, hidden_size=12, intermediate_size=40, num_hidden_layers=2,
                     num_attention_heads=2, bos_token_id=62, eos_token_id=63, pad_token_id=63),
    vision_config=dict(hidden_size=16, intermediate_size=36, num_hidden_layers=4, num_attention_heads=2, image_size=64, patch_size=16),
    projection_dim=20, reduce_dim=12, extract_layers=[0, 1, 2], decoder_intermediate_size=28, decoder_num_attention_heads=4,
    use_complex_transposed_convolution=True)


class CoOp(torch.nn.Module):
    def __init__(self):
        super().__init__()
        given = {k: v for k, v in CONFIG.items() if k not in ("model_type", "n_ctx")}
        public = CLIPSegForImageSegmentation(CLIPSegConfig(**given)).eval()
        self.prompt_learner = torch.nn.Module()
        self.prompt_learner.ctx = torch.nn.Parameter(torch.zeros(CONTEXTS, CONFIG["text_config"]["hidden_size"]))
        self.clip, self.decoder, self.extract_layers = public.clip, public.decoder, public.extract_layers

    def text(self, ids):
        tower = self.clip.text_model
        words = tower.embeddings.token_embedding(ids)
        context = self.prompt_learner.ctx[None].expand(len(ids), -1, -1)
        x = tower.embeddings(inputs_embeds=torch.cat([words[:, :1], context, words[:, 1:]], 1))
        mask = _create_4d_causal_attention_mask(x.shape[:2], x.dtype, device=x.device)
        x = tower.final_layer_norm(tower.encoder(inputs_embeds=x, causal_attention_mask=mask)[0])
        return self.clip.text_projection(x[torch.arange(len(ids)), (ids == 63).int().argmax(1) + CONTEXTS])

    def forward(self, pixels, ids):
        seen = self.clip.vision_model(pixels, output_hidden_states=True)
        return self.decoder([seen.hidden_states[i + 1] for i in self.extract_layers], self.text(ids)).logits


def main(folder):
    torch.set_default_dtype(torch.float32)
    m = rule.draw_weights(CoOp())
    ids, mask = rule.texts(LENGTHS, LIMIT - CONTEXTS, 62, 63)
    x = dict(pixels=rule.picture("pixels", 3, 64), masks=rule.discs(3, 64, 0), input_ids=ids, attention=mask,
             lengths=torch.tensor(LENGTHS))
    os.makedirs(folder, exist_ok=True)
    rule.write_json(os.path.join(folder, "config.json"), CONFIG)
    modes = (("frozen", lambda n: n.startswith("prompt_learner.")), ("trained", lambda n: True))
    rule.make_case(folder, m, lambda m, x, dtype: m(rule.normalise(x["pixels"], dtype), x["input_ids"]), x,
                   dict(lr=2e-3, weight_decay=1e-3), versions=dict(transformers="4.49.0"), last=0, modes=modes)


if __name__ == "__main__":
    args = argparse.ArgumentParser()
    args.add_argument("--out", default=os.path.dirname(os.path.abspath(__file__)))
    main(os.path.join(args.parse_args().out, "coop_a"))
