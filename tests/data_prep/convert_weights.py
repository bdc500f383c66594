#!/usr/bin/env python3
"""data_prep/convert_weights.py on files of every kind that it takes, made by the public implementations (small, drawn: see
tests/published/generated.py), on damaged, hostile and wrong ones. What it writes is compared with the public state dict, tensor by tensor,
loads in the public code, and `gridseg info` (when GRIDSEG names a program) finds every tensor that its own graph has: both lists agree.

No arguments. CRIS needs $MEDVLSM, models with text the tables of $GRIDSEG_SHARED; they are skipped without."""
import importlib.util, io, os, pathlib, pickle, subprocess, sys, tempfile, zipfile

import torch
from safetensors.torch import load_file, save_file

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "tests" / "published"), str(ROOT / "tests" / "peer"), str(ROOT / "data_prep")]
import common, generated, models, prove

SCRIPT = ROOT / "data_prep" / "convert_weights.py"
spec = importlib.util.spec_from_file_location("converter", SCRIPT)  # this file has its name
converter = importlib.util.module_from_spec(spec)
spec.loader.exec_module(converter)
skipped = []


def run(*arguments, wanted=0, words=()):
    """Runs the script in this process; its exit code and words of its stderr."""
    held, sys.stderr = sys.stderr, io.StringIO()
    try:
        code = converter.main([str(a) for a in arguments])
        told = sys.stderr.getvalue()
    finally:
        sys.stderr = held
    assert code == wanted, f"{arguments}: exit code {code}, wanted {wanted}: {told}"
    for word in words:
        assert word in told, f"{arguments}: '{word}' is not in: {told}"
    return told


def info(directory):
    """The tensors that gridseg's own graph wants are those of the directory, with their shapes."""
    if not common.GRIDSEG:
        return
    done = subprocess.run([common.GRIDSEG, "info", str(directory), "--batch", "2"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"gridseg info {directory}: {done.stderr[-2000:]}"


def converted(folder, label, source, model, *options):
    """Converts, and compares with the published file read without the converter. The directory."""
    out = folder / f"out-{label}"
    run("--to", model, "--from", source, "--out", out, *options)
    published, made = prove.published_state(source, model), load_file(out / "model.safetensors")
    for name, tensor in published.items():
        assert made[name].shape == tensor.shape and torch.equal(made[name].double(), tensor.double()), f"{label}: {name}"
        assert made[name].dtype == (torch.int64 if name.endswith("num_batches_tracked") else torch.float32), f"{label}: {name}"
    models.open_model(out)  # the public code takes every tensor and misses none
    size, mean, std = models.preprocess_of(out)
    standard, norm, *_ = models.RECIPES[model]
    assert size == standard and (list(mean), list(std)) == tuple(map(list, models.NORMS[norm])), f"{label}: {size} {mean} {std}"
    assert not list(folder.glob(".*")), "an unfinished folder is left"
    info(out)
    return out, made, published


def drawn_right(made, published, public):
    """What was drawn has the public module's own scales: mean and spread tensor by tensor, within their chance."""
    fresh = public.state_dict()
    names = [n for n in made if n not in published]
    assert names
    for name in names:
        a, b = made[name].double(), fresh[name].double()
        assert a.shape == b.shape
        if b.numel() < 64 or b.std() == 0:
            bound = float(b.abs().max()) * 4 + 1e-12
            assert float(a.abs().max()) <= bound and (b.std() != 0 or torch.equal(a, b)), name
        else:
            ratio, chance = float(a.std() / b.std()), 4 / b.numel()**0.5
            assert abs(ratio - 1) < chance + 0.02, f"{name}: spread {ratio} of the public module's"
            assert abs(float(a.mean())) < 6 * float(b.std()) / b.numel()**0.5, name


def test_cnns(folder, files):
    import segmentation_models_pytorch as smp
    for model in prove.CNN:
        _, made, published = converted(folder, f"torchvision-{model}", files / "resnet18-f37072fd.pth", model)
        drawn_right(made, published, getattr(smp, models.CNNS[model])("resnet18", encoder_weights=None))
    out, again, _ = converted(folder, "again", files / "resnet18-f37072fd.pth", "unet", "--seed", "42")
    other = load_file(folder / "out-torchvision-unet" / "model.safetensors")
    assert all(torch.equal(again[n], other[n]) for n in other), "one seed, two draws"
    converted(folder, "timm", files / "timm-resnet34", "unet")
    out, _, _ = converted(folder, "smp", files / "smp-unetpp", "unetpp", "--labels", "polyp,foot ulcer,skin cancer")
    assert converter.read_json(out / "config.json")["id2label"]["1"] == "foot ulcer"
    same = smp.from_pretrained(files / "smp-unetpp").eval()(torch.ones(1, 3, 64, 64))
    assert torch.equal(smp.UnetPlusPlus.from_pretrained(out, strict=True).eval()(torch.ones(1, 3, 64, 64)), same)
    converted(folder, "plain", files / "deeplabv3plus-best.pt", "deeplabv3plus")
    ckpt = files / "unet-study.ckpt"
    run("--to", "unet", "--from", ckpt, "--out", folder / "no", wanted=2, words=("functools.partial", "BCELoss", "--skip-objects"))
    converted(folder, "lightning", ckpt, "unet", "--skip-objects")
    for name in ("resnet50", "resnet101"):  # at the published widths, on paper
        import torchvision
        with torch.device("meta"):
            state = getattr(torchvision.models, name)(weights=None).state_dict()
        state = {f"encoder.{n}": t for n, t in state.items() if not n.startswith("fc.")}
        assert converter.configs["unet"](state)["encoder_name"] == name


def test_clip(folder, files):
    out, made, published = converted(folder, "rn50", files / "RN50.pt", "cris")
    if os.environ.get("MEDVLSM"):
        config = converter.read_json(out / "config.json")
        drawn_right(made, published, models.cris(config))
        for label, name in (("pth", "cris_best.pth"), ("pt", "cris.pt")):
            converted(folder, label, files / name, "cris")
    else:
        skipped.append("published CRIS (no MEDVLSM)")
    converted(folder, "clipseg", files / "clipseg-rd64-refined", "clipseg")
    config = files / "clipseg-rd64-refined" / "config.json"
    run("--to", "clipseg", "--from", files / "clipseg-study.ckpt", "--out", folder / "study", "--skip-objects", "--config", config,
        "--vocab", files)
    wanted, met = (load_file(folder / d / "model.safetensors") for d in ("out-clipseg", "study"))
    assert wanted.keys() == met.keys() and all(torch.equal(wanted[n], met[n]) for n in wanted)
    run("--to", "clipseg", "--from", files / "clipseg-study.ckpt", "--out", folder / "shapes", "--skip-objects",
        "--set", "text_config.num_attention_heads=2", "--set", "vision_config.num_attention_heads=3",
        "--set", "decoder_num_attention_heads=2", "--set", "extract_layers=[0,1,3]", "--vocab", files)
    from transformers import CLIPSegForImageSegmentation
    pixels, ids = torch.rand(1, 3, 96, 96), torch.tensor([[49406, 320, 49407]])
    with torch.no_grad():
        a, b = (CLIPSegForImageSegmentation.from_pretrained(folder / d).eval()(pixel_values=pixels, input_ids=ids).logits
                for d in ("out-clipseg", "shapes"))
    assert torch.equal(a, b), "config.json from the shapes gives another model"


def test_biomed(folder, files):
    biomed, clipseg = files / "BiomedCLIP", files / "clipseg-rd64-refined"
    _, made, published = converted(folder, "biomed", biomed, "biomedclipseg")
    config = converter.read_json(folder / "out-biomed" / "config.json")
    from transformers import CLIPSegConfig
    from transformers.models.clipseg.modeling_clipseg import CLIPSegDecoder
    class Holder(torch.nn.Module):
        def __init__(self):
            super().__init__()
            v = config["vision_config"]
            public = CLIPSegConfig(vision_config=dict(hidden_size=v["embed_dim"], image_size=224, patch_size=16,
                                                      num_hidden_layers=v["depth"]), projection_dim=24, extract_layers=[0, 1, 2],
                                   reduce_dim=64, use_complex_transposed_convolution=True)
            self.decoder = CLIPSegDecoder(public)
            self.decoder.apply(self.decoder._init_weights)
    drawn_right(made, published, Holder())
    if clipseg.exists():
        out, made, _ = converted(folder, "biomed-d", biomed, "biomedclipseg", "--decoder", clipseg)
        given = torch.load(clipseg / "pytorch_model.bin", weights_only=True)
        decoder = {n: t for n, t in given.items() if n.startswith("decoder.")}
        assert decoder and all(torch.equal(made[n], t) for n, t in decoder.items())
        assert converter.read_json(out / "config.json")["decoder_num_attention_heads"] == 2  # of its config.json
        run("--to", "biomedclipseg", "--from", out, "--decoder", clipseg, "--out", folder / "no", wanted=2, words=("its own",))
    pooled = torch.load(biomed / "open_clip_pytorch_model.bin", weights_only=True)
    save_file({**pooled, "text.transformer.pooler.dense.weight": torch.zeros(32, 32)}, folder / "open_clip_model.safetensors")
    run("--to", "biomedclipseg", "--from", folder / "open_clip_model.safetensors", "--vocab", biomed, "--out", folder / "pooled")
    wanted, met = (load_file(folder / d / "model.safetensors") for d in ("out-biomed", "pooled"))
    assert all(torch.equal(wanted[n], met[n]) for n in wanted)


class Boom:
    def __init__(self, marker):
        self.marker = str(marker)

    def __reduce__(self):
        return os.system, (f"touch {self.marker}",)


def test_hostile(folder, files):
    good, no = files / "resnet18-f37072fd.pth", folder / "no"
    state = torch.load(good, weights_only=True)

    def refused(what, write, *words, model="unet", options=()):
        path = folder / what
        write(path)
        run("--to", model, "--from", path, "--out", no, *options, wanted=2, words=words)
        assert not no.exists() and not list(folder.glob(".*")), what

    def saved(**changes):
        return lambda path: torch.save({n: t for n, t in {**state, **changes}.items() if t is not None}, path)

    def scripted(pickled, stores=None):
        def write(path):
            with zipfile.ZipFile(path, "w") as z:
                z.writestr("m/data.pkl", pickled)
                z.writestr("m/constants.pkl", b"\x80\x02).")
                for name, content in (stores or {}).items():
                    z.writestr(f"m/data/{name}", content)
        return write

    blob = good.read_bytes()
    marker = folder / "marker"
    for options in ((), ("--skip-objects",)):
        refused("boom.ckpt", lambda p: torch.save({"state_dict": state, "x": Boom(marker)}, p), "boom.ckpt", options=options)
        refused("boom.pkl", lambda p: p.write_bytes(pickle.dumps(Boom(marker))), "boom.pkl", options=options)
    refused("boom.pt", scripted(pickle.dumps(Boom(marker), 2)), "posix.system")
    assert not marker.exists(), "a file has run a command"
    storage = b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n((X\x07\x00\x00\x00storagectorch\nFloatStorage\nX\x01\x00\x00\x000X\x03\x00" \
              b"\x00\x00cpuK\x04tQK\x00(M\xff\x7fM\xff\x7ft(M\xff\x7fK\x01t\x89ccollections\nOrderedDict\n)Rt R."
    refused("beyond.pt", scripted(storage.replace(b"t R", b"tR"), {"0": bytes(16)}), "out of bounds")
    refused("lies.pt", scripted(storage.replace(b"t R", b"tR"), {"0": bytes(8)}), "8 bytes, wanted 16")
    refused("inside.pt", scripted(b"\x80\x02c__torch__.m\nM\n)\x81q\x00}X\x01\x00\x00\x00ah\x00sb."), "without end")
    refused("empty.pth", lambda p: p.write_bytes(b""), "empty.pth")
    refused("short.pth", lambda p: p.write_bytes(blob[:len(blob) // 2]), "short.pth")
    refused("page.pth", lambda p: p.write_bytes(b"\n<!DOCTYPE html><html></html>"), "web page")
    refused("lfs.bin", lambda p: p.write_bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n"), "Git LFS")
    refused("long.safetensors", lambda p: p.write_bytes((1 << 40).to_bytes(8, "little") + b"{}"), "long.safetensors")
    refused("list.pth", lambda p: torch.save([torch.zeros(1)], p), "a list")
    refused("odd.pth", lambda p: torch.save({**state, "epoch": 3}, p), "1 entries are no tensors (epoch)")
    refused("nan.pth", saved(**{"bn1.bias": torch.full((64,), float("nan"))}), "encoder.bn1.bias holds NaN")
    refused("int.pth", saved(**{"bn1.bias": torch.zeros(64, dtype=torch.int32)}), "encoder.bn1.bias is int32")
    refused("wide.pth", saved(**{"conv1.weight": torch.zeros(1).expand(64, 3, 7, 7)}), "more elements than the file holds")
    refused("vast.pth", saved(**{"conv1.weight": torch.zeros(1).expand(1 << 20, 1 << 20, 7, 7)}), "more elements than the file holds")
    refused("sparse.pth", saved(**{"bn1.bias": torch.zeros(64).to_sparse()}), "no plain tensor")
    refused("deep.pth", saved(**{"layer1.7.conv1.weight": torch.zeros(64, 64, 3, 3)}), "(3, 2, 2, 2) basic blocks")
    refused("names.pth", saved(**{"bn1.bias": None, "bn1.bais": torch.zeros(64), "layer1.0.bn1.bias": torch.zeros(65)}),
            "1 missing, 1 surplus, 1 misshapen", "encoder.bn1.bias [64]   (nearest: encoder.bn1.bais)",
            "encoder.bn1.bais [64]   (nearest: encoder.bn1.bias)", "encoder.layer1.0.bn1.bias is [65], wanted [64]")
    refused("part.pth", lambda p: torch.save({**{f"encoder.{n}": t for n, t in state.items() if not n.startswith("fc.")},
                                              "decoder.blocks.0.conv1.0.weight": torch.zeros(256, 768, 3, 3)}, p), "49 missing")
    refused("other.pth", lambda p: torch.save(state, p), "missing", "surplus", model="cris")
    refused("index.json", lambda p: p.write_text("{}"), "index.json")
    for options, word in ((("--set", "clases=2"), "'classes'"), (("--set", "encoder_name=resnet7"), "resnet7"),
                          (("--set", "decoder_channels=[1,2]"), "IndexError"), (("--labels", "a,b"), "2 planes"),
                          (("--set", "decoder_channels=[99999999,99999999,1,1,1]"), "elements"),
                          (("--decoder", good), "biomedclipseg"), (("--config", files / "smp-unetpp" / "config.json"), "unetpp")):
        run("--to", "unet", "--from", good, "--out", no, *options, wanted=2, words=(word,))
    run("--to", "unet", "--from", folder / "nothing", "--out", no, wanted=2, words=("is no file",))
    run("--to", "unet", "--from", good, "--out", no, "--dry-run")
    assert not no.exists()
    (folder / "full").mkdir()
    (folder / "full" / "x").touch()
    run("--to", "unet", "--from", good, "--out", folder / "full", wanted=2, words=("is there already",))
    (folder / "bare").mkdir()
    run("--to", "unet", "--from", good, "--out", folder / "bare")
    assert (folder / "bare" / "model.safetensors").exists()
    done = subprocess.run([sys.executable, str(SCRIPT), "--to", "unet"], capture_output=True, text=True, check=False)
    assert done.returncode == 2 and "--from" in done.stderr


def main():
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        files = generated.make(folder / "files")
        tests = [test_cnns, test_hostile]
        for test, needed in ((test_clip, "RN50.pt"), (test_biomed, "BiomedCLIP")):
            if (files / needed).exists():
                tests.append(test)
            else:
                skipped.append(f"{test.__name__} (no vocabulary)")
        for number, test in enumerate(tests):
            place = folder / str(number)
            place.mkdir()
            test(place, files)
            print(f"passed {test.__name__}", flush=True)
    print("".join(f"skipped {s}\n" for s in skipped), end="")


if __name__ == "__main__":
    main()
