#!/usr/bin/env python3
"""BatchNorm over two ranks against torch: one training step of smp's Unet from the pool's own pixels, logits, losses, every gradient and
the running statistics after it. train.sync_batchnorm: true is torch on the whole batch in one process; false is
DistributedDataParallel with two processes (gloo, buffers broadcast from rank 0), whose statistics are rank 0's. The truth
is torch's float64; allowed is 1e-5 or twice the distance of torch's own float32, whichever is larger. No arguments."""
import os, pathlib, subprocess, sys, tempfile

import h5py
import numpy
import segmentation_models_pytorch as smp
import torch
from safetensors.numpy import load_file

import common

SIZE, SAMPLES = 64, 6
common.need_gridseg()


def dice_ce(logits, target):
    """Soft Dice + 0.2 BCE of each sample."""
    p, t = torch.sigmoid(logits).flatten(1), target.flatten(1)
    dice = 1 - (2 * (p * t).sum(1) + 1e-5) / (p.sum(1) + t.sum(1) + 1e-5)
    bce = torch.nn.functional.binary_cross_entropy_with_logits(logits, target, reduction="none").flatten(1).mean(1)
    return dice + 0.2 * bce


def make_model(folder):
    torch.manual_seed(5)
    model = smp.Unet("resnet18", encoder_weights=None, decoder_channels=(16, 16, 8, 8, 8))
    model.save_pretrained(str(folder))


def batch(pool, dtype, order):
    with h5py.File(pool / "pool.h5") as f:
        images, masks, index = f["images"][:], f["masks"][:], f["image_index"][:]
    mean, std = (torch.tensor(v, dtype=dtype)[:, None, None] for v in (common.MEAN, common.STD))
    pixels = (torch.from_numpy(images[index[order]]).permute(0, 3, 1, 2).to(dtype) / 255 - mean) / std
    return pixels, torch.from_numpy(masks[order]).to(dtype)


def results(model, logits, losses):
    gradients = {n: p.grad.double().numpy() for n, p in model.named_parameters()}
    buffers = {n: b.double().numpy() for n, b in model.named_buffers()}
    return logits.detach().double().numpy(), losses.detach().double().numpy(), gradients, buffers


def whole(folder, pool, dtype, order):
    model = smp.from_pretrained(str(folder)).to(dtype).train()
    pixels, masks = batch(pool, dtype, order)
    logits = model(pixels)[:, 0]
    losses = dice_ce(logits, masks)
    losses.mean().backward()
    return results(model, logits, losses)


def one_process(rank, folder, pool, dtype, order, port, queue):
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", rank=rank, world_size=2)
    model = smp.from_pretrained(str(folder)).to(dtype).train()
    parallel = torch.nn.parallel.DistributedDataParallel(model)
    pixels, masks = (x[rank * SAMPLES // 2:(rank + 1) * SAMPLES // 2] for x in batch(pool, dtype, order))
    logits = parallel(pixels)[:, 0]
    losses = dice_ce(logits, masks)
    losses.mean().backward()
    queue.put((rank, *results(model, logits, losses)))
    torch.distributed.barrier()
    torch.distributed.destroy_process_group()


def shared_out(folder, pool, dtype, order, port):
    context = torch.multiprocessing.get_context("spawn")
    queue = context.Queue()
    ranks = [context.Process(target=one_process, args=(r, folder, pool, dtype, order, port, queue)) for r in range(2)]
    for r in ranks:
        r.start()
    first, second = sorted((queue.get(timeout=300) for _ in ranks), key=lambda x: x[0])
    for r in ranks:
        r.join()
    return (numpy.concatenate([first[1], second[1]]), numpy.concatenate([first[2], second[2]]), first[3], first[4])


def distance(a, b):
    return numpy.linalg.norm(a - b) / max(numpy.linalg.norm(b), 1e-30)


def compare(name, work, truth, own):
    dump = load_file(work / f"dump-{name}" / "step-00000001.safetensors")
    after = load_file(work / f"out-{name}" / "checkpoints" / "last" / "model.safetensors")
    ours = ({"logits": dump["logits"], "loss": dump["loss"]}, {n[5:]: g for n, g in dump.items() if n.startswith("grad.")},
            {n: after[n] for n in truth[3]})
    theirs = [({"logits": t[0], "loss": t[1]}, t[2], t[3]) for t in (truth, own)]
    norm = numpy.sqrt(sum((g**2).sum() for g in truth[2].values()))
    worst, compared = ("", 0.0, 1.0), 0
    for mine, right, single in zip(ours, *theirs):
        assert mine.keys() == right.keys(), mine.keys() ^ right.keys()
        for n, value in right.items():
            assert mine[n].shape == value.shape, (n, mine[n].shape, value.shape)
            if n.endswith("num_batches_tracked"):
                assert mine[n].dtype == numpy.int64 and mine[n] == value, (n, mine[n], value)
                continue
            if right is truth[2] and numpy.linalg.norm(value) < 1e-6 * norm:  # nothing but rounding
                assert numpy.linalg.norm(mine[n]) <= 1e-5 * norm, n
                continue
            bound = max(1e-5, 2 * distance(single[n], value))
            worst = max(worst, (n, distance(mine[n].astype(float), value), bound), key=lambda x: x[1] / x[2])
            compared += 1
    print(f"{name}: {compared} tensors; nearest to its bound: {worst[0]}, {worst[1]:.2e} of {worst[2]:.2e}")
    assert worst[1] <= worst[2], worst


def train(work, name):
    (work / "train.yaml").write_text(
        f"model: {work}/model\npools: {{root: {work}/pools, train: [discs], val: none}}\nsize: {SIZE}\n"
        f"train: {{batch: {SAMPLES}, epochs: 1, sync_batchnorm: {str(name == 'sync').lower()}}}\n"
        f"threads: 1\ndebug: {{dump: {work}/dump-{name}}}\nout: {work}/out-{name}\n")
    done = subprocess.run(["mpirun", "--oversubscribe", "--bind-to", "none", "-np", "2", common.GRIDSEG, "train",
                           work / "train.yaml"], capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{name}: exit code {done.returncode}\n{done.stderr[-3000:]}")


def order_of(work, truth):
    """Which sample stands where in the global batch: synchronised logits do not depend on the order."""
    met = load_file(work / "dump-sync" / "step-00000001.safetensors")["logits"]
    order = [int(numpy.abs(truth[0] - ours).max((1, 2)).argmin()) for ours in met]
    assert sorted(order) == list(range(SAMPLES)), order
    return order


def main():
    with tempfile.TemporaryDirectory() as place:
        work = pathlib.Path(place)
        make_model(work / "model")
        common.draw_dataset(work / "data", {"train": SAMPLES})
        common.gridseg("pack", "--dataset", "study", "--source", work / "data", "--split", "train", "--size", SIZE,
                       "--out", work / "pools", "--name", "discs")
        pool, types = work / "pools" / "discs" / "train" / str(SIZE), (torch.float64, torch.float32)
        for name in ("sync", "own"):
            train(work, name)
        order = order_of(work, whole(work / "model", pool, torch.float64, list(range(SAMPLES))))
        together = [whole(work / "model", pool, t, order) for t in types]
        port = 20000 + os.getpid() % 20000
        apart = [shared_out(work / "model", pool, t, order, port + i) for i, t in enumerate(types)]
        assert distance(apart[0][0], together[0][0]) > 1e-2, "the two ways give the same logits"
        compare("sync", work, *together)
        compare("own", work, *apart)


if __name__ == "__main__":
    main()
