"""The public package reads what gridseg writes, tensor by tensor, bit by bit.

python peer_safetensors.py BUILD_DIR    (torch 2.6.0, safetensors 0.8.0)
"""
import pathlib
import subprocess
import sys
import tempfile

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

tool = pathlib.Path(sys.argv[1]) / "tests" / "tensor" / "tool_safetensors"
generator = torch.Generator().manual_seed(5)
kinds = [torch.float32, torch.float64, torch.bfloat16, torch.float16]
tensors = {f"t{i}.{'x' * (i % 7)}": torch.randn(1 + i % 3, 5 + i, generator=generator).to(kinds[i % 4]) for i in range(40)}
tensors |= {"i64": torch.arange(9) - 4, "i32": torch.arange(9, dtype=torch.int32), "u8": torch.arange(9, dtype=torch.uint8),
            "rank0": torch.tensor(3.0), "none": torch.zeros(2, 0, 3)}
with tempfile.TemporaryDirectory() as folder:
    source, result = pathlib.Path(folder) / "a.safetensors", pathlib.Path(folder) / "b.safetensors"
    save_file(tensors, source, metadata={"format": "pt"})
    subprocess.run([tool, source, result], check=True)
    back = load_file(result)
    assert back.keys() == tensors.keys(), back.keys() ^ tensors.keys()
    for name, tensor in tensors.items():
        assert back[name].dtype == tensor.dtype and torch.equal(back[name], tensor), name
    with safe_open(result, "pt") as f:
        assert f.metadata() == {"format": "pt"}
    assert source.read_bytes() == result.read_bytes()
print(f"safetensors: {len(tensors)} tensors agree, the files have the same bytes")
