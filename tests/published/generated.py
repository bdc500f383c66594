"""Files as they are published, but small and drawn: made by the public implementations, named as prove.py looks for them. The tokenizers
are the real ones where $GRIDSEG_SHARED has their tables, so that the models take text; else the files of those models are left out.

    generated.py DIR
"""
import functools, json, os, pathlib, shutil, sys

import torch

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "peer"))
import common, models

CRIS = dict(model_type="cris", image_resolution=64, vision_layers=[1, 2, 1, 1], vision_width=8, embed_dim=24, context_length=77,
            vocab_size=49408, transformer_width=16, transformer_heads=1, transformer_layers=2, word_len=77, fpn_in=[64, 128, 24],
            fpn_out=[12, 16, 20], vis_dim=16, word_dim=24, num_layers=2, num_head=8, dim_ffn=40, dropout=0.2, img_size=416)
BIOMED = dict(model_type="biomedclipseg",
              vision_config=dict(img_size=224, patch_size=16, embed_dim=48, depth=11, num_heads=1, mlp_ratio=2.0),
              text_config=dict(vocab_size=30522, hidden_size=32, num_hidden_layers=2, num_attention_heads=1, intermediate_size=48,
                               max_position_embeddings=256, type_vocab_size=2, layer_norm_eps=1e-12, hidden_act="gelu",
                               pad_token_id=0, hidden_dropout_prob=0.1, attention_probs_dropout_prob=0.1),
              context_length=256, projection_dim=24, taps=[5, 8, 11], reduce_dim=16, decoder_num_attention_heads=4,
              decoder_intermediate_size=32, conditional_layer=0, use_complex_transposed_convolution=True)
CLIPSEG = dict(text_config=dict(vocab_size=49408, max_position_embeddings=77, hidden_size=16, intermediate_size=32,
                                num_hidden_layers=2, num_attention_heads=2, bos_token_id=49406, eos_token_id=49407),
               vision_config=dict(hidden_size=48, intermediate_size=64, num_hidden_layers=4, num_attention_heads=3, image_size=96,
                                  patch_size=16),
               projection_dim=24, reduce_dim=16, extract_layers=[0, 1, 3], decoder_intermediate_size=32,
               decoder_num_attention_heads=2, use_complex_transposed_convolution=True)


def perturb(m, seed, run=None):
    """Away from zeros and ones, and from scales so small that logits could not tell right from wrong. `run` calls a model that has
    BatchNorms, whose statistics are then those of what it saw, as in a trained one."""
    stream = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, t in m.named_parameters():
            if t.ndim <= 1:
                t.add_(0.1 * torch.randn(t.shape, generator=stream))
            elif t.std() < 0.05 and not run:
                t.mul_(4)
        if run:
            for part in m.modules():
                if isinstance(part, torch.nn.modules.batchnorm._BatchNorm):
                    part.momentum = None  # the average of what comes
            m.train()
            for _ in range(2):
                run(m, torch.randn(2, 3, 64, 64, generator=stream))
    return m.eval()


def clip_resnet():
    """OpenAI's RN50.pt: TorchScript, half precision, three numbers among its buffers."""
    from open_clip.model import CLIP, CLIPTextCfg, CLIPVisionCfg
    c = CRIS
    m = CLIP(c["embed_dim"], CLIPVisionCfg(layers=c["vision_layers"], width=c["vision_width"], image_size=c["image_resolution"]),
             CLIPTextCfg(context_length=77, vocab_size=c["vocab_size"], width=16, heads=1, layers=2), quick_gelu=True)
    for name, number in (("input_resolution", 64), ("context_length", 77), ("vocab_size", 49408)):
        if hasattr(m, name):
            delattr(m, name)
        m.register_buffer(name, torch.tensor(number))
    perturb(m, 1, lambda m, x: m.encode_image(x))
    m.output_dict = False
    traced = torch.jit.trace(m, (torch.rand(2, 3, 64, 64), torch.randint(1, 49000, (2, 77))), check_trace=False)
    return traced.half()


def lightning(state, prefix, objects=True):
    """What the study's Lightning module saves: its hyper-parameters are Python objects."""
    hyper = dict(threshold=0.5, optimizer=functools.partial(torch.optim.AdamW, lr=2e-4), loss_fn=torch.nn.BCELoss())
    return {"epoch": 3, "global_step": 99, "pytorch-lightning_version": "2.0.0",
            "state_dict": {prefix + n: t for n, t in state.items()}, "hyper_parameters": hyper if objects else {}}


def make_cnns(folder):
    import timm, torchvision

    def run(m, x):
        m(x)

    import segmentation_models_pytorch as smp
    from safetensors.torch import save_file
    torch.manual_seed(2)
    torch.save(perturb(torchvision.models.resnet18(weights=None), 2, run).state_dict(), folder / "resnet18-f37072fd.pth")
    (folder / "timm-resnet34").mkdir()
    save_file(perturb(timm.create_model("resnet34", pretrained=False), 3, run).state_dict(), folder / "timm-resnet34" / "model.safetensors")
    plain = dict(encoder_name="resnet18", encoder_weights=None)
    perturb(smp.UnetPlusPlus(**plain, decoder_channels=(32, 24, 16, 12, 8), classes=3), 4, run).save_pretrained(folder / "smp-unetpp")
    torch.save(perturb(smp.DeepLabV3Plus(**plain, decoder_channels=32), 5, run).state_dict(), folder / "deeplabv3plus-best.pt")
    unet = perturb(smp.Unet(**plain), 6, run)
    torch.save(lightning(unet.state_dict(), "net."), folder / "unet-study.ckpt")


def make_clip(folder, vocabulary):
    torch.manual_seed(3)
    torch.jit.save(clip_resnet(), folder / "RN50.pt")
    clipseg = perturb(models.clipseg(CLIPSEG), 7)
    (folder / "clipseg-rd64-refined").mkdir()
    clipseg.save_pretrained(folder / "clipseg-rd64-refined", safe_serialization=False)
    torch.save(lightning(clipseg.state_dict(), "net.clipseg."), folder / "clipseg-study.ckpt")
    for name in ("vocab.json", "merges.txt"):
        shutil.copy(vocabulary / name, folder)
        shutil.copy(vocabulary / name, folder / "clipseg-rd64-refined")
    if os.environ.get("MEDVLSM"):
        cris = perturb(models.cris(CRIS), 8, lambda m, x: m(x, torch.arange(1, 155).reshape(2, 77)))
        torch.save({"epoch": 50, "best_iou": 0.7, "state_dict": {f"module.{n}": t for n, t in cris.state_dict().items()},
                    "optimizer": {"state": {}, "param_groups": []}}, folder / "cris_best.pth")
        torch.save(cris.state_dict(), folder / "cris.pt")


def make_biomed(folder, vocabulary):
    torch.manual_seed(4)
    state = perturb(models.BiomedCLIPSeg(BIOMED), 9).biomedclip.state_dict()
    state["text.transformer.embeddings.position_ids"] = torch.arange(256)[None]
    (folder / "BiomedCLIP").mkdir()
    torch.save(state, folder / "BiomedCLIP" / "open_clip_pytorch_model.bin")
    shutil.copy(vocabulary, folder / "BiomedCLIP" / "vocab.txt")


def make(folder):
    folder = pathlib.Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    make_cnns(folder)
    tables = common.SHARED / "data" / "vocab"
    if (tables / "bpe_simple_vocab_16e6.txt.gz").exists():
        made = folder / "vocabulary"
        made.mkdir()
        common.write_vocabulary(made)
        make_clip(folder, made)
        shutil.rmtree(made)
    if (tables / "bert-base-uncased-vocab.txt").exists():
        make_biomed(folder, tables / "bert-base-uncased-vocab.txt")
    return folder


if __name__ == "__main__":
    make(sys.argv[1])
