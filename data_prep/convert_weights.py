#!/usr/bin/env python3
"""Turns published weights into a gridseg model directory: config.json, preprocessor_config.json (the study's size, mean, std),
model.safetensors, tokenizer files. Needs torch and safetensors.

  convert_weights.py --to cris          --from RN50.pt --vocab CLIP_DIR --out DIR     OpenAI's CLIP; neck, decoder, projector drawn
  convert_weights.py --to cris          --from cris_best.pth --vocab CLIP_DIR --out DIR
  convert_weights.py --to biomedclipseg --from open_clip_pytorch_model.bin --vocab DIR --out DIR [--decoder CLIPSEG_DIR]
  convert_weights.py --to clipseg       --from CLIPSEG_DIR --out DIR                  pytorch_model.bin, config.json beside it
  convert_weights.py --to unet          --from resnet50.pth --out DIR                 torchvision's or timm's; decoder drawn
  convert_weights.py --to unet          --from best.ckpt --skip-objects --out DIR     Lightning, of the study's repository

--from takes safetensors (sharded too), what torch.save wrote, TorchScript, or a folder that holds one of them. Prefixes that every
tensor has (module., net., clipseg., ...) go. Nothing in a file is ever run: pickles are loaded weights-only, of a TorchScript archive
only the tensors are read. config.json follows from the shapes; what they do not tell is the published model's, or --set. The folder is
complete or absent. Exit codes: 0 done, 2 refused (the reason on stderr)."""
import argparse, collections, difflib, hashlib, json, math, os, pathlib, pickle, shutil, sys, zipfile

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from weight_tables import DRAWN, PREPROCESS, SMP_CLASSES, Refused, configs, decoder_config, tables

TOKENIZER = ("vocab.json", "merges.txt", "bpe_simple_vocab_16e6.txt.gz", "vocab.txt", "tokenizer_config.json", "tokenizer.json",
             "special_tokens_map.json")
WEIGHTS = ("model.safetensors", "model.safetensors.index.json", "open_clip_model.safetensors", "pytorch_model.bin",
           "open_clip_pytorch_model.bin")
SHOWN = 8           # tensors of each kind in an error
LIMIT = 1 << 32     # elements of one model


# ---------------------------------------------------------------- reading
def read_weights(path, skip_objects):
    """{name: tensor} of a file or folder, and the file that it was."""
    path = pathlib.Path(path)
    if path.is_dir():
        found = [path / n for n in WEIGHTS if (path / n).is_file()]
        if not found:
            raise Refused(f"{path} holds none of {', '.join(WEIGHTS)}")
        path = found[0]
    if not path.is_file():
        raise Refused(f"{path} is no file")
    with open(path, "rb") as f:
        head = f.read(64)
    if head.startswith(b"version https://git-lfs"):
        raise Refused(f"{path} is a Git LFS pointer, not the weights: fetch the file itself")
    if head.lstrip()[:1] == b"<":
        raise Refused(f"{path} is a web page, not the weights: fetch the file itself")
    if path.name.endswith(".index.json"):
        return read_shards(path), path
    if head.startswith(b"PK"):
        return (read_torchscript(path) if is_torchscript(path) else read_pickle(path, skip_objects)), path
    if head[8:9] == b"{":
        return read_safetensors(path), path
    return read_pickle(path, skip_objects), path


def read_safetensors(path):
    try:
        return load_file(path)
    except (SafetensorError, OSError, ValueError, KeyError) as error:
        raise Refused(f"{path}: {error}") from None


def read_json(path):
    try:
        made = json.loads(pathlib.Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise Refused(f"{path}: {error}") from None
    if not isinstance(made, dict):
        raise Refused(f"{path} must be an object")
    return made


def read_shards(path):
    names = read_json(path).get("weight_map")
    if not isinstance(names, dict) or not all(isinstance(n, str) and n == os.path.basename(n) for n in names.values()):
        raise Refused(f"{path}: 'weight_map' must name the file of every tensor, all in this folder")
    state = {}
    for name in sorted(set(names.values())):
        state |= read_safetensors(path.parent / name)
    return state


def stand_in(name):
    """A class that takes whatever a pickle gives it and does nothing."""
    def new(cls, *arguments, **_):
        return dict.__new__(cls)
    return type(name.rsplit(".", 1)[-1], (dict,), {"__new__": new, "__init__": lambda self, *a, **k: None,
                                                   "__setstate__": lambda self, state: None})


def foreign_objects(path):
    try:
        return sorted(torch.serialization.get_unsafe_globals_in_checkpoint(path))
    except Exception:  # a file that torch cannot list is not one that it can load; torch.load says why
        return []


def read_pickle(path, skip_objects):
    foreign = foreign_objects(path)
    if foreign and not skip_objects:
        raise Refused(f"{path} wants Python objects beside its tensors ({', '.join(foreign[:SHOWN])}), and those could run anything; "
                      "--skip-objects leaves them out and takes the tensors alone")
    try:
        with torch.serialization.safe_globals([(stand_in(name), name) for name in foreign]):
            made = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # the unpickler meets a damaged file with errors of many types
        raise Refused(f"{path} cannot be loaded weights-only: {str(error).splitlines()[0] if str(error) else type(error).__name__}") \
            from None
    for key in ("state_dict", "model_state_dict", "model"):
        if isinstance(made, dict) and isinstance(made.get(key), dict):
            made = made[key]
            break
    if not isinstance(made, dict):
        raise Refused(f"{path} holds a {type(made).__name__}, wanted a state dict")
    odd = [str(n) for n, t in made.items() if not isinstance(t, torch.Tensor) or not isinstance(n, str)]
    if odd:
        raise Refused(f"{path}: no state dict: {len(odd)} entries are no tensors ({', '.join(odd[:SHOWN])})")
    return dict(made)


def is_torchscript(path):
    try:
        with zipfile.ZipFile(path) as z:
            return any(n.endswith("/constants.pkl") for n in z.namelist())
    except (zipfile.BadZipFile, OSError, ValueError) as error:
        raise Refused(f"{path}: {error}") from None


class Attributes(dict):
    """A module of a TorchScript archive."""

    def __setstate__(self, state):
        self.update(state)


class TorchScriptReader(pickle.Unpickler):
    """The tensors of a TorchScript archive's data.pkl; its modules become plain dicts, its code is not looked at."""
    types = {"FloatStorage": torch.float32, "HalfStorage": torch.float16, "BFloat16Storage": torch.bfloat16,
             "DoubleStorage": torch.float64, "LongStorage": torch.int64, "IntStorage": torch.int32, "BoolStorage": torch.bool,
             "ByteStorage": torch.uint8, "CharStorage": torch.int8, "ShortStorage": torch.int16}

    def __init__(self, archive, root):
        super().__init__(archive.open(f"{root}/data.pkl"))
        self.archive, self.root, self.storage = archive, root, {}

    def find_class(self, module, name):
        if module.startswith("__torch__"):
            return Attributes
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return self.rebuild
        if (module, name) == ("collections", "OrderedDict"):
            return collections.OrderedDict
        if module == "torch" and name in self.types:
            return self.types[name]
        if module == "torch.jit._pickle" and name.startswith(("build_", "restore_type_tag")):
            return lambda value, *_: value
        raise pickle.UnpicklingError(f"it wants {module}.{name}")

    def persistent_load(self, pid):
        _, dtype, key, _, count = pid
        if key not in self.storage:
            entry = self.archive.getinfo(f"{self.root}/data/{os.path.basename(str(key))}")
            if entry.compress_type != zipfile.ZIP_STORED or entry.file_size != count * dtype.itemsize:
                raise pickle.UnpicklingError(f"storage {key} has {entry.file_size} bytes, wanted {count * dtype.itemsize}")
            self.storage[key] = torch.frombuffer(bytearray(self.archive.read(entry)), dtype=dtype) if count else \
                torch.empty(0, dtype=dtype)
        return self.storage[key]

    @staticmethod
    def rebuild(storage, offset, size, stride, *_):
        return storage.as_strided(size, stride, offset)  # refuses what leaves the storage


def flatten(module, prefix, depth, out, seen):
    """Tensors by their path. A module inside itself, or one shared more often than any model does, has no end."""
    seen[0] += 1
    if depth == 0 or seen[0] > 100000:
        raise pickle.UnpicklingError("its modules stand inside each other without end")
    for name, value in module.items():
        if isinstance(value, torch.Tensor):
            out[f"{prefix}{name}"] = value
        elif isinstance(value, dict):
            flatten(value, f"{prefix}{name}.", depth - 1, out, seen)
    return out


def read_torchscript(path):
    try:
        with zipfile.ZipFile(path) as z:
            root = next(n for n in z.namelist() if n.endswith("/data.pkl"))[:-len("/data.pkl")]
            return flatten(TorchScriptReader(z, root).load(), "", 32, {}, [0])
    except Exception as error:  # the unpickler meets a damaged file with errors of many types
        raise Refused(f"{path} is no TorchScript archive that can be read: {error}") from None


# ---------------------------------------------------------------- names
def without_prefixes(state, model):
    """Without what wrappers put before every name: DataParallel, Lightning, torch.compile, the study's class around CLIPSeg."""
    prefixes = ["module.", "net.", "model.", "_orig_mod."] + (["clipseg."] if model == "clipseg" else [])
    taken = ""
    while state:
        for prefix in prefixes:
            if all(n.startswith(prefix) for n in state):
                state = {n[len(prefix):]: t for n, t in state.items()}
                taken += prefix
                break
        else:
            break
    return state, taken


def named_for(model, state):
    """The state under the names of the model's own state dict, and what the file is."""
    if model == "cris" and "visual.conv1.weight" in state:
        if "visual.proj" in state:
            raise Refused("this is CLIP with a ViT; CRIS stands on its ResNet-50 (RN50.pt)")
        scalars = ("input_resolution", "context_length", "vocab_size")
        return {f"backbone.{n}": t for n, t in state.items() if n not in scalars}, "CLIP"
    if model == "biomedclipseg" and any(n.startswith(("visual.trunk.", "text.transformer.")) for n in state):
        return {f"biomedclip.{n}": t for n, t in state.items()}, "open_clip"
    if model in SMP_CLASSES and "conv1.weight" in state:
        return {f"encoder.{n}": t for n, t in state.items() if n not in ("fc.weight", "fc.bias")}, "ResNet"
    return state, model


def is_dead(model, name):
    """Tensors that some versions of the public code save and nothing is computed from."""
    if name.endswith("position_ids") or name.endswith("attn_mask"):
        return True
    return model == "biomedclipseg" and name.startswith("biomedclip.text.transformer.pooler.")


def shape_text(tensor):
    shape = tensor.shape if hasattr(tensor, "shape") else tensor
    return "[" + ",".join(map(str, shape)) + "]"


def compare(path, table, state, drawn):
    """Refuses a state that is not the table's: every missing, surplus and misshapen tensor counted, the first of each named."""
    missing = [n for n in table if n not in state and n not in drawn]
    surplus = [n for n in state if n not in table]
    misshapen = [n for n in state if n in table and tuple(state[n].shape) != table[n].shape]
    if not missing and not surplus and not misshapen:
        return

    def near(name, names):
        found = difflib.get_close_matches(name, names, 1, 0.5)
        return f"   (nearest: {found[0]})" if found else ""

    lines = [f"{path} does not fit: {len(missing)} missing, {len(surplus)} surplus, {len(misshapen)} misshapen of {len(table)} tensors"]
    for what, names, line in (
            ("missing", missing, lambda n: f"{n} {shape_text(table[n])}{near(n, surplus)}"),
            ("surplus", surplus, lambda n: f"{n} {shape_text(state[n])}{near(n, missing or list(table))}"),
            ("misshapen", misshapen, lambda n: f"{n} is {shape_text(state[n])}, wanted {shape_text(table[n])}")):
        lines += [f"  {what:9} {line(n)}" for n in names[:SHOWN]]
        if len(names) > SHOWN:
            lines.append(f"  {what:9} ... and {len(names) - SHOWN} more")
    raise Refused("\n".join(lines))


# ---------------------------------------------------------------- values
def check_tensor(path, name, tensor, counter):
    if tensor.layout != torch.strided or tensor.is_quantized or tensor.device.type != "cpu":
        raise Refused(f"{path}: {name} is no plain tensor")
    if not (tensor.is_floating_point() or (counter and not tensor.is_complex())):
        raise Refused(f"{path}: {name} is {str(tensor.dtype)[6:]}, wanted a floating-point type")
    if tensor.numel() * tensor.element_size() > tensor.untyped_storage().nbytes():
        raise Refused(f"{path}: {name} {shape_text(tensor)} has more elements than the file holds for it")


def stored(path, name, tensor, counter):
    if counter:
        return tensor.detach().to(torch.int64).clone()
    made = tensor.detach().to(torch.float32).clone(memory_format=torch.contiguous_format)
    if not torch.isfinite(made).all():
        raise Refused(f"{path}: {name} holds NaN or infinity")
    return made


def draw(name, entry, seed):
    """As the public module draws it; from a stream of this name's own, whatever else is drawn."""
    kind, number = entry.rule
    made = torch.empty(entry.shape, dtype=torch.float32)
    stream = torch.Generator().manual_seed(int.from_bytes(hashlib.sha256(f"{seed} {name}".encode()).digest()[:8], "little") >> 1)
    if kind == "counter":
        return torch.zeros(entry.shape, dtype=torch.int64)
    if kind == "constant":
        return made.fill_(number)
    return made.uniform_(-number, number, generator=stream) if kind == "uniform" else made.normal_(0, number, generator=stream)


# ---------------------------------------------------------------- config.json
def kind_of(config):
    classes = {c: m for m, c in SMP_CLASSES.items()}
    return config.get("model_type") or classes.get(config.get("_model_class"))


def given_config(args, source):
    """The config.json that --config names, or that lies beside the weights and is this model's; else None."""
    if args.config:
        config = read_json(args.config)
        if kind_of(config) != args.to:
            raise Refused(f"{args.config} is a config.json of {kind_of(config)}, wanted {args.to}")
        return config
    beside = source.parent / "config.json"
    config = read_json(beside) if beside.is_file() else {}
    return config if kind_of(config) == args.to else None


def set_key(config, text):
    key, equals, value = text.partition("=")
    try:
        value = json.loads(value)
    except ValueError:
        pass  # a word
    part, names = config, key.split(".")
    for i, name in enumerate(names):
        if not equals or not isinstance(part, dict) or name not in part:
            known = list(part) if isinstance(part, dict) else []
            near = difflib.get_close_matches(name, known, 1, 0)
            raise Refused(f"--set {text}: wanted KEY=VALUE with a key of config.json"
                          + (f"; the nearest to '{name}' is '{near[0]}'" if near else ""))
        if i + 1 < len(names):
            part = part[name]
    part[names[-1]] = value


def make_config(args, state, source, decoder):
    config = given_config(args, source)
    if config is None:
        config = configs[args.to](state)
        if decoder:
            config |= decoder
    elif args.to != "clipseg":
        config = {**{k: v for k, v in configs[args.to](state).items() if not k.startswith("decoder_") or k == "decoder_channels"},
                  **config}
    for text in args.set:
        set_key(config, text)
    if args.size and "img_size" in config:
        config["img_size"] = args.size
    if args.labels:
        labels = [label.strip() for label in args.labels.split(",")]
        if args.to not in SMP_CLASSES or len(labels) != config["classes"]:
            raise Refused(f"--labels names {len(labels)} planes; {args.to} has {config.get('classes', 'one')}")
        config["id2label"] = {str(i): label for i, label in enumerate(labels)}
    return config


def make_table(model, config):
    try:
        table = tables[model](config)
        count = sum(math.prod(e.shape) for e in table.values())
    except (KeyError, TypeError, ValueError, IndexError, AttributeError, ZeroDivisionError, OverflowError) as error:
        raise Refused(f"config.json of {model}: {type(error).__name__}: {error}") from None
    if count > LIMIT or any(n < 1 for e in table.values() for n in e.shape):
        raise Refused(f"config.json of {model}: a model of {count} elements, wanted up to {LIMIT} and no empty tensor")
    return table


def preprocessor(model, size):
    standard, (mean, std) = PREPROCESS[model]
    size = size or standard
    return {"do_normalize": True, "do_rescale": True, "do_resize": True, "image_mean": mean, "image_std": std,
            "image_processor_type": "ViTImageProcessor", "resample": 2, "rescale_factor": 1 / 255,
            "size": {"height": size, "width": size}}


# ---------------------------------------------------------------- writing
def tokenizer_files(args, source):
    if args.to in SMP_CLASSES:
        return []
    folder = pathlib.Path(args.vocab) if args.vocab else source.parent
    found = [folder / n for n in TOKENIZER if (folder / n).is_file()]
    if args.vocab and not found:
        raise Refused(f"{folder} holds no tokenizer files ({', '.join(TOKENIZER[:4])})")
    return found


def sync(path):
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_directory(out, documents, tensors, copied):
    """All of it under another name, then the name: complete or absent."""
    partial = out.parent / f".{out.name}.partial-{os.getpid()}"
    try:
        partial.mkdir(parents=True)
        for name, document in documents.items():
            (partial / name).write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
        save_file(tensors, partial / "model.safetensors", metadata={"format": "pt"})
        for path in copied:
            shutil.copyfile(path, partial / path.name)
        for path in partial.iterdir():
            sync(path)
        sync(partial)
        os.rename(partial, out)
        sync(out.parent)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise


def parts_of(names):
    """The names' parts, for people: "neck (39), decoder (12)"."""
    counts = collections.Counter(n.split(".")[0] if not n.startswith("backbone.visual.attnpool.") else "backbone.visual.attnpool.connect"
                                 for n in names)
    return ", ".join(f"{part} ({count})" for part, count in counts.items())


def add_decoder(args, state):
    """CLIPSeg's decoder into the state; the keys of config.json that go with it."""
    read, source = read_weights(args.decoder, args.skip_objects)
    read, _ = without_prefixes(read, "clipseg")
    part = {n: t for n, t in read.items() if n.startswith("decoder.")}
    if not part:
        raise Refused(f"{source} has no tensor of a CLIPSeg decoder (decoder.*)")
    if any(n.startswith("decoder.") for n in state):
        raise Refused(f"--decoder: {args.source} has a decoder of its own")
    beside = source.parent / "config.json"
    state |= part
    return decoder_config(part, "decoder.", read_json(beside) if beside.is_file() else None)


def convert(args):
    out = pathlib.Path(args.out)
    if out.exists() and not (out.is_dir() and not any(out.iterdir())):
        raise Refused(f"{out} is there already")
    if args.decoder and args.to != "biomedclipseg":
        raise Refused(f"--decoder is for biomedclipseg, not for {args.to}")
    state, source = read_weights(args.source, args.skip_objects)
    state, taken = without_prefixes(state, args.to)
    state, what = named_for(args.to, state)
    decoder = add_decoder(args, state) if args.decoder else None
    dead = [n for n in state if is_dead(args.to, n)]
    for name in dead:
        del state[name]
    config = make_config(args, state, source, decoder)
    table = make_table(args.to, config)
    parts = tuple(p for p in DRAWN[args.to] if not any(n.startswith(p) for n in state))
    if what == "CLIP":  # OpenAI's has no short cut beside its pooling
        parts += ("backbone.visual.attnpool.connect.",)
    drawn = {n for n in table if n not in state and (n.startswith(parts) or n.endswith("num_batches_tracked"))}
    for name, tensor in state.items():
        check_tensor(source, name, tensor, name.endswith("num_batches_tracked"))
    compare(source, table, state, drawn)
    copied = tokenizer_files(args, source)
    told = [n for n in drawn if not n.endswith("num_batches_tracked")]
    report(args, source, taken, dead, table, told, copied)
    if args.dry_run:
        print(json.dumps(config, indent=2))
        return
    tensors = {n: draw(n, e, args.seed) if n in drawn else stored(source, n, state[n], n.endswith("num_batches_tracked"))
               for n, e in table.items()}
    write_directory(out, {"config.json": config, "preprocessor_config.json": preprocessor(args.to, args.size)}, tensors, copied)


def report(args, source, taken, dead, table, drawn, copied):
    count = sum(math.prod(e.shape) for e in table.values())
    print(f"{'would write' if args.dry_run else 'writes'} {args.out}: {args.to}, {len(table)} tensors, {count / 1e6:.2f} million elements")
    print(f"  from   {source}" + (f", prefix {taken}" if taken else "") + (f", without {', '.join(dead[:SHOWN])}" if dead else ""))
    if args.decoder:
        print(f"  from   {args.decoder}: decoder")
    if drawn:
        print(f"  drawn  {parts_of(drawn)}, seed {args.seed}")
    if copied:
        print(f"  copied {', '.join(p.name for p in copied)}")
    elif args.to not in SMP_CLASSES:
        wanted = "vocab.txt" if args.to == "biomedclipseg" else "vocab.json and merges.txt, or bpe_simple_vocab_16e6.txt.gz"
        print(f"  no tokenizer: the directory wants {wanted} (--vocab DIR)", file=sys.stderr)


def arguments(argv):
    p = argparse.ArgumentParser(prog="convert_weights.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--to", required=True, choices=sorted(tables), help="the model")
    p.add_argument("--from", required=True, dest="source", metavar="FILE", help="published weights, or the folder that holds them")
    p.add_argument("--out", required=True, metavar="DIR", help="the model directory to make; it must not be there")
    p.add_argument("--decoder", metavar="CLIPSEG", help="biomedclipseg: CLIPSeg weights whose decoder is taken (the -D variant)")
    p.add_argument("--vocab", metavar="DIR", help="where the tokenizer files are (else beside --from)")
    p.add_argument("--config", metavar="FILE", help="a config.json to take (else one beside --from, else from the shapes)")
    p.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="a key of config.json, a.b=value for inner ones")
    p.add_argument("--size", type=int, metavar="N", help="pixels (else the study's)")
    p.add_argument("--labels", metavar="A,B,...", help="names of the planes of a CNN with several")
    p.add_argument("--seed", type=int, default=42, help="of what is drawn (42)")
    p.add_argument("--skip-objects", action="store_true", help="take the tensors of a pickle that wants Python objects too")
    p.add_argument("--dry-run", action="store_true", help="say what would be done and the config.json, write nothing")
    args = p.parse_args(argv)
    if args.size is not None and not 1 <= args.size <= 1 << 14:
        p.error(f"--size: wanted 1 to {1 << 14}, met {args.size}")
    return args


def main(argv):
    args = arguments(argv)
    try:
        convert(args)
    except (Refused, OSError) as error:
        print(f"convert_weights.py: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
