"""Writes tests/golden/ops.safetensors: operations of backend.h as PyTorch and MONAI compute them in fp64, gradients by
autograd. Metadata "cases" is a JSON list of operations; "in" and "out" of each name the tensors of its operands.

python make_ops.py    (torch 2.6.0, monai 1.4.0, safetensors 0.8.0)
"""
import json
import math
import pathlib

import torch
import torch.nn.functional as F
from monai.losses import DiceCELoss, DiceLoss
from safetensors.torch import save_file
from torch.nn.utils.fusion import fuse_conv_bn_eval

torch.manual_seed(3)
torch.set_default_dtype(torch.float64)
tensors, cases, known = {}, [], {}


def keep(operand):
    """The name of the tensor with this content, stored once."""
    if operand is None:
        return None
    x = operand.detach().clone().contiguous()
    name = known.setdefault((x.dtype, x.shape, x.numpy().tobytes()), f"t{len(known)}")
    tensors[name] = x
    return name


def add(name, kind, direction, inputs, outputs, **attributes):
    """A None stands for an operand that is left out."""
    cases.append({"name": name, "kind": kind, "direction": direction, "in": [keep(x) for x in inputs],
                  "out": [keep(x) for x in outputs], **attributes})


def leaf(*shape, scale=1.0):
    return (torch.randn(*shape) * scale).requires_grad_()


def nhwc(x):
    return x.permute(0, 2, 3, 1)


activations = {
    "none": lambda x: x, "relu": torch.relu, "quickgelu": lambda x: x * torch.sigmoid(1.702 * x),
    "gelu_erf": F.gelu, "sigmoid": torch.sigmoid, "tanh": torch.tanh,
}

# LINEAR
x, w, b = leaf(2, 3, 7), leaf(5, 7), leaf(5)
r = torch.randn(2, 3, 5)
for act, f in activations.items():
    add(f"linear_{act}", "LINEAR", "forward", [x, w, b, r if act == "quickgelu" else None],
        [f(F.linear(x, w, b)) + (r if act == "quickgelu" else 0)], activation=act)
y, dy, rx = F.linear(x, w, b), torch.randn(2, 3, 5), torch.randn(2, 3, 7)
dx, dw, db = torch.autograd.grad(y, (x, w, b), dy)
add("linear_dx", "LINEAR", "backward-data", [dy, w, None], [dx])
add("linear_dx_r", "LINEAR", "backward-data", [dy, w, rx], [dx + rx])
add("linear_dw", "LINEAR", "backward-weight", [dy, x], [dw, db])

# CONV
for name, c, o, kh, kw, stride, pad, dilation, groups in [
        ("plain", 3, 4, 3, 3, (1, 1), (1, 1), (1, 1), 1), ("groups", 6, 4, 3, 3, (2, 2), (1, 1), (1, 1), 2),
        ("depthwise", 5, 5, 3, 3, (1, 1), (1, 1), (1, 1), 5), ("dilation", 3, 2, 3, 3, (1, 1), (2, 2), (2, 2), 1),
        ("uneven", 2, 3, 3, 2, (2, 1), (0, 1), (1, 2), 1), ("patch", 3, 8, 4, 4, (4, 4), (0, 0), (1, 1), 1)]:
    x, w, b = leaf(1, c, 7, 8), leaf(o, c // groups, kh, kw), leaf(o)
    y = F.conv2d(x, w, b, stride, pad, dilation, groups)
    dy, r = torch.randn_like(y), torch.randn_like(y)
    dx, dw, db = torch.autograd.grad(y, (x, w, b), dy)
    at = dict(stride=stride, pad=pad, dilation=dilation, groups=groups)
    add(f"conv_{name}", "CONV", "forward", [nhwc(x), w, b, None], [nhwc(y)], **at)
    add(f"conv_{name}_relu", "CONV", "forward", [nhwc(x), w, None, nhwc(r)],
        [nhwc(torch.relu(F.conv2d(x, w, None, stride, pad, dilation, groups)) + r)], activation="relu", **at)
    add(f"conv_{name}_dx", "CONV", "backward-data", [nhwc(dy), w], [nhwc(dx)], **at)
    add(f"conv_{name}_dw", "CONV", "backward-weight", [nhwc(dy), nhwc(x)], [dw, db], **at)

# CONV_TRANSPOSE
for name, k, stride, pad in [("head", 4, 4, 0), ("overlap", 3, 2, 1)]:
    x, w, b = leaf(2, 4, 3, 5), leaf(4, 3, k, k), leaf(3)
    y = F.conv_transpose2d(x, w, b, stride, pad)
    dy = torch.randn_like(y)
    dx, dw, db = torch.autograd.grad(y, (x, w, b), dy)
    at = dict(stride=(stride, stride), pad=(pad, pad), dilation=(1, 1), groups=1)
    add(f"deconv_{name}", "CONV_TRANSPOSE", "forward", [nhwc(x), w, b], [nhwc(torch.tanh(y))], activation="tanh", **at)
    add(f"deconv_{name}_dx", "CONV_TRANSPOSE", "backward-data", [nhwc(dy), w], [nhwc(dx)], **at)
    add(f"deconv_{name}_dw", "CONV_TRANSPOSE", "backward-weight", [nhwc(dy), nhwc(x)], [dw, db], **at)

# ACTIVATION
for act, f in activations.items():
    if act == "none":
        continue
    x = torch.cat([torch.randn(31), torch.tensor([-40.0, -9.0, 9.0, 40.0])]).requires_grad_()
    y = f(x)
    dy = torch.randn_like(y)
    (dx,) = torch.autograd.grad(y, x, dy)
    add(f"act_{act}", "ACTIVATION", "forward", [x], [y], activation=act)
    add(f"act_{act}_dx", "ACTIVATION", "backward-data", [dy, y if act in ("relu", "sigmoid", "tanh") else x], [dx],
        activation=act)

# ADD, MULTIPLY, SUM_TO, EXPAND
a = torch.randn(2, 3, 5)
for i, b in enumerate([torch.randn(2, 3, 5), torch.randn(5), torch.randn(2, 1, 5), torch.randn(3, 1)]):
    add(f"add_{i}", "ADD", "forward", [a, b], [a + b])
    add(f"multiply_{i}", "MULTIPLY", "forward", [a, b], [a * b])
    add(f"sum_to_{i}", "SUM_TO", "forward", [a], [a.sum_to_size(b.shape)])
    add(f"expand_{i}", "EXPAND", "forward", [b], [b.expand(2, 3, 5)])

# LAYERNORM
for eps in (1e-5, 1e-1):
    x, gamma, beta = (torch.randn(2, 3, 7) * 2 + 1).requires_grad_(), leaf(7), leaf(7)
    y, mean, rstd = torch.native_layer_norm(x, (7,), gamma, beta, eps)
    dy, r = torch.randn_like(y), torch.randn_like(y)
    dx, dgamma, dbeta = torch.autograd.grad(y, (x, gamma, beta), dy)
    mean, rstd = mean.flatten(), rstd.flatten()
    n = f"layernorm_{eps}"
    add(n, "LAYERNORM", "forward", [x, gamma, beta], [y, mean, rstd], epsilon=eps)
    add(f"{n}_dx", "LAYERNORM", "backward-data", [dy, x, gamma, mean, rstd, None], [dx], epsilon=eps)
    add(f"{n}_dx_r", "LAYERNORM", "backward-data", [dy, x, gamma, mean, rstd, r], [dx + r], epsilon=eps)
    add(f"{n}_dw", "LAYERNORM", "backward-weight", [dy, x, mean, rstd], [dgamma, dbeta], epsilon=eps)

# ATTENTION
for name, t, s, causal, lengths in [("plain", 5, 5, 0, None), ("cross", 3, 6, 0, None), ("causal", 6, 6, 1, None),
                                    ("length", 6, 6, 0, [6, 1, 4]), ("both", 6, 6, 1, [6, 1, 4])]:
    B, N, d = 3, 2, 4
    q, k, v = leaf(B, t, N * d), leaf(B, s, N * d), leaf(B, s, N * d)
    heads = [z.reshape(B, -1, N, d).transpose(1, 2) for z in (q, k, v)]
    mask = torch.ones(B, 1, t, s, dtype=torch.bool)
    if causal:
        mask = mask.tril()
    if lengths:
        mask = mask & (torch.arange(s)[None, :] < torch.tensor(lengths)[:, None])[:, None, None, :]
    o = F.scaled_dot_product_attention(*heads, attn_mask=mask).transpose(1, 2).reshape(B, t, N * d)
    scores = (heads[0] @ heads[1].transpose(2, 3) / math.sqrt(d)).masked_fill(~mask, -math.inf)
    lse = torch.logsumexp(scores, 3)
    do = torch.randn_like(o)
    grads = torch.autograd.grad(o, (q, k, v), do)
    length = torch.tensor(lengths, dtype=torch.int32) if lengths else None
    at = dict(heads=N, causal=causal, scale=1 / math.sqrt(d))
    add(f"attention_{name}", "ATTENTION", "forward", [q, k, v, length, None], [o, lse], **at)
    add(f"attention_{name}_grad", "ATTENTION", "backward-data", [do, q, k, v, o, lse, length, None], list(grads), **at)

# EMBED, TAKE_ROW, CONCAT, SLICE, TRANSPOSE
ids, table = torch.tensor([[0, 4, 4], [2, 0, 1]]), leaf(5, 3)
y = F.embedding(ids, table)
dy = torch.randn_like(y)
add("embed", "EMBED", "forward", [ids.int(), table], [y])
add("embed_dw", "EMBED", "backward-weight", [dy, ids.int()], [torch.autograd.grad(y, table, dy)[0]])
x, row = leaf(3, 5, 4), torch.tensor([4, 0, 2])
y = x[torch.arange(3), row]
dy = torch.randn_like(y)
add("take_row", "TAKE_ROW", "forward", [x, row.int()], [y])
add("take_row_dx", "TAKE_ROW", "backward-data", [dy, row.int()], [torch.autograd.grad(y, x, dy)[0]])
parts = [torch.randn(2, n, 3) for n in (1, 4, 2)]
add("concat", "CONCAT", "forward", parts, [torch.cat(parts, 1)], axis=1)
x = leaf(2, 6, 3)
y = x.narrow(1, 1, 4)
dy = torch.randn_like(y)
add("slice", "SLICE", "forward", [x], [y], axis=1, start=1)
add("slice_dx", "SLICE", "backward-data", [dy], [torch.autograd.grad(y, x, dy)[0]], axis=1, start=1)
x = torch.randn(2, 3, 4, 5)
for p in [(0, 2, 3, 1), (0, 3, 1, 2), (3, 1, 0, 2)]:
    add("transpose_" + "".join(map(str, p)), "TRANSPOSE", "forward", [x], [x.permute(p)], permutation=p)

# RESIZE
for mode in ("bilinear", "bicubic"):
    for aligned in (False, True):
        for size in [(7, 9), (3, 2), (1, 1), (4, 5)]:
            x = leaf(1, 2, 4, 5)
            y = F.interpolate(x, size, mode=mode, align_corners=aligned)
            dy = torch.randn_like(y)
            n = f"resize_{mode}_{int(aligned)}_{size[0]}x{size[1]}"
            at = dict(resize=mode, align_corners=int(aligned))
            add(n, "RESIZE", "forward", [nhwc(x)], [nhwc(y)], **at)
            add(f"{n}_dx", "RESIZE", "backward-data", [nhwc(dy)], [nhwc(torch.autograd.grad(y, x, dy)[0])], **at)

# PIXELS
p = torch.randint(0, 256, (1, 4, 5, 3), dtype=torch.uint8)
mean, std = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
add("pixels", "PIXELS", "forward", [p], [(p / 255.0 - torch.tensor(mean)) / torch.tensor(std)], mean=mean, std=std)

# SEGMENT_LOSS
dice = DiceLoss(sigmoid=True, reduction="none")
losses = {
    "dice_only": lambda z, t: dice(z, t).reshape(()),
    "dice_ce": DiceCELoss(sigmoid=True, lambda_dice=1.0, lambda_ce=0.2),
    # The study hands MONAI probabilities: its cross entropy then takes a sigmoid of them.
    "monai14": lambda z, t: DiceCELoss(sigmoid=False, lambda_dice=1.0, lambda_ce=0.2)(torch.sigmoid(z), t),
}
targets = torch.stack([(torch.rand(6, 7) < 0.4), torch.zeros(6, 7), torch.ones(6, 7), (torch.rand(6, 7) < 0.1)]).to(torch.uint8)
for scale in (2.0, 20.0):
    for loss, f in losses.items():
        z = leaf(4, 6, 7, scale=scale)
        t = targets.double()
        value = torch.stack([f(z[i][None, None], t[i][None, None]) for i in range(4)])
        probability = torch.sigmoid(z)
        entropy = {"dice_only": torch.zeros(4), "dice_ce": F.binary_cross_entropy_with_logits(z, t, reduction="none").sum((1, 2)),
                   "monai14": F.binary_cross_entropy_with_logits(probability, t, reduction="none").sum((1, 2))}[loss]
        sums = torch.stack([probability.sum((1, 2)), t.sum((1, 2)), (probability * t).sum((1, 2)), entropy], 1)
        factor = torch.tensor([0.25])
        (dz,) = torch.autograd.grad((value * factor).sum(), z)
        n = f"loss_{loss}_{scale:g}"
        add(n, "SEGMENT_LOSS", "forward", [z, targets], [value, sums], loss=loss)
        add(f"{n}_dx", "SEGMENT_LOSS", "backward-data", [z, targets, sums, factor], [dz], loss=loss)

# SUM_SQUARES, and ADAMW after clipping: six elements decay, nine do not.
x = torch.randn(4099)
add("sum_squares", "SUM_SQUARES", "forward", [x], [(x * x).sum()[None]])
lr, beta1, beta2, eps, wd = 1e-3, 0.9, 0.999, 1e-8, 1e-2
with_decay, without = torch.nn.Parameter(torch.randn(6)), torch.nn.Parameter(torch.randn(9))
optimizer = torch.optim.AdamW([{"params": [with_decay], "weight_decay": wd}, {"params": [without], "weight_decay": 0.0}],
                              lr=lr, betas=(beta1, beta2), eps=eps)
moments = [torch.zeros(15), torch.zeros(15)]
decay = torch.tensor([1] * 6 + [0] * 9, dtype=torch.uint8)
for step in range(1, 6):
    before = torch.cat([with_decay, without]).detach()
    g = torch.randn(15) * (0.01 if step == 2 else 1)
    with_decay.grad, without.grad = g[:6].clone(), g[6:].clone()
    norm = torch.nn.utils.clip_grad_norm_([with_decay, without], 0.5)
    factor = min(1.0, 0.5 / (norm.item() + 1e-6))
    optimizer.step()
    after = [torch.cat([with_decay, without])] + [torch.cat([optimizer.state[q][k] for q in (with_decay, without)])
                                                  for k in ("exp_avg", "exp_avg_sq")]
    scalars = torch.tensor([lr, beta1, beta2, eps, wd, 1 - beta1**step, 1 - beta2**step, factor])
    add(f"adamw_{step}", "ADAMW", "forward", [before, g, moments[0], moments[1], decay, scalars], after)
    moments = [z.clone() for z in after[1:]]

# CONV of ResNet and DeepLab: the sum before the activation, the first 7x7, depthwise with rates beyond the picture
for name, c, o, k, stride, pad, dilation, groups, size in [("first", 3, 4, 7, 2, 3, 1, 1, (11, 9)),
                                                           ("rate6", 4, 4, 3, 1, 6, 6, 4, (7, 5)),
                                                           ("rate12", 4, 4, 3, 1, 12, 12, 4, (4, 4))]:
    x, w = leaf(1, c, *size), leaf(o, c // groups, k, k)
    y = F.conv2d(x, w, None, stride, pad, dilation, groups)
    dy = torch.randn_like(y)
    dx, dw = torch.autograd.grad(y, (x, w), dy)
    at = dict(stride=(stride, stride), pad=(pad, pad), dilation=(dilation, dilation), groups=groups)
    add(f"conv_{name}", "CONV", "forward", [nhwc(x), w, None, None], [nhwc(y)], **at)
    add(f"conv_{name}_dx", "CONV", "backward-data", [nhwc(dy), w], [nhwc(dx)], **at)
    add(f"conv_{name}_dw", "CONV", "backward-weight", [nhwc(dy), nhwc(x)], [dw, None], **at)
x, w, b, r = leaf(2, 3, 4, 5), leaf(6, 3, 1, 1), leaf(6), torch.randn(2, 6, 4, 5)
add("conv_residual_first", "CONV", "forward", [nhwc(x), w, b, nhwc(r)], [nhwc(torch.relu(F.conv2d(x, w, b) + r))],
    activation="relu", residual_first=1, stride=(1, 1), pad=(0, 0), dilation=(1, 1), groups=1)

# BATCHNORM: in training, of a half of the batch with the statistics of the whole (two ranks), and by running statistics
last = lambda x: nhwc(x) if x.dim() == 4 else x
for name, shape, eps, momentum in [("picture", (4, 5, 3, 2), 1e-5, 0.1), ("rows", (6, 7), 1e-3, 0.25)]:
    C = shape[1]
    x, gamma, beta = (torch.randn(shape) * 2 + 1).requires_grad_(), leaf(C), leaf(C)
    running, old = [torch.randn(C), torch.rand(C) + 0.2], []
    old = [z.clone() for z in running]
    y = F.batch_norm(x, *running, gamma, beta, True, momentum, eps)  # changes `running`
    dy, r = torch.randn_like(y), torch.randn_like(y)
    dx, dgamma, dbeta = torch.autograd.grad(y, (x, gamma, beta), dy)
    dims = [i for i in range(len(shape)) if i != 1]
    var, mean = torch.var_mean(x, dims, correction=0)
    sums = torch.cat([x.sum(dims), (x * x).sum(dims), torch.tensor([float(x.numel() // C)])])
    dsums, half, n = torch.cat([dgamma, dbeta]), slice(0, shape[0] // 2), f"batchnorm_{name}"
    add(f"{n}_sums", "BATCHNORM_SUMS", "forward", [last(x)], [sums])
    add(f"{n}_moments", "BATCHNORM_MOMENTS", "forward", [sums, *old], [mean, var, *running], momentum=momentum)
    for part, rows in (("", slice(None)), ("_half", half)):
        dx_in = [last(dy)[rows], last(x)[rows], mean, var, gamma, dsums, sums]
        add(f"{n}{part}", "BATCHNORM", "forward", [last(x)[rows], mean, var, gamma, beta, None], [last(y)[rows]], epsilon=eps)
        add(f"{n}{part}_dx", "BATCHNORM", "backward-data", dx_in, [last(dx)[rows]], epsilon=eps)
    add(f"{n}_dw", "BATCHNORM", "backward-weight", [last(dy), last(x), mean, var], [dgamma, dbeta, dsums], epsilon=eps)
    add(f"{n}_relu", "BATCHNORM", "forward", [last(x), mean, var, gamma, beta, last(r)], [last(torch.relu(y + r))],
        activation="relu", epsilon=eps)
    y = F.batch_norm(x, *old, gamma, beta, False, momentum, eps)
    dx, dgamma, dbeta = torch.autograd.grad(y, (x, gamma, beta), dy)
    add(f"{n}_running", "BATCHNORM", "forward", [last(x), *old, gamma, beta, None], [last(y)], epsilon=eps)
    add(f"{n}_running_dx", "BATCHNORM", "backward-data", [last(dy), last(x), *old, gamma, None, None], [last(dx)], epsilon=eps)
    add(f"{n}_running_dw", "BATCHNORM", "backward-weight", [last(dy), last(x), *old],
        [dgamma, dbeta, torch.cat([dgamma, dbeta])], epsilon=eps)

# BATCHNORM_FOLD
for name, bias, groups in [("bias", True, 1), ("plain", False, 1), ("depthwise", False, 4)]:
    conv, norm = torch.nn.Conv2d(4, 8, 3, groups=groups, bias=bias), torch.nn.BatchNorm2d(8).eval()
    for z, value in [(norm.weight, torch.randn(8)), (norm.bias, torch.randn(8)), (norm.running_mean, torch.randn(8)),
                     (norm.running_var, torch.rand(8) + 0.2)]:
        z.data.copy_(value)
    fused = fuse_conv_bn_eval(conv.eval(), norm)
    add(f"fold_{name}", "BATCHNORM_FOLD", "forward",
        [conv.weight, conv.bias, norm.running_mean, norm.running_var, norm.weight, norm.bias], [fused.weight, fused.bias],
        epsilon=norm.eps)

# POOL; small whole numbers: many equals in a window, of which the first wins
for name, k, stride, pad in [("resnet", (3, 3), 2, 1), ("half", (2, 2), 2, 0), ("uneven", (3, 2), 1, 1)]:
    for kind, x in [("", torch.randn(2, 3, 7, 6)), ("_equals", torch.randint(-2, 1, (2, 3, 7, 6)).double())]:
        x.requires_grad_()
        y, at = F.max_pool2d(x, k, stride, pad, return_indices=True)
        i, j = torch.meshgrid(torch.arange(y.shape[2]), torch.arange(y.shape[3]), indexing="ij")
        where = ((at // 6 - i * stride + pad) * k[1] + at % 6 - j * stride + pad).to(torch.uint8)
        dy = torch.randn_like(y)
        a = dict(pool="max", kernel=k, stride=(stride, stride), pad=(pad, pad))
        add(f"max_{name}{kind}", "POOL", "forward", [nhwc(x)], [nhwc(y), nhwc(where)], **a)
        add(f"max_{name}{kind}_dx", "POOL", "backward-data", [nhwc(dy), nhwc(where)],
            [nhwc(torch.autograd.grad(y, x, dy)[0])], **a)
for name, f, k, stride in [("half", lambda x: F.avg_pool2d(x, 2), (2, 2), 2), ("all", lambda x: F.adaptive_avg_pool2d(x, 1), (7, 6), 1),
                           ("overlap", lambda x: F.avg_pool2d(x, (3, 2), 1), (3, 2), 1)]:
    x = leaf(2, 3, 7, 6)
    y = f(x)
    dy = torch.randn_like(y)
    a = dict(pool="average", kernel=k, stride=(stride, stride), pad=(0, 0))
    add(f"average_{name}", "POOL", "forward", [nhwc(x)], [nhwc(y), None], **a)
    add(f"average_{name}_dx", "POOL", "backward-data", [nhwc(dy), None], [nhwc(torch.autograd.grad(y, x, dy)[0])], **a)

# RESIZE nearest
for size in [(8, 10), (7, 9), (3, 2), (1, 1), (4, 5), (12, 20)]:
    x = leaf(1, 2, 4, 5)
    y = F.interpolate(x, size, mode="nearest")
    dy = torch.randn_like(y)
    n = f"resize_nearest_{size[0]}x{size[1]}"
    add(n, "RESIZE", "forward", [nhwc(x)], [nhwc(y)], resize="nearest")
    add(f"{n}_dx", "RESIZE", "backward-data", [nhwc(dy)], [nhwc(torch.autograd.grad(y, x, dy)[0])], resize="nearest")

# CONV_EACH, as the public code of CRIS does it: samples as groups
for name, k, pad, bias in [("cris", (3, 3), 1, True), ("uneven", (2, 3), 0, False)]:
    x, w, b = leaf(3, 4, 5, 6), leaf(3, 4, *k), leaf(3)
    y = F.conv2d(x.reshape(1, 12, 5, 6), w, b if bias else None, padding=pad, groups=3).transpose(0, 1)
    dy = torch.randn_like(y)
    grads = torch.autograd.grad(y, (x, w, b) if bias else (x, w), dy)
    a = dict(pad=(pad, pad))
    add(f"conv_each_{name}", "CONV_EACH", "forward", [nhwc(x), w, b if bias else None], [nhwc(y)], **a)
    add(f"conv_each_{name}_dx", "CONV_EACH", "backward-data", [nhwc(dy), w], [nhwc(grads[0])], **a)
    add(f"conv_each_{name}_dw", "CONV_EACH", "backward-weight", [nhwc(dy), nhwc(x)],
        [grads[1], grads[2] if bias else None], **a)

# TAKE_PLANE
x, plane = leaf(4, 3, 5, 3), torch.tensor([2, 0, 1, 2])
y = x[torch.arange(4), :, :, plane]
dy = torch.randn_like(y)
add("take_plane", "TAKE_PLANE", "forward", [x, plane.int()], [y])
add("take_plane_dx", "TAKE_PLANE", "backward-data", [dy, plane.int()], [torch.autograd.grad(y, x, dy)[0]])

# ATTENTION as MultiheadAttention does it with padded keys; its projections are the identity
module = torch.nn.MultiheadAttention(8, 2, batch_first=True)
module.in_proj_weight.data = torch.eye(8).repeat(3, 1)
module.out_proj.weight.data = torch.eye(8)
q, k, v, lengths = leaf(3, 4, 8), leaf(3, 6, 8), leaf(3, 6, 8), torch.tensor([6, 1, 4], dtype=torch.int32)
o, _ = module(q, k, v, key_padding_mask=torch.arange(6)[None, :] >= lengths[:, None])
split = [z.reshape(3, -1, 2, 4).transpose(1, 2) for z in (q, k)]
scores = split[0] @ split[1].transpose(2, 3) / 2
lse = torch.logsumexp(scores.masked_fill((torch.arange(6)[None, :] >= lengths[:, None])[:, None, None], -math.inf), 3)
do = torch.randn_like(o)
grads = torch.autograd.grad(o, (q, k, v), do)
a = dict(heads=2, causal=0, scale=0.5)
add("attention_module", "ATTENTION", "forward", [q, k, v, lengths, None], [o, lse], **a)
add("attention_module_grad", "ATTENTION", "backward-data", [do, q, k, v, o, lse, lengths, None], list(grads), **a)


def words(seed, stream, counter):
    """Philox 4x32-10 as Salmon et al. 2011 write it."""
    c = [counter & 0xffffffff, counter >> 32, stream & 0xffffffff, stream >> 32]
    k = [seed & 0xffffffff, seed >> 32]
    for _ in range(10):
        high, low = zip(*(divmod(m * z, 1 << 32) for m, z in ((0xd2511f53, c[0]), (0xcd9e8d57, c[2]))))
        c = [high[1] ^ c[1] ^ k[0], low[1], high[0] ^ c[3] ^ k[1], low[0]]
        k = [(k[0] + 0x9e3779b9) % (1 << 32), (k[1] + 0xbb67ae85) % (1 << 32)]
    return c


# Random123's known answers
assert words(0, 0, 0) == [0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8]
assert words(0x299f31d0a4093822, 0x0370734413198a2e, 0x85a308d3243f6a88) == [0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1]


def kept(noise, stream, elements, p):
    """1 / (1 - p) where the element of a sample stays, 0 where it is dropped."""
    low, high, step, sample = (z % (1 << 32) for z in noise.tolist())
    stays = [words(high << 32 | low, sample << 32 | step, stream << 32 | e // 4)[e % 4] >= p * 2**32 for e in elements]
    return torch.tensor(stays, dtype=torch.float64) / (1 - p)


# DROPOUT, with the masks of the contract
noise = torch.tensor([[7, 0, 3, 0], [7, 0, 3, 1], [-1, -2, -3, -4]], dtype=torch.int32)
for p, stream, shape in [(0.1, 0, (7,)), (0.5, 5, (3, 5)), (0.2, 2**32 - 1, (2, 3, 3))]:
    x = leaf(3, *shape)
    mask = torch.stack([kept(z, stream, range(math.prod(shape)), p).reshape(shape) for z in noise])
    dy = torch.randn(3, *shape)
    a = dict(dropout=p, stream=stream)
    add(f"dropout_{p}", "DROPOUT", "forward", [x, noise], [x * mask], **a)
    add(f"dropout_{p}_dx", "DROPOUT", "backward-data", [dy, noise], [dy * mask], **a)

# ATTENTION with dropout on the probabilities
for name, p, t, s, causal, lengths in [("plain", 0.5, 3, 6, 0, None), ("both", 0.2, 6, 6, 1, [6, 2, 4])]:
    N, d, stream = 2, 4, 9
    q, k, v = leaf(3, t, N * d), leaf(3, s, N * d), leaf(3, s, N * d)
    split = [z.reshape(3, -1, N, d).transpose(1, 2) for z in (q, k, v)]
    mask = torch.ones(3, 1, t, s, dtype=torch.bool)
    if causal:
        mask = mask.tril()
    if lengths:
        mask = mask & (torch.arange(s)[None, :] < torch.tensor(lengths)[:, None])[:, None, None, :]
    scores = (split[0] @ split[1].transpose(2, 3) / math.sqrt(d)).masked_fill(~mask, -math.inf)
    places = [((h * t + i) << 16) + j for h in range(N) for i in range(t) for j in range(s)]
    factor = torch.stack([kept(z, stream, places, p).reshape(N, t, s) for z in noise])
    o = ((torch.softmax(scores, 3) * factor) @ split[2]).transpose(1, 2).reshape(3, t, N * d)
    lse, do = torch.logsumexp(scores, 3), torch.randn(3, t, N * d)
    grads = torch.autograd.grad(o, (q, k, v), do)
    length = torch.tensor(lengths, dtype=torch.int32) if lengths else None
    a = dict(heads=N, causal=causal, scale=1 / math.sqrt(d), dropout=p, stream=stream)
    add(f"attention_dropout_{name}", "ATTENTION", "forward", [q, k, v, length, noise], [o, lse], **a)
    add(f"attention_dropout_{name}_grad", "ATTENTION", "backward-data", [do, q, k, v, o, lse, length, noise], list(grads), **a)

path = pathlib.Path(__file__).resolve().parent / "ops.safetensors"
save_file(tensors, path, metadata={"cases": json.dumps(cases, separators=(",", ":"))})
print(len(cases), "cases,", path.stat().st_size, "bytes")
