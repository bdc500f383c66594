"""Golden files for UNet, UNet++ and DeepLabV3+, made with the public implementation: segmentation_models_pytorch 0.6.0, torch 2.6.0,
monai 1.4.0, safetensors, numpy 1.26.4.  README.md beside this file says what each file and tensor is, rule.py how values are drawn.

    make_cnn.py [--only NAME ...] [--out DIR]    folders of config.json and io.safetensors; the published sizes take minutes
    make_cnn.py --widen --only NAME ...          the same files, torch's own distances also as this processor has them; run with
                                                 ONEDNN_MAX_CPU_ISA= AVX512_CORE, AVX2 and SSE41 (other orders of sums)
"""
import argparse, os

import torch
import segmentation_models_pytorch as smp

import rule

RECIPE = dict(lr=1e-3, weight_decay=0.0)  # the study's Adam
CLASSES = dict(unet=smp.Unet, unetpp=smp.UnetPlusPlus, deeplabv3plus=smp.DeepLabV3Plus)
SMALL, ODD = (16, 12, 8, 8, 4), (20, 9, 12, 7, 5)
CASES = {
    "unet_a": dict(batch=2, size=64, encoder_name="resnet18", decoder_channels=SMALL, classes=1),
    "unet_b": dict(batch=3, size=96, encoder_name="resnet50", decoder_channels=ODD, classes=3, last_mask=0),
    "unet_full": dict(batch=2, size=256, encoder_name="resnet50", classes=1),
    "unetpp_a": dict(batch=2, size=64, encoder_name="resnet18", decoder_channels=SMALL, classes=2),
    "unetpp_b": dict(batch=3, size=96, encoder_name="resnet34", decoder_channels=ODD, classes=1, last_mask=1),
    "unetpp_full": dict(batch=2, size=256, encoder_name="resnet50", classes=1, own=False),
    "deeplabv3plus_a": dict(batch=2, size=64, encoder_name="resnet18", decoder_channels=12, decoder_atrous_rates=(1, 2, 3),
                            encoder_output_stride=8, decoder_aspp_dropout=0.0, classes=1),
    "deeplabv3plus_b": dict(batch=3, size=96, encoder_name="resnet50", decoder_channels=20, decoder_atrous_rates=(2, 3, 5),
                            decoder_aspp_dropout=0.0, classes=4, last_mask=0),
    "deeplabv3plus_full": dict(batch=2, size=256, encoder_name="resnet50", decoder_aspp_dropout=0.0, classes=1,
                               own=False),
}


MODES = [("trained", lambda n: True), ("frozen", lambda n: not n.startswith("encoder."))]


def forward(m, x, dtype):
    if not next(m.encoder.parameters()).requires_grad:
        m.encoder.eval()  # a frozen BatchNorm keeps its statistics
    logits = m(rule.normalise(x["pixels"], dtype))
    return logits[:, 0] if logits.shape[1] == 1 else logits.permute(0, 2, 3, 1)


VERSIONS = dict(segmentation_models_pytorch="0.6.0")


def prepare(name, folder, batch, size, classes, last_mask=None, own=True, **config):
    """The model with drawn weights, its config.json written, and its inputs."""
    torch.set_default_dtype(torch.float32)
    os.makedirs(folder, exist_ok=True)
    m = CLASSES[name.split("_")[0]](encoder_weights=None, in_channels=3, classes=classes, **config)
    m.save_pretrained(folder)
    for extra in ("model.safetensors", "README.md"):
        os.remove(os.path.join(folder, extra))
    rule.draw_weights(m)
    x = dict(pixels=rule.picture("pixels", batch, size), masks=rule.discs(batch, size, last_mask))
    if classes > 1:
        x["plane"] = (torch.arange(batch) + 1) % classes
    return m, x, dict(last=last_mask, own=own)


if __name__ == "__main__":
    args = argparse.ArgumentParser()
    args.add_argument("--only", nargs="*", default=list(CASES))
    args.add_argument("--widen", action="store_true")
    args.add_argument("--out", default=os.path.dirname(os.path.abspath(__file__)))
    args = args.parse_args()
    for name in args.only:
        folder = os.path.join(args.out, name)
        m, x, how = prepare(name, folder, **CASES[name])
        if args.widen:
            rule.widen_case(os.path.join(folder, "io.safetensors"), m, forward, x, RECIPE,
                            [(torch.contiguous_format, True), (torch.channels_last, True)], **VERSIONS)
        else:
            rule.make_case(folder, m, forward, x, RECIPE, full=True, versions=VERSIONS, modes=MODES[:2 if name.endswith("_a") else 1], **how)
