"""Writes tests/golden/safetensors/ and the seeds of the fuzz target with the public packages.

python make_safetensors.py    (torch 2.6.0, safetensors 0.8.0, huggingface_hub 0.36.2, numpy 1.26.4)
"""
import json
import pathlib
import struct

import torch
from huggingface_hub import split_torch_state_dict_into_shards
from safetensors.torch import save_file

here = pathlib.Path(__file__).resolve().parent
out = here / "safetensors"
seeds = here.parent / "fuzz" / "seeds" / "safetensors"
out.mkdir(exist_ok=True)
seeds.mkdir(parents=True, exist_ok=True)

# Halves whose rounding is hard: ties, the edges of the subnormal and of the finite range, signed zero.
hard = torch.tensor([0.0, -0.0, 1.0, 1 + 2**-11, 1 + 3 * 2**-11, 1 + 2**-11 + 2**-30, 65504.0, 65519.9, 65520.0, -1e9,
                     2**-24, 2**-25, 3 * 2**-25, 2**-25 * 1.01, 2**-14, 2**-14 - 2**-25, 0.1, -3.14159], dtype=torch.float64)
halves = torch.from_numpy(hard.numpy().astype("float16"))  # numpy rounds once; torch goes by way of fp32
tensors = {
    "layer.weight": torch.arange(15, dtype=torch.float32).reshape(3, 5) / 4,
    "layer.bias": torch.arange(3, dtype=torch.bfloat16) - 1,
    "hard.f16": halves,
    "hard.f64": hard,
    "hard.back": halves.to(torch.float64),
    "ids": torch.tensor([[0, 1], [2**31 - 1, -2**31]]),
    "big": torch.tensor([2**31]),
    "small": torch.tensor([7, -7], dtype=torch.int32),
    "bytes": torch.arange(5, dtype=torch.uint8),
    "scalar": torch.tensor(2.5),
    "empty": torch.zeros(0, 4),
    "näme \"quoted\"\n": torch.ones(1),
}
save_file(tensors, out / "written.safetensors", metadata={"format": "pt"})
save_file({**tensors, "mask": torch.tensor([True, False])}, out / "all_types.safetensors", metadata={"format": "pt"})

state = {f"block.{i}.weight": torch.full((8,), float(i)) for i in range(4)}
split = split_torch_state_dict_into_shards(state, max_shard_size=64)
for name, keys in split.filename_to_tensors.items():
    save_file({k: state[k] for k in keys}, out / name, metadata={"format": "pt"})
index = {"metadata": split.metadata, "weight_map": split.tensor_to_filename}
(out / "model.safetensors.index.json").write_text(json.dumps(index, indent=2, sort_keys=True) + "\n")


def file_of(header, data):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


(seeds / "written").write_bytes((out / "written.safetensors").read_bytes())
(seeds / "one").write_bytes(file_of({"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}, bytes(8)))
(seeds / "two").write_bytes(file_of({"a": {"dtype": "F16", "shape": [], "data_offsets": [8, 10]},
                                     "b": {"dtype": "I64", "shape": [1], "data_offsets": [0, 8]}}, bytes(10)))
(seeds / "hole").write_bytes(file_of({"a": {"dtype": "U8", "shape": [1], "data_offsets": [1, 2]}}, bytes(2)))
(seeds / "long").write_bytes(struct.pack("<Q", 2**63) + b"{}")
(seeds / "empty").write_bytes(file_of(b"{}", b""))
